# SPDX-License-Identifier: Apache-2.0
"""The part of tests/flow/survive.sh that uses the mount: survive.py TURNS WHAT. Everything it asks must be answered as if
there were no restarts; how long an answer took at most is told at the end."""
import ctypes
import errno
import mmap
import os
import subprocess
import sys
import tarfile
import threading
import time

from berthtest import until

TOP, MNT, ID = os.environ["TOP"], os.environ["MNT"], os.environ["id"]
HERE = f"{MNT}/{ID}"
libc = ctypes.CDLL(None, use_errno=True)


def rename2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) < 0:
        raise OSError(ctypes.get_errno(), f"rename {a} {b}")


def punch(fd, at, length):
    if libc.fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "punch")


def note(name, text=""):
    with open(f"{TOP}/{name}.tmp", "w") as f:
        f.write(text)
    os.rename(f"{TOP}/{name}.tmp", f"{TOP}/{name}")


class Watch:
    def __init__(self, turns):
        self.turns, self.problems, self.counts, self.slow = turns, [], {}, []
        self.stop = False

    def run(self, name, fn):
        def body():
            try:
                while not self.stop:
                    at = time.monotonic()
                    fn()
                    self.counts[name] = self.counts.get(name, 0) + 1
                    if name == "reader":
                        self.slow.append((at, time.monotonic() - at))
            except BaseException as e:  # whatever it is, the test must know
                self.problems.append(f"{name}: {e!r}")
        t = threading.Thread(target=body)
        t.start()
        return t


def watch(turns):
    os.chdir(f"{HERE}/tree/d7")
    w = Watch(turns)
    fd = os.open(f"{HERE}/big", os.O_RDONLY)
    want, st = os.pread(fd, 3000000, 0), os.fstat(fd)
    mapped = mmap.mmap(os.open(f"{HERE}/big", os.O_RDONLY), 0, prot=mmap.PROT_READ)
    gone = os.open(f"{HERE}/gone", os.O_RDONLY)
    gone_st = os.fstat(gone)
    os.unlink(f"{HERE}/gone")
    log = os.open(f"{HERE}/log", os.O_WRONLY | os.O_APPEND)
    out = os.open(f"{HERE}/out", os.O_RDWR | os.O_CREAT, 0o644)
    names = sorted(os.listdir("."))
    state = {"at": 0, "line": 0, "made": 0, "tar": 0}
    os.lseek(fd, 1000, os.SEEK_SET)

    def check(ok, what):
        if not ok:
            raise AssertionError(what)

    def reader():
        i = state["at"] = state["at"] + 1
        path = f"{HERE}/tree/d{i % 50}/f{i % 3000}"
        with open(path) as f:
            check(f.read() == f"{i % 3000} " * 2 + f"{i % 3000}\n", path)
        check(os.read(fd, 10) == want[1000 + (i - 1) * 10:1010 + (i - 1) * 10] or i > 250000, "the offset of an open file")
        now = os.fstat(fd)
        check((now.st_ino, now.st_size, now.st_dev) == (st.st_ino, st.st_size, st.st_dev), "fstat of an open file")
        libc.posix_fadvise(fd, 0, 0, 4)  # so that the kernel has to ask
        check(os.pread(fd, 65536, i * 4096 % 2900000) == want[i * 4096 % 2900000:][:65536], "pread")

    def shell():
        check(os.getcwd() == f"{HERE}/tree/d7", f"getcwd: {os.getcwd()}")
        check(sorted(os.listdir(".")) == names, "the listing of the directory that we stand in")
        check(open("f7").read() == "7 7 7\n", "a file of the directory that we stand in")
        check(os.path.realpath(f"{MNT}/by-name/one") == HERE, "the link by name")

    def nameless():
        n = os.fstat(gone)
        check((n.st_ino, n.st_nlink, n.st_size) == (gone_st.st_ino, 0, 5), f"fstat of a file without a name: {n}")
        check(os.pread(gone, 10, 0) == b"gone\n", "a file without a name")
        at = os.urandom(1)[0] * 4096
        check(mapped[at:at + 4096] == want[at:at + 4096], "a mapped file")

    def writer():
        n = state["line"] = state["line"] + 1
        check(os.write(log, b"%07d\n" % n) == 8, "append")
        check(os.pwrite(out, b"%07d\n" % n, n % 100 * 8) == 8, "pwrite")

    def maker():
        n = state["made"] = state["made"] + 1
        d = f"{HERE}/a/b/m{n}"
        os.mkdir(d)
        with open(f"{d}/x", "x") as f:
            f.write("x")
        os.rename(f"{d}/x", f"{d}/y")
        os.symlink("y", f"{d}/z")
        os.unlink(f"{d}/y")
        os.unlink(f"{d}/z")
        os.rmdir(d)

    def tar():
        n = state["tar"] = state["tar"] + 1
        with open(f"{TOP}/t.tar", "wb") as f:
            subprocess.run(["tar", "-C", HERE, "-cf", "-", "tree"], stdout=f, check=True, stdin=subprocess.DEVNULL)
        with tarfile.open(f"{TOP}/t.tar") as t:
            got = {m.name: t.extractfile(m).read() for m in t if m.isfile()}
        check(len(got) == 3000, f"archive {n} has {len(got)} files")
        for i in range(3000):
            check(got[f"tree/d{i % 50}/f{i}"] == b"%d %d %d\n" % (i, i, i), f"archive {n}: f{i}")
        found = subprocess.run(["find", f"{HERE}/tree", "-type", "f"], stdout=subprocess.PIPE, check=True).stdout
        check(found.count(b"\n") == 3000, "find")

    threads = [w.run(f.__name__, f) for f in (reader, shell, nameless, writer, maker, tar)]
    note("watching")
    seen = None
    while not os.path.exists(f"{TOP}/enough") and not w.problems:
        try:
            turn = open(f"{TOP}/turn").read().strip()
        except FileNotFoundError:
            turn = ""
        if turn != seen and turn:
            before = dict(w.counts)
            wanted = [k for k in ("reader", "shell", "nameless", "writer", "maker")]
            until(lambda: w.problems or all(w.counts.get(k, 0) > before.get(k, 0) + 3 for k in wanted), 60, "nobody goes on")
            seen = turn
            note("seen", turn + "\n")
        time.sleep(0.005)
    w.stop = True
    for t in threads:
        t.join()
    for p in w.problems:
        print("FAILED:", p)
    lines = open(f"{HERE}/log").read().split()
    if lines != ["%07d" % (i + 1) for i in range(state["line"])]:
        w.problems.append("appended lines")
        print(f"FAILED: {state['line']} lines were appended, there are {len(lines)}, {len(set(lines))} of them different")
    inside = subprocess.run(["berth", "run", ID, "--", "cat", "log"], stdout=subprocess.PIPE, check=True, text=True)
    if inside.stdout.split() != lines:
        w.problems.append("appended lines inside")
        print("FAILED: the guest has other lines")
    pauses = sorted(s for _, s in w.slow)[-turns:]
    print("done in the time of", turns, "restarts:", ", ".join(f"{k} {v}" for k, v in sorted(w.counts.items())))
    print(f"pause of a reader at a restart: p50 {pauses[len(pauses) // 2] * 1000:.0f} ms, most {pauses[-1] * 1000:.0f} ms")
    sys.exit(1 if w.problems else 0)


