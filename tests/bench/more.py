#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tunnels in bulk and idle, the time until a broken connection to an agent is whole again, and a sandbox's life beside podman's. Called
by tests/bench/run; one JSON line each, as bench.py writes them."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time

from bench import DEVNULL, MIB, note, report, spent
from life import program, rate

# One byte says what: u, take everything and then answer with a byte; d, send 64 MiB; anything else, hold still until the end.
SERVER = """
import socket, threading
def one(c):
    kind = c.recv(1)
    if kind == b"u":
        while c.recv(1 << 18): pass
        c.sendall(b".")
    elif kind == b"d":
        for _ in range(64): c.sendall(bytes(1 << 20))
    else:
        c.recv(1)
    c.close()
s = socket.create_server(("127.0.0.1", 9011), backlog=512)
while True:
    threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
"""


def connect(port, kind):
    end = time.monotonic() + 20
    while True:
        try:
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(kind)
            return s
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def up(port):
    b, piece = 64 * MIB, bytes(MIB)
    with connect(port, b"u") as s:
        t = time.perf_counter()
        for _ in range(b // MIB):
            s.sendall(piece)
        s.shutdown(socket.SHUT_WR)
        if s.recv(1) != b".":
            raise SystemExit("tunnel: no answer")
        return rate(b, (time.perf_counter() - t) * 1000)


def down(port):
    got = 0
    with connect(port, b"d") as s:
        t = time.perf_counter()
        while n := len(s.recv(1 << 18)):
            got += n
        if got != 64 * MIB:
            raise SystemExit(f"tunnel: {got} bytes")
        return rate(got, (time.perf_counter() - t) * 1000)


def wait_answer(port):
    """Until the server behind it answers."""
    end = time.monotonic() + 20
    while True:
        try:
            with connect(port, b"u") as s:
                s.shutdown(socket.SHUT_WR)
                if s.recv(1) == b".":
                    return
        except OSError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"nobody answers behind port {port}")
        time.sleep(0.05)


def listening(port):
    with open("/proc/net/tcp", encoding="ascii") as f:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in f)


def wait_listening(port):
    end = time.monotonic() + 20
    while not listening(port):
        if time.monotonic() > end:
            raise SystemExit(f"nobody listens on port {port}")
        time.sleep(0.02)


def anonymous(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))


def agent_of(box):
    with open(f"{os.environ['STATE']}/boxes/{box.id}/pid", encoding="ascii") as f:
        return int(f.read())


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(p) for p in f.read().split()]


def bench_tunnels(box, _):
    note("tunnels: bulk beside socat, and 100 open ones")
    cli, env = program()
    inside = subprocess.Popen(cli + ["run", "--no-stdin", box.id, "--", "timeout", "300", "python3", "-c", SERVER], env=env)
    server = subprocess.Popen(["python3", "-c", SERVER])
    ours = subprocess.Popen(cli + ["tunnel", box.id, "19011:9011"], env=env, stdout=DEVNULL, stderr=DEVNULL)
    socat = subprocess.Popen(["socat", "-b", "262144", "TCP-LISTEN:19012,bind=127.0.0.1,fork,reuseaddr", "TCP:127.0.0.1:9011"])
    try:
        for port in (9011, 19011, 19012):
            wait_listening(port)
            wait_answer(port)
        a, b = bulk(up)
        report("tunnel_up", "-", "MiB/s", a, "socat to a server on the host", b, "64 MiB into a server inside, until it answers")
        a, b = bulk(down)
        report("tunnel_down", "-", "MiB/s", a, "socat to a server on the host", b, "64 MiB from a server inside")
        idle_tunnels(box, ours.pid, socat.pid)
    finally:
        for p in (ours, server, socat, inside):
            p.send_signal(signal.SIGTERM)
            p.wait()


def bulk(what):
    ours, theirs = [], []
    for i in range(6):
        for port, to in ((19011, ours), (19012, theirs))[::1 if i % 2 else -1]:
            to.append(what(port))
    return ours, theirs


