# SPDX-License-Identifier: Apache-2.0
"""Sandboxes come and go for $CHURN seconds, and what they leave behind is measured. Four at a time are made, run commands that
write and rename, are read over the mount, paused, killed, removed; some stay stored and are browsed before they go; one lives all the time.
Every few seconds all but that one are gone: then descriptors, threads, mounts, groups, loop devices and processes must be what they
were at the first such moment, and memory must not grow with the number of sandboxes that were made (a line through the second half).
One JSON line per sample goes to $CHURN_FILE when that is set."""
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time

from berthtest import Api, fail, manifest, until

SECONDS, STATE, MNT, TOP = float(os.environ.get("CHURN", "20")), os.environ["STATE"], os.environ["MNT"], os.environ["TOP"]
WORKERS, SLICE = int(os.environ.get("CHURN_AT_ONCE", "4")), 10 if SECONDS >= 600 else SECONDS / 10
# Own memory that 1,000 sandboxes may leave behind in a process, in KiB: buffers and heaps grow to the highest peak that they ever saw,
# later and later. Within seconds the ring of events and 256 workspaces that stay mapped fill: 11 to 16 KiB a sandbox, until some 700 of them
# (100 s: 7.1, 10.5 half way, 10.7 MiB at the end). What is seen there is a ring of its own for each that stays; a slow machine
# makes two dozen in the second half, so that what a buffer takes once (up to FLOOR) would look like a rate.
PER_1000, FLOOR = (128, 0) if SECONDS >= 3000 else (512, 0) if SECONDS >= 600 else (20480, 1024)
SEED = int(os.environ.get("BERTH_SEED", "1"))
made, lock, problems = [0], threading.Lock(), []


def processes():
    """Of this state directory: name -> pids, with the agents of sandboxes left out."""
    out = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    if f"daemon.state-dir={STATE}".encode() not in f.read():
                        continue
                with open(f"/proc/{name}/comm", encoding="ascii") as f:
                    out.setdefault(f.read().strip(), []).append(int(name))
            except OSError:
                pass
    return out


