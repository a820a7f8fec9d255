#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Slow and dropped clients at every point, on the socket and over TCP: each kind of request is recorded once, then spoken
# byte by byte, read byte by byte, and cut off at each byte of its question and of its answer. Malformed requests of every
# kind get an answer or a closed connection; who drips is shut out. Nothing of it stays: descriptors, threads, memory.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start_daemon --set "api.listen=127.0.0.1:$port" --set api.head-timeout=2s
id=$(berth create --template mini --pids 4000)
key=$(berth key create all --scopes admin)
export id key port DAEMON
python3 - <<'PY'
import concurrent.futures, json, os, random, re, select, socket, struct, subprocess, time
from berthtest import Api, fail, has_sanitizers, until
box, key, port, pid = os.environ["id"], os.environ["key"], int(os.environ["port"]), os.environ["DAEMON"]
path, api = os.environ["BERTH_URL"][5:], Api()
LONG = bool(os.environ.get("BERTH_LONG"))
S = f"/v1/sandboxes/{box}"

def fds(): return len(os.listdir(f"/proc/{pid}/fd"))
def threads(): return len(os.listdir(f"/proc/{pid}/task"))
def memory():
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("Pss_Anon:"))
def good(*what):
    while True: # an idle connection of ours is closed by the daemon, too
        try: return api.good(*what)
        except OSError: api.conn.close()
        except Exception as e:
            if "Disconnected" not in type(e).__name__: raise
            api.conn.close()

def dial(tcp):
    s = socket.create_connection(("127.0.0.1", port)) if tcp else socket.socket(socket.AF_UNIX)
    if tcp: s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else: s.connect(path)
    s.settimeout(30)
    return s
def reset(s): # with a reset instead of an end, where there is one
    try: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError: pass
    s.close()
def read_all(s, size=65536, limit=1 << 30):
    got = b""
    while len(got) < limit:
        try: part = s.recv(min(size, limit - len(got)))
        except ConnectionResetError: break
        if not part: break
        got += part
    return got

# --- recorded conversations ---
def head(method, target, more="", close=True):
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n{'Connection: close' + chr(13) + chr(10) if close else ''}{more}\r\n".encode()
def with_body(method, target, body):
    return head(method, target, f"Content-Length: {len(body)}\r\n") + body
good("POST", f"{S}/exec", {"argv": ["sh", "-c", "seq 1 3000 >down"], "cwd": "/workspace"})
content = b"x" * 300
chunked = head("PUT", f"{S}/files?path=up", "Transfer-Encoding: chunked\r\n") + b"12c\r\n" + content + b"\r\n0\r\n\r\n"

def recorded():
    own = os.environ["TOP"] + "/own.sock"
    lis = socket.socket(socket.AF_UNIX); lis.bind(own); lis.listen(1)
    p = subprocess.Popen(["berth", "run", box, "--no-stdin", "--id", "a" * 24, "--", "echo", "streamed"], env=dict(os.environ, BERTH_URL="unix:" + own), stderr=subprocess.DEVNULL)
    s, _ = lis.accept(); s.settimeout(20); got = b""
    while b"\r\n\r\n" not in got: got += s.recv(65536)
    s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: berth-stream\r\n\r\n")
    frame = s.recv(65536); p.kill(); p.wait(); s.close(); lis.close()
    return frame
frame, names = recorded(), iter(range(1 << 60))
api.conn.request("GET", "/v1/events")
seen = json.loads(api.conn.getresponse().read().splitlines()[-1])["seq"]
good("POST", "/v1/keys", {"name": "told", "scopes": ["read"]})
kinds = {
    "plain": (lambda: head("GET", "/health"), b'"status":"ok"'),
    "list": (lambda: head("GET", "/v1/sandboxes"), box.encode()),
    "command": (lambda: with_body("POST", f"{S}/exec", b'{"argv":["echo","said"],"cwd":"/"}'), b'"stdout":"said'),
    "upload": (lambda: with_body("PUT", f"{S}/files?path=up", content), b'"size":300'),
    "chunked upload": (lambda: chunked, b'"size":300'),
    "download": (lambda: head("GET", f"{S}/files?path=down"), b"\n2999\n3000\n"),
    "stream": (lambda: head("GET", f"{S}/stream", "Connection: Upgrade\r\nUpgrade: berth-stream\r\n", False) + frame.replace(b"a" * 24, b"%024d" % next(names)), b"streamed"),
    "events": (lambda: head("GET", f"/v1/events?since={seen}"), b'"name":"told"'),
    "events for ever": (lambda: head("GET", f"/v1/events?since={seen}&follow=1"), b'"name":"told"'),
}
endless = {"stream", "events for ever"}

