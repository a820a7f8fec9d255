#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a service manager hears of berthd, and where it finds the sandboxes' control groups.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
PARENT=berth-test-$$.slice/inner
unslice() {
	local tree dir
	for tree in /sys/fs/cgroup /sys/fs/cgroup/*; do
		for dir in "$tree/$PARENT" "$tree/${PARENT%/*}"; do [ ! -d "$dir" ] || rmdir "$dir"; done
	done
}

# Everything that comes to the socket, a line each, in $TOP/told.
cat >"$TOP/listen.py" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
out = open(sys.argv[2], "w", buffering=1)
while True:
    data, anc, _, _ = s.recvmsg(4096, 256)
    pid = int.from_bytes(anc[0][2][:4], "little")
    for line in data.decode().split("\n"):
        out.write(f"{pid} {line}\n")
PY
python3 "$TOP/listen.py" "$TOP/notify" "$TOP/told" &
LISTENER=$!
over() {
	local status=$?
	kill $LISTENER 2>/dev/null
	(exit $status)
	cleanup
}
trap over EXIT
wait_for 10 "the listener" test -S "$TOP/notify"

told() { grep -qx "$1" "$TOP/told"; }
export NOTIFY_SOCKET=$TOP/notify WATCHDOG_USEC=120000000
start_daemon --set "sandbox.cgroup-parent=$PARENT"
unset NOTIFY_SOCKET WATCHDOG_USEC
wait_for 10 "READY=1 of the daemon itself" told "$DAEMON READY=1"
equal "ready before anybody asked" "$(grep -c READY "$TOP/told")" 1
wait_for 30 "a sign of life" told "$DAEMON WATCHDOG=1"

id=$(berth create --template mini)
equal "a command" "$(berth run "$id" -- echo hello)" hello
equal "the variable is not for sandboxes" "$(berth run "$id" -- sh -c 'echo "${NOTIFY_SOCKET:-none}"')" none
groups=$(find /sys/fs/cgroup -type d -name "$id")
[ -n "$groups" ] || fail "no group of the sandbox"
if echo "$groups" | grep -v "/$PARENT/berth-"; then fail "groups outside of the parent"; fi
for tree in /sys/fs/cgroup /sys/fs/cgroup/unified; do
	[ ! -e "$tree/cgroup.controllers" ] || grep -qx "$(cat "$STATE/keeper/pid")" "$tree/$PARENT"/berth-*-keeper/cgroup.procs ||
		fail "the keeper is in the unit's group"
done
[ "$(berth stats "$id" --json | field pids)" -gt 0 ] || fail "the figures of its group are not found below the parent"
[ "$(berth stats "$id" --json | field memory_peak_b)" -gt 0 ] || fail "the figures of its group are not found below the parent"
berth pause "$id"
berth resume "$id"
stop_daemon
told "$LISTENER STOPPING=1" && fail "who said that?"
grep -q 'STOPPING=1$' "$TOP/told" || fail "the end was not told"

# Without the parent it would find nothing of its sandbox: and with another one than theirs it says so.
start_daemon --set "sandbox.cgroup-parent=$PARENT"
equal "adopted" "$(berth run "$id" -- echo again)" again
berth kill "$id"
id=
stop_daemon
start_daemon
id=$(berth create --template mini)
stop_daemon
status=0
(run_daemon --set "sandbox.cgroup-parent=$PARENT") >"$TOP/moved" 2>&1 </dev/null || status=$?
equal "a parent that does not fit" "$status" 1
grep -q "end them before sandbox.cgroup-parent changes" "$TOP/moved" || fail "no word of it: $(tail -n 2 "$TOP/moved")"
for bad in /abs a//b a/ ../x .; do
	refused 2 "a path of groups" "$BERTH_BUILD/berthd" --check --set "sandbox.cgroup-parent=$bad"
done
start_daemon
berth kill "$id"
stop_daemon
# The privileged process takes its groups away a moment after the daemon ended.
wait_for 10 "the groups to be empty" unslice