def once(kind):
    d = f"{HERE}/{kind}"
    if kind == "make":
        os.mkdir(d)
        assert os.path.isdir(d)
    elif kind == "create":
        os.close(os.open(d, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        assert os.stat(d).st_size == 0
    elif kind == "link":
        os.link(f"{HERE}/tree/d0/f0", d)
        assert os.stat(d).st_nlink == 2
        assert os.stat(d).st_ino == os.stat(f"{HERE}/tree/d0/f0").st_ino
    elif kind == "remove":
        os.unlink(f"{HERE}/link")
        assert not os.path.exists(f"{HERE}/link")
    elif kind == "rename":
        os.rename(f"{HERE}/create", f"{HERE}/moved")
        assert not os.path.exists(f"{HERE}/create") and os.path.exists(f"{HERE}/moved")
    elif kind == "exchange":
        rename2(f"{HERE}/tree/d1/f1", f"{HERE}/tree/d2/f2", 2)
        assert open(f"{HERE}/tree/d1/f1").read() == "2 2 2\n" and open(f"{HERE}/tree/d2/f2").read() == "1 1 1\n"
    elif kind == "write":
        fd = os.open(f"{HERE}/moved", os.O_RDWR)
        assert os.pwrite(fd, b"abc", 2) == 3
        assert os.pread(fd, 10, 0) == b"\0\0abc"
    elif kind == "append":
        fd = os.open(f"{HERE}/moved", os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, b"end\n") == 4
        assert open(f"{HERE}/moved", "rb").read() == b"\0\0abcend\n"
    elif kind == "setattr":
        os.truncate(f"{HERE}/moved", 4)
        assert open(f"{HERE}/moved", "rb").read() == b"\0\0ab"


    elif kind == "xattr":
        os.setxattr(f"{HERE}/moved", "user.k", b"value")
        assert os.getxattr(f"{HERE}/moved", "user.k") == b"value"
    elif kind == "xattr-new":
        os.setxattr(f"{HERE}/moved", "user.new", b"other", os.XATTR_CREATE)
        assert os.getxattr(f"{HERE}/moved", "user.new") == b"other"
    elif kind == "unxattr":
        os.removexattr(f"{HERE}/moved", "user.k")
        assert os.listxattr(f"{HERE}/moved") == ["user.new"]
    elif kind == "allocate":
        fd = os.open(f"{HERE}/moved", os.O_RDWR)
        os.posix_fallocate(fd, 0, 9000)
        assert os.fstat(fd).st_size == 9000
        assert os.pread(fd, 9000, 0) == b"\0\0ab" + bytes(8996)
    elif kind == "punch":
        fd = os.open(f"{HERE}/moved", os.O_RDWR)
        punch(fd, 0, 4096)
        assert os.fstat(fd).st_size == 9000
        assert os.pread(fd, 9000, 0) == bytes(9000)


def abandoned():
    os.chdir(f"{HERE}/tree")
    note("holding")
    for ask in (lambda: os.statvfs("."), lambda: os.close(os.open("d3/f3", os.O_RDONLY)), lambda: os.mkdir("d4/new")):
        until(lambda: fails_with(ask, errno.ENOTCONN, errno.ECONNABORTED), 20, "no end of the wait")


def fails_with(fn, *wanted):
    try:
        fn()
    except OSError as e:
        if e.errno not in wanted and e.errno != errno.EEXIST:
            raise
        return e.errno in wanted
    return False


if __name__ == "__main__":
    what = sys.argv[2]
    if what == "watch":
        watch(int(sys.argv[1]))
    elif what == "abandoned":
        abandoned()
    else:
        once(what)
