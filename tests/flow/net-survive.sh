#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Networks of sandboxes over the end of the daemon, of its privileged half, of pasta; and that nothing is left of them,
# at whatever moment they are killed. BERTH_LONG=1: 60 kills.
. "$(dirname "$0")/../lib/net.sh"
. "$(dirname "$0")/../lib/flow.sh"
need_template base
make_world
TAKEOVER=20s

# Counts what a server tells over one connection, for as long as it lives.
cat >"$TOP/line.py" <<'END'
import socket, time
s = socket.create_connection(("93.184.216.34", 80))
s.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
n = 0
while True:
    s.sendall(b"x")
    if not s.recv(4096):
        break
    n += 1
    with open("/tmp/count.new", "w") as f:
        f.write(str(n))
    import os
    os.rename("/tmp/count.new", "/tmp/count")
    time.sleep(0.02)
END
count() { timeout 20 berth run "$id" -- cat /tmp/count 2>/dev/null || echo 0; }
grows() {
	local before
	before=$(count)
	more() { [ "$(count)" -gt "$before" ]; }
	wait_for 20 "the connection to go on ($1)" more
}
fetch() { timeout 30 berth run "$id" -- curl -sS -m 8 --noproxy '*' "http://$1/"; }
runs() { [ "$(berth info "$id" --json | field state)" = running ]; }
privileged() { # of the daemon that runs
	local p
	for p in $(processes_of_state | awk '$2 == "berth-priv" { print $1 }'); do echo "$p"; done
}
kill_all() {
	local p
	p=$(privileged)
	# shellcheck disable=SC2086
	kill -9 "$DAEMON" $p 2>/dev/null || :
	wait_for 20 "the end of both" daemon_is_gone
	wait "$DAEMON" 2>/dev/null || :
	DAEMON=
}

NETWORK=veth
start_daemon --set network.dns=93.184.216.99
id=$(berth create --net --deny 93.184.216.35)
berth cp --quiet "$TOP/line.py" "$id:line.py"
berth run "$id" --detach -- python3 /workspace/line.py >/dev/null
grows "at first"
for how in both ${BERTH_LONG:+daemon} orderly; do
	case $how in
	daemon) stop_daemon KILL ;;
	both) kill_all ;;
	orderly) stop_daemon ;;
	esac
	start_daemon --set network.dns=93.184.216.99
	wait_for 30 "the sandbox to be adopted" runs
	grows "$how"
	equal "a new connection after $how" "$(fetch example.test)" 93.184.216.34
	must_fail fetch 93.184.216.35
	say "$how: connections, names and rules go on"
done
berth net "$id" --deny 93.184.216.34
is_cut() { ! berth run "$id" -- pgrep -f line.py; }
wait_for 20 "a connection that is denied to be cut" is_cut
must_fail fetch 93.184.216.34
berth net "$id" --remove 93.184.216.34
equal "allowed again" "$(fetch 93.184.216.34)" 93.184.216.34
berth kill "$id" --grace 0

# Killed at any moment of making and ending.
kills=3
[ -z "${BERTH_LONG:-}" ] || kills=60
for ((i = 0; i < kills; i++)); do
	(for k in 1 2 3; do a=$(berth create --net 2>/dev/null) && berth kill "$a" --grace 0; done) >/dev/null 2>&1 &
	maker=$!
	python3 -c "import random, time; time.sleep(random.random() * 0.5)"
	kill_all
	wait "$maker" 2>/dev/null || :
	start_daemon --set network.dns=93.184.216.99
done
id=$(berth create --net)
equal "after all of it" "$(fetch example.test)" 93.184.216.34
berth kill "$id" --grace 0
end_sandboxes
stop_daemon

# One that is paused without memory has no place in the network: what is changed for it meanwhile is nobody else's.
start_daemon --set network.dns=93.184.216.99 --set api.listen=127.0.0.1:7071
key=$(berth key create pauser)
say_to() { curl -sf -m 60 -H "X-API-Key: $key" -H "Content-Type: application/json" -d "$2" "http://127.0.0.1:7071/$1"; }
lies=$(say_to v2/sandboxes '{"templateID": "base", "timeout": 600}' | field sandboxID)
say_to "sandboxes/$lies/pause" '{"memory": false}' || fail "not paused without memory"
id=$(berth create --net)
equal "in its place" "$(fetch example.test)" 93.184.216.34
berth net "$lies" --internet off
equal "whoever is in its place" "$(fetch 93.184.216.34)" 93.184.216.34
berth resume "$lies"
equal "and it goes on" "$(fetch 93.184.216.34)" 93.184.216.34
id=$lies
must_fail fetch 93.184.216.34
end_sandboxes
stop_daemon
wait_for 20 "nothing of networks to be left" no_net_left
say "killed while making and ending: nothing is left"

NETWORK=pasta
start_daemon --set network.dns=93.184.216.99
id=$(berth create --net)
equal "by pasta" "$(fetch example.test)" 93.184.216.34
pasta=$(pastas)
kill -9 "$pasta"
works() { [ "$(fetch 93.184.216.34)" = 93.184.216.34 ]; }
wait_for 30 "another pasta" works
[ "$(pastas)" != "$pasta" ] || fail "pasta was not killed"
kill_all
start_daemon --set network.dns=93.184.216.99
wait_for 30 "the sandbox to be adopted" runs
equal "by pasta that was there" "$(fetch example.test)" 93.184.216.34
# An address that appears on the host is fenced off, too.
ip addr add 93.184.216.77/24 dev h0
serve $$ 93.184.216.77
must_fail fetch 93.184.216.77
say "pasta: killed, adopted, and new addresses of the host are fenced off"
berth kill "$id" --grace 0
