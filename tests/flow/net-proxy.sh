#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# All TCP of a sandbox through a SOCKS5 proxy, by each kind of network, in a world of its own: names, credentials, rules, and that nothing goes
# around it, whatever dies. MODES: which kinds.
. "$(dirname "$0")/../lib/net.sh"
. "$(dirname "$0")/../lib/flow.sh"
need_template base
make_world
URL=http://127.0.0.1:7072
WORD=pass-$RANDOM$RANDOM$RANDOM
ASKED=$TOP/asked
key=
HOST=93.184.216.1 # whom servers see when nobody is between
VIA=93.184.216.35

# socks PID ADDRESS PORT [USER PASSWORD]: there; its number is in $SOCKS.
socks() {
	local pid=$1
	shift
	nsenter -t "$pid" -n -- python3 "$SRC/tests/lib/socks.py" "$TOP/socks-ready" "$ASKED" "$@" >>"$TOP/world.log" 2>&1 &
	SOCKS=$!
	WORLD+=("$SOCKS")
	wait_for 60 "a proxy" test -s "$TOP/socks-ready"
	rm "$TOP/socks-ready"
}
# expect ID "ATTEMPT: RESULT"...: all at once; what differs is told.
expect() {
	local id=$1 line tries=()
	shift
	for line in "$@"; do tries+=("${line%%: *}"); done
	timeout 180 berth run "$id" -- python3 /workspace/reach.py "${tries[@]}" >"$TOP/got" || fail "attempts in $id: $(tail -n 3 "$TOP/got")"
	printf '%s\n' "$@" >"$TOP/wanted"
	diff "$TOP/wanted" "$TOP/got" >"$TOP/diff" || fail "in $id: $(cat "$TOP/diff")"
}
asked() { # LINE...: what proxies were asked since the last time, in whatever order
	printf '%s\n' "$@" | sort >"$TOP/wanted"
	sort "$ASKED" | diff "$TOP/wanted" - >"$TOP/diff" || fail "asked of proxies: $(cat "$TOP/diff")"
	: >"$ASKED"
}
asked_by() { # USER: the one question since the last time
	equal "who asked" "$(awk '{ print $NF }' "$ASKED")" "$1"
	: >"$ASKED"
}
nothing_asked() { [ ! -s "$ASKED" ] || fail "asked of proxies: $(cat "$ASKED")"; }
ask() { curl -s -m 60 -o "$TOP/answer" -w '%{http_code}' -H "X-API-Key: $key" -H "Content-Type: application/json" "$@"; }
put() { ask -X PUT -d "$2" "$URL/v1/sandboxes/$1/network"; }
through() { # ID PORT [MEMBERS]: from now on
	equal "a proxy" "$(put "$1" '{"internet": true, "proxy": {"address": "'"${3:-$VIA}:$2"'"'"${4:-}"'}'"${5:-}"'}')" 200
}
make() {
	equal "a sandbox" "$(ask -d '{"template": "base", "internet": true}' "$URL/v1/sandboxes")" 201
	id=$(field id <"$TOP/answer")
	berth cp --quiet "$SRC/tests/lib/reach.py" "$id:reach.py"
}
# line_to HOST: something in $id holds a connection to it from now on; its number is in $LINE.
line_to() {
	: >"$ASKED"
	berth run "$id" -- python3 /workspace/line.py "$1" >"$TOP/line-$1" &
	LINE=$!
	wait_for 60 "the connection" test -s "$ASKED"
	: >"$ASKED"
}
start() {
	start_daemon --set daemon.log-level=debug --set network.dns=93.184.216.99 --set network.private=10.20.0.0/29 --set api.listen=127.0.0.1:7072 "$@"
	[ -n "$key" ] || key=$(berth key create proxied)
}
runs() { [ "$(berth info "$id" --json | field state)" = running ]; }

