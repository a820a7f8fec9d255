#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# With rules of what is kept the host's copy is what they keep of the guest: random operations from seeds, also while the host
# writes; then in one sandbox with a daemon that is killed between the rounds, and snapshots. Both sides are compared after each
# round, which also fetches what is kept as names (tests/lib/equal.py). BERTH_SEED begins elsewhere; BERTH_LONG=1: many more.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
TAKEOVER=10s
start_daemon
seed=${BERTH_SEED:-1} seeds=2 rounds=4 count=60 kills=2
if [ -n "${BERTH_LONG:-}" ]; then seeds=60 rounds=15 count=150 kills=40; fi
export PYTHONPATH="$SRC/tests/lib" BERTH_BUILD
equal() { python3 "$SRC/tests/lib/equal.py" base "$MNT" "$@"; }
for ((i = 0; i < seeds; i++)); do
	equal $((seed + i)) "$rounds" "$count" --keep || fail "the sides differ"
	equal $((seed + i)) "$rounds" "$count" --keep --host || fail "the sides differ, with a writing host"
done
python3 "$SRC/tests/lib/equal.py" rules >"$TOP/rules"
id=$(berth create --keep "$TOP/rules")
for ((i = 0; i < kills; i++)); do
	equal $((seed + 100 + i)) 1 "$count" --keep --in "$id" || fail "the sides differ after $i kills"
	stop_daemon KILL
	start_daemon
	berth snapshot "$id" "s$i" >/dev/null
done
equal $((seed + 99)) 1 "$count" --keep --in "$id" || fail "the sides differ at the end"
berth kill "$id"
berth gc >/dev/null
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
