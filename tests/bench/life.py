#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of a sandbox's life and its streams, each beside a peer where there is one, in turns. Called by tests/bench/run
with "life"; one JSON line each, as bench.py writes them."""
import os
import signal
import socket
import subprocess
import threading
import time

from bench import DEVNULL, MIB, note, report, sh, spent, turns

MNT, STATE = os.environ.get("MNT", ""), os.environ.get("STATE", "")


def program():
    lib = os.environ["BENCH_BERTH"] + "/.libs"
    return [lib + "/berth" if os.path.exists(lib + "/berth") else os.environ["BENCH_BERTH"] + "/berth"], dict(
        os.environ, LD_LIBRARY_PATH=lib)


def rate(b, ms):
    return b / MIB / (ms / 1000)


def pipe(argv, env, b):
    """MiB/s of what a program writes."""
    t = time.perf_counter()
    p = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    got = 0
    while True:
        n = len(os.read(p.stdout.fileno(), MIB))
        if n == 0:
            break
        got += n
    if p.wait() != 0 or got != b:
        raise SystemExit(f"{argv}: {p.returncode}, {got} bytes")
    return rate(got, (time.perf_counter() - t) * 1000)


def bench_stdout(box, peer):
    note("standard output of 256 MiB")
    cli, env = program()
    b = 256 * MIB
    what = ["head", "-c", str(b), "/dev/zero"]
    ours, theirs = turns(5, lambda: pipe(cli + ["run", "--no-stdin", box.id, "--", *what], env, b),
                         lambda: pipe(peer.crun + ["exec", "peer", *what], env, b))
    report("stdout_throughput", "-", "MiB/s", ours, "crun exec", theirs, "berth run head -c 256M /dev/zero, whole process")


def bench_files(box, peer):
    note("a file of 128 MiB up and down")
    cli, env = program()
    path = os.environ["TOP"] + "/up"
    with open(path, "wb") as f:
        for _ in range(128):
            f.write(os.urandom(MIB))
    b = 128 * MIB

    def up():
        ms = spent(lambda: subprocess.run(cli + ["cp", "--quiet", path, f"{box.id}:up"], env=env, check=True))
        return rate(b, ms)

    def up_peer():
        with open(path, "rb") as f:
            ms = spent(lambda: subprocess.run(peer.crun + ["exec", "peer", "dd", "of=up", "bs=1M", "status=none"], stdin=f, check=True))
        return rate(b, ms)

    ours, theirs = turns(3, up, up_peer)
    report("file_up", "-", "MiB/s", ours, "crun exec dd", theirs, "berth cp of 128 MiB of random bytes; it shows in one piece")
    down = [rate(b, spent(lambda: subprocess.run(cli + ["cp", "--quiet", f"{box.id}:up", path + ".2"], env=env, check=True)))
            for _ in range(3)]
    theirs = [pipe(peer.crun + ["exec", "peer", "cat", "up"], env, b) for _ in range(3)]
    report("file_down", "-", "MiB/s", down, "crun exec cat", theirs, "berth cp the other way: from the store")


def echo_port(host, port, b, n):
    """MiB/s one way into a sink, and round trips of one byte, ms."""
    with socket.create_connection((host, port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        for _ in range(n):
            t = time.perf_counter()
            s.sendall(b"x")
            s.recv(1)
            trips.append((time.perf_counter() - t) * 1000)
        return trips


SERVER = "import socket\ns=socket.create_server(('127.0.0.1',9009))\nwhile True:\n c,_=s.accept()\n while True:\n  d=c.recv(1<<16)\n  if not d: break\n  c.sendall(d)\n"


def bench_tunnel(box, _):
    note("tunnel, beside socat")
    cli, env = program()
    threading.Thread(target=lambda: subprocess.run(cli + ["run", "--no-stdin", box.id, "--", "timeout", "100", "python3", "-c", SERVER],
                                                   env=env, check=False), daemon=True).start()
    ours = subprocess.Popen(cli + ["tunnel", box.id, "19009:9009"], env=env, stdout=DEVNULL, stderr=DEVNULL)
    server = subprocess.Popen(["python3", "-c", SERVER])
    socat = subprocess.Popen(["socat", "TCP-LISTEN:19010,bind=127.0.0.1,fork,reuseaddr", "TCP:127.0.0.1:9009"])
    try:
        for port in (19009, 19010):
            end = time.monotonic() + 20
            while True:
                try:
                    echo_port("127.0.0.1", port, 0, 1)
                    break
                except (OSError, IndexError):
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
        a, b = echo_port("127.0.0.1", 19009, 0, 500), echo_port("127.0.0.1", 19010, 0, 500)
        report("tunnel_round_trip", "-", "ms", a, "socat to a server on the host", b, "one byte to an echo server inside", True)
    finally:
        for p in (ours, server, socat):
            p.send_signal(signal.SIGTERM)
            p.wait()


def bench_pause(box, _):
    note("pause and resume")
    from berthtest import Api
    api = Api()
    path = f"/v1/sandboxes/{box.id}"
    group = "/sys/fs/cgroup/freezer/bench-peer"
    peer = os.path.isdir("/sys/fs/cgroup/freezer")
    paused, resumed, floor = [], [], []
    if peer:
        os.makedirs(group, exist_ok=True)
        p = subprocess.Popen(["sleep", "100"])
        with open(group + "/cgroup.procs", "w") as f:
            f.write(str(p.pid))
    for _ in range(30):
        box.run("sh", "-c", "echo x >p; (sleep 100 >/dev/null 2>&1 &)")
        paused.append(spent(api.good, "POST", path + "/pause"))
        resumed.append(spent(api.good, "POST", path + "/resume"))
        if peer:
            t = time.perf_counter()
            open(group + "/freezer.state", "w").write("FROZEN")
            while "FROZEN" not in open(group + "/freezer.state").read():
                pass
            floor.append((time.perf_counter() - t) * 1000)
            open(group + "/freezer.state", "w").write("THAWED")
    if peer:
        p.kill()
        p.wait()
        os.rmdir(group)
    report("pause", "-", "ms", paused, "the kernel's freeze of one process", floor or None, "files durable, everything stands still", True)
    report("resume", "-", "ms", resumed, words="until commands can be run", with_p99=True)
    box.run("pkill", "sleep")


PARTS = dict(stdout=bench_stdout, files=bench_files, tunnel=bench_tunnel, pause=bench_pause)
