#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The workspace file system beside what one would put together instead: first replication beside rsync, a change beside rsync, lsyncd and
unison, programs on the mount beside ext4, sshfs and bindfs (a pass-through of libfuse), what watching costs a clone and a log. Parts of
tests/bench/run: replicate, propagate, programs, watched. A peer that is not installed is named."""
import contextlib
import glob
import os
import shutil
import signal
import statistics
import subprocess
import time

from bench import GIB, GIT_ENV, MIB, TOP, Image, Sshfs, note, report, sh, spawn, spent, timed, turns
from more import agent_of

SMALL, LARGE = int(os.environ.get("BENCH_SMALL", "50000")), int(os.environ.get("BENCH_LARGE_MIB", "4096"))

MAKE = """
import os, sys
rnd = __import__("random").Random(1)
for d in range(int(sys.argv[2]) // 100):
    at = f"{sys.argv[1]}/t/{d // 50}/{d}"
    os.makedirs(at)
    for f in range(100):
        with open(f"{at}/{f}", "wb") as o:
            o.write(rnd.randbytes(rnd.randrange(2000)))
"""


def have(program):
    return shutil.which(program) is not None


def clear(path):
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path)


def cpu_ms(pid):
    """Processor time of all threads of a process that live."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e6


def replicate_alone(b):
    """A file that is there already: nothing but reading, sending, hashing and storing it. What the source of the bytes costs, and what
    the disk inside takes for them, is over by then."""
    t = time.perf_counter_ns()
    b.run("sh", "-c", f"rm -rf large t; mkdir aside; head -c {LARGE}M /dev/urandom >/dev/null", timeout_ms=1800000)
    source = (time.perf_counter_ns() - t) / 1e6
    t = time.perf_counter_ns()
    b.run("sh", "-c", f"head -c {LARGE}M /dev/urandom >aside/alone; sync -f aside", timeout_ms=1800000)
    wrote = (time.perf_counter_ns() - t) / 1e6
    pids = int(os.environ["BENCH_DAEMON"]), agent_of(b)
    before = [cpu_ms(pid) for pid in pids]
    t = time.perf_counter_ns()
    b.run("mv", "aside/alone", "alone")
    b.sync()
    took = (time.perf_counter_ns() - t) / 1e6
    daemon, agent = (cpu_ms(pid) - was for pid, was in zip(pids, before))
    report(f"replicate_{LARGE}_mib_alone", ">= 0.7 of disk_write_1_gib", "MiB/s", [LARGE / took * 1000],
           words=f"a file that is there already, renamed to where it is kept; durable on the host. Of processors: daemon {daemon * 1024 / LARGE:.0f}, agent "
           f"{agent * 1024 / LARGE:.0f} ms a GiB. The random source alone {LARGE / source * 1000:.0f} MiB/s, written unwatched and synced {LARGE / wrote * 1000:.0f}")
    b.run("rm", "alone")


def bench_replicate(box, peer):
    note(f"first replication: {SMALL} small files, then one of {LARGE} MiB")
    here = f"{TOP}/copy"
    b = type(box)(workspace_b=(LARGE + 3072) * MIB, keep="[none]\naside/\n")
    disk = Image("disk", size=(LARGE + 3072) * MIB)

    def whole(make):
        """From the first write to all of it durable on the host, and what the write alone took."""
        t = time.perf_counter_ns()
        b.run(*make("/workspace"), timeout_ms=1800000)
        wrote = (time.perf_counter_ns() - t) / 1e6
        b.sync()
        return (time.perf_counter_ns() - t) / 1e6, wrote

    def by_rsync(make):
        clear(here)
        t = time.perf_counter_ns()
        sh(*make(disk.at))
        wrote = (time.perf_counter_ns() - t) / 1e6
        sh("rsync", "-a", disk.at + "/", here)
        sh("sync", "-f", here)
        return (time.perf_counter_ns() - t) / 1e6, wrote

    def small(at):
        return ("python3", "-c", MAKE, at, str(SMALL))

    def large(at):
        return ("sh", "-c", f"head -c {LARGE}M /dev/urandom >{at}/large")

    for name, make, per in ((f"replicate_{SMALL}_small", small, SMALL), (f"replicate_{LARGE}_mib", large, LARGE)):
        ours, theirs = whole(make), by_rsync(make)
        unit = "files/s" if make is small else "MiB/s"
        report(name + "_whole", "faster than the peer", "ms", [ours[0]], "the same writes, then rsync -a, then a sync", [theirs[0]],
               f"written and durable on the host; the writes alone {ours[1]:.0f} ms watched, {theirs[1]:.0f} on the peer's image; {per / ours[0] * 1000:.0f} {unit}")
        sh("rm", "-rf", disk.at + "/t", disk.at + "/large")
    replicate_alone(b)
    with open(f"{TOP}/plain", "wb") as f:
        piece, t = os.urandom(64 * MIB), time.perf_counter_ns()
        for _ in range(16):
            f.write(piece)
        os.fsync(f.fileno())
    report("disk_write_1_gib", "-", "MiB/s", [1024 / ((time.perf_counter_ns() - t) / 1e9)], words="plain file of the host, with its fsync: what the disk can write")
    os.unlink(f"{TOP}/plain")
    b.end()
    sh("umount", disk.at)
    shutil.rmtree(here)


def bench_propagate(box, _):
    """One file changes in a tree of 5,000; until the other side has it."""
    note("a change: until the host has it")
    source, here, files = f"{TOP}/source", f"{TOP}/here", 5000
    for path in (source, here):
        clear(path)
    sh("python3", "-c", MAKE, source, str(files))
    b = type(box)()
    b.run("python3", "-c", MAKE, "/workspace", str(files))
    b.sync()
    sh("rsync", "-a", source + "/", here)
    n = [0]

    def write():
        """Another length each time: rsync looks at sizes and whole seconds."""
        n[0] += 1
        with open(source + "/t/0/0/0", "w", encoding="ascii") as f:
            f.write("x" * n[0])

    def ours():
        n[0] += 1
        return spent(lambda: b.run("sh", "-c", f"echo {n[0]} >/workspace/t/0/0/0"))

    def nothing():
        return spent(lambda: b.run("sh", "-c", "echo >/home/user/x"))

    def rsync():
        write()
        return spent(lambda: spawn(["/usr/bin/rsync", "-a", source + "/", here]))

    a, base, c = turns(30, lambda: (ours(), None)[1], lambda: (nothing(), None)[1], lambda: (rsync(), None)[1])
    report("change_command", "-", "ms", a, "rsync -a of the tree", c, "a command that writes one file; at its end the mount shows it "
           f"(the same command outside /workspace: {statistics.median(base):.1f} ms)", True)

    def arrives():
        """ms until the copy has what was written a moment ago."""
        write()
        t, end = time.perf_counter_ns(), time.monotonic() + 30
        while time.monotonic() < end:
            with open(here + "/t/0/0/0", encoding="ascii") as f:
                if len(f.read()) == n[0]:
                    return (time.perf_counter_ns() - t) / 1e6
            time.sleep(0.0005)
        raise SystemExit("it never arrives")

    if have("lsyncd"):
        with open(f"{TOP}/lsyncd.lua", "w", encoding="utf-8") as f:
            f.write(f'sync {{ default.rsync, source = "{source}", target = "{here}", delay = 0 }}\n')
        with subprocess.Popen(["lsyncd", "-nodaemon", "-log", "scarce", f"{TOP}/lsyncd.lua"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as watcher:
            try:
                time.sleep(3)  # its first rsync of all
                late = [arrives() for _ in range(12)]
            finally:
                watcher.send_signal(signal.SIGTERM)
        report("change_lsyncd", "-", "ms", late, words="close to visible in the copy, delay = 0, local rsync; ours is close_to_visible", with_p99=True)
    else:
        note("lsyncd is not installed")
    if have("unison"):
        env = dict(os.environ, HOME=f"{TOP}/unison", UNISON=f"{TOP}/unison")
        clear(f"{TOP}/unison")
        call = ["unison", source, here, "-batch", "-silent", "-auto", "-ui", "text"]
        subprocess.run(call, env=env, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def unison():
            write()
            return spent(lambda: subprocess.run(call, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        report("change_unison", "-", "ms", [unison() for _ in range(5)], words=f"one run over {files} files after one change")
    else:
        note("unison is not installed")
    b.end()


def open_read_close(paths):
    room = bytearray(MIB)
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.readv(fd, [room])
        os.close(fd)


def bench_programs(box, _):
    """The mount as a file system: live and stopped, fresh (nothing cached of it) and again."""
    note("grep, open and read, tar on the mount; ext4, bindfs, sshfs")
    plain = Image("plain-programs", direct=False)
    sh("tar", "-C", plain.at, "-xf", f"{TOP}/both.tar")
    paths = [os.path.join(at, f)[len(TOP):] for at, _, files in os.walk(f"{TOP}/tree") for f in files]

    def live():
        b = type(box)()
        sh("berth", "cp", "--quiet", f"{TOP}/both.tar", f"{b.id}:both.tar")
        b.run("tar", "-xf", "both.tar")
        b.run("rm", "both.tar")
        b.run("git", "-C", "repo", "status", "--porcelain")
        b.sync()
        return b

    def grep(root):
        subprocess.run(["/bin/grep", "-r", "-c", "nowhere to be found", root + "/tree"], stdout=subprocess.DEVNULL, check=False)

    jobs = {"open_read_close": lambda root: open_read_close([root + p for p in paths]), "grep_r": grep,
            "git_status": lambda root: spawn([shutil.which("git"), "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.checkStat=minimal", "-C", root + "/repo", "status",
                                              "--porcelain"], GIT_ENV)}
    goals = {("open_read_close", "fresh"): "<= 2.5", ("grep_r", "again"): "<= 8", ("git_status", "again"): "<= 2"}
    for name, job in jobs.items():
        b = live()
        plain.remount()
        through = None
        if have("bindfs"):
            through = f"{TOP}/bindfs"
            os.makedirs(through, exist_ok=True)
            sh("bindfs", "--no-allow-other", plain.at, through)
        remote = Sshfs(plain.at)
        roots = [("mount", b.mnt), ("bindfs", through), ("sshfs", remote.at), ("ext4", plain.at)]
        fresh = {who: [spent(lambda root=root: job(root))] for who, root in roots if root}  # the peers warm the image for ext4: to its favour
        again = {who: [spent(lambda root=root: job(root)) for _ in range(5)] for who, root in roots if root}
        for how, got in (("fresh", fresh), ("again", again)):
            others = ", ".join(f"{who} {statistics.median(got[who]):.1f}" for who in ("bindfs", "sshfs") if who in got)
            report(f"{name}_{how}", goals.get((name, how), "-"), "ms", got["mount"], "ext4 image", got["ext4"], f"live; {others} ms")
        if name == "git_status":
            got = turns(5, lambda: (sh("berth", "git", b.id, "-C", "repo", "status", "--porcelain"), None)[1], lambda: (job(plain.at), None)[1])
            report("berth_git_status", "<= 2", "ms", got[0], "git on an ext4 image", got[1], "berth git, the whole process")
        remote.end()
        if through:
            sh("umount", through)
        b.end()
    untar_through(box, plain)
    change_in_large(box)
    sh("umount", plain.at)


def untar_through(box, plain):
    stopped, live = type(box)(), type(box)()
    from berthtest import Api
    Api().good("POST", f"/v1/sandboxes/{stopped.id}/kill", {"grace_ms": 0})

    def into(where):
        os.mkdir(where + "/u")
        took = spent(lambda: sh("tar", "-C", where + "/u", "--no-same-owner", "-xf", f"{TOP}/tree.tar"))
        shutil.rmtree(where + "/u")
        return took

    def durable():
        os.mkdir(plain.at + "/u")
        took = spent(lambda: sh("sh", "-c", f"tar -C {plain.at}/u --no-same-owner -xf {TOP}/tree.tar && sync -f {plain.at}"))
        shutil.rmtree(plain.at + "/u")
        return took

    for _ in range(3):
        into(plain.at)
    a, b, c, d = ([] for _ in range(4))
    for _ in range(3):
        a.append(into(stopped.mnt)), b.append(into(live.mnt)), c.append(into(plain.at)), d.append(durable())
    report("untar_into_stopped", "<= 1", "ms", a, "ext4 image", c, f"5,000 entries through the mount; ext4 with a sync at the end {statistics.median(d):.0f} ms")
    report("untar_into_live", "<= 2", "ms", b, "ext4 image", c, "each entry is made by the agent and durable on the host")
    live.end()
    Api().good("DELETE", f"/v1/sandboxes/{stopped.id}")


def change_in_large(box):
    b = type(box)(workspace_b=3 * GIB)
    b.run("sh", "-c", "head -c 1G /dev/urandom >large; head -c 1M /dev/urandom >little")
    b.sync()
    took = {}
    for name in ("large", "little", "large", "little"):
        for k in range(5):
            b.run("sh", "-c", f"head -c 4096 /dev/urandom | dd of={name} bs=4096 seek={k * 37} conv=notrunc status=none")
            took.setdefault(name, []).append(spent(b.sync))
    report("change_4_kib_in_1_gib", "what 4 KiB cost", "ms", took["large"], "4 KiB in 1 MiB, the same way", took["little"], "sync after the command")
    b.end()


APPEND = "f = open('/workspace/log', 'ab', 0)\nfor i in range(20000): f.write(b'%09d a line of a log, sixty-four bytes of it with its end, so.....\\n' % i)\n"


def npm_tree(at):
    """Node.js as this machine has it, and a project whose packages are in a cache beside it: nothing is fetched by who installs.
    Return: the command, or None."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    lib = os.path.dirname(os.path.dirname(os.path.realpath(npm)))
    os.makedirs(f"{at}/app")
    os.makedirs(f"{at}/lib")
    shutil.copy(os.path.realpath(node), f"{at}/node")
    shutil.copytree(lib, f"{at}/npm", symlinks=True)
    for line in sh("ldd", f"{at}/node").splitlines():
        if "libstdc++" in line or "libgcc_s" in line:
            shutil.copy(line.split()[2], f"{at}/lib")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/clients/{name}", f"{at}/app")
    cached = subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--cache", f"{at}/cache"], cwd=f"{at}/app",
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if cached.returncode:
        note(f"npm ci is left out: the packages cannot be fetched: {cached.stdout[-200:]}")
        return None
    shutil.rmtree(f"{at}/app/node_modules")
    return ["sh", "-c", "cd /workspace/js/app && exec env LD_LIBRARY_PATH=/workspace/js/lib HOME=/workspace/js /workspace/js/node "
            "/workspace/js/npm/bin/npm-cli.js ci --offline --no-audit --no-fund --ignore-scripts --cache /workspace/js/cache >/dev/null"]


def bench_watched(box, peer):
    note("cost of watching: a clone, a log, a tree that is copied")
    b = type(box)(workspace_b=3 * GIB)
    sh("berth", "cp", "--quiet", f"{TOP}/both.tar", f"{b.id}:both.tar")
    shutil.copy(f"{TOP}/both.tar", peer.ws)
    for run in (b.run, peer.run):
        run("tar", "--no-same-owner", "-C", "/workspace", "-xf", "/workspace/both.tar")
    npm = npm_tree(f"{TOP}/js")
    if npm:
        sh("tar", "-C", TOP, "-cf", f"{TOP}/js.tar", "js")
        sh("berth", "cp", "--quiet", f"{TOP}/js.tar", f"{b.id}:js.tar")
        shutil.copy(f"{TOP}/js.tar", peer.ws)
        for run in (b.run, peer.run):
            run("tar", "--no-same-owner", "-C", "/workspace", "-xf", "/workspace/js.tar")
    home = ["env", "GIT_CONFIG_GLOBAL=/workspace/gitconfig"]
    b.run("git", "config", "--file", "/workspace/gitconfig", "safe.directory", "*", user="root")
    peer.run("git", "config", "--file", "/workspace/gitconfig", "safe.directory", "*")
    b.sync()
    jobs = {"git_clone": ([*home, "git", "clone", "-q", "--no-local", "/workspace/repo", "/workspace/clone"], "<= 1.05", "/workspace/clone"),
            "cp_r": (["cp", "-r", "/workspace/tree", "/workspace/copy"], "-", "/workspace/copy"),
            "npm_ci": (npm, "<= 1.05", "/workspace/js/app/node_modules"),
            "append_20000": (["python3", "-c", APPEND], "<= 1.10", "/workspace/log")}
    for name, (argv, goal, made) in jobs.items():
        if not argv:
            continue
        ours, theirs = [], []
        for turn in range(8):
            one = timed(b.run, *argv, user="root")
            b.run("rm", "-rf", made, user="root")
            b.sync()
            two = timed(peer.run, *argv)
            peer.run("rm", "-rf", made)
            sh("sync", "-f", peer.ws)
            if turn:
                ours.append(one), theirs.append(two)
        for i, what in enumerate(("wall", "cpu")):
            pairs = statistics.median(x[i] / y[i] for x, y in zip(ours, theirs))
            report(f"{name}_watched_{what}", goal, "ms", [x[i] for x in ours], "same container, not watched", [x[i] for x in theirs],
                   f"measured inside; median of the pairs' ratios {pairs:.2f}")
    b.end()


PARTS = dict(replicate=bench_replicate, propagate=bench_propagate, programs=bench_programs, watched=bench_watched)
