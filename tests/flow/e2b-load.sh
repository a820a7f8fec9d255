#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# E2B's door under load: idle streams, sandboxes made and killed ten at a time, large files both ways in constant memory, clients that
# drip, clients that are gone at each byte of a question and of an answer, questions that were damaged. Nothing of it stays.
# BERTH_LONG=1: 1,000 streams, 200 sandboxes, 2 GiB, a cut at each byte, 20,000 damaged questions.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
port=$((20000 + RANDOM % 10000))
start_daemon --set "api.listen=127.0.0.1:$port" --set sandbox.max=24 --set sandbox.workspace=4G --set api.head-timeout=2s
key=$(berth key create load)
python3 - "$port" "$key" "$DAEMON" <<'PY'
import base64, concurrent.futures, hashlib, http.client, json, os, random, socket, struct, sys, threading, time
from berthtest import fail, has_sanitizers, until
port, key, pid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
LONG = bool(os.environ.get("BERTH_LONG"))
STREAMS, BOXES, FILE_MIB, STEP, DAMAGED = (1000, 200, 2048, 1, 20000) if LONG else (100, 20, 64, 9, 300)
STREAM_KIB, FILE_KIB = 64, 48 << 10

def fds():
    """Without the environments of stopped workspaces, of which at most 256 stay open (host/store/wsdb.c)."""
    n = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try: n += "/store/ws/" not in os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError: pass
    return n
def threads(): return len(os.listdir(f"/proc/{pid}/task"))
def memory():
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("Pss_Anon:"))

def envelope(message):
    text = json.dumps(message).encode()
    return struct.pack(">BI", 0, len(text)) + text
def ask(method, path, body=None, headers=(), wants=(200, 201, 204)):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    c.request(method, path, body, {"X-API-Key": key, "Content-Type": "application/json", **dict(headers)})
    r = c.getresponse(); text = r.read(); c.close()
    if r.status not in wants: fail(f"{method} {path}: {r.status} {text[:300]}")
    return text
def create(): return json.loads(ask("POST", "/v2/sandboxes", json.dumps({"templateID": "base", "timeout": 3000, "allowInternetAccess": False})))
def door(box): return {"E2b-Sandbox-Id": box["sandboxID"], "E2b-Sandbox-Port": "49983", "X-Access-Token": box["envdAccessToken"]}
CONNECT = {"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1"}

