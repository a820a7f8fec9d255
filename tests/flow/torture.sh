#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The wire under torture: long output and input of commands while connections are cut at random bytes and the daemon is
# killed and started anew. Bytes must be identical, the exit status known, input delivered once, and nothing may stand
# still. BERTH_LONG=1: 1,000 cuts and ten kills. BERTH_SEED: another run.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base --name box)
export LOG
cat >"$TOP/daemon" <<EOF
#!/bin/sh
exec "$BERTH_BUILD/berthd" --set "daemon.state-dir=$STATE" --set "daemon.agent=$BERTH_AGENT" --set sandbox.max=16 \
	--set "sandbox.ids-first=$IDS_FIRST" --set sandbox.workspace=1G --set mount.takeover=0 >>"$LOG" 2>&1 </dev/null
EOF
chmod 755 "$TOP/daemon"
if [ "${BERTH_LONG:-}" = 1 ]; then cuts=1000 kills=10 size=100; else cuts=100 kills=2 size=40; fi
status=0
python3 "$SRC/tests/lib/torture.py" "$id" "$DAEMON" "$TOP" "$cuts" "$kills" "$size" "${BERTH_SEED:-1}" || status=$?
DAEMON=$(cat "$TOP/daemon.pid")
[ "$status" = 0 ] || fail "torture.py: $status"
berth run box -- true
berth kill box
