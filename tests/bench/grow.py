#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What things cost as work grows: ten thousand to a million files in one workspace, a store of 1 to 20 GiB, 1 to 100 workspaces in
which something is always written. Each size is measured with the same few operations; tests/bench/plot draws them. Parts of
tests/bench/run: grow_files, grow_store, grow_busy; $BENCH_GROW_MOST caps the sizes (files, GiB, workspaces: "100000 5 20")."""
import glob
import os
import threading
import time

from bench import GIB, MIB, MNT, note, report, sh, spent

FILES, STORE_GIB, BUSY = (10_000, 30_000, 100_000, 300_000, 1_000_000), (1, 2, 5, 10, 20), (1, 3, 10, 30, 100)
CAPS = [int(n) for n in os.environ.get("BENCH_GROW_MOST", "1000000 20 100").split()]

# Until there are so many: a hundred files of 200 bytes in a directory.
MORE = """
import os, sys
for d in range(int(sys.argv[1]) // 100, int(sys.argv[2]) // 100):
    at = f"/workspace/t/{d // 1000}/{d // 100}/{d}"
    os.makedirs(at)
    for f in range(100):
        with open(f"{at}/{f}", "w") as o:
            o.write(f"{d:07} {f:03}\\n" * 16)
"""


def anonymous(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:")) / 1024


def agent_of(box):
    with open(f"{os.environ['STATE']}/boxes/{box.id}/pid", encoding="ascii") as f:
        return int(f.read())


def ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        field = f.read().rsplit(")", 1)[1].split()
    return (int(field[11]) + int(field[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def stored_b():
    return sum(os.stat(p).st_blocks * 512 for p in glob.glob(os.environ["STATE"] + "/store/**/data.mdb", recursive=True))


def grow_files(box, _):
    from berthtest import Api
    make, api = type(box), Api()
    daemon, b, have = int(os.environ["BENCH_DAEMON"]), make(workspace_b=12 * GIB), 0
    before = anonymous(daemon)
    for n in FILES:
        if n > CAPS[0]:
            break
        note(f"{n} files in one workspace")
        agent, cpu, t = agent_of(b), ticks(agent_of(b)), time.monotonic()
        b.run("python3", "-c", MORE, str(have), str(n), timeout_ms=1800000)
        wrote = time.monotonic() - t
        b.sync()
        took, new = time.monotonic() - t, n - have
        have = n
        report(f"files_durable_at_{n}", "-", "files/s", [new / took], words=f"{new} new ones of 200 bytes; the guest wrote them in {wrote:.1f} of {took:.1f} s")
        report(f"files_agent_cpu_at_{n}", "<= 10 per 5,000", "ms", [(ticks(agent) - cpu) / new * 5000], words="processor time of the agent per 5,000 new files")
        report(f"files_agent_memory_at_{n}", "-", "MiB", [anonymous(agent)], words="the agent's own memory")
        report(f"files_daemon_memory_at_{n}", "-", "MiB", [anonymous(daemon) - before], words="the daemon's own memory, over none")

        def one():
            b.run("sh", "-c", "echo x >>/workspace/t/0/0/0/0")
            return spent(b.sync)
        report(f"files_one_durable_at_{n}", "-", "ms", [one() for _ in range(30)], words="sync after a command that appended to one file", with_p99=True)
        names = []

        def snapshot():
            names.append(f"g{n}-{len(names)}")
            api.good("POST", f"/v1/sandboxes/{b.id}/snapshots", {"name": names[-1]})

        def changed():
            b.run("sh", "-c", "echo y >>/workspace/t/0/0/0/1")
            return spent(snapshot)
        first = spent(snapshot)
        report(f"files_snapshot_at_{n}", "-", "ms", [changed() for _ in range(10)], words=f"live, one file changed since the one before; the first at this size {first:.0f} ms")
        fresh = spent(lambda: sh("find", b.mnt + "/t", "-type", "f", "-newermt", "2100-01-01"))
        warm = spent(lambda: sh("find", b.mnt + "/t", "-type", "f", "-newermt", "2100-01-01"))
        report(f"files_find_at_{n}", "-", "us", [warm * 1000 / n], words=f"find with a stat of each, again, per file; the first time {fresh * 1000 / n:.2f} us")
        ls = [spent(lambda: os.listdir(f"{b.mnt}/t/0/0/{i % 50}")) for i in range(200)]
        report(f"files_ls_at_{n}", "-", "ms", ls, words="one directory of 100", with_p99=True)
        report(f"files_stored_at_{n}", "-", "B", [stored_b() / n], words="bytes of the store on disk per file, contents of 200 bytes and versions included")
    t = time.monotonic()
    api.good("POST", f"/v1/sandboxes/{b.id}/kill", {"grace_ms": 0})
    note(f"ended in {time.monotonic() - t:.1f} s")
    api.good("DELETE", f"/v1/sandboxes/{b.id}")


def grow_store(box, _):
    make, have = type(box), 0
    b, daemon = make(workspace_b=26 * GIB), int(os.environ["BENCH_DAEMON"])
    for n in STORE_GIB:
        if n > CAPS[1]:
            break
        note(f"a store of {n} GiB")
        t = time.monotonic()
        b.run("sh", "-c", f"i={have}; while [ $i -lt {n * 16} ]; do head -c 64M /dev/urandom >big$i || exit 1; i=$((i+1)); done", timeout_ms=1800000)
        b.sync()
        took, new = time.monotonic() - t, n * 16 - have
        have = n * 16
        report(f"store_write_at_{n}", "-", "MB/s", [new * 64 * MIB / 1e6 / took], words="random bytes in files of 64 MiB, until they are durable")

        def one():
            b.run("sh", "-c", "head -c 5000 /dev/urandom >small")
            return spent(b.sync)
        report(f"store_one_durable_at_{n}", "-", "ms", [one() for _ in range(30)], words="sync after one new small file", with_p99=True)
        rates = []
        for i in range(3):
            fd, t = os.open(f"{b.mnt}/big{(i * 7919) % have}", os.O_RDONLY), time.perf_counter()
            while os.read(fd, MIB):
                pass
            rates.append(64 * MIB / 1e6 / (time.perf_counter() - t))
            os.close(fd)
        report(f"store_read_at_{n}", "-", "MB/s", rates, words="files of 64 MiB, first read through the mount; in the page cache or not, as it comes")
        report(f"store_daemon_memory_at_{n}", "-", "MiB", [anonymous(daemon)], words="the daemon's own memory")
        report(f"store_stored_at_{n}", "-", "x", [stored_b() / (have * 64 * MIB)], words="bytes of the store on disk over those of the files")
    b.end()


# Twenty times a second a file of its own, for so many seconds; then when each was closed.
WRITER = """
import sys, time
out, end, i = [], time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    with open(f"/workspace/w{i % 200}", "w") as f:
        f.write(f"{i} " * 200)
    i += 1
    time.sleep(0.05)
print(i)
"""


def grow_busy(box, _):
    from berthtest import Api
    make, seconds = type(box), 15
    daemon = int(os.environ["BENCH_DAEMON"])
    boxes = []
    for n in BUSY:
        if n > CAPS[2]:
            break
        note(f"{n} busy workspaces")
        while len(boxes) < n:
            boxes.append(make(workspace_b=256 * MIB, memory_b=64 * MIB))
        watched, total = boxes[0], []
        threads = [threading.Thread(target=lambda b=b: total.append(int(Api().run(b.id, "python3", "-c", WRITER, str(seconds + 3))["stdout"])))
                   for b in boxes]
        cpu = ticks(daemon)
        for t in threads:
            t.start()
        time.sleep(2)
        late, looks, end, api = [], [], time.monotonic() + seconds - 3, Api()
        while time.monotonic() < end:
            t = time.perf_counter_ns()
            watched_at = f"{MNT}/{boxes[len(late) % n].id}"
            try:
                os.stat(f"{watched_at}/w0")
            except FileNotFoundError:
                pass
            looks.append((time.perf_counter_ns() - t) / 1e6)
            t = time.perf_counter_ns()
            api.run(watched.id, "sh", "-c", f"echo {len(late)} >mark")
            with open(f"{watched.mnt}/mark", encoding="ascii") as f:
                if f.read() != f"{len(late)}\n":
                    raise SystemExit("a command ended and its file is not there")
            late.append((time.perf_counter_ns() - t) / 1e6)
            time.sleep(0.05)
        for t in threads:
            t.join()
        report(f"busy_run_then_read_at_{n}", "-", "ms", late, words=f"a command that writes, then its file read on the mount; {sum(total) / (seconds + 3):.0f} files/s are "
               "written meanwhile", with_p99=True)
        report(f"busy_stat_at_{n}", "-", "ms", looks, words="stat in each in turn", with_p99=True)
        report(f"busy_daemon_cpu_at_{n}", "-", "%", [(ticks(daemon) - cpu) / (seconds + 3) / 10], words="of one processor, the daemon's")
    for b in boxes:
        b.end()


PARTS = dict(grow_files=grow_files, grow_store=grow_store, grow_busy=grow_busy)
