#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A sandbox's life for each kind of box: start, limits of names and numbers, timeout, death of the agent, two daemons side
# by side, and nothing left behind. The conformance test of the table in host/box/box.h.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
info() { berth info "$1" --json | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
wait_state() {
	python3 - "$1" "$2" <<'PY'
import sys
from berthtest import Api, until
api = Api()
until(lambda: api.good("GET", f"/v1/sandboxes/{sys.argv[1]}")["state"] == sys.argv[2], 30, f"{sys.argv[1]} is not {sys.argv[2]}")
PY
}
traces() { # whatever of this state directory the machine still has, but the daemon itself
	grep -c "$STATE/boxes" /proc/self/mountinfo || true
	losetup -a | grep -c "$STATE" || true
	find "$STATE/boxes" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l
	find "$STATE/run" -name '*.sock' ! -name api.sock | wc -l
}
# The images of an ended box are freed by a child a moment later.
clean_again() { [ "$(traces)" = "$clean" ]; }
for kind in oci fake; do
	echo "--- $kind"
	start_daemon --set "sandbox.box=$kind" --set sandbox.max=3
	clean=$(traces)
	a=$(berth create --template mini --name first)
	equal "state" "$(info "$a" state)" running
	user=(); [ "$kind" = oci ] || user=(--user berth)
	equal "a command" "$(berth run first "${user[@]}" --cwd / -- sh -c 'echo yes')" yes
	b=$(berth create --template mini --timeout 2s)
	c=$(berth create --template mini)
	must_fail berth create --template mini
	grep -q limit "$TOP/err"
	must_fail berth create --template mini --name first
	wait_state "$b" stopped
	equal "why" "$(info "$b" why)" "its time was over"
	kill -9 "$(info "$c" pid)"
	wait_state "$c" failed
	berth rm "$c"
	must_fail berth rm "$a"
	grep -q "kill it first" "$TOP/err"
	must_fail berth kill "$b"
	berth kill "$a"
	must_fail berth run "$a" -- true
	berth rm "$a" "$b"
	wait_for 10 "nothing to be left behind" clean_again
	equal "list" "$(berth ps --all --json)" "[]"
	if [ "$kind" = oci ]; then
		must_fail berth create --template no-such-template
		grep -q no-such-template "$TOP/err"
		wait_for 10 "nothing to be left behind by a failed start" clean_again
		for i in 1 2 3 4 5 6 7 8; do
			x=$(berth create --template mini); berth kill "$x"; berth rm "$x"
		done
		wait_for 10 "nothing to be left behind by eight lives" clean_again
		berth fsck
	fi
	stop_daemon
done

# Two daemons side by side, each with a state of its own.
start_daemon
one=$(berth create --template mini)
berth run "$one" --cwd / -- sh -c 'echo one > /workspace/who'
second=$TOP/second
mkdir -p "$second"
cp -al "$STATE/templates" "$second/templates"
"$BERTH_BUILD/berthd" --set "daemon.state-dir=$second" --set "daemon.agent=$BERTH_AGENT" --set sandbox.max=4 \
	--set "sandbox.ids-first=$((IDS_FIRST + 8 * 65536))" --set sandbox.workspace=1G --set sandbox.at-stop=kill >>"$LOG" 2>&1 &
pid=$!
export SECOND_URL=unix:$second/run/api.sock
wait_for 20 "the second daemon" curl -sf --unix-socket "$second/run/api.sock" http://x/health
two=$(BERTH_URL=$SECOND_URL berth create --template mini)
BERTH_URL=$SECOND_URL berth run "$two" -- sh -c 'echo two > who'
equal "two daemons" "$(cat "$MNT/$one/who")-$(cat "$second/mnt/$two/who")" one-two
refused 1 'no sandbox is called' berth info "$two"
kill "$pid"
wait "$pid"
equal "the second one is gone" "$(grep -c "$second" /proc/self/mountinfo || true)" 0
berth kill "$one"

# A command that never ends does not hold up the end of the daemon, and outlives it.
one=$(berth create --template mini)
curl -s --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$one/exec" \
	-d '{"argv":["sh","-c","touch begun; sleep 1000"],"cwd":"/workspace"}' >"$TOP/cut" &
asker=$!
wait_for 20 "the command" test -e "$MNT/$one/begun"
stop_daemon
wait "$asker" || true
grep -q ending "$TOP/cut"
start_daemon
berth run "$one" -- sh -c 'cat /proc/[0-9]*/cmdline | tr "\\0" " " | grep -q "[s]leep 1000"'
berth kill "$one"

# Somebody's mount namespace that has a copy of the mount does not keep the daemon from ending.
one=$(berth create --template mini)
berth run "$one" -- sh -c 'echo hi > kept'
unshare -m --propagation private sleep 300 &
holder=$!
wait_for 20 "the copy of the mount" grep -q " $MNT " "/proc/$holder/mountinfo"
stop_daemon
kill "$holder"
start_daemon
equal "after an end with a held mount" "$(cat "$MNT/$one/kept")" hi
berth kill "$one"