def idle_tunnels(box, ours, socat):
    n, daemon, agent = 100, int(os.environ["BENCH_DAEMON"]), agent_of(box)
    before = anonymous(daemon), anonymous(agent), len(os.listdir(f"/proc/{daemon}/fd"))
    held = [connect(19011, b"x") for _ in range(n)]
    box.run("true")
    far = [connect(19012, b"x") for _ in range(n)]
    words = f"{n} open ones that are quiet"
    peers = [anonymous(p) for p in children(socat)]
    report("tunnel_memory_daemon", "-", "KiB", [(anonymous(daemon) - before[0]) / n], words=words + f"; "
           f"{(len(os.listdir(f'/proc/{daemon}/fd')) - before[2]) / n:.1f} descriptors each")
    report("tunnel_memory_agent", "-", "KiB", [(anonymous(agent) - before[1]) / n], words=words)
    clients = [anonymous(p) for p in children(ours)]
    if clients and peers:
        report("tunnel_memory_client", "-", "KiB", clients, "socat's process for each", peers, words + "; berth tunnel has a process for each")
    for s in held + far:
        s.close()


libc = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD = 434, 438


def cut_agent(pid):
    """Shut down every connection of an agent. Returns how many."""
    named = {}
    with open("/proc/net/unix", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            # State 03: connected; those that were accepted have the path of the socket that listens.
            if len(words) == 8 and words[5] == "03":
                named[words[6]] = words[7]
    pidfd, n = libc.syscall(PIDFD_OPEN, pid, 0), 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            to = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if to.startswith("socket:[") and to[8:-1] in named:
            fd = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
            if fd < 0:
                continue
            with socket.socket(fileno=fd) as s:
                s.shutdown(socket.SHUT_RDWR)
            n += 1
    os.close(pidfd)
    return n


def bench_reconnect(box, _):
    note("the connection to an agent is cut")
    took, cuts = [], 0
    for i in range(15):
        time.sleep(1.2)  # after a connection that lived less than a second the next attempt comes later, on purpose
        box.run("sh", "-c", f"echo {i} >cut")
        pid = agent_of(box)
        t = time.perf_counter_ns()
        cuts += cut_agent(pid)
        # What needs the agent: a change from the host that it performs. EPIPE until it is there again.
        end = time.monotonic() + 20
        while True:
            try:
                os.mkdir(f"{box.mnt}/again-{i}")
                break
            except BrokenPipeError:
                if time.monotonic() > end:
                    raise
        took.append((time.perf_counter_ns() - t) / 1e6)
    if cuts < 15:
        raise SystemExit(f"only {cuts} connections were cut in 15 rounds")
    report("reconnect", "-", "ms", took, words=f"control and shipping cut ({cuts} in all) until a directory could be made on the mount again", with_p99=True)


class Podman:
    def __init__(self, lower):
        top = os.environ["TOP"] + "/podman"
        os.mkdir(top)
        with open(top + "/conf", "w", encoding="ascii") as f:
            f.write('[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[engine]\ncgroup_manager = "cgroupfs"\n'
                    'events_logger = "file"\n')
        self.env = dict(os.environ, CONTAINERS_CONF=top + "/conf")
        self.argv = [shutil.which("podman"), "--root", top + "/root", "--runroot", top + "/run", "--tmpdir", top + "/tmp"]
        self.rootfs, self.log = ["--network", "none", "--rootfs", lower + ":O"], open(top + "/log", "w", encoding="utf-8")

    def __call__(self, *argv):
        r = subprocess.run(self.argv + list(argv), env=self.env, stdout=self.log, stderr=self.log, stdin=subprocess.PIPE, check=False)
        if r.returncode != 0:
            raise RuntimeError(f"podman {argv[0]}: status {r.returncode}: {open(self.log.name, encoding='utf-8').read()[-300:]}")


class Docker:
    """A daemon of our own, without a network, that ends with us."""
    rootfs = ["--network", "none", "base"]

    def __init__(self, lower):
        top = os.environ["TOP"] + "/docker"
        os.mkdir(top)
        self.log, host = open(top + "/log", "w", encoding="utf-8"), f"unix://{top}/d.sock"
        self.argv, self.env = [shutil.which("docker"), "-H", host], dict(os.environ, DOCKER_CONFIG=top)
        self.daemon = subprocess.Popen([shutil.which("dockerd") or "dockerd", "-H", host, "--data-root", top + "/data", "--exec-root", top + "/exec", "--pidfile",
                                        top + "/pid", "--bridge=none", "--iptables=false"], stdin=DEVNULL, stdout=self.log, stderr=self.log)
        until = time.monotonic() + 30
        while subprocess.run(self.argv + ["version"], env=self.env, stdout=DEVNULL, stderr=DEVNULL, check=False).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > until:
                self.end()
                raise RuntimeError(f"dockerd: {open(self.log.name, encoding='utf-8').read()[-300:]}")
            time.sleep(0.05)
        try:
            with subprocess.Popen(["tar", "-C", lower, "-c", "."], stdout=subprocess.PIPE) as tar:
                subprocess.run(self.argv + ["import", "-", "base"], env=self.env, stdin=tar.stdout, stdout=self.log, stderr=self.log, check=True)
        except subprocess.CalledProcessError as e:
            self.end()
            raise RuntimeError(f"docker import: status {e.returncode}") from e

    def __call__(self, *argv):
        r = subprocess.run(self.argv + list(argv), env=self.env, stdout=self.log, stderr=self.log, stdin=subprocess.PIPE, check=False)
        if r.returncode != 0:
            raise RuntimeError(f"docker {argv[0]}: status {r.returncode}: {open(self.log.name, encoding='utf-8').read()[-300:]}")

    def end(self):
        self.daemon.terminate()
        self.daemon.wait()


def peer_made(make, lower):
    """The peer, after a first container; or None and why."""
    one = None
    try:
        one = make(lower)
        one("run", "--rm", *one.rootfs, "echo", "hello")
        return one, ""
    except (RuntimeError, TypeError, OSError) as e:
        if one and hasattr(one, "end"):
            one.end()
        note(f"peer missing: {make.__name__.lower()}: {e}")
        return None, f"; peer missing: {make.__name__.lower()}: {e}"


def bench_cycle(box, _):
    note("a life beside podman and docker")
    cli, env = program()
    words = {"first": "create, then a first command with output; whole processes of the command line", "exec": "a command in a running one",
             "stop": "ours also makes its files durable"}

    def berth(*argv):
        return subprocess.run(cli + list(argv), env=env, stdout=subprocess.PIPE, stdin=DEVNULL, check=True, text=True).stdout.strip()

    peers = {p.__name__.lower(): peer_made(p, f"{os.environ['STATE']}/templates/base/root") for p in (Podman, Docker)}
    ours, theirs = {k: [] for k in words}, {p: {k: [] for k in words} for p in peers}
    for i in range(12):
        one = []
        ours["first"].append(spent(lambda: (one.append(berth("create")), berth("run", one[0], "--", "echo", "hello"))))
        ours["exec"].append(spent(berth, "run", one[0], "--", "true"))
        ours["stop"].append(spent(berth, "kill", "--grace", "0", one[0]))
        berth("rm", one[0])
        for name, (peer, _) in peers.items():
            if not peer:
                continue
            took = theirs[name]
            took["first"].append(spent(lambda: (peer("run", "-d", "--name", f"c{i}", *peer.rootfs, "sleep", "1000"), peer("exec", f"c{i}", "echo", "hello"))))
            took["exec"].append(spent(peer, "exec", f"c{i}", "true"))
            took["stop"].append(spent(peer, "stop", "-t", "0", f"c{i}"))
            peer("rm", "-f", f"c{i}")
    if peers["docker"][0]:
        peers["docker"][0].end()
    for name, what in (("podman", "podman, same template below an overlay, no network"), ("docker", "docker, the same as an image, no network")):
        for k in words:
            report(f"cycle_{k}" + ("" if name == "podman" else "_to_docker"), "-", "ms", ours[k], what, theirs[name][k], words[k] + peers[name][1])


PARTS = dict(tunnels=bench_tunnels, reconnect=bench_reconnect, cycle=bench_cycle)