def answer(s, name, size=65536):
    """Until the words that it must have are there, or the end."""
    got = b""
    while kinds[name][1] not in got:
        part = s.recv(size)
        if not part: fail(f"{name}: ended without the right words: {got[:300]}")
        got += part
    return got if name in endless else got + read_all(s, size)

def baseline(what, fd, th):
    # readers of events that went away are noticed at the next one
    until(lambda: good("POST", "/v1/keys", {"name": f"k{time.monotonic_ns()}", "scopes": ["read"]}) and fds() <= fd, 60, f"descriptors after {what}: {fds()}, {fd} before")
    for k in good("GET", "/v1/keys"):
        if k["name"] != "all": good("DELETE", f"/v1/keys/{k['id']}")
    if threads() > th: fail(f"threads after {what}: {threads()}, {th} before")

def torture(name, tcp, step):
    ask, words = kinds[name]
    # byte by byte, in each direction
    s = dial(tcp)
    for b in ask(): s.send(bytes([b]))
    full = answer(s, name, 1); s.close()
    # cut off at each byte of the question
    for n in range(0, len(ask()), step):
        s = dial(tcp); s.sendall(ask()[:n]); (reset if n % 2 else socket.socket.close)(s)
    # and at each byte of the answer
    cuts = list(range(0, min(len(full), 600), step)) + list(range(600, len(full), max(1, len(full) // 40)))
    for n in cuts:
        s = dial(tcp); s.sendall(ask()); read_all(s, limit=n) if n else None; (reset if n % 2 else socket.socket.close)(s)
    good("GET", "/health")
    return len(ask()) // step + len(cuts)

good("GET", "/health")
fd, th = fds() + 4, threads()
def everything(step):
    n = 0
    for name in kinds:
        for tcp in (False, True):
            n += torture(name, tcp, step)
    baseline(f"conversations cut off at each byte, {n} of them", fd, th)
    return n
cuts = everything(11)
first = memory()
cuts += everything(1 if LONG else 5)
if memory() - first > 6000 and not has_sanitizers(): fail(f"memory grew from {first} to {memory()} KiB")
if api.good("GET", f"{S}/stat?path=up")["size"] != 300: fail("half of an upload is to be seen")
left = [e["name"] for e in good("GET", f"{S}/list?path=")]
if sorted(left) != ["down", "up"]: fail(f"what is left of uploads that were cut off: {left}")
print(f"{cuts} conversations cut off; memory {first} -> {memory()} KiB")

# --- malformed: an answer or a closed connection, and never two answers to what may be one question ---
H = f"X-API-Key: {key}\r\n".encode()
def post(more, body=b""): return b"POST /v1/fsck HTTP/1.1\r\nHost: x\r\n" + H + more + b"\r\n" + body
evil = b"GET /v1/sandboxes HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n"
smuggling = {
    "length and chunked": post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + evil),
    "chunked and length": post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n" + evil),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(evil), evil),
    "equal lengths": post(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}" + evil),
    "a list of lengths": post(b"Content-Length: 0, 5\r\n", evil),
    "a signed length": post(b"Content-Length: +0\r\n", evil),
    "a negative length": post(b"Content-Length: -1\r\n", evil),
    "a hexadecimal length": post(b"Content-Length: 0x0\r\n", evil),
    "a length and words": post(b"Content-Length: 0 what\r\n", evil),
    "an endless length": post(b"Content-Length: 99999999999999999999\r\n", evil),
    "another encoding": post(b"Transfer-Encoding: gzip\r\n", evil),
    "two encodings": post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n" + evil),
    "chunked twice": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + evil),
    "chunked with a tab": post(b"Transfer-Encoding:\tchunked, identity\r\n", b"0\r\n\r\n" + evil),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", evil),
    "a space before the colon": post(b"Content-Length : 5\r\n", b"{}   " + evil),
    "a space before chunked's colon": post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + evil),
    "a negative chunk": post(b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n" + evil),
    "a chunk of no size": post(b"Transfer-Encoding: chunked\r\n", b"\r\n" + evil),
    "a chunk of words": post(b"Transfer-Encoding: chunked\r\n", b"zz\r\n" + evil),
    "a chunk with 0x": post(b"Transfer-Encoding: chunked\r\n", b"0x2\r\n{}\r\n0\r\n\r\n" + evil),
    "an overflowing chunk": post(b"Transfer-Encoding: chunked\r\n", b"10000000000000000\r\n" + evil),
    "the largest chunk": post(b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff\r\n" + evil),
    "a chunk without its end": post(b"Transfer-Encoding: chunked\r\n", b"2\r\n{}X0\r\n\r\n" + evil),
}
odd = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "TLS": bytes.fromhex("160301020001 0001fc0303".replace(" ", "")) + os.urandom(507),
    "HTTP/0.9": b"GET /health\r\n\r\n", "HTTP/1.0": b"GET /health HTTP/1.0\r\n" + H + b"\r\n", "no version": b"GET /health \r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n" + H + b"\r\n", "two hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + H + b"\r\n",
    "an absolute address": b"GET http://x/health HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "an authority": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "TRACE": b"TRACE /health HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "a method of 9,000": b"A" * 9000 + b" /health HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "a method in small letters": b"get /health HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "a NUL in the path": b"GET /he\0alth HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "a NUL in a name": b"GET /health HTTP/1.1\r\nHo\0st: x\r\n" + H + b"\r\n",
    "a NUL in a value": b"GET /health HTTP/1.1\r\nHost: x\0y\r\n" + H + b"\r\n", "a folded header": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n" + H + b"\r\n",
    "bare CR": b"GET /health HTTP/1.1\rHost: x\r\r", "bare LF": b"GET /health HTTP/1.1\nHost: x\n" + H + b"\n", "a header without a colon": b"GET /health HTTP/1.1\r\nHost x\r\n" + H + b"\r\n",
    "a header without a name": b"GET /health HTTP/1.1\r\n: x\r\n" + H + b"\r\n", "a header of 60,000": b"GET /health HTTP/1.1\r\nHost: x\r\n" + H + b"A: " + b"b" * 60000 + b"\r\n\r\n",
    "a header of 700,000": b"GET /health HTTP/1.1\r\nHost: x\r\n" + H + b"A: " + b"b" * 700000 + b"\r\n\r\n", "20,000 headers": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
    "a path of 70,000": b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "5,000 parameters": b"GET /health?" + b"a=b&" * 5000 + b" HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "dots": b"GET /v1/../health HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "encoded dots": b"GET /v1/%2e%2e/health HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "a long encoding": b"GET /v1/sandboxes/%c0%ae%c0%ae HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "an encoding twice": b"GET /v1/sandboxes/%252e HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "half an encoding": b"GET /v1/sandboxes/%4 HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n", "an encoded NUL": b"GET /v1/sandboxes/a%00 HTTP/1.1\r\nHost: x\r\n" + H + b"\r\n",
    "an upgrade to something else": b"GET /health HTTP/1.1\r\nHost: x\r\n" + H + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "an expectation": b"POST /v1/fsck HTTP/1.1\r\nHost: x\r\n" + H + b"Expect: the-best\r\nContent-Length: 2\r\n\r\n{}",
    "an encoded body": b"POST /v1/fsck HTTP/1.1\r\nHost: x\r\n" + H + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "lines before the request": b"\r\n" * 50 + evil, "nothing but lines": b"\r\n" * 40000, "noise": os.urandom(100000), "zeros": b"\0" * 100000,
}
fd, th = fds() + 4, threads()
ends = {"answered": 0, "closed": 0}
def malformed(name, raw):
    for tcp in (False, True):
        s = dial(tcp)
        try:
            s.sendall(raw)
            got = read_all(s) # the daemon closes it, in two seconds at the latest
        except (BrokenPipeError, ConnectionResetError): got = b""
        except TimeoutError: return f"{name}: neither answered nor closed"
        s.close()
        n = got.count(b"HTTP/1.1 ") + got.count(b"HTTP/1.0 ")
        ends["answered" if got else "closed"] += 1
        # libmicrohttpd says its own "malformed" twice at times, and closes.
        if n > 1 and name in smuggling and set(re.findall(rb"HTTP/1\.1 (\d+)", got)) - {b"400", b"413"}: return f"{name}: {n} answers: {got[:400]}"
        if name in smuggling and b" 200 " in got.split(b"\r\n")[0]: return f"{name}: taken: {got[:200]}"
with concurrent.futures.ThreadPoolExecutor(48) as pool:
    for wrong in pool.map(lambda one: malformed(*one), list(smuggling.items()) + list(odd.items())):
        if wrong: fail(wrong)
good("GET", "/health")
baseline("malformed requests", fd, th)
rnd = random.Random(int(os.environ.get("BERTH_SEED", "5")))
whole = [k[0]() for n, k in kinds.items() if n not in endless] + list(smuggling.values())
rounds = 20000 if LONG else 500
for i in range(rounds):
    raw = bytearray(rnd.choice(whole))
    for _ in range(rnd.randrange(1, 8)):
        where = rnd.randrange(len(raw))
        op = rnd.randrange(3)
        if op == 0: raw[where] = rnd.choice(b"\0\r\n :%\t,;0123456789abcdefGET/\xff\x80")
        elif op == 1: del raw[where:where + rnd.randrange(1, 5)]
        else: raw[where:where] = rnd.choice([b"\r\n", b"\0", b"Content-Length: 1\r\n", b"%00", b" ", b"a" * 300])
        if not raw: raw = bytearray(b"G")
    s = dial(rnd.random() < 0.5)
    try: s.sendall(raw); s.shutdown(socket.SHUT_WR) if rnd.random() < 0.5 else None; s.settimeout(0.01); s.recv(65536)
    except OSError: pass
    reset(s) if rnd.random() < 0.5 else s.close()
good("GET", "/health")
baseline("mutated requests", fd, th)
print(f"{sum(ends.values())} malformed requests: {ends}; {rounds} mutated ones")

# --- who drips is shut out, whatever he drips ---
drips = [(b"GET /health HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"), (b"", b"\r\n"), (b"GET /", b"a"), (head("PUT", f"{S}/files?path=drip", "Content-Length: 100000\r\n"), b"x"),
         (head("PUT", f"{S}/files?path=drip", "Transfer-Encoding: chunked\r\n"), b"1\r\nx\r\n"), (b"", b"")]
open_ones = []
for i in range(60):
    s = dial(i % 2 == 0)
    first, again = drips[i % len(drips)]
    s.sendall(first)
    open_ones.append((s, again))
end = time.monotonic() + 60
while open_ones:
    if time.monotonic() > end: fail(f"{len(open_ones)} who drip are still there")
    readable = set(select.select([s for s, _ in open_ones], [], [], 0.1)[0])
    for s, again in list(open_ones):
        try:
            if s in readable and not s.recv(65536): raise OSError
            s.sendall(again)
        except OSError:
            open_ones.remove((s, again)); s.close()
good("GET", "/health")
baseline("dripping", fd, th)
if any(e["name"] == "drip" for e in good("GET", f"{S}/list?path=")): fail("a part of an upload is to be seen")
print("60 who drip were shut out")
PY
berth kill "$id" --grace 0
