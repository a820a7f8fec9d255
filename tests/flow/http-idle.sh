#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A thousand streams of commands that sleep, a thousand readers of events, a thousand connections that say nothing, and as
# many requests that wait for a command as there are threads and more: what each costs in the daemon's memory, that it
# answers beside them, and that everything is given back.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
N=${BERTH_IDLE:-1000}
[ "$(ulimit -Hn)" -ge $((2 * N + 500)) ] || skip "needs $((2 * N + 500)) descriptors"
ulimit -n "$(ulimit -Hn)"
start_daemon --set api.connections=8192 --set api.head-timeout=1h
id=$(berth create --template mini --pids 4000 --memory 2G)
export id DAEMON N
python3 - <<'PY'
import json, os, socket, subprocess, threading, time
from berthtest import Api, fail, has_sanitizers, until
api, box, N, pid = Api(), os.environ["id"], int(os.environ["N"]), os.environ["DAEMON"]
path, LIMIT = os.environ["BERTH_URL"][5:], 64

def fds(): return len(os.listdir(f"/proc/{pid}/fd"))
def threads(): return len(os.listdir(f"/proc/{pid}/task"))
def pss(of=None):
    with open(f"/proc/{of or pid}/smaps_rollup") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("Pss_Anon:"))
def dial(request=b""):
    s = socket.socket(socket.AF_UNIX); s.connect(path); s.settimeout(60); s.sendall(request)
    return s

# What the client sends to start a command, from the client itself: its frame with the name of the process in it.
def recorded(script):
    own = os.environ["TOP"] + "/own.sock"
    lis = socket.socket(socket.AF_UNIX); lis.bind(own); lis.listen(1)
    p = subprocess.Popen(["berth", "run", box, "--no-stdin", "--id", "a" * 24, "--", "sh", "-c", script], env=dict(os.environ, BERTH_URL="unix:" + own), stderr=subprocess.DEVNULL)
    s, _ = lis.accept(); s.settimeout(20); got = b""
    while b"\r\n\r\n" not in got: got += s.recv(65536)
    s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: berth-stream\r\n\r\n")
    frame = s.recv(65536)
    p.kill(); p.wait(); s.close(); lis.close(); os.unlink(own)
    if frame.count(b"a" * 24) != 1: fail("the frame was not understood")
    return frame

UP = f"GET /v1/sandboxes/{box}/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: berth-stream\r\n\r\n".encode()
quiet, loud = recorded("exec sleep 100000"), recorded("head -c 120000 /dev/zero; exec sleep 100001")
def start(i, frame=quiet, wants=8):
    s = dial(UP); got = b""
    while b"\r\n\r\n" not in got: got += s.recv(4096)
    if b" 101 " not in got: fail(got)
    s.sendall(frame.replace(b"a" * 24, b"%024d" % i))
    n = len(got.split(b"\r\n\r\n", 1)[1])
    while n < wants: n += len(s.recv(65536))  # STARTED, and its output
    return s

def measure(what, open_one, n):
    warm = [open_one(i) for i in range(20)]       # what is allocated once is not the price of one
    before, fd, th = pss(), fds(), threads()
    many = warm + [open_one(i) for i in range(20, n)]
    api.good("GET", "/health")
    each = (pss() - before) / (n - 20)
    print(f"{n} {what}: {each:.1f} KiB and {(fds() - fd) / (n - 20):.2f} descriptors each, {threads() - th} more threads")
    if each >= LIMIT and not has_sanitizers(): fail(f"{what}: {each:.1f} KiB each, the limit is {LIMIT}")
    if threads() != th: fail(f"{what}: {threads() - th} more threads")
    return many

api.good("GET", "/health")
base_fd = fds()
agent = api.good("GET", f"/v1/sandboxes/{box}")["pid"]
agent_before = pss(agent)
streams = measure("streams of sleeping commands", start, N)
print(f"the agent: {(pss(agent) - agent_before) / N:.1f} KiB for each")
if len(api.good("GET", f"/v1/sandboxes/{box}/processes")) < N: fail("not all commands run")
bursts = measure("streams that once carried 120 kB", lambda i: start(N + i, loud, 120000), N // 10)
body = json.dumps({"argv": ["sleep", "100002"], "cwd": "/"})
# More than there are threads; the agent may open 4,096 files, which is three for each command.
waits = measure("requests that wait for a command", lambda i: dial(f"POST /v1/sandboxes/{box}/exec HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()), 60)
events = measure("readers of events", lambda i: dial(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n"), N)
silent = measure("silent connections", lambda i: dial(), N)
# all of them hear an event, and a command beside them runs
key = api.good("POST", "/v1/keys", {"name": "x", "scopes": ["read"]})
for s in events:
    got = b""
    while b"key.created" not in got:
        part = s.recv(4096)
        if not part: fail("a reader of events was cut off")
        got += part
if api.sh(box, "echo here", cwd="/")["stdout"] != "here\n": fail("a command beside idle streams")
for s in streams + bursts + waits + events + silent: s.close()
until(lambda: api.good("POST", "/v1/keys", {"name": f"k{time.monotonic_ns()}", "scopes": ["read"]}) and fds() <= base_fd + 5, 60, f"descriptors to be given back ({base_fd} before, {fds()} now)")
api.sh(box, "kill -9 -1", cwd="/")
print("everything was given back")
PY
berth kill "$id" --grace 0