try_mode() {
	export NETWORK=$1
	: >"$ASKED"
	start
	socks "$INTERNET" "$VIA" 1080
	local open_socks=$SOCKS
	socks "$INTERNET" "$VIA" 1081 me "$WORD"
	make
	expect "$id" "who 93.184.216.34: $HOST"
	nothing_asked

	say "$1: names and addresses"
	through "$id" 1080
	expect "$id" "who v4.example.test: $VIA" "tcp 93.184.216.35: 93.184.216.35" "tcp 2a01:4f8::34: 2a01:4f8::34"
	asked "name v4.example.test 80 nobody" "address 93.184.216.35 80 nobody" "address 2a01:4f8::34 80 nobody"
	# Not every pasta passes the end of one direction on, by itself neither.
	if [ "$1" = veth ]; then
		expect "$id" "half 93.184.216.35: 93.184.216.35"
		asked "address 93.184.216.35 80 nobody"
	fi
	through "$id" 1080 socks.test
	expect "$id" "who other.test: $VIA"
	asked "name other.test 80 nobody"
	expect "$id" "udp 93.184.216.34: unreachable" "udp 2a01:4f8::34: refused" "tcp 198.19.0.1 1080: refused" "tcp fd62:6572:7468:1::1 1080: refused" \
		"dns 198.19.0.1 many.test: code 0 records 0"
	nothing_asked

	# Both are turned to one place: who came from where is known all the same.
	cat >"$TOP/twins.py" <<'END'
import socket
twins = []
for host in "93.184.216.34", "93.184.216.35":
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", 40000))
    s.connect((host, 80))
    twins.append(s)
for s in twins:
    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
for s in twins:
    print(s.makefile().read().split()[-1])
END
	berth cp --quiet "$TOP/twins.py" "$id:twins.py"
	equal "two from one port" "$(berth run "$id" -- python3 /workspace/twins.py | tr '\n' ' ')" "93.184.216.34 93.184.216.35 "
	asked "name v4.example.test 80 nobody" "name other.test 80 nobody"

	say "$1: rules hold"
	expect "$id" "tcp 10.20.0.2: refused" "tcp 169.254.169.254: refused" "tcp $HOST: refused" "tcp 198.19.16.1: refused" "name rebind.test: noname"
	through "$id" 1080 "" "" ', "deny": ["93.184.216.35", "2a01:4f8::/32", "other.test"]'
	expect "$id" "tcp 93.184.216.35: refused" "tcp 2a01:4f8::34: refused" "name other.test: noname"
	nothing_asked
	expect "$id" "who v4.example.test: $VIA"
	asked "address 93.184.216.34 80 nobody"
	berth net "$id" --remove 93.184.216.35 --remove 2a01:4f8::/32 --remove other.test --internet off --allow v4.example.test
	expect "$id" "tcp 93.184.216.35: refused" "name other.test: noname" "who v4.example.test: $VIA"
	asked "name v4.example.test 80 nobody"

	say "$1: credentials"
	through "$id" 1081 "" ', "username": "me", "password": "'"$WORD"'"'
	equal "as the command line shows it" "$(berth net "$id" | grep proxy)" "proxy     $VIA:1081"
	expect "$id" "who 93.184.216.34: $VIA"
	asked_by me
	equal "what is told of it" "$(ask "$URL/v1/sandboxes/$id/network") $(grep -c '"proxy":{"address":"'"$VIA"':1081","username":"me"}' "$TOP/answer")" "200 1"
	through "$id" 1081 "" ', "username": "me", "password": "other"'
	expect "$id" "tcp 93.184.216.34: refused"
	asked "refused me"
	through "$id" 1081
	expect "$id" "tcp 93.184.216.34: refused"
	nothing_asked

	say "$1: where no proxy may be"
	socks $$ "$HOST" 1080
	socks "$PRIVATE" 10.20.0.2 1080
	socks "$PRIVATE" 169.254.169.254 1080
	local metadata=$SOCKS
	timeout 60 bash -c '</dev/tcp/169.254.169.254/1080' || fail "the host does not reach the proxy beside the metadata"
	equal "one in a private network" "$(put "$id" '{"internet": true, "proxy": {"address": "10.20.0.9:1080"}}')" 403
	for line in "$HOST" neighbour.test none.test meta.test; do
		through "$id" 1080 "$line"
		expect "$id" "tcp 93.184.216.34: refused"
	done
	nothing_asked
	kill "$metadata"
	through "$id" 1080 10.20.0.2
	expect "$id" "tcp 93.184.216.34: refused" "tcp 10.20.0.2: refused"
	asked_by nobody # which cannot connect there

	say "$1: while it runs"
	through "$id" 1080
	cat >"$TOP/line.py" <<'END'
import socket, sys
s = socket.create_connection((sys.argv[1], 80))
s.sendall(b"GET /slow HTTP/1.0\r\n\r\nx")
try:
    while s.recv(4096):
        pass
    print("end")
except ConnectionResetError:
    print("reset")
END
	berth cp --quiet "$TOP/line.py" "$id:line.py"
	# One by a name that is not handed on any more when addresses are denied, and one by an address that no name was told for.
	line_to v4.example.test
	local named=$LINE
	line_to 2a01:4f8::34
	through "$id" 1080 "" "" ', "deny": ["93.184.216.35"]'
	wait "$named" || :
	equal "a connection by name" "$(cat "$TOP/line-v4.example.test")" reset
	equal "one by address" "$(cat "$TOP/line-2a01:4f8::34")" ""
	equal "no proxy any more" "$(put "$id" '{"internet": true, "proxy": {}}')" 200
	wait "$LINE" || :
	equal "a connection through it" "$(cat "$TOP/line-2a01:4f8::34")" reset
	expect "$id" "who 93.184.216.34: $HOST"
	nothing_asked

	say "$1: nothing goes around it"
	through "$id" 1080
	cat >"$TOP/tries.py" <<'END'
import sys
sys.argv[1:] = []
sys.path.insert(0, "/workspace")
import reach, time
while True:
    try:
        word = reach.who("93.184.216.34")
    except OSError:
        word = "none"
    with open("/tmp/tries", "a") as f:
        f.write(word + "\n")
    time.sleep(0.02)
END
	berth cp --quiet "$TOP/tries.py" "$id:tries.py"
	berth run "$id" --detach -- python3 /workspace/tries.py >/dev/null
	tries() { timeout 60 berth run "$id" -- cat /tmp/tries >"$TOP/tries" 2>/dev/null; }
	more() { tries && [ "$(grep -c "$1" "$TOP/tries")" -gt "$2" ]; }
	wait_for 60 "tries" more "$VIA" 2
	kill "$open_socks"
	wait_for 60 "tries that fail" more none 2
	socks "$INTERNET" "$VIA" 1080
	tries
	wait_for 60 "tries that do not" more "$VIA" "$(grep -c "$VIA" "$TOP/tries")"
	stop_daemon KILL
	start
	wait_for 60 "the sandbox to be adopted" runs
	tries
	wait_for 60 "tries of another daemon" more "$VIA" "$(grep -c "$VIA" "$TOP/tries")"
	equal "what went another way" "$(grep -vxF -e none -e "$VIA" "$TOP/tries" || :)" ""
	berth run "$id" -- pkill -f tries.py

	say "$1: it stays"
	through "$id" 1081 "" ', "username": "me", "password": "'"$WORD"'"'
	stop_daemon
	start
	wait_for 60 "the sandbox to be adopted" runs
	: >"$ASKED"
	expect "$id" "who 93.184.216.34: $VIA"
	asked_by me
	equal "a pause" "$(ask -d '{"memory": false}' "$URL/sandboxes/$id/pause")" 204
	berth resume "$id"
	expect "$id" "who 93.184.216.34: $VIA"
	asked_by me
	equal "a fork" "$(ask -d '{"count": 1}' "$URL/sandboxes/$id/fork")" 201
	local fork
	fork=$(grep -o '"sandboxID":"[^"]*"' "$TOP/answer" | cut -d '"' -f 4)
	expect "$fork" "who 93.184.216.34: $VIA"
	asked_by me
	berth info "$id" --json >"$TOP/told"
	ask "$URL/v1/sandboxes/$id/log" >/dev/null && cat "$TOP/answer" >>"$TOP/told"
	ask "$URL/sandboxes/$id" >/dev/null && cat "$TOP/answer" >>"$TOP/told"
	cat "$TOP"/*log* >>"$TOP/told" 2>/dev/null || :
	cat /proc/[0-9]*/cmdline >"$TOP/lines" 2>/dev/null || : # first, so that the next line is not among them
	tr '\0' ' ' <"$TOP/lines" | sed "s/socks.py [^ ]* [^ ]* [^ ]* 1081 me $WORD//" >>"$TOP/told"
	! grep -q "$WORD" "$TOP/told" || fail "the password is told: $(grep -o ".\{40\}$WORD" "$TOP/told" | head -n 3)"
	end_sandboxes
	stop_daemon
}

for mode in ${MODES:-veth pasta}; do
	try_mode "$mode"
	for p in "${WORLD[@]:5}"; do kill "$p" 2>/dev/null || :; done
	wait_for 60 "nothing of networks to be left" no_net_left
done