def anonymous(pid):
    """KiB that are the process's own: neither files nor shared maps."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Anonymous:"))


def mapped_b(directory):
    return sum(os.stat(os.path.join(at, n)).st_size for at, _, names in os.walk(directory) for n in names if n == "data.mdb")


def groups():
    st = os.stat(STATE)
    name, n = f"berth-{st.st_dev:x}-{st.st_ino:x}", 0
    for tree in ["/sys/fs/cgroup"] + [f"/sys/fs/cgroup/{t}" for t in os.listdir("/sys/fs/cgroup")]:
        n += sum(len(dirs) for _, dirs, _ in os.walk(f"{tree}/{name}"))
    return n


def loops():
    n = 0
    for dev in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{dev}/loop/backing_file", encoding="utf-8") as f:
                n += f.read().startswith(STATE + "/")
        except OSError:  # other people's come and go
            pass
    return n


def sample(begun):
    while True:
        try:
            return look(begun)
        except (FileNotFoundError, ProcessLookupError):  # a child that ended while it was looked at
            pass


def look(begun):
    out = {"s": round(time.monotonic() - begun, 1), "made": made[0], "memory": {}, "descriptors": {}, "threads": {}, "pids": {}}
    for name, pids in processes().items():
        out["pids"][name] = len(pids)
        out["memory"][name] = sum(anonymous(p) for p in pids)
        out["descriptors"][name] = sum(len(os.listdir(f"/proc/{p}/fd")) for p in pids)
        out["threads"][name] = sum(len(os.listdir(f"/proc/{p}/task")) for p in pids)
    with open(f"{STATE}/boxes/{OLD}/pid", encoding="ascii") as f:
        pid = int(f.read())
    out["memory"]["agent"], out["descriptors"]["agent"] = anonymous(pid), len(os.listdir(f"/proc/{pid}/fd"))
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        out["mounts"] = sum(line.split()[4].startswith(STATE) for line in f)
    out["groups"], out["loops"] = groups(), loops()
    out["content_b"], out["workspaces_b"] = mapped_b(STATE + "/store/content"), mapped_b(STATE + "/store/ws")
    out["names"] = sum(len(os.listdir(f"{STATE}/{d}")) for d in ("boxes", "store/ws"))
    return out


SCRIPT = """set -e
mkdir -p d/e; i=0
while [ $i -lt 20 ]; do echo "$0 $i" >d/f$i; i=$((i+1)); done
head -c 9000 /dev/urandom >d/big; mv d/f1 d/e/g1; rm d/f2; ln -sf f3 d/l; ln -f d/f4 d/h; chmod 600 d/f5
(while :; do echo x >>d/log; usleep 50000; done >/dev/null 2>&1 &)
cat d/f0"""


def box(api, rnd, name):
    """One life. True: it stays, stopped."""
    at = f"/v1/sandboxes/{name}"
    api.good("POST", "/v1/sandboxes", {"template": "mini", "name": name, "metadata": {"of": "churn"}})
    for _ in range(rnd.randint(1, 3)):
        r = api.run(name, "sh", "-c", SCRIPT + "; rm -rf d/x; cp -r d/e d/x; rm -rf d/e; mv d/x d/e", name)
        with open(f"{MNT}/by-name/{name}/d/f0", encoding="ascii") as f:
            if r["code"] != 0 or r["stdout"] != f"{name} 0\n" or f.read() != f"{name} 0\n":
                raise RuntimeError(f"{name}: {r}")
        api.run(name, "rm", "-rf", "d") if rnd.random() < 0.3 else None
    dice = rnd.random()
    if dice < 0.2:
        api.good("POST", at + "/pause")
        api.good("POST", at + "/resume")
        api.sh(name, "mkdir -p d; echo resumed >d/r")
    elif dice < 0.3:
        with open(f"{MNT}/by-name/{name}/from-host", "w", encoding="ascii") as f:
            f.write(name)
        os.rename(f"{MNT}/by-name/{name}/from-host", f"{MNT}/by-name/{name}/from-host-2")
    elif dice < 0.4:
        subprocess.run(["berth", "run", name, "--", "sh", "-c", "cat >in; head -c 300000 /dev/zero"], input=b"x" * 200000,
                       stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["berth", "cp", "--quiet", f"{name}:in", f"{TOP}/{name}"], check=True)
        os.unlink(f"{TOP}/{name}")
    elif dice < 0.5:
        api.good("POST", at + "/pause")  # and is killed while it stands still
    api.good("POST", at + "/kill", {"grace_ms": 0})
    with lock:
        made[0] += 1
    return rnd.random() < 0.3


def worker(number, until_s):
    rnd, api, stored = random.Random(SEED * 1000 + number + made[0] * 7), Api(), []
    try:
        while time.monotonic() < until_s and not problems:
            with lock:
                COUNT[0] += 1
                name = f"churn-{COUNT[0]}"
            if box(api, rnd, name):
                stored.append(name)
            else:
                api.good("DELETE", f"/v1/sandboxes/{name}")
            if len(stored) > 3:
                browse(api, stored)
        browse(api, stored)
    except BaseException as e:  # SystemExit of a refused request, too
        problems.append(repr(e))


def browse(api, stored):
    while stored:
        name = stored.pop()
        os.listdir(MNT + "/by-name")
        manifest(f"{MNT}/by-name/{name}")
        api.good("DELETE", f"/v1/sandboxes/{name}")


def slope(points):
    """Of the line through (x, y) with the least squares."""
    x, y = statistics.mean(p[0] for p in points), statistics.mean(p[1] for p in points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / max(sum((p[0] - x) ** 2 for p in points), 1e-9)


OLD, COUNT = None, [0]
SAME = ("descriptors", "pids", "mounts", "groups", "loops", "names")
MOUNT_THREADS = 8  # come and go with the load


def main():
    global OLD
    api, begun, samples = Api(), time.monotonic(), []
    OLD = api.good("POST", "/v1/sandboxes", {"template": "mini", "name": "churn-old"})["id"]
    out = open(os.environ.get("CHURN_FILE", os.devnull), "w", encoding="utf-8")
    while time.monotonic() < begun + SECONDS:
        end = time.monotonic() + SLICE
        threads = [threading.Thread(target=worker, args=(i, end)) for i in range(WORKERS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if problems:
            fail(problems[0])
        api.run("churn-old", "sh", "-c", "echo $$ >f; mv f g; rm g")
        # What is closed behind an answer needs a moment; if it never comes to that, the last look is the one that counts.
        now = sample(begun)
        if not samples: # the first one is what all others are held against: of a moment at which nothing is on its way
            wait, same = time.monotonic() + 5, 0
            while same < 20 and time.monotonic() < wait:
                time.sleep(0.05)
                again = sample(begun)
                same = same + 1 if all(again[k] == now[k] for k in SAME) else 0
                now = again
        if samples:
            wait = time.monotonic() + 5
            while any(now[k] != samples[0][k] for k in SAME) and time.monotonic() < wait:
                time.sleep(0.05)
                now = sample(begun)
        samples.append(now)
        out.write(json.dumps(now) + "\n")
        out.flush()
        for k in SAME if len(samples) > 1 else ():
            if now[k] != samples[0][k]:
                fail(f"after {made[0]} sandboxes there are {k} {now[k]}, and were {samples[0][k]}")
        for name, n in now["threads"].items():
            if n > samples[0]["threads"][name] + MOUNT_THREADS:
                fail(f"after {made[0]} sandboxes {name} has {n} threads, and had {samples[0]['threads'][name]}")
    half = samples[len(samples) // 2:]
    print(f"churn: {made[0]} sandboxes in {samples[-1]['s']:.0f} s, {len(samples)} looks: always the same "
          f"{', '.join(f'{k} {samples[-1][k]}' for k in SAME)}")
    bad = []
    for name in sorted(samples[-1]["memory"]):
        per = slope([(s["made"] / 1000, s["memory"][name]) for s in half])
        print(f"churn: {name}: {samples[0]['memory'][name]} KiB of its own at first, {half[0]['memory'][name]} half way, "
              f"{samples[-1]['memory'][name]} at the end; {per:.1f} KiB per 1,000 sandboxes in the second half", flush=True)
        if per > PER_1000 and per * (half[-1]["made"] - half[0]["made"]) / 1000 > FLOOR:
            bad.append(f"{name} grows by {per:.0f} KiB per 1,000 sandboxes")
    stored = [(samples[i]["content_b"] - samples[0]["content_b"]) / max(samples[i]["made"] - samples[0]["made"], 1) for i in (-1,)]
    print(f"churn: contents grow by {stored[0] / 1024:.0f} KiB a sandbox (distinct bytes are kept)")
    if bad:
        fail("; ".join(bad))
    api.good("POST", "/v1/sandboxes/churn-old/kill", {"grace_ms": 0})
    api.good("DELETE", "/v1/sandboxes/churn-old")
    until(lambda: not os.path.exists(f"{STATE}/store/ws/{OLD}"), 10, "the last one to go")


if __name__ == "__main__":
    sys.exit(main())
