#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clients that send nonsense, go away in the middle, or just sit there: the daemon answers the next one, loses no
# descriptor, and ends in order while streams are open.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
export id DAEMON STATE
python3 - <<'PY'
import json, os, random, socket, time
from berthtest import Api, fail, until
api, box, path = Api(), os.environ["id"], os.environ["STATE"] + "/run/api.sock"
pid = os.environ["DAEMON"]

def fds():
    return len(os.listdir(f"/proc/{pid}/fd"))

def dial():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    return s

def ask(raw, end=True):
    s = dial()
    try:
        s.sendall(raw)
        if end:
            s.shutdown(socket.SHUT_WR)
        got = b""
        while True:
            part = s.recv(65536)
            if not part:
                return got
            got += part
    except (BrokenPipeError, ConnectionResetError):
        return b""
    finally:
        s.close()

def cut(raw):
    s = dial()
    try:
        s.sendall(raw)
        s.settimeout(0.02)
        s.recv(65536)
    except OSError:
        pass
    finally:
        s.close()

def req(method, target, body=b"", more=""):
    return (f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n{more}\r\n").encode() + body

def refused(raw, status, what):
    got = ask(raw, end=False)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(f"HTTP/1.1 {status}".encode()):
        fail(f"{what}: {got[:200]}")
    e = json.loads(body)["error"]
    if not e["slug"] or not e["message"]:
        fail(f"{what}: no words: {body}")

api.good("GET", "/health")
before = fds()
# --- what has words for an answer ---
S = f"/v1/sandboxes/{box}"
refused(req("GET", "/nothing"), 404, "no route")
refused(req("GET", "/v1/sandboxes/%zz"), 404, "bad encoding")
refused(req("GET", "/v1/sandboxes/a%00b"), 404, "a NUL")
refused(req("DELETE", "/v1/sandboxes"), 405, "a method")
refused(req("OPTIONS", S), 405, "OPTIONS")
refused(req("GET", f"{S}/files?path=%zz"), 400, "bad encoding in a query")
refused(req("GET", f"{S}/files?path=..%2f..%2fetc"), 400, "dots")
refused(req("GET", f"{S}/stream"), 400, "no upgrade")
for body in (b"{", b"[]", b'"x"', b"nul", b"{}{}", b'{"argv":["a\\u0000b"]}', b'{"argv":["\xff"]}', b'{"argv":5}', b'{"argv":[]}',
             b'{"argv":["true"],"timeout_ms":99999999999999999999}', b'{"argv":["true"],"timeout_ms":-1}', b'{"argv":["true"],"timeout_ms":1e3}',
             b'{"argv":["true"],"argv":["false"]}', b'{"argv":["true"],"what":1}', b'{"argv":["true"],"env":{"A":1}}', b"[" * 100000,
             b'{"a":' * 5000, b" " * 2000):
    refused(req("POST", f"{S}/exec", body), 400, f"exec {body[:60]}")
refused(req("POST", f"{S}/exec", b"x" * (2 << 20)), 413, "a long body")
for body in (b'{"memory_b":9223372036854775807}', b'{"pids":9999999}', b'{"name":"A B"}', b'{"id":"../x"}'):
    refused(req("POST", "/v1/sandboxes", body), 400, f"create {body}")
# --- what is cut off, in any way, as long as the next one is answered ---
whole = req("POST", f"{S}/exec", b'{"argv":["true"]}')
for n in range(0, len(whole), 7):
    cut(whole[:n])
for raw in (b"\x00" * 5000, b"\xff" * 70000, b"GET " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000,
            b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"):
    cut(raw)
rnd = random.Random(3)
for _ in range(300):
    raw = bytearray(whole)
    for _ in range(rnd.randrange(1, 6)):
        raw[rnd.randrange(len(raw))] = rnd.randrange(256)
    cut(bytes(raw))
piped = ask((f"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 20).encode() + req("GET", "/health"), end=False)
if piped.count(b"HTTP/1.1 200") != 21:
    fail(f"pipelining: {piped.count(b'HTTP/1.1 200')} answers")
chunked = ask(f"POST {S}/exec HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{{\"argv\":[\"true\"]}}\r\n0\r\n\r\n".encode(), end=False)
if b" 200 " not in chunked.split(b"\r\n")[0]:
    fail(f"chunked: {chunked[:200]}")
if not ask(req("HEAD", "/health"), end=False).startswith(b"HTTP/1.1 "):
    fail("HEAD")
# --- gone in the middle ---
api.sh(box, "head -c 40000000 /dev/urandom >big")
for _ in range(30):
    s = dial(); s.sendall(f"GET {S}/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: berth-stream\r\n\r\n".encode()); s.close()
    s = dial(); s.sendall(f"GET {S}/files?path=big HTTP/1.1\r\nHost: x\r\n\r\n".encode()); s.recv(1000); s.close()
    s = dial(); s.sendall(f"PUT {S}/files?path=up HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n".encode() + b"x" * 1500000); s.close()
    s = dial(); s.sendall(req("POST", f"{S}/exec", b'{"argv":["true"]}')); s.close()
until(lambda: fds() <= before + 3, 30, f"descriptors to be given back ({before} before)")
# --- many that sit there ---
idle = []
try:
    for _ in range(1000):
        idle.append(dial())
except OSError:
    pass
for s in idle[:len(idle) // 2]:
    s.close()
until(lambda: api.call("GET", "/health")[0] == 200, 30, "an answer beside idle connections")
for s in idle:
    s.close()
until(lambda: fds() <= before + 3, 30, "descriptors to be given back after idle connections")
print("nonsense is refused, and costs nothing")
PY
# --- the end while streams are open ---
for i in 1 2 3; do
	berth run "$id" -- sleep 1000 </dev/null >/dev/null 2>&1 &
done
streams_run() { [ "$(curl -s --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/processes" | grep -o sleep | wc -l)" -ge 3 ]; }
wait_for 20 "three commands to run" streams_run
stop_daemon
say "ended in order with $i streams open"
start_daemon
berth kill "$id"
