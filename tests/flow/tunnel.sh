#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tunnels: ports and sockets of a sandbox from outside, a port of the host from inside, many at once, failures by name.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base --name box)
PIDS=
# shellcheck disable=SC2317
gone() { ! berth run "$id" -- test -e "$1"; }
end_tunnels() {
	local status=$? pid
	set +e
	for pid in $PIDS; do
		kill "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	[ "$status" = 0 ] || cat "$TOP"/*.err
	(exit "$status")
	cleanup
}
trap end_tunnels EXIT

# Inside: servers on TCP and on a Unix socket that send back what they get, and at its end its length.
berth run "$id" -- sh -c 'cat >/tmp/serve.py' <<'PY'
import os, socket, sys, threading
def serve(conn):
    n = 0
    while True:
        piece = conn.recv(65536)
        if not piece: break
        n += len(piece)
        conn.sendall(piece)
    conn.sendall(b"end %d" % n)
    conn.close()
def loop(s):
    while True:
        conn, _ = s.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()
tcp = socket.create_server(("127.0.0.1", 4000), backlog=128)
v6 = socket.create_server(("::1", 4001), family=socket.AF_INET6)
unix = socket.socket(socket.AF_UNIX)
unix.bind("/tmp/echo.sock")
unix.listen(128)
for s in (v6, unix): threading.Thread(target=loop, args=(s,), daemon=True).start()
open("/tmp/serving", "w").close()
loop(tcp)
PY
berth run "$id" -- python3 -c 'pass' 2>/dev/null || skip "the template has no python3"
berth run "$id" --detach -- python3 /tmp/serve.py >/dev/null
wait_for 20 "the servers inside" berth run "$id" -- test -e /tmp/serving

# Standard streams: bytes, then the end, then what comes after the end.
head -c 5000000 /dev/urandom >"$TOP/data"
{ cat "$TOP/data"; printf 'end 5000000'; } >"$TOP/want"
for target in 4000 127.0.0.1:4000 4001 '[::1]:4001' /tmp/echo.sock; do
	berth tunnel "$id" --stdio "$target" <"$TOP/data" >"$TOP/got"
	cmp "$TOP/got" "$TOP/want" || fail "$target: other bytes came back"
done
say "five ways in: 5 MB there and back each"

refused 1 "nobody listens" berth tunnel "$id" --stdio 4999
refused 1 "no such socket" berth tunnel "$id" --stdio /tmp/none.sock
refused 1 "nobody listens" berth tunnel "$id" --stdio @none
refused 1 "cannot be reached" berth tunnel "$id" --stdio 192.0.2.1:80
refused 1 "no sandbox" berth tunnel nosuch --stdio 80
refused 2 "not understood" berth tunnel "$id" --stdio host:name
refused 2 "not understood" berth tunnel "$id" 1:2:3:4
curl -s --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/tunnel?port=4000" | grep -q upgrade-needed
curl -s -H 'Upgrade: berth-stream' -H 'Connection: Upgrade' --unix-socket "$STATE/run/api.sock" \
	"http://x/v1/sandboxes/$id/tunnel?port=4000&socket=/x" | grep -q bad-request

# A port of the host, with a hundred connections at once; one that nobody reads holds up none.
# background FILE COMMAND...: a tunnel that stays; returns when it listens.
background() {
	local out=$1
	shift
	: >"$out"
	"$@" >"$out" 2>"$out.err" &
	PIDS="$PIDS $!"
	wait_for 20 "$*" test -s "$out"
}
background "$TOP/listen" berth tunnel "$id" 0:4000
background "$TOP/listen-unix" berth tunnel "$id" "$TOP/local.sock:/tmp/echo.sock"
python3 - "$(cat "$TOP/listen")" "$TOP/local.sock" <<'PY'
import socket, sys, threading
from berthtest import fail
host, port = sys.argv[1].rsplit(":", 1)
stuck = socket.create_connection((host, int(port)))
stuck.setblocking(False)
sent = 0
try:
    while sent < 1 << 28: sent += stuck.send(b"x" * 65536)
except BlockingIOError: pass
if sent >= 1 << 28: fail("a connection that nobody reads takes 256 MiB")
bad = []
def one(i):
    try:
        s = socket.create_connection((host, int(port)), 60) if i % 2 else socket.socket(socket.AF_UNIX)
        if not i % 2: s.connect(sys.argv[2])
        data = bytes([i]) * (100000 + i)
        threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
        got = b""
        while True:
            piece = s.recv(65536)
            if not piece: break
            got += piece
        if got != data + b"end %d" % len(data): bad.append((i, len(got)))
    except OSError as e: bad.append((i, e))
all = [threading.Thread(target=one, args=(i,)) for i in range(100)]
for t in all: t.start()
for t in all: t.join()
if bad: fail(f"{len(bad)} of 100: {bad[:3]}")
print("100 connections at once beside one that does not read")
PY

# Inside out: a socket of the sandbox leads to a port of the host.
python3 - "$TOP/port" <<'PY' &
import os, socket, sys, threading
s = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[1] + ".new", "w") as f: f.write(str(s.getsockname()[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
def serve(c):
    got = b""
    while True:
        piece = c.recv(65536)
        if not piece: break
        got += piece
    c.sendall(b"host got %d" % len(got))
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
PY
PIDS="$PIDS $!"
wait_for 20 "the host's server" test -s "$TOP/port"
background "$TOP/back" berth tunnel "$id" --reverse "/run/berth/svc.sock:$(cat "$TOP/port")"
inside() {
	berth run "$id" -- python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b"y" * int(sys.argv[2])); s.shutdown(socket.SHUT_WR)
got = b""
while True:
    piece = s.recv(100)
    if not piece: break
    got += piece
print(got.decode())' "$@"
}
equal "from inside" "$(inside /run/berth/svc.sock 700000)" "host got 700000"
# Nobody serves: who connects sees the end at once; and the socket goes with who listened.
background "$TOP/back2" berth tunnel "$id" --reverse "/run/berth/dead.sock:$TOP/nobody.sock"
equal "nobody outside" "$(inside /run/berth/dead.sock 0)" ""
kill "${PIDS##* }"
wait_for 20 "the socket to go" gone /run/berth/dead.sock
equal "the other one stays" "$(inside /run/berth/svc.sock 1)" "host got 1"

# A daemon that ends ends the tunnels, and the next one serves new ones; a socket of the earlier one is let go.
stop_daemon KILL
start_daemon
berth tunnel "$id" --stdio 4000 <"$TOP/data" | cmp - "$TOP/want"
equal "of a daemon that is no more" "$(inside /run/berth/svc.sock 0)" ""
wait_for 20 "the old socket to go" gone /run/berth/svc.sock
berth kill box
