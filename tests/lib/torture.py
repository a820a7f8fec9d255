# SPDX-License-Identifier: Apache-2.0
"""Commands through a proxy that cuts connections, while the daemon is killed: torture.sh has the promise.
Usage: torture.py SANDBOX DAEMON-PID DIRECTORY CUTS KILLS MEGABYTES SEED"""
import hashlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from berthtest import fail

sandbox, daemon_pid, top, cuts, kills, size, seed = sys.argv[1:]
daemon_pid, cuts, kills, size, seed = int(daemon_pid), int(cuts), int(kills), int(size) << 20, int(seed)
real = os.path.join(os.environ["STATE"], "run/api.sock")
front = os.path.join(top, "front.sock")
dice = random.Random(seed)
STALL_S = 5.0
lock = threading.Lock()
cut_count = 0
left = cuts - cuts // 10  # the rest is for short commands
mean = 0.0


class Pair(threading.Thread):
    """One client's connection; it is cut after a random number of bytes as long as cuts are left."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client = client
        with lock:
            self.budget = int(dice.expovariate(1.0 / mean))

    def run(self):
        global cut_count, left
        try:
            server = socket.socket(socket.AF_UNIX)
            server.connect(real)
        except OSError:
            self.client.close()
            return
        pending = {self.client: b"", server: b""}
        other = {self.client: server, server: self.client}
        open_ = {self.client, server}
        while open_:
            read = [s for s in open_ if len(pending[other[s]]) < 65536]
            write = [s for s in pending if pending[s]]
            r, w, _ = select.select(read, write, [], 60)
            try:
                for s in r:
                    piece = s.recv(65536)
                    if not piece:
                        raise ConnectionError
                    self.budget -= len(piece)
                    if self.budget < 0 and left > 0:
                        pending[other[s]] += piece[: dice.randrange(len(piece))]  # in the middle of a frame
                        if pending[other[s]]:
                            other[s].send(pending[other[s]])
                        with lock:
                            cut_count += 1
                            left -= 1
                        raise ConnectionError
                    pending[other[s]] += piece
                for s in w:
                    pending[s] = pending[s][s.send(pending[s]):]
            except OSError:
                break
        for s in (self.client, server):
            s.close()


def proxy():
    if os.path.exists(front):
        os.unlink(front)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(front)
    listener.listen(64)
    while True:
        client, _ = listener.accept()
        Pair(client).start()


def answers():
    try:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(real)
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b" 200 " in s.recv(100)
    except OSError:
        return False


class Daemon:
    def __init__(self, pid):
        self.pid = pid
        self.process = None
        self.killed = 0
        self.down_s = 0.0
        self.note()

    def note(self):
        with open(os.path.join(top, "daemon.pid"), "w") as f:
            f.write(str(self.pid))

    def kill_and_start(self):
        began = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        if self.process:
            self.process.wait()
        while os.path.exists(f"/proc/{self.pid}/fd/0"):  # as who starts it anew would
            time.sleep(0.005)
        self.process = subprocess.Popen([os.path.join(top, "daemon")])
        self.pid = self.process.pid
        self.note()
        while not answers():
            if self.process.poll() is not None:  # what is left of the one before still ends: as a supervisor does
                self.process = subprocess.Popen([os.path.join(top, "daemon")])
                self.pid = self.process.pid
                self.note()
            if time.monotonic() - began > 60:
                fail("the daemon does not answer again")
            time.sleep(0.02)
        self.killed += 1
        self.down_s = max(self.down_s, time.monotonic() - began)


def pattern(n, key):
    """Bytes that no shift of themselves equals; the sandbox makes the same."""
    block = hashlib.sha256(key).digest() * 2048
    out = bytearray()
    i = 0
    while len(out) < n:
        out += b"%08d" % i + block
        i += 1
    return bytes(out[:n])


MAKE = (
    "import hashlib,sys\n"
    "n=int(sys.argv[1]); block=hashlib.sha256(sys.argv[2].encode()).digest()*2048\n"
    "i=0; left=n\n"
    "while left:\n"
    "  b=(b'%08d'%i+block)[:left]; sys.stdout.buffer.write(b); left-=len(b); i+=1\n"
    "sys.stdout.flush(); sys.exit(int(sys.argv[3]))\n"
)
TAKE = (
    "import hashlib,sys\n"
    "h=hashlib.sha256(); n=0\n"
    "while True:\n"
    "  b=sys.stdin.buffer.read1(65536)\n"
    "  if not b: break\n"
    "  h.update(b); n+=len(b); sys.stdout.buffer.write(b)\n"
    "sys.stdout.flush(); sys.stderr.write('%d %s\\n'%(n,h.hexdigest())); sys.exit(7)\n"
)

# The same where there is no python: TORTURE_SHELL=1.
SHELL = os.environ.get("TORTURE_SHELL") == "1"
MAKE_SHELL = ("{ i=0; while [ $i -le %d ]; do printf %%08d $i; cat /tmp/block; i=$((i+1)); done; } 2>/dev/null | head -c %d; exit %d")
# What came in is digested by a command of its own: an emulated processor needs seconds for it, which nobody waits for here.
TAKE_SHELL = "tee /tmp/in; exit 7"
TOOK_SHELL = "set -- $(wc -c </tmp/in) $(sha256sum </tmp/in); echo $1 $2"


def make(n, key, status):
    if not SHELL:
        return ["python3", "-c", MAKE, str(n), key, str(status)]
    block = hashlib.sha256(key.encode()).digest() * 2048
    subprocess.run(["berth", "run", sandbox, "--", "sh", "-c", "cat >/tmp/block"], input=block, check=True)
    return ["sh", "-c", MAKE_SHELL % (n // (len(block) + 8), n, status)]


def take():
    return ["sh", "-c", TAKE_SHELL] if SHELL else ["python3", "-c", TAKE]


def run(argv, data, sip, kill_at, daemon):
    """Follow a command; returns its output, error output, status, and the longest time without progress."""
    env = dict(os.environ, BERTH_URL="unix:" + front)
    p = subprocess.Popen(["berth", "run", sandbox, "--", *argv], env=env, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL)
    if data is not None:
        def feed():
            try:
                p.stdin.write(data)
                p.stdin.close()
            except BrokenPipeError:
                pass  # its status tells
        threading.Thread(target=feed, daemon=True).start()
    errors = []
    collect = threading.Thread(target=lambda: errors.append(p.stderr.read()), daemon=True)
    collect.start()
    out, worst, began = bytearray(), 0.0, time.monotonic()
    fd = p.stdout.fileno()
    while True:
        ready, _, _ = select.select([fd], [], [], 2 * STALL_S)
        if not ready:
            fail(f"nothing for {2 * STALL_S} s after {len(out)} bytes")
        worst = max(worst, time.monotonic() - began)
        piece = os.read(fd, 1 if sip and len(out) % 65536 < 64 else 65536)
        if not piece:
            break
        out += piece
        if kill_at and len(out) >= kill_at[0]:
            kill_at.pop(0)
            daemon.kill_and_start()
        began = time.monotonic()
    status = p.wait()
    collect.join()
    return bytes(out), errors[0], status, worst


def check(what, got, want):
    if len(got) != len(want) or hashlib.sha256(got).digest() != hashlib.sha256(want).digest():
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        fail(f"{what}: {len(got)} bytes instead of {len(want)}, the first wrong one at {at}")


def main():
    global left, mean
    daemon = Daemon(daemon_pid)
    # About as many cuts as are wanted come from the bytes of both commands (the second goes there and back).
    total = size + 3 * (size // 4)
    mean = total / cuts / 1.6
    threading.Thread(target=proxy, daemon=True).start()
    while not os.path.exists(front):
        time.sleep(0.01)
    began = time.monotonic()
    marks = sorted(dice.randrange(size // 20, size * 9 // 10) for _ in range(kills))
    first = marks[: max(1, kills * 3 // 4)]
    second = sorted(m // 4 for m in marks[len(first):])
    out, err, status, worst = run(make(size, "one", 42), None, True, first, daemon)
    if status != 42:
        fail(f"exit status {status} after {len(out)} bytes: {err[-300:]}")
    check("output", out, pattern(size, b"one"))
    data = pattern(size // 4, b"two")
    out, err, status, worst2 = run(take(), data, True, second, daemon)
    if status != 7:
        fail(f"status {status} after {len(out)} bytes: {err[-300:]}")
    check("input that comes back", out, data)
    if SHELL:
        err = subprocess.run(["berth", "run", sandbox, "--", "sh", "-c", TOOK_SHELL], stdout=subprocess.PIPE).stdout
    if status != 7 or err.decode().split() != [str(len(data)), hashlib.sha256(data).hexdigest()]:
        fail(f"status {status}, and the command says {err[-300:]} about its input")
    # What cuts are left fall on short commands: each start is a start, and one only.
    n, mean = 0, 30000.0
    left += cuts // 10
    while left > 0 and n < 400:
        env = dict(os.environ, BERTH_URL="unix:" + front)
        p = subprocess.run(["berth", "run", sandbox, "--", "sh", "-c", "echo x >>/tmp/starts; seq 1 20000; exit 5"],
                           env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        n += 1
        if p.returncode == 125 and b"no-daemon" not in p.stderr and b"broke off" in p.stderr:
            n -= 1  # the very first request was cut: nothing was asked for yet
            continue
        if p.returncode != 5 or p.stdout != b"".join(b"%d\n" % i for i in range(1, 20001)):
            fail(f"a short command: {p.returncode}, {len(p.stdout)} bytes, {p.stderr[-300:]}")
    starts = subprocess.run(["berth", "run", sandbox, "--", "sh", "-c", "cat /tmp/starts 2>/dev/null | wc -l"],
                            stdout=subprocess.PIPE).stdout.strip()
    if int(starts) != n:
        fail(f"{n} commands were started {int(starts)} times")
    worst = max(worst, worst2)
    print(f"torture: seed {seed}: {cut_count} cuts, {daemon.killed} kills, {(size + size // 4) >> 20} MiB out, "
          f"{size // 4 >> 20} MiB in, {n} short commands in {time.monotonic() - began:.1f} s; "
          f"longest stall {worst:.2f} s, longest without a daemon {daemon.down_s:.2f} s")
    if worst > STALL_S:
        fail(f"nothing moved for {worst:.2f} s")
    if cut_count < cuts:
        fail(f"only {cut_count} cuts")


main()
