#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 7200
# The host's copy is what the guest has: random operations from seeds, also while the host writes; both sides compared after each
# round and once more when the sandbox, or its agent, was killed (tests/lib/equal.py). Then with snapshots, going back, pauses and
# sandboxes that begin with another one's files behind each round; with daemons, privileged processes, notifiers and keepers that die
# in each round, with agents that lose events, and what goes on for a while. BERTH_SEED begins elsewhere; BERTH_LONG=1: an hour's worth;
# BERTH_PLAY=FILE plays what failed before.
TAKEOVER=20s
. "$(dirname "$0")/../lib/flow.sh"
need_template base
seed=${BERTH_SEED:-1} seeds=2 rounds=6 count=60 files=20000
if [ -n "${BERTH_LONG:-}" ]; then seeds=${BERTH_SEEDS:-60} rounds=${BERTH_ROUNDS:-15} count=${BERTH_COUNT:-150} files=${BERTH_FILES:-200000}; fi
export PYTHONPATH="$SRC/tests/lib" BERTH_BUILD
compare() { python3 "$SRC/tests/lib/equal.py" "$@"; }
sequence() { compare base "$MNT" "$@" || fail "the sides differ: $*"; }
# sequences COUNT SEED ROUNDS OPERATIONS OPTIONS...
sequences() { compare many "$1" base "$MNT" "${@:2}" || fail "the sides differ: $*"; }

# kill_one WHO
kill_one() {
	local pid
	case $1 in
	notify) # one of them; the daemon goes on
		pid=$(pgrep -P "$(pgrep -P "$DAEMON" -x berth-priv)" -x berth-notify | head -n 1) && kill -9 "$pid"
		return ;;
	keeper) # there is another one at once
		kill -9 "$(cat "$STATE/keeper/pid")"
		return ;;
	esac
	if [ "$1" = priv ] && pid=$(pgrep -P "$DAEMON" -x berth-priv); then
		kill -9 "$pid" 2>/dev/null || :
		wait_for 60 "berthd to end without its privileged process" daemon_is_gone
	fi
	stop_daemon KILL 2>/dev/null
	start_daemon "${arguments[@]}"
}

# with_deaths ARGUMENTS...: of equal.py, beside somebody who does what it asks for. Return: its status.
with_deaths() {
	local player who when
	rm -f "$TOP/please"
	compare "$@" --kill "$TOP/please" </dev/null &
	player=$!
	asked() { [ -e "$TOP/please" ] || ! kill -0 "$player" 2>/dev/null; }
	while kill -0 "$player" 2>/dev/null; do
		wait_for 7200 "the next round" asked
		[ -e "$TOP/please" ] || break
		read -r who when <"$TOP/please"
		read -rt "0.$(printf '%03d' "$when")" <> <(:) || :
		kill_one "$who"
		rm "$TOP/please"
	done
	wait "$player"
}

# daemon_with AGENT: one of tests/lib. What is played says so to its plan, and is played again with the same.
daemon_with() {
	[ -z "$DAEMON" ] || stop_daemon
	arguments=(--set "daemon.agent=$BERTH_BUILD/tests/lib/$1")
	start_daemon "${arguments[@]}"
}

lost() { grep -c 'events were lost inside' "$LOG" || :; }

arguments=()
[ -z "${BERTH_LONG:-}" ] || arguments=(--set sandbox.workspace=8G) # room for the inodes of the burst
if [ -n "${BERTH_PLAY:-}" ]; then
	with=$(compare with "$BERTH_PLAY")
	if [ -n "$with" ]; then daemon_with "$with"; else start_daemon "${arguments[@]}"; fi
	with_deaths play "$BERTH_PLAY" "$MNT" || fail "the sides differ"
	say ok
	exit
fi
start_daemon "${arguments[@]}"
sequence "$seed" 0 0 --scenes "$files" & # half of it is waiting
scenes=$!
sequences "$seeds" "$seed" "$rounds" "$count"
sequences "$seeds" "$seed" "$rounds" "$count" --host --agent
sequences "$(((seeds + 1) / 2))" $((seed + 4000)) "$rounds" "$count" --past
wait "$scenes" || fail "the sides differ, where much goes on"
for ((i = 0; i < (seeds + 2) / 3; i++)); do
	with_deaths base "$MNT" $((seed + 1000 + i)) "$rounds" "$count" --host || fail "the sides differ, with deaths"
done
equal "nothing was lost" "$(lost)" 0

# What fails is made small: of operations that are a fault by twos, two remain, none of the host's and no death.
python3 "$SRC/tests/lib/shrink.py"
if BERTH_PLANS=$TOP BERTH_TRIES=1 with_deaths base "$MNT" "$seed" 2 1 --fault --host >"$TOP/shrunk"; then
	fail "a fault was not found"
fi
grep -q '^shrunk to 2 of ' "$TOP/shrunk" || fail "not shrunk: $(cat "$TOP/shrunk")"
if BERTH_TRIES=1 BERTH_PLANS=$TOP compare play "$TOP/equal-$seed-shrunk.json" "$MNT" >"$TOP/again"; then
	fail "what was shrunk does not fail"
fi
say "$(grep '^shrunk' "$TOP/shrunk")"

# An agent that marks few names, and one with the kernel's bounded queue, on which more is thrown than it holds.
daemon_with agent-small
sequences "$(((seeds + 1) / 2))" $((seed + 2000)) "$rounds" "$count" --host --with agent-small
[ "$(lost)" -gt 0 ] || fail "no event was lost"
before=$(lost)
daemon_with agent-inotify
for ((i = 0; i < (seeds + 1) / 2; i++)); do
	sequence $((seed + 3000 + i)) 1 "$count" --with agent-inotify --alone --flood $(($(cat /proc/sys/fs/inotify/max_queued_events) / 3 + 1000))
done
[ "$(lost)" -gt "$before" ] || fail "the kernel lost no event"
say "events were lost $(lost) times"
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
