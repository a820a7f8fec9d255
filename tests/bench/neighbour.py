#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looking into one workspace while another sandbox writes 200 MB/s into its own: lookups that the kernel has not cached, and opens
with a read that has to be answered by the daemon. Quiet and flooded take turns in short slices. One part of tests/bench/run."""
import os
import socket
import time

from bench import KIB, MIB, note, p99, report

SLICES, PER_SLICE, FILES, RATE = 5, 400, 200, 200 * 1000 * 1000

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


def bench_neighbour(box, _):
    note(f"a neighbour that writes {RATE // 1000000} MB/s")
    victim, writer = type(box)(), type(box)(workspace_b=3 * 1024 * MIB, memory_b=1024 * MIB)
    victim.run("sh", "-c", f"i=0; while [ $i -lt {FILES} ]; do head -c 4096 /dev/urandom >f$i; i=$((i+1)); done")
    victim.sync()
    quiet, loud, rates, echo = ([], [], []), ([], [], []), [], Echo()
    look(victim.mnt, 0, 100)
    for turn in range(1, 2 * SLICES + 1):
        if turn % 2:
            for to, got in zip(quiet, (*look(victim.mnt, turn, PER_SLICE), echo(PER_SLICE))):
                to.extend(got)
            continue
        rates += flooded(writer, lambda: (*look(victim.mnt, turn, PER_SLICE), echo(PER_SLICE)), loud)
        writer.sync()
    echo.end()
    words = f"the neighbour came to {min(rates) / 1e6:.0f} to {max(rates) / 1e6:.0f} MB/s"
    for i, name in enumerate(("lookup", "open_read", "echo")):
        report(f"neighbour_{name}_p99", "<= 2 of quiet" if i < 2 else "-", "ms", [p99(loud[i])], "the same, the neighbour quiet", [p99(quiet[i])], f"n={len(loud[i])}; {words}" if i < 2 else
               "two processes that have nothing to do with the daemon: the scheduler's part")
        report(f"neighbour_{name}_p50", "-", "ms", loud[i], "the same, the neighbour quiet", quiet[i], words)
    victim.end()
    writer.end()


def flooded(writer, what, into):
    """What it measures while the writer is in full swing. Returns the rates that it came to."""
    import threading
    from berthtest import Api
    got = []
    t = threading.Thread(target=lambda: got.append(float(Api().run(writer.id, "python3", "-c", FLOOD, str(RATE))["stdout"])))
    t.start()
    time.sleep(0.7)  # it has begun, and its first files are being stored
    figures = what()
    if not t.is_alive():
        raise SystemExit("the writer was over too early")
    os.mkdir(f"{writer.mnt}/stop")
    t.join()
    os.rmdir(f"{writer.mnt}/stop")
    for to, one in zip(into, figures):
        to.extend(one)
    return got


PARTS = dict(neighbour=bench_neighbour)