def raw(method, path, body=b"", headers=()):
    """The bytes of a question whose connection ends with its answer."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"] + [f"{k}: {v}" for k, v in dict(headers).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
def dial(question=b""):
    s = socket.create_connection(("127.0.0.1", port), timeout=60)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(question)
    return s
def read_until(s, words, size=65536):
    got = b""
    while words not in got:
        part = s.recv(size)
        if not part: fail(f"ended without {words}: {got[:300]}")
        got += part
    return got
def read_all(s, limit=1 << 30, size=65536):
    got = b""
    while len(got) < limit:
        try: part = s.recv(min(size, limit - len(got)))
        except OSError: break
        if not part: break
        got += part
    return got

box = create()
me = door(box)
def start(*words): return raw("POST", "/process.Process/Start", envelope({"process": {"cmd": words[0], "args": words[1:]}, "stdin": True, "tag": "t"}), {**me, **CONNECT})
def unary(service, body): return ask("POST", "/" + service, json.dumps(body), me)
for _ in range(3): ask("GET", "/v2/sandboxes")
base_fd, base_th = fds(), threads()
def given_back(what):
    until(lambda: fds() <= base_fd + 4, 60, f"descriptors after {what}: {fds()}, {base_fd} before")
    if threads() > base_th + 1: fail(f"{threads()} threads after {what}, {base_th} before")

# --- idle streams: all hear what comes at last ---
first = dial(start("/bin/cat"))
read_until(first, b'"pid"')
def listen(): s = dial(raw("POST", "/process.Process/Connect", envelope({"process": {"tag": "t"}}), {**me, **CONNECT})); read_until(s, b'"start"'); return s
warm = [listen() for _ in range(10)]
before, fd = memory(), fds()
streams = [listen() for _ in range(STREAMS)]
each = (memory() - before) / STREAMS
print(f"{STREAMS} idle streams: {each:.1f} KiB and {(fds() - fd) / STREAMS:.2f} descriptors each, {threads() - base_th} more threads")
if each >= STREAM_KIB and not has_sanitizers(): fail(f"{each:.1f} KiB each, the limit is {STREAM_KIB}")
if threads() > base_th + 1: fail(f"{threads() - base_th} threads more")
line = base64.b64encode(b"to all\n").decode()
unary("process.Process/SendInput", {"process": {"tag": "t"}, "input": {"stdin": line}})
for s in streams: read_until(s, line.encode())
for s in streams + warm + [first]: s.close()
unary("process.Process/SendSignal", {"process": {"tag": "t"}, "signal": "SIGNAL_SIGKILL"})
given_back("idle streams")

# --- sandboxes, ten at a time ---
def life(i):
    b = create()
    out = read_all(dial(raw("POST", "/process.Process/Start", envelope({"process": {"cmd": "/bin/echo", "args": [f"number {i}"]}, "stdin": False}), {**door(b), **CONNECT})))
    if base64.b64encode(f"number {i}\n".encode()) not in out: fail(f"sandbox {i}: {out[-300:]}")
    ask("DELETE", f"/sandboxes/{b['sandboxID']}")
# The environments that stay open have some 40 KiB each: long, as many as stay are there before it is measured.
with concurrent.futures.ThreadPoolExecutor(10) as pool: list(pool.map(life, range(260 if LONG else 10)))
before = memory()
with concurrent.futures.ThreadPoolExecutor(10) as pool: list(pool.map(life, range(BOXES)))
grown = memory() - before
print(f"{BOXES} sandboxes made and killed, ten at a time: {grown} KiB more")
if grown > 2048 + (8 if LONG else 64) * BOXES and not has_sanitizers(): fail(f"{grown} KiB more after {BOXES} sandboxes")
if [b["sandboxID"] for b in json.loads(ask("GET", "/v2/sandboxes"))] != [box["sandboxID"]]: fail("others are listed")
given_back("sandboxes")

# --- large files, in constant memory ---
most, over = memory(), threading.Event()
def watch():
    global most
    while not over.wait(0.1): most = max(most, memory())
block = os.urandom(1 << 20)
def blocks():
    for i in range(FILE_MIB): yield struct.pack(">Q", i) + block[8:]
sent = hashlib.sha256()
for b in blocks(): sent.update(b)
def upload(path, headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    c.request("POST", path, blocks(), {**me, **headers, "Content-Length": str(FILE_MIB << 20)})
    r = c.getresponse(); text = r.read(); c.close()
    if r.status != 200: fail(f"upload: {r.status} {text[:300]}")
def download(path):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    c.request("GET", path, headers=me)
    r, got = c.getresponse(), hashlib.sha256()
    while part := r.read(1 << 20): got.update(part)
    c.close()
    if got.digest() != sent.digest(): fail(f"{path} is not what was sent")
before = most
watcher = threading.Thread(target=watch); watcher.start()
upload("/files?path=/workspace/large", {"Content-Type": "application/octet-stream"})
download("/files?path=/workspace/large")
over.set(); watcher.join()
print(f"{FILE_MIB} MiB up and down: at most {most - before} KiB more meanwhile")
if most - before > FILE_KIB and not has_sanitizers(): fail(f"{most - before} KiB for a file of {FILE_MIB} MiB")
unary("filesystem.Filesystem/Remove", {"path": "/workspace/large"})

# --- the questions that follow, recorded ---
form = (b"--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/workspace/form\"\r\n\r\n" + b"x" * 200 + b"\r\n--frontier--\r\n")
kinds = {
    "start": (start("/bin/echo", "said"), base64.b64encode(b"said\n")),
    "list": (raw("POST", "/process.Process/List", b"{}", {**me, "Content-Type": "application/json"}), b"HTTP/1.1 200"),
    "stat": (raw("POST", "/filesystem.Filesystem/Stat", b'{"path":"/etc/passwd"}', {**me, "Content-Type": "application/json"}), b'"passwd"'),
    "octets": (raw("POST", "/files?path=/workspace/up", b"y" * 300, {**me, "Content-Type": "application/octet-stream"}), b'"up"'),
    "form": (raw("POST", "/files", form, {**me, "Content-Type": "multipart/form-data; boundary=frontier"}), b'"form"'),
    "read": (raw("GET", "/files?path=/etc/passwd", b"", me), b"root:"),
    "sandboxes": (raw("GET", "/v2/sandboxes?limit=5", b"", {"X-API-Key": key}), box["sandboxID"].encode()),
    "logs": (raw("GET", f"/sandboxes/{box['sandboxID']}/logs", b"", {"X-API-Key": key}), b"HTTP/1.1 200"),
    "timeout": (raw("POST", f"/sandboxes/{box['sandboxID']}/timeout", b'{"timeout":3000}', {"X-API-Key": key, "Content-Type": "application/json"}), b"HTTP/1.1 204"),
}
# --- clients that drip, in both directions, while others are served ---
slow = []
def drip(name):
    question, words = kinds[name]
    s = dial()
    for b in question: s.send(bytes([b])); time.sleep(0.002)
    read_until(s, words, 1); s.close(); slow.append(name)
drips = [threading.Thread(target=drip, args=(name,)) for name in kinds]
for t in drips: t.start()
while any(t.is_alive() for t in drips): ask("GET", "/v2/sandboxes")
if len(slow) != len(kinds): fail(f"who dripped was not answered: {set(kinds) - set(slow)}")

# --- gone at each byte ---
def gone(s, hard):
    if hard: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
cuts = 0
for name, (question, words) in kinds.items():
    s = dial(question); answer = read_until(s, words); s.close()
    for n in range(0, len(question), STEP): gone(dial(question[:n]), n % 2); cuts += 1
    for n in range(1, min(len(answer), 600), STEP): s = dial(question); read_all(s, n); gone(s, n % 2); cuts += 1
    ask("GET", "/v2/sandboxes")
given_back("cuts")

# --- damaged: answered or closed, never with a status that says the daemon is wrong ---
# But for the one that says how long the sandbox lives: damaged, it may say that it is over.
whole = [question for name, (question, _) in kinds.items() if name != "timeout"]
def damaged(seed):
    rnd = random.Random(seed)
    q = bytearray(rnd.choice(whole))
    for _ in range(rnd.randrange(1, 6)):
        at, what = rnd.randrange(len(q)), rnd.randrange(4)
        if what == 0: q[at] = rnd.randrange(256)
        elif what == 1: del q[at:at + rnd.randrange(1, 9)]
        elif what == 2: q[at:at] = bytes(rnd.randrange(256) for _ in range(rnd.randrange(1, 9)))
        else: q[at:at] = rnd.choice((b"\r\n", b"\r\nContent-Length: 5\r\n", b"\r\nTransfer-Encoding: chunked\r\n", b"\0", b'"', b"{" * 20, b"%2e%2e/", b"\r\nE2b-Sandbox-Port: 1\r\n"))
    s = dial()
    try: s.sendall(q); s.shutdown(socket.SHUT_WR)
    except OSError: pass # it was closed before the end
    got = read_all(s); s.close()
    status = got[9:12].decode("latin1") if got.startswith(b"HTTP/1.1 ") else "-"
    if status == "500": fail(f"{bytes(q)} was answered {got[:300]}")
    return status
seed, statuses = int(os.environ.get("BERTH_SEED", "7")), {}
with concurrent.futures.ThreadPoolExecutor(24) as pool:
    for status in pool.map(damaged, range(seed * 1000000, seed * 1000000 + DAMAGED)): statuses[status] = statuses.get(status, 0) + 1
print(f"{cuts} cut off, {DAMAGED} damaged: {dict(sorted(statuses.items()))}")
given_back("damaged questions")
if base64.b64encode(b"said\n") not in read_all(dial(kinds["start"][0])): fail("no command runs any more")
ask("DELETE", f"/sandboxes/{box['sandboxID']}")
PY
say ok
