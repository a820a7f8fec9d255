#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looking into one workspace while another sandbox writes 200 MB/s into its own: lookups that the kernel has not cached, and opens
with a read that has to be answered by the daemon. Quiet and flooded take turns in short slices, and so does a pair that has nothing of berth in it.
One part of tests/bench/run."""
import os
import shutil
import socket
import subprocess
import threading
import time

from bench import KIB, MIB, TOP, note, p99, report
from berthtest import Api

SLICES, PER_SLICE, FILES, RATE = 5, 400, 200, 200 * 1000 * 1000
MAKE = f"i=0; while [ $i -lt {FILES} ]; do head -c 4096 /dev/urandom >f$i; i=$((i+1)); done"

# Bytes that were never there before, at a rate, until it is told to stop. Says what it came to.
FLOOD = """
import os, sys, time
rate, stop, block = int(sys.argv[1]), "/workspace/stop", bytearray(os.urandom(1 << 20))
begun, wrote, n = time.monotonic(), 0, 0
while not os.path.exists(stop):
    with open(f"/workspace/flood{n % 4}", "wb") as f:
        for _ in range(64):
            for k in range(0, 1 << 20, 32768):
                block[k:k + 8] = os.urandom(8)
            f.write(block)
            wrote += len(block)
            ahead = begun + wrote / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            if os.path.exists(stop):
                break
    n += 1
print(wrote / (time.monotonic() - begun))
"""


class Echo:
    """A byte to another process and back: what the scheduler alone makes of two wake-ups."""

    def __init__(self):
        self.near, far = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self.near.close()
            while far.recv(1):
                far.send(b".")
            os._exit(0)
        far.close()

    def __call__(self, n):
        out = []
        for _ in range(n):
            t = time.perf_counter_ns()
            self.near.send(b".")
            self.near.recv(1)
            out.append((time.perf_counter_ns() - t) / 1e6)
            time.sleep(0.001)
        return out

    def end(self):
        self.near.close()
        os.waitpid(self.pid, 0)



def look(at, unique, n):
    """ms of n lookups of names that are not there, and of n opens and reads of 4 KiB that no page is cached of."""
    lookups, reads = [], []
    for i in range(n):
        path = f"{at}/none-{unique}-{i}"
        t = time.perf_counter_ns()
        found = os.access(path, os.F_OK)
        lookups.append((time.perf_counter_ns() - t) / 1e6)
        if found:
            raise SystemExit(f"{path} is there")
        path = f"{at}/f{(unique * n + i) % FILES}"
        t = time.perf_counter_ns()
        fd = os.open(path, os.O_RDONLY)
        got = os.pread(fd, 4 * KIB, 0)
        reads.append((time.perf_counter_ns() - t) / 1e6)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        if len(got) != 4 * KIB:
            raise SystemExit(f"{path}: {len(got)} bytes")
        time.sleep(0.001)  # a person and a build, not a flood of our own
    return lookups, reads


def bench_neighbour(box, peer):
    note(f"a neighbour that writes {RATE // 1000000} MB/s")
    victim, writer = type(box)(), type(box)(workspace_b=3 * 1024 * MIB, memory_b=1024 * MIB)
    victim.run("sh", "-c", MAKE)
    victim.sync()
    echo, ours = Echo(), Side(victim.mnt, writer.mnt, lambda *argv: Api().run(writer.id, *argv)["stdout"])
    others = Side(bindfs(), peer.ws, peer.run) if shutil.which("bindfs") else None
    for turn in range(SLICES):
        ours.quiet(turn, echo)
        ours.flooded(turn, echo)
        writer.sync()
        if others:
            others.quiet(turn, echo)
            others.flooded(turn, echo)
    echo.end()
    ours.tell("", "")
    if others:
        others.tell("bindfs_", ": a directory through bindfs, an ext4 image that nobody watches")
        subprocess.run(["umount", others.at], check=True)
    victim.end()
    writer.end()


def bindfs():
    """A directory of files behind a file system in user space that does nothing but pass on."""
    plain, at = f"{TOP}/neighbour-plain", f"{TOP}/neighbour-bindfs"
    os.mkdir(plain)
    os.mkdir(at)
    subprocess.run(["sh", "-c", MAKE], cwd=plain, check=True)
    subprocess.run(["bindfs", "--no-allow-other", plain, at], check=True)
    return at


class Side:
    """One pair of neighbours: where is looked, where is written, and what runs a program there."""

    def __init__(self, at, writes_at, run):
        self.at, self.writes_at, self.run = at, writes_at, run
        self.calm, self.loud, self.rates = ([], [], []), ([], [], []), []
        look(at, 0, 100)

    def slice(self, turn, echo, into):
        for to, got in zip(into, (*look(self.at, turn, PER_SLICE), echo(PER_SLICE))):
            to.extend(got)

    def quiet(self, turn, echo):
        self.slice(2 * turn + 1, echo, self.calm)

    def flooded(self, turn, echo):
        """While the writer is in full swing."""
        t = threading.Thread(target=lambda: self.rates.append(float(self.run("python3", "-c", FLOOD, str(RATE)))))
        t.start()
        time.sleep(0.7)  # it has begun, and its first files are being stored
        self.slice(2 * turn + 2, echo, self.loud)
        if not t.is_alive():
            raise SystemExit("the writer was over too early")
        os.mkdir(f"{self.writes_at}/stop")
        t.join()
        os.rmdir(f"{self.writes_at}/stop")

    def tell(self, prefix, what):
        words = f"the neighbour came to {min(self.rates) / 1e6:.0f} to {max(self.rates) / 1e6:.0f} MB/s{what}"
        for i, name in enumerate(("lookup", "open_read", "echo")):
            calm, loud = self.calm[i], self.loud[i]
            goal = "<= 2 of quiet" if i < 2 and not prefix else "-"
            report(f"neighbour_{prefix}{name}_p99", goal, "ms", [p99(loud)], "the same, the neighbour quiet", [p99(calm)],
                   f"n={len(loud)}; {words}" if i < 2 else "two processes that have nothing to do with either: the scheduler's part")
            report(f"neighbour_{prefix}{name}_p50", "-", "ms", loud, "the same, the neighbour quiet", calm, words)


PARTS = dict(neighbour=bench_neighbour)
