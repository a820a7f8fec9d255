#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of a running daemon beside a peer, taken in turns (A B A B …) so that a busy machine is busy for both. Called
by tests/bench/run. Every line says the goal, the median, the peer's median and the ratio of the two."""
import ctypes
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

TREE_FILES = 5000
KIB, MIB, GIB = 1024, 1024 * 1024, 1024 * 1024 * 1024
TOP, MNT = os.environ.get("TOP", ""), os.environ.get("MNT", "")


def note(words):
    print("bench:", words, file=sys.stderr, flush=True)


def p99(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def report(name, goal, unit, values, peer="", peer_values=None, words="", with_p99=False):
    line = {"name": name, "goal": goal, "unit": unit, "figure": round(statistics.median(values), 3)}
    if with_p99:
        line["p99"] = round(p99(values), 3)
    if peer_values:
        line["peer"] = peer
        line["peer_figure"] = round(statistics.median(peer_values), 3)
        line["ratio"] = round(statistics.median(values) / max(statistics.median(peer_values), 1e-9), 3)
    line["n"] = len(values)
    line["note"] = words
    print(json.dumps(line), flush=True)


def spent(what, *args):
    """Milliseconds."""
    t = time.perf_counter_ns()
    what(*args)
    return (time.perf_counter_ns() - t) / 1e6


def turns(n, *whats):
    """n times one after the other; each what() may return its own figure in ms."""
    out = [[] for _ in whats]
    for i in range(n):
        for k in range(len(whats)):
            which = (k + i) % len(whats)
            t = time.perf_counter_ns()
            own = whats[which]()
            out[which].append(own if own is not None else (time.perf_counter_ns() - t) / 1e6)
    return out


DEVNULL = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def spawn(argv, env=os.environ, out=None):
    """A whole process with as little of Python around it as there can be."""
    files = [(os.POSIX_SPAWN_DUP2, DEVNULL if out is None else out, 1)]
    pid = os.posix_spawn(argv[0], argv, env, file_actions=files)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise SystemExit(f"{argv}: status {status}")


def sh(*argv, **more):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


# --- the two sides ----------------------------------------------------------------------------------------------------


class Box:
    """One of our sandboxes."""

    def __init__(self, **more):
        self.id = api.good("POST", "/v1/sandboxes", dict(template="base", **more))["id"]
        self.mnt = f"{MNT}/{self.id}"

    def run(self, *argv, **more):
        answer = api.run(self.id, *argv, **more)
        if answer["code"] != 0 or answer["how"] != "exit":
            raise SystemExit(f"{argv}: {answer}")
        return answer["stdout"]

    def sync(self):
        api.good("POST", f"/v1/sandboxes/{self.id}/sync")

    def end(self):
        api.good("POST", f"/v1/sandboxes/{self.id}/kill", {"grace_ms": 0})
        api.good("DELETE", f"/v1/sandboxes/{self.id}")


class Image:
    """An ext4 in a file, mounted as a sandbox's workspace is."""

    def __init__(self, name, direct=True, size=3 * GIB):
        self.file, self.at, self.direct = f"{TOP}/{name}.img", f"{TOP}/{name}", direct
        with open(self.file, "wb") as f:
            f.truncate(size)
        sh("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-i", "8192", "-E", "lazy_itable_init=1", self.file)
        os.mkdir(self.at)
        self.mount()

    def mount(self):
        sh("mount", "-o", "loop,noinit_itable,nosuid,nodev", self.file, self.at)
        if self.direct:
            loop = sh("findmnt", "-n", "-o", "SOURCE", self.at).strip()
            subprocess.run(["losetup", "--direct-io=on", loop], check=False, stderr=subprocess.DEVNULL)

    def remount(self):
        """No inode or page of its files is cached afterwards; the image itself is, when it is not direct."""
        sh("umount", self.at)
        self.mount()


class Peer:
    """A container of the same runtime with the configuration of a sandbox: same template below an overlay, same name
    spaces, capabilities and filter of system calls; /workspace is an ext4 image that nobody watches."""

    def __init__(self, like):
        state = os.environ["STATE"]
        with open(f"{state}/boxes/{like.id}/config.json", encoding="utf-8") as f:
            self.config = json.load(f)
        base = int(os.environ["BENCH_PEER_IDS"])
        for key in ("uidMappings", "gidMappings"):
            self.config["linux"][key][0]["hostID"] = base
        for space in self.config["linux"]["namespaces"]:
            if space["type"] == "user":
                del space["path"]
        self.root = f"{TOP}/crun-root"
        self.image = Image("peer")
        ws = self.image.at + "/ws"
        for path in (ws, self.image.at + "/up", self.image.at + "/work"):
            os.mkdir(path, 0o755)
            os.chown(path, base, base)
        os.mkdir(f"{TOP}/peer-root")
        lower = f"{state}/templates/base/root"
        sh("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={self.image.at}/up,"
           f"workdir={self.image.at}/work", f"{TOP}/peer-root")
        self.config["root"]["path"] = f"{TOP}/peer-root"
        for m in self.config["mounts"]:
            if m["destination"] == "/workspace":
                m["source"] = ws
            if m["destination"] == "/.berth/agent":
                m["source"] = os.environ["BERTH_AGENT"]
        os.makedirs(f"{TOP}/peer-root/.berth", exist_ok=True)
        for name in ("agent",):
            open(f"{TOP}/peer-root/.berth/{name}", "a", encoding="utf-8").close()
        self.crun = [shutil.which("crun"), f"--root={self.root}"]
        self.bundle("idle", ["/bin/sleep", "infinity"])
        self.bundle("once", ["/bin/echo", "hello"])
        # Its words go to a file: who inherits a pipe here would keep it open.
        with open(f"{TOP}/crun.log", "w", encoding="utf-8") as log:
            r = subprocess.run(self.crun + ["run", "--detach", "--bundle", f"{TOP}/bundle-idle", "peer"], stdout=log, stderr=log,
                               stdin=subprocess.DEVNULL, check=False)
        if r.returncode != 0:
            raise SystemExit("crun: " + open(f"{TOP}/crun.log", encoding="utf-8").read())
        self.ws = ws

    def bundle(self, name, args):
        config = json.loads(json.dumps(self.config))
        config["process"]["args"] = args
        os.mkdir(f"{TOP}/bundle-{name}")
        with open(f"{TOP}/bundle-{name}/config.json", "w", encoding="utf-8") as f:
            json.dump(config, f)

    def run(self, *argv):
        return sh(*self.crun, "exec", "peer", *argv)

    def spawn(self, *argv):
        spawn(self.crun + ["exec", "peer", *argv])

    def end(self):
        subprocess.run(self.crun + ["delete", "-f", "peer"], check=False)


class Sshfs:
    """A directory of this machine over SFTP through a pair of sockets: no network and no ssh in between."""

    def __init__(self, directory):
        self.at = f"{TOP}/sshfs"
        os.makedirs(self.at, exist_ok=True)
        a, b = socket.socketpair()
        self.server = subprocess.Popen(["/usr/lib/openssh/sftp-server"], stdin=a, stdout=a)
        self.client = subprocess.Popen(["sshfs", "-f", "-o", "passive", f"x:{directory}", self.at], stdin=b, stdout=b)
        a.close()
        b.close()
        end = time.monotonic() + 20
        while not os.path.ismount(self.at):
            if time.monotonic() > end:
                raise SystemExit("sshfs does not mount")
            time.sleep(0.01)

    def end(self):
        sh("umount", self.at)
        self.client.wait()
        self.server.wait()


# --- figures ----------------------------------------------------------------------------------------------------------


def bench_exec():
    note("exec: one connection, a process of its own, crun exec")
    lib = os.environ["BENCH_BERTH"] + "/.libs"
    program = lib + "/berth" if os.path.exists(lib + "/berth") else os.environ["BENCH_BERTH"] + "/berth"
    env = dict(os.environ, LD_LIBRARY_PATH=lib)
    cli = [program, "run", box.id, "--", "true"]
    path, body = f"/v1/sandboxes/{box.id}/exec", {"argv": ["true"]}
    turns(5, lambda: (api.good("POST", path, body), None)[1], lambda: spawn(cli, env), lambda: peer.spawn("true"))
    one, whole, crun, nothing = turns(200, lambda: (api.good("POST", path, body), None)[1], lambda: spawn(cli, env),
                                      lambda: peer.spawn("true"), lambda: spawn(["/bin/true"]))
    report("exec_kept_connection", "<= 2", "ms", one, "crun exec", crun, "POST …/exec true, Python's client", True)
    report("exec_berth_run", "<= 6", "ms", whole, "crun exec", crun,
           f"whole process; /bin/true the same way: {statistics.median(nothing):.2f} ms", True)


def bench_create():
    note("create to first output, and crun run")

    def ours():
        t = time.perf_counter_ns()
        b = Box()
        b.run("echo", "hello")
        took = (time.perf_counter_ns() - t) / 1e6
        b.end()
        return took

    def theirs():
        t = time.perf_counter_ns()
        spawn(peer.crun + ["run", "--bundle", f"{TOP}/bundle-once", "once"])
        return (time.perf_counter_ns() - t) / 1e6

    a, b = turns(15, ours, theirs)
    report("create_to_first_output", "<= 80", "ms", a, "crun run", b,
           "ours makes workspace, image, mounts; crun's bundle and its mounts are there already", True)


def make_tree():
    """5,000 files of 0 to 40 KiB in 250 directories, and a repository of 2,000 files."""
    tree = f"{TOP}/tree"
    os.mkdir(tree)
    rnd = __import__("random").Random(5)
    for i in range(TREE_FILES):
        d = f"{tree}/d{i % 25}/e{i % 250}"
        os.makedirs(d, exist_ok=True)
        with open(f"{d}/f{i}", "wb") as f:
            f.write(rnd.randbytes(int(rnd.paretovariate(0.8) * 400) % 40000))
    repo = f"{TOP}/repo"
    os.mkdir(repo)
    shutil.copytree(f"{tree}/d0", f"{repo}/d0")
    for k in range(1, 10):
        shutil.copytree(f"{tree}/d{k}", f"{repo}/d{k}")
    git = ["git", "-C", repo, "-c", "user.name=b", "-c", "user.email=b@example.org", "-c", "gc.auto=0"]
    sh(*git, "init", "-q", stderr=subprocess.DEVNULL)
    sh(*git, "add", ".")
    sh(*git, "commit", "-qm", "all")
    sh(*git, "repack", "-adq")
    sh("tar", "-C", TOP, "-cf", f"{TOP}/tree.tar", "tree")
    sh("tar", "-C", TOP, "-cf", f"{TOP}/both.tar", "tree", "repo")
    return os.path.getsize(f"{TOP}/tree.tar")


def put(b, name):
    """A file of ours into a sandbox's workspace, by the command line."""
    sh("berth", "cp", f"{TOP}/{name}", f"{b.id}:{name}")


# Wall and processor time of a command, in us, taken inside.
TIMED = ("import resource, subprocess, sys, time; s = time.perf_counter_ns(); subprocess.run(sys.argv[1:], check=True); "
         "e = time.perf_counter_ns(); r = resource.getrusage(resource.RUSAGE_CHILDREN); "
         "print((e - s) // 1000, int((r.ru_utime + r.ru_stime) * 1e6))")


class Group:
    """A fanotify group as an agent has it, on a whole file system; nobody reads it while the job runs."""

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fanotify_mark.argtypes = [ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p]
        self.fd = libc.fanotify_init(0x1e00 | 0x13, os.O_RDONLY)
        if self.fd < 0 or libc.fanotify_mark(self.fd, 0x101, 0x5000030e, -100, path.encode()) < 0:
            raise SystemExit(f"fanotify: {os.strerror(ctypes.get_errno())}")

    def end(self):
        n = 0
        while True:
            try:
                n += len(os.read(self.fd, MIB))
            except BlockingIOError:
                break
        os.close(self.fd)
        return n


def timed(run, *argv, **more):
    wall, cpu = run("python3", "-c", TIMED, *argv, **more).split()
    return int(wall) / 1000, int(cpu) / 1000


def untar_in(run, where, **more):
    run("mkdir", where, **more)
    took = timed(run, "tar", "--no-same-owner", "-xf", "/workspace/tree.tar", "-C", where, **more)
    run("rm", "-rf", where, **more)
    return took


def bench_untar():
    size = os.path.getsize(f"{TOP}/tree.tar")
    note(f"cost of watching: untar of {TREE_FILES} files ({size / 1e6:.0f} MB)")
    put(box, "tree.tar")
    shutil.copy(f"{TOP}/tree.tar", peer.ws)
    box.sync()
    ours, theirs, grouped, read = [], [], [], 0
    for turn in range(12):
        one = untar_in(box.run, "/workspace/u", user="root")
        box.sync()
        two = untar_in(peer.run, "/workspace/u")
        sh("sync", "-f", peer.ws)
        group = Group(peer.ws)
        three = untar_in(peer.run, "/workspace/u")
        read = group.end()
        sh("sync", "-f", peer.ws)
        if turn:
            ours.append(one), theirs.append(two), grouped.append(three)
    name = "same container, not watched"
    for i, what in enumerate(("wall", "cpu")):
        a, b, c = ([x[i] for x in v] for v in (ours, theirs, grouped))
        pairs = statistics.median(x / y for x, y in zip(a, b))
        words = ("measured inside while agent and daemon store it on the same processors" if what == "wall" else
                 "processor time of tar alone: what the watched kernel paths cost the writer")
        report(f"untar_watched_{what}", "<= 1.15 of the peer", "ms", a, name, b, f"{words}; median of the pairs' ratios {pairs:.2f}")
        report(f"untar_group_only_{what}", "-", "ms", c, name, b, f"the peer with a fanotify group that nobody reads ({read} bytes of events)")
    whole = []
    for _ in range(3):
        whole.append(spent(lambda: box.run("tar", "-xf", "tree.tar", "-C", "/workspace")))
        box.run("rm", "-rf", "/workspace/tree")
        box.sync()
    report("untar_until_visible", "-", "ms", whole, "the same tar inside", [x[0] for x in ours],
           "the whole command: at its end the mount shows all names")


COMPILE = """
import hashlib, os, sys, zlib
d = sys.argv[1]
os.makedirs(d, exist_ok=True)
for i in range(120):
    data = b"%d" % i
    for _ in range(12000):
        data = hashlib.sha256(data).digest()
    with open(f"{d}/o{i}", "wb") as f:
        f.write(zlib.compress(data * 600, 1) + data * 300)
"""


def bench_compile():
    note("cost of watching: a job that computes and writes 120 objects")
    ours, theirs = [], []
    for _ in range(11):
        ours.append(timed(box.run, "python3", "-c", COMPILE, "/workspace/obj", user="root"))
        box.sync()
        theirs.append(timed(peer.run, "python3", "-c", COMPILE, "/workspace/obj"))
        sh("sync", "-f", peer.ws)
    for i, what in enumerate(("wall", "cpu")):
        a, b = ([x[i] for x in v] for v in (ours, theirs))
        pairs = statistics.median(x / y for x, y in zip(a, b))
        report(f"compile_watched_{what}", "<= 1.05 of the peer", "ms", a, "same container, not watched", b,
               f"measured inside; median of the pairs' ratios {pairs:.2f}")


WRITER = """
import os, sys, time
n, out = int(sys.argv[1]), []
os.makedirs("/workspace/w", exist_ok=True)
while not os.path.exists("/workspace/w/go"):
    time.sleep(0.01)
for i in range(n):
    with open(f"/workspace/w/f{i}", "w") as f:
        f.write("x" * 100)
    out.append(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    time.sleep(0.03)
print(*out)
"""


def bench_visible():
    n = 150
    note("close in the guest until a reader of the mount sees it")
    words = []
    box.run("mkdir", "-p", "/workspace/w")
    other = Api()
    writer = threading.Thread(target=lambda: words.append(other.run(box.id, "python3", "-c", WRITER, str(n))["stdout"]))
    writer.start()
    box.run("touch", "/workspace/w/go")
    seen, at = [], f"{box.mnt}/w"
    for i in range(n):
        end = time.monotonic() + 20
        while True:
            try:
                with open(f"{at}/f{i}", encoding="ascii") as f:
                    if len(f.read()) == 100:
                        break
            except FileNotFoundError:
                pass
            if time.monotonic() > end:
                raise SystemExit(f"f{i} is never seen")
            time.sleep(0.0002)
        seen.append(time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    writer.join()
    closed = [int(w) for w in words[0].split()]
    late = [(s - c) / 1e6 for s, c in zip(seen, closed)]
    report("close_to_visible", "-", "ms", late, words="a writer in the background, no command ends; seen with content by a poll "
           "every 0.2 ms", with_p99=True)
    api.good("POST", f"/v1/sandboxes/{box.id}/sync")
    path = f"/v1/sandboxes/{box.id}/sync"

    def durable():
        box.run("sh", "-c", "echo x >/workspace/w/durable")
        return spent(lambda: api.good("POST", path))

    report("end_to_durable", "-", "ms", [durable() for _ in range(60)],
           words="sync after a command that wrote one file: content stored and synced to disk", with_p99=True)
    box.run("rm", "-rf", "/workspace/w")


def bench_ls():
    note("run, then ls")
    d = f"{box.mnt}/ls"
    box.run("mkdir", "-p", "/workspace/ls", "/home/user/ls")

    def look(many):
        names = os.listdir(d)
        assert len(names) >= many
        with open(f"{d}/f{many}", "rb") as f:
            f.read()

    def once(where, many, reads):
        def f():
            t = time.perf_counter_ns()
            box.run("sh", "-c", f"i=0; while [ $i -lt {many} ]; do i=$((i+1)); echo $i >{where}/ls/f$i; done")
            if reads:
                look(many)
            return (time.perf_counter_ns() - t) / 1e6
        return f

    for many in (1, 100):
        turns(3, once("/workspace", many, True), once("/home/user", many, False))
        a, b = turns(200 if many == 1 else 100, once("/workspace", many, True), once("/home/user", many, False))
        over = [x - statistics.median(b) for x in a]
        report(f"run_then_ls_{many}", "p50 < 2 ms over the command, p99 < 25", "ms", a, "the same command in /home/user, no ls", b,
               f"listdir and read of the last file (home: ext4 too, not watched); over the command: p50 {statistics.median(over):.2f} p99 {p99(over):.2f} ms", True)


GIT_ENV = dict(os.environ, GIT_OPTIONAL_LOCKS="0", GIT_CONFIG_NOSYSTEM="1", HOME="/nonexistent")


def walks(root):
    paths = [os.path.join(at, f) for at, _, files in os.walk(f"{TOP}/tree") for f in files]
    paths = [root + p[len(TOP):] for p in paths] * 2
    git = [shutil.which("git"), "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", root + "/repo"]

    def stats():
        for p in paths:
            os.lstat(p)

    return {"find": lambda: spawn(["/usr/bin/find", root + "/tree", "-printf", "%s %p\\n"]),
            "ls_lR": lambda: spawn(["/bin/ls", "-lR", root + "/tree"]),
            "stat_10k": stats,
            "git_status": lambda: spawn(git + ["status", "--porcelain"], GIT_ENV),
            "git_status_minimal": lambda: spawn(git + ["-c", "core.checkStat=minimal", "status", "--porcelain"], GIT_ENV)}


def bench_walk():
    note("find, ls -lR, stat, git status: mount, ext4, sshfs; fresh and warm")
    plain = Image("plain", direct=False)
    sh("tar", "-C", plain.at, "-xf", f"{TOP}/both.tar")
    sh("git", "-c", "safe.directory=*", "-C", plain.at + "/repo", "status", "--porcelain")
    names = ("find", "ls_lR", "stat_10k", "git_status", "git_status_minimal")
    fresh = {k: ([], [], []) for k in names}
    warm = {k: ([], [], []) for k in names}
    for k in names:
        for turn in range(3):
            b = Box()
            put(b, "both.tar")
            b.run("tar", "-xf", "both.tar")
            b.run("git", "-C", "repo", "status", "--porcelain")
            b.sync()
            plain.remount()
            fresh[k][1].append(spent(walks(plain.at)[k]))
            plain.remount()
            remote = Sshfs(plain.at)
            fresh[k][2].append(spent(walks(remote.at)[k]))
            fresh[k][0].append(spent(walks(b.mnt)[k]))
            for what in range(5 if turn == 2 else 0):
                for side, root in enumerate((b.mnt, plain.at, remote.at)):
                    t = spent(walks(root)[k])
                    if what:
                        warm[k][side].append(t)
            remote.end()
            b.end()
        note(f"{k}: fresh {[round(statistics.median(v), 1) for v in fresh[k]]} warm "
             f"{[round(statistics.median(v), 1) for v in warm[k]]} ms")
    for how, all_ in (("fresh", fresh), ("warm", warm)):
        for k in names:
            for side, peer_name in ((1, "ext4 image"), (2, "sshfs")):
                report(f"{k}_{how}_to_{peer_name.split()[0]}", "-", "ms", all_[k][0], peer_name, all_[k][side],
                       {"fresh": "first walk after the sandbox wrote it; peers freshly mounted, image in the page cache",
                        "warm": "same walk again"}[how])
    sh("umount", plain.at)


def read_all(path):
    fd = os.open(path, os.O_RDONLY)
    room = bytearray(MIB)
    n = 0
    t = time.perf_counter_ns()
    while got := os.readv(fd, [room]):
        n += got
    os.close(fd)
    return n / MIB / ((time.perf_counter_ns() - t) / 1e9)


def bench_big():
    note("a file of 1 GiB")
    plain = Image("big", direct=False)
    b = Box(workspace_b=3 * GIB)
    t = time.perf_counter_ns()
    b.run("sh", "-c", "head -c 1073741824 /dev/urandom >/workspace/big")
    wrote = time.perf_counter_ns()
    b.sync()
    note(f"written in {(wrote - t) / 1e9:.1f} s, durable {(time.perf_counter_ns() - wrote) / 1e9:.1f} s later")
    report("write_1_gib_until_durable", "-", "MiB/s", [1024 / ((time.perf_counter_ns() - t) / 1e9)], words="made in the sandbox by head "
           f"/dev/urandom ({(wrote - t) / 1e9:.1f} s), then synced")
    with open(f"{plain.at}/big", "wb") as f:
        for _ in range(1024):
            f.write(os.urandom(MIB))
    plain.remount()
    remote = Sshfs(plain.at)
    cold = [[read_all(p + "/big")] for p in (b.mnt, plain.at)]
    warm = turns(3, lambda: read_all(b.mnt + "/big"), lambda: read_all(plain.at + "/big"))
    far = [read_all(remote.at + "/big")], [read_all(remote.at + "/big") for _ in range(2)]
    report("read_1_gib_fresh", "-", "MiB/s", cold[0], "ext4 image", cold[1], "first read of the file on the mount; store in the page cache")
    report("read_1_gib_warm", "-", "MiB/s", warm[0], "ext4 image", warm[1])
    report("read_1_gib_fresh_to_sshfs", "-", "MiB/s", cold[0], "sshfs", far[0])
    report("read_1_gib_warm_to_sshfs", "-", "MiB/s", warm[0], "sshfs", far[1])
    remote.end()
    b.end()
    sh("umount", plain.at)


def memory(pid, key, file="smaps_rollup"):
    for line in open(f"/proc/{pid}/{file}", encoding="ascii"):
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def children(pid):
    try:
        found = [int(w) for t in os.listdir(f"/proc/{pid}/task") for w in open(f"/proc/{pid}/task/{t}/children", encoding="ascii").read().split()]
    except FileNotFoundError:
        return []
    return found


def bench_memory():
    n = 13
    note(f"memory of {n} idle sandboxes")
    daemon = int(os.environ["BENCH_DAEMON"])
    everyone = [daemon] + [c for c in children(daemon)]

    def daemons(key):
        return sum(memory(p, key) for p in everyone)

    before = daemons("Pss"), daemons("Private_Dirty")
    boxes = [Box() for _ in range(n)]
    for b in boxes:
        b.run("true")
        b.sync()
    time.sleep(1)  # idle is what is measured
    after = daemons("Pss"), daemons("Private_Dirty")
    agents = []
    for b in boxes:
        pid = int(open(f"{os.environ['STATE']}/boxes/{b.id}/pid", encoding="ascii").read())
        agents.append((memory(pid, "VmRSS", "status"), memory(pid, "Pss"), memory(pid, "Private_Dirty")))
    report("agent_rss", "<= 2048", "KiB", [a[0] for a in agents], words=f"idle; of it private {statistics.median(a[2] for a in agents)} "
           f"KiB, PSS {statistics.median(a[1] for a in agents)} KiB")
    report("daemon_per_sandbox", "-", "KiB", [(after[0] - before[0]) / n], words=f"growth of the daemon's PSS over {n} idle sandboxes; "
           f"private dirty {(after[1] - before[1]) / n:.0f} KiB each; {before[0]} KiB with one")
    for b in boxes:
        b.end()


NEED_TREE = ("untar", "walk", "programs", "image", "watched")
PARTS = dict(exec=bench_exec, create=bench_create, ls=bench_ls, visible=bench_visible, compile=bench_compile,
             untar=bench_untar, memory=bench_memory, walk=bench_walk, big=bench_big)


def table(path):
    """For docs/bench.md. The store's own program has a number for its peer, a plain file, and 0 for none."""
    print("| figure | goal | ours | p99 | peer | peer's | ratio | n | how |")
    print("|---|---|---|---|---|---|---|---|---|")
    for line in open(path, encoding="utf-8"):
        if not line.startswith("{"):
            continue
        r = json.loads(line)
        if not isinstance(r.get("peer", ""), str):
            r.update({"peer": "plain file", "peer_figure": r["peer"]} if r["peer"] else {"peer": None, "ratio": None})
        cells = [r["name"], r["goal"], f"{r['figure']:g} {r['unit']}"]
        for key in ("p99", "peer", "peer_figure", "ratio", "n", "note"):
            value = r.get(key)
            cells.append("" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--table"]:
        table(sys.argv[2])
        sys.exit(0)
    from berthtest import Api
    import durable
    import e2b
    import engine
    import grow
    import image
    import life
    import more
    import neighbour
    import past
    PARTS.update({name: lambda part=part: part(box, peer) for name, part in
                  {**durable.PARTS, **e2b.PARTS, **engine.PARTS, **grow.PARTS, **image.PARTS, **life.PARTS, **more.PARTS, **neighbour.PARTS, **past.PARTS}.items()})
    wanted = [p for p in PARTS if p in sys.argv[1:] or len(sys.argv) == 1 and not p.startswith("grow_")]
    os.environ.setdefault("BERTH_AGENT", os.environ.get("BENCH_BERTH", "") + "/berth-agent")
    api = Api()
    box = Box(workspace_b=3 * GIB)
    peer = Peer(box)
    try:
        if any(part in NEED_TREE for part in wanted):
            make_tree()
        for part in wanted:
            since = time.monotonic()
            PARTS[part]()
            note(f"{part} took {time.monotonic() - since:.0f} s")
    finally:
        peer.end()
