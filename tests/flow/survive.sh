#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The mount survives its daemon: ten restarts, half of them by kill -9, under a shell that stands in it, a reader that
# compares, a walker, a tar, a writer and files that are open, mapped, or open without a name. Then what was performed and
# not answered when the daemon died, for each kind of change. Then nobody comes: ENOTCONN in time, and the next daemon mounts
# anew. BERTH_LONG=1: a hundred restarts.
export TAKEOVER=20s
. "$(dirname "$0")/../lib/flow.sh"
need_template base
python3 - <<'PY' || skip "needs Linux 6.9 or newer for a mount that survives"
import os, sys
a, b = os.uname().release.split(".")[:2]
sys.exit((int(a), int(b.split("-")[0])) < (6, 9))
PY
start_daemon
id=$(berth create --template base --name one)
export id LOG
berth run "$id" -- sh -c 'mkdir -p a/b tree; i=0; while [ $i -lt 3000 ]; do d=tree/d$((i % 50)); mkdir -p $d; echo "$i $i $i" >$d/f$i
	i=$((i+1)); done; head -c 3000000 /dev/urandom >big; echo gone >gone; : >log'
berth sync "$id"

turns=10
[ -z "${BERTH_LONG:-}" ] || turns=100
python3 "$SRC/tests/lib/survive.py" "$turns" watch >"$TOP/watch.log" 2>&1 </dev/null &
watcher=$!
is_watching() { kill -0 "$watcher" 2>/dev/null || return 99; [ -e "$TOP/watching" ]; }
wait_for 30 "the watcher" is_watching
for turn in $(seq "$turns"); do
	if [ $((turn % 2)) = 0 ]; then stop_daemon KILL 2>/dev/null; else stop_daemon TERM; fi
	start_daemon
	echo "$turn" >"$TOP/turn"
	# in the new daemon's time, too, before the next one
	seen() { kill -0 "$watcher" 2>/dev/null || return 99; [ "$(cat "$TOP/seen" 2>/dev/null)" = "$turn" ]; }
	wait_for 60 "the watcher to go on after restart $turn" seen
done
touch "$TOP/enough"
wait "$watcher" || { cat "$TOP/watch.log"; fail "the watcher saw a difference"; }
cat "$TOP/watch.log"
equal "mounts taken over" "$(grep -c 'mount taken over' "$LOG")" "$turns"
equal "adopted" "$(grep -c 'msg="adopted"' "$LOG")" "$turns"
berth fsck

say "changes that were performed and not answered"
for fault in make create link remove rename exchange write append setattr xattr xattr-new unxattr allocate punch; do
	stop_daemon
	case $fault in exchange) kind="rename" ;; append) kind="write" ;; xattr-new) kind="xattr" ;; punch) kind="allocate" ;; *) kind=$fault ;; esac
	BERTH_FAULT="$kind" start_daemon
	python3 "$SRC/tests/lib/survive.py" 0 "$fault" </dev/null &
	asker=$!
	wait_for 30 "the daemon to die of $fault" daemon_is_gone
	wait "$DAEMON" 2>/dev/null || :
	start_daemon
	wait "$asker" || fail "$fault came again and was not right"
	say "$fault: done once"
done
berth fsck

say "nobody comes back"
stop_daemon
TAKEOVER=2s
start_daemon
python3 "$SRC/tests/lib/survive.py" 0 abandoned </dev/null &
asker=$!
is_holding() { kill -0 "$asker" 2>/dev/null || return 99; [ -e "$TOP/holding" ]; }
wait_for 20 "the file to be open" is_holding
stop_daemon KILL 2>/dev/null
wait "$asker" || fail "who waited for a daemon that never came was not answered"
is_unmounted() { ! grep -q " $MNT " /proc/self/mountinfo; }
wait_for 10 "the mount to be taken away" is_unmounted
[ ! -e "$STATE/keeper/pid" ] || fail "the keeper has not ended"
TAKEOVER=20s # a busy machine takes longer than two to start a daemon
start_daemon
equal "a new mount" "$(cat "$MNT/by-name/one/tree/d0/f0")" "0 0 0"
berth run one -- true

say "two at a time"
if (run_daemon) >"$TOP/second" 2>&1 </dev/null; then fail "a second daemon started"; fi
grep -q state-in-use "$TOP/second" || fail "a second daemon: $(cat "$TOP/second")"
say "the keeper dies, then the daemon"
keeper=$(cat "$STATE/keeper/pid")
another_keeper() { [ "$(cat "$STATE/keeper/pid" 2>/dev/null)" != "$keeper" ]; }
kill -9 "$keeper"
exec 7<"$MNT/$id/tree/d3/f3"
wait_for 20 "another keeper" another_keeper
stop_daemon KILL 2>/dev/null
start_daemon 7<&-
read -r line <&7
equal "what was open before" "$line" "3 3 3"
exec 7<&-
