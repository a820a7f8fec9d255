#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A sandbox's life for each kind of box: start, limits of names and numbers, timeout, death of the agent, two daemons side
# by side, and nothing left behind. The conformance test of the table in host/box/box.h.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
is() { [ "$2" = "$3" ] || { echo "FAILED: $1: \"$2\" is not \"$3\""; exit 1; }; }
field() { berth info "$1" --json | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"; }
wait_state() {
	python3 - "$1" "$2" <<'PY'
import sys
from berthtest import Api, until
api = Api()
until(lambda: api.good("GET", f"/v1/sandboxes/{sys.argv[1]}")["state"] == sys.argv[2], 30, f"{sys.argv[1]} is not {sys.argv[2]}")
PY
}
traces() { # whatever of this state directory the machine still has, but the daemon itself
	grep -c "$FLOW_STATE/boxes" /proc/self/mountinfo || true
	losetup -a | grep -c "$FLOW_STATE" || true
	find "$FLOW_STATE/boxes" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l
	find "$FLOW_STATE/run" -name '*.sock' ! -name api.sock | wc -l
}
for kind in oci fake; do
	echo "--- $kind"
	start_daemon --set "sandbox.box=$kind" --set sandbox.max=3
	clean=$(traces)
	a=$(berth create --template mini --name first)
	is "state" "$(field "$a" state)" running
	user=(); [ "$kind" = oci ] || user=(--user berth)
	is "a command" "$(berth run first "${user[@]}" --cwd / -- sh -c 'echo yes')" yes
	b=$(berth create --template mini --timeout 2s)
	c=$(berth create --template mini)
	! berth create --template mini 2>"$FLOW_DIR/err"
	grep -q limit "$FLOW_DIR/err"
	! berth create --template mini --name first 2>"$FLOW_DIR/err"
	wait_state "$b" stopped
	is "why" "$(field "$b" why)" "its time was over"
	kill -9 "$(field "$c" pid)"
	wait_state "$c" failed
	berth rm "$c"
	! berth rm "$a" 2>"$FLOW_DIR/err"
	grep -q "kill it first" "$FLOW_DIR/err"
	! berth kill "$b" 2>"$FLOW_DIR/err"
	berth kill "$a"
	! berth run "$a" -- true 2>"$FLOW_DIR/err"
	berth rm "$a" "$b"
	is "left behind" "$(traces)" "$clean"
	is "list" "$(berth ps --all --json)" "[]"
	if [ "$kind" = oci ]; then
		! berth create --template no-such-template 2>"$FLOW_DIR/err"
		grep -q no-such-template "$FLOW_DIR/err"
		is "left behind by a failed start" "$(traces)" "$clean"
		for i in 1 2 3 4 5 6 7 8; do
			x=$(berth create --template mini); berth kill "$x"; berth rm "$x"
		done
		is "left behind by eight lives" "$(traces)" "$clean"
		berth fsck
	fi
	stop_daemon
done
start_daemon
one=$(berth create --template mini)
first_url=$BERTH_URL
second_daemon
two=$(berth create --template mini)
berth run "$two" -- sh -c 'echo two > who'
BERTH_URL=$first_url berth run "$one" -- sh -c 'echo one > who'
is "two daemons" "$(cat "$FLOW_MOUNT/$one/who")-$(cat "$FLOW_MOUNT2/$two/who")" one-two
berth kill "$two"
BERTH_URL=$first_url berth kill "$one"
