#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a file that was closed inside may be lost to the host: syncs at moments of their own while 2,000 files and 50 MB come each
second, and how fast it goes when more comes than that. One part of tests/bench/run."""
import threading
import time

from bench import MIB, note, p99, report
from berthtest import Api

FILES, BYTES, SECONDS = 2000, 25000, 10

# So many files a second, a hundred in a directory, for so long or until there are so many; 0: as fast as it goes. Says how many a second.
WRITER = """
import os, sys, time
rate, n = int(sys.argv[1]), int(sys.argv[2])
data, begun = bytearray(os.urandom(25000)), time.monotonic()
top = sys.argv[3]
os.mkdir(top)
for i in range(n):
    if i % 100 == 0:
        at = f"{top}/{i // 100}"
        os.mkdir(at)
    data[:8] = i.to_bytes(8, "big")
    with open(f"{at}/{i}", "wb") as f:
        f.write(data)
    ahead = begun + (i + 1) / rate - time.monotonic() if rate else 0
    if ahead > 0.002:
        time.sleep(ahead)
print(n / (time.monotonic() - begun))
"""


def bench_durable(box, _):
    note("from a close inside to the disk of the host, at 2,000 files and 50 MB a second")
    b, wrote, took = type(box)(workspace_b=6 * 1024 * MIB), [], []
    t = threading.Thread(target=lambda: wrote.append(float(Api().run(b.id, "python3", "-c", WRITER, str(FILES), str(FILES * SECONDS), "steady", timeout_ms=120000)["stdout"])))
    t.start()
    time.sleep(1)
    while t.is_alive():
        begun = time.perf_counter_ns()
        b.sync()
        took.append((time.perf_counter_ns() - begun) / 1e6)
        time.sleep(0.02)
    t.join()
    begun = time.perf_counter_ns()
    b.sync()
    left = (time.perf_counter_ns() - begun) / 1e6
    report("durable_at_2000_files", "p99 <= 100", "ms", took, words=f"a sync at any moment brings all that was closed before; "
           f"{wrote[0]:.0f} files/s and {wrote[0] * BYTES / 1e6:.0f} MB/s were written; {left:.0f} ms behind the last one", with_p99=True)
    for name in ("first", "second"):
        begun = time.perf_counter_ns()
        fast = float(b.run("python3", "-c", WRITER, "0", str(FILES * SECONDS), name, timeout_ms=120000))
        b.sync()
        took = (time.perf_counter_ns() - begun) / 1e9
        report(f"durable_drain_{name}", "-", "files/s", [FILES * SECONDS / took], words=f"{FILES * SECONDS} files of 25 KB as fast as they come "
               f"({fast:.0f} files/s were written), until all are durable: {FILES * SECONDS * BYTES / 1e6 / took:.0f} MB/s")
    b.end()


PARTS = dict(durable=bench_durable)
