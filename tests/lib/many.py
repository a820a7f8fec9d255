# SPDX-License-Identifier: Apache-2.0
"""Many sandboxes: made and killed at once, used, counted. Prints the figures that docs/testing.md has."""
import os
import statistics
import sys
import threading
import time

from berthtest import Api, fail, until

RUNNING, STORED, DAEMON = int(os.environ["RUNNING"]), int(os.environ["STORED"]), int(os.environ["DAEMON_PID"])
MNT, AT_ONCE, ROUNDS = os.environ["MNT"], 50, 20 if os.environ.get("BERTH_LONG") else 4


def at_once(things, work):
    """work(api, thing) for all of them, AT_ONCE at a time. Returns how long each took, in ms."""
    left, took, errors, lock = list(things), [], [], threading.Lock()

    def run():
        api = Api()
        while not errors:
            with lock:
                if not left:
                    return
                one = left.pop()
            begun = time.monotonic()
            try:
                work(api, one)
            except BaseException as e:  # SystemExit of a refused request, too
                errors.append(f"{one}: {e!r}")
                return
            with lock:
                took.append((time.monotonic() - begun) * 1000)

    threads = [threading.Thread(target=run) for _ in range(AT_ONCE)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        fail(errors[0])
    return took


def usage():
    """PSS in KiB, descriptors and threads of the daemon."""
    with open(f"/proc/{DAEMON}/smaps_rollup") as f:
        pss = next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    with open(f"/proc/{DAEMON}/smaps_rollup") as f:
        anon = next(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:"))
    return anon, len(os.listdir(f"/proc/{DAEMON}/fd")), len(os.listdir(f"/proc/{DAEMON}/task")), pss


def figures(name, took):
    took.sort()
    print(f"many: {name}: n={len(took)} p50={statistics.median(took):.1f} ms p99={took[int(len(took) * 0.99) - 1]:.1f} ms",
          flush=True)


def create(api, name):
    info = api.good("POST", "/v1/sandboxes", {"template": "mini", "name": name})
    if info["watcher"] != "fanotify-fs":
        raise RuntimeError(f"{name} watches by {info['watcher']}")


def use(api, name):
    r = api.sh(name, f"mkdir -p d && echo {name} >d/name && cat d/name")
    with open(f"{MNT}/by-name/{name}/d/name") as f:
        if r["stdout"] != name + "\n" or f.read() != name + "\n":
            raise RuntimeError(f"{name}: {r}")


def browse(stored):
    """All that are stored, as a person and as find would; the first look finds few of them open, the second the same."""
    before, one = usage(), None
    for look in ("first", "again"):
        begun = time.monotonic()
        names = [n for n in os.listdir(MNT) if n != "by-name"]
        listed = time.monotonic()
        for n in names:
            os.lstat(f"{MNT}/{n}")
        stated = time.monotonic()
        seen = files = 0
        for n in names:
            for at, _, inside in os.walk(f"{MNT}/{n}"):
                files += len(inside)
            with open(f"{MNT}/{n}/d/name", encoding="ascii") as f:
                seen += len(f.read()) > 0
        walked = time.monotonic()
        one = []
        for n in names[:200]:
            t = time.monotonic()
            os.lstat(f"{MNT}/{n}/d/name")
            one.append((time.monotonic() - t) * 1000)
        now = usage()
        print(f"many: {len(names)} workspaces browsed, {look}: ls {(listed - begun) * 1000:.0f} ms, stat of each {(stated - listed) * 1000:.0f} ms, "
              f"find and a file of each {(walked - stated) * 1000:.0f} ms, stat of one file in one {statistics.median(one):.3f} ms; the daemon "
              f"{now[0] - before[0]:+} KiB of its own, {now[1] - before[1]:+} descriptors", flush=True)
        if not len(names) == seen == files == stored + 1:
            fail(f"{len(names)} names, {seen} contents and {files} files of {stored + 1} workspaces")
    by_name = os.listdir(f"{MNT}/by-name")
    if len(by_name) != stored + 1:
        fail(f"{len(by_name)} names in by-name")


FLOOD = "i=0; while [ ! -e stop ]; do dd if=/dev/urandom of=flood$((i % 3)) bs=1M count=8 2>/dev/null; i=$((i+1)); done; echo $i >rounds"


def neighbour():
    """Somebody writes all the time, and goes on until he is told to stop: every look into another workspace is over before."""
    api, other = Api(), Api()
    for name in ("writer", "reader"):
        create(api, name)
    api.sh("reader", "i=0; while [ $i -lt 100 ]; do head -c 5000 /dev/urandom >f$i; i=$((i+1)); done")
    api.good("POST", "/v1/sandboxes/reader/sync")
    flood = threading.Thread(target=other.sh, args=("writer", FLOOD))
    flood.start()

    def shipped():
        return api.good("GET", "/v1/sandboxes/writer")["replication"]["shipped_b"]

    until(lambda: shipped() > 16 << 20, 60, "the writer's first files to come")
    before, looks = shipped(), 0
    while looks < 2000 or shipped() < before + (32 << 20):
        for i in range(100):
            if os.access(f"{MNT}/by-name/reader/none-{looks}-{i}", os.F_OK):
                fail("there is a file that nobody made")
            with open(f"{MNT}/by-name/reader/f{i}", "rb") as f:
                if len(f.read()) != 5000:
                    fail("a file of the neighbour is not whole")
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        looks += 200
        if not flood.is_alive():
            fail("the writer ended before it was told to")
    while_it_wrote = shipped() - before
    api.good("POST", "/v1/sandboxes/writer/make", {"path": "stop"})
    flood.join(60)
    if flood.is_alive():
        fail("the writer does not end")
    print(f"many: {looks} looks into a workspace while a neighbour's {while_it_wrote >> 20} MiB were stored", flush=True)
    for name in ("writer", "reader"):
        kill(api, name)
        remove(api, name)


def kill(api, name):
    api.good("POST", f"/v1/sandboxes/{name}/kill", {"grace_ms": 0})


def remove(api, name):
    api.good("DELETE", f"/v1/sandboxes/{name}")


def main():
    api = Api()
    names = [f"box-{i}" for i in range(RUNNING)]
    create(api, "warm-up")
    use(api, "warm-up")
    neighbour()
    base = usage()
    begun = time.monotonic()
    figures(f"create, {AT_ONCE} at a time", at_once(names, create))
    print(f"many: {RUNNING / (time.monotonic() - begun):.0f} a second")
    figures("run and read on the mount", at_once(names, use))
    full = usage()
    per = [(full[i] - base[i]) / RUNNING for i in range(2)]
    print(f"many: per sandbox: {per[0]:.0f} KiB of the daemon's own memory, {per[1]:.1f} descriptors; "
          f"{full[2]} threads", flush=True)
    if per[0] > 512 or per[1] > 8:
        fail(f"a sandbox costs the daemon {per[0]:.0f} KiB and {per[1]:.1f} descriptors")
    if len(Api().good("GET", "/v1/sandboxes")) != RUNNING + 1:
        fail("not all run")
    figures("kill", at_once(names, kill))
    figures("remove", at_once(names, remove))
    # Stored workspaces: made and stopped, then all of them browsed.
    stored = [f"old-{i}" for i in range(STORED)]
    for i in range(0, STORED, RUNNING):
        part = stored[i:i + RUNNING]
        at_once(part, create)
        at_once(part, use)
        at_once(part, kill)
    browse(STORED)
    # Churn: what one round leaves behind, the next one would, too. The ring of events fills meanwhile, and environments
    # that are open for the next reader come and go, so that only the trend says something.
    rounds = []
    for _ in range(ROUNDS):
        part = [f"churn-{i}" for i in range(min(RUNNING, 60))]
        at_once(part, create)
        at_once(part, use)
        at_once(part, kill)
        at_once(part, remove)
        rounds.append(usage())
    print(f"many: after rounds of churn: {[(u[0], u[1], u[2]) for u in rounds]} (KiB, descriptors, threads)")
    half = len(rounds) // 2
    made = (len(rounds) - half - 1) * min(RUNNING, 60)
    if (rounds[-1][0] - rounds[half][0]) / made > 32 or rounds[-1][1] > rounds[half][1] + 128:
        fail("churn leaves something behind")
    at_once(stored, remove)
    kill(Api(), "warm-up")


if __name__ == "__main__":
    sys.exit(main())
