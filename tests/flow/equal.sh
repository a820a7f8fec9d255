#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The host's copy is what the guest has: random operations from seeds, also while the host writes; both sides compared after each
# round and once more when the sandbox was killed (tests/lib/equal.py); then the same while the daemon dies in each round. BERTH_SEED begins elsewhere; BERTH_LONG=1: an hour's worth.
TAKEOVER=20s
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
seed=${BERTH_SEED:-1} seeds=3 rounds=6 count=60
if [ -n "${BERTH_LONG:-}" ]; then seeds=60 rounds=15 count=150; fi
export PYTHONPATH="$SRC/tests/lib" BERTH_BUILD
for ((i = 0; i < seeds; i++)); do
	python3 "$SRC/tests/lib/equal.py" base "$MNT" $((seed + i)) "$rounds" "$count" || fail "the sides differ"
	python3 "$SRC/tests/lib/equal.py" base "$MNT" $((seed + i)) "$rounds" "$count" --host || fail "the sides differ, with a writing host"
done
# The daemon dies in each round, at another moment of it.
for ((i = 0; i < (seeds + 2) / 3; i++)); do
	python3 "$SRC/tests/lib/equal.py" base "$MNT" $((seed + 1000 + i)) "$rounds" "$count" --host --kill "$TOP/please" </dev/null &
	player=$!
	while kill -0 "$player" 2>/dev/null; do
		asked() { [ -e "$TOP/please" ] || ! kill -0 "$player" 2>/dev/null; }
		wait_for 120 "the next round" asked
		[ -e "$TOP/please" ] || break
		read -rt "0.$(printf '%03d' $(((seed * 7919 + i * 271 + SRANDOM) % 400)))" <> <(:) || :
		stop_daemon KILL 2>/dev/null
		start_daemon
		rm "$TOP/please"
	done
	wait "$player" || fail "the sides differ, with a daemon that dies"
done
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
