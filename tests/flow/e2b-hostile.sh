#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The door for E2B's clients against a server in the sandbox that never answers, or answers so that whoever stands between
# would be misled; and the daemon's end while somebody waits for what does not come.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
port=$((20000 + RANDOM % 10000))
start_daemon --set "api.listen=127.0.0.1:$port" --set api.threads=4
key=$(berth key create hostile)
python3 - "$port" "$key" "$TOP/waits" >"$TOP/driver" 2>&1 <<'PY' &
import base64, json, socket, struct, sys, threading, time, urllib.request

port, key, waits = int(sys.argv[1]), sys.argv[2], sys.argv[3]
SERVER = r'''
import socket, threading
ANSWERS = {
    "space": "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "fold": "HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 2\r\n\r\nok",
    "twice": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", "chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "less": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", "joined": "HTTP/1.1 101 Hello\r\nUpgrade: websocket\r\n\r\nok",
    "hints": "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "longer": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Second: 1\r\n\r\n" }
def one(c):
    text = b""
    while b"\r\n\r\n" not in text: text += c.recv(4096)
    what = text.split()[1].decode().strip("/")
    if what == "never": return held.append(c)
    if what == "idle":
        c.sendall(b"HTTP/1.1 200 OK\r\n\r\nfirst"); return held.append(c)
    if what == "echo":
        c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
    else:
        c.sendall(ANSWERS[what].encode())
    c.close()
held = []
s = socket.create_server(("127.0.0.1", 8000), backlog=64)
while True: threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
'''

def ask(method, path, headers, body=b"", read=True):
    c = socket.create_connection(("127.0.0.1", port), timeout=30)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"] + [f"{k}: {v}" for k, v in headers.items()]
    c.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    if not read: return c
    text = b""
    while b"\r\n\r\n" not in text:
        more = c.recv(65536)
        assert more, (path, text)
        text += more
    head, rest = text.split(b"\r\n\r\n", 1)
    size = next((int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length:")), None)
    while size is not None and len(rest) < size: rest += c.recv(65536)
    return c, int(head.split()[1]), head, rest

made = json.loads(ask("POST", "/v2/sandboxes", {"X-API-Key": key}, b'{"templateID": "base"}')[3])
door = {"E2b-Sandbox-Id": made["sandboxID"], "X-Access-Token": made["envdAccessToken"]}
at = {"E2b-Sandbox-Id": made["sandboxID"], "E2b-Sandbox-Port": "8000", "X-API-Key": key}
envelope = lambda m: struct.pack(">BI", 0, len(m)) + m
start = envelope(json.dumps({"process": {"cmd": "python3", "args": ["-c", SERVER]}}).encode())
kept = [ask("POST", "/process.Process/Start", {**door, "Content-Type": "application/connect+json"}, start, False)]
for _ in range(100):
    c, status, head, body = ask("GET", "/echo", at)
    if status == 200: break
assert status == 200, (status, body)
assert key.encode() not in body and b"x-api-key" not in body.lower(), body
for name, wanted in {"space": 502, "fold": 502, "twice": 502, "chunked": 502, "less": 502, "joined": 502, "hints": 200, "longer": 200}.items():
    c, status, head, body = ask("GET", "/" + name, at)
    assert status == wanted, (name, status, head)
    assert status != 200 or body == b"ok", (name, body)
# Many wait for what does not come, and everybody else is served.
kept += [ask("GET", "/never", at, read=False) for _ in range(12)]
until = time.monotonic() + 20
while time.monotonic() < until: # one sandbox has half of the threads while ports are opened
    c, status, head, body = ask("GET", "/echo", at)
    if status != 429: break
assert status == 200, status
assert ask("GET", "/v2/sandboxes", {"X-API-Key": key})[1] == 200
# Nothing of the agent's, whatever leads there.
for path in ("/proc/self/environ", "/proc/thread-self/maps", "/proc/self/fd/0"):
    c, status, head, body = ask("GET", "/files?path=" + path, door)
    assert status in (400, 403, 404), (path, status, body)
# The daemon ends while these are waited for.
c, status, head, body = ask("GET", "/idle", at)
assert status == 200, status
kept.append(c)
watch = envelope(b'{"path": "/tmp"}')
kept.append(ask("POST", "/filesystem.Filesystem/WatchDir", {**door, "Content-Type": "application/connect+json"}, watch)[0])
with open(waits, "w") as f: f.write(made["sandboxID"])
for c in kept:
    try:
        while c.recv(65536): pass
    except ConnectionResetError: pass
print("ok")
PY
driver=$!
is_ready() { [ -s "$TOP/waits" ] || ! kill -0 "$driver" 2>/dev/null; }
wait_for 90 "the driver" is_ready
[ -e "$TOP/waits" ] || fail "$(tail -n 15 "$TOP/driver")"
stop_daemon
wait "$driver" || fail "$(tail -n 15 "$TOP/driver")"
equal "the driver" "$(cat "$TOP/driver")" ok
start_daemon
berth kill "$(cat "$TOP/waits")"
say ok
