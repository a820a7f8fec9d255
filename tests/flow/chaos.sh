#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the daemon, its privileged process, the mount's keeper and notifier, an agent or crun at random moments, while
# sandboxes are made, used, paused, resumed, killed and removed. After each: every sandbox is in a state that is true, what
# was told to be done is there, nothing is left of what is gone. BERTH_SEED=N plays the same plan again; BERTH_KILLS=N;
# BERTH_LONG=1: 500 kills.
export TAKEOVER=20s
. "$(dirname "$0")/../lib/flow.sh"
need_template base
kills=${BERTH_KILLS:-15}
[ -z "${BERTH_LONG:-}" ] || kills=500
seed=${BERTH_SEED:-$RANDOM}
say "BERTH_SEED=$seed BERTH_KILLS=$kills"
export LOG
status=0
python3 "$SRC/tests/lib/chaos.py" "$seed" "$kills" "$BERTH_BUILD/berthd" --set "daemon.state-dir=$STATE" \
	--set "daemon.agent=$BERTH_AGENT" --set sandbox.max=16 --set "sandbox.ids-first=$IDS_FIRST" \
	--set sandbox.workspace=1G --set "mount.takeover=$TAKEOVER" || status=$?
[ "$status" = 0 ] || fail "BERTH_SEED=$seed BERTH_KILLS=$kills"
