# SPDX-License-Identifier: Apache-2.0
"""What a tool expects of a local file system, tried in a directory of a mount: posix.py DIRECTORY [NAME…]. Each check
has a directory of its own; all are tried, those that fail are told, and their number is the exit status."""
import ctypes, errno, fcntl, mmap, os, signal, stat, subprocess, sys, threading, time, traceback

libc = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
SEEK_DATA, SEEK_HOLE = 3, 4
MOUNT = os.environ.get("ON_MOUNT")  # else the checks themselves are tried, on a local file system


def same(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what}: {str(got)[:200]!r}, wanted {str(wanted)[:200]!r}")


def true(what, is_so):
    if not is_so:
        raise AssertionError(what)


def refused(code, fn, *args, **more):
    try:
        fn(*args, **more)
    except OSError as e:
        codes = code if isinstance(code, tuple) else (code,)
        if e.errno in codes:
            return
        raise AssertionError(f"{getattr(fn, '__name__', fn)}: {e}, wanted {errno.errorcode[codes[0]]}")
    raise AssertionError(f"{getattr(fn, '__name__', fn)} was not refused with {errno.errorcode[code if isinstance(code, int) else code[0]]}")


def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), name)


def renameat2(a, b, flags):
    call("renameat2", -100, os.fsencode(a), -100, os.fsencode(b), flags)


def fallocate(fd, mode, offset, length):
    call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def put(name, data=b"", mode="wb"):
    with open(name, mode) as f:
        f.write(data)


def get(name):
    with open(name, "rb") as f:
        return f.read()


def elsewhere(fn, *args):
    """Run in another process; what it raises is raised here."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fn(*args)
            said = b""
        except BaseException:
            said = traceback.format_exc().encode()[-2000:]
        os.write(w, said)
        os._exit(bool(said))
    os.close(w)
    said = b""
    while part := os.read(r, 4096):
        said += part
    os.close(r)
    _, status = os.waitpid(pid, 0)
    if status:
        raise AssertionError(f"in another process: {said.decode()}")


def as_user(uid, gid, groups, fn, *args):
    def change():
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
        fn(*args)
    elsewhere(change)


# --- names -------------------------------------------------------------------------------------------------------------

def rename():
    put("a", b"A"); put("b", b"B"); os.mkdir("d"); os.mkdir("full"); put("full/x")
    refused(errno.EEXIST, renameat2, "a", "b", RENAME_NOREPLACE)
    same("kept", (get("a"), get("b")), (b"A", b"B"))
    renameat2("a", "c", RENAME_NOREPLACE)
    same("moved", (get("c"), os.path.exists("a")), (b"A", False))
    ino = os.stat("c").st_ino, os.stat("b").st_ino
    renameat2("b", "c", RENAME_EXCHANGE)
    same("exchanged", (get("b"), get("c"), os.stat("b").st_ino, os.stat("c").st_ino), (b"A", b"B") + ino)
    renameat2("d", "b", RENAME_EXCHANGE)
    true("a directory with a file", os.path.isdir("b") and get("d") == b"A")
    renameat2("b", "full/x", RENAME_EXCHANGE)
    true("over directories", os.path.isdir("full/x") and get("b") == b"")
    refused(errno.ENOENT, renameat2, "b", "none", RENAME_EXCHANGE)
    refused(errno.EINVAL, renameat2, "b", "none", RENAME_NOREPLACE | RENAME_EXCHANGE)
    if MOUNT:
        refused(errno.EINVAL, renameat2, "b", "none", RENAME_WHITEOUT)
    refused(errno.EINVAL, os.rename, "full", "full/x/y")
    refused((errno.ENOTEMPTY, errno.EEXIST), os.rename, "full/x", "full")
    refused(errno.EISDIR, os.rename, "b", "full")
    refused(errno.ENOTDIR, os.rename, "full", "b")
    refused((errno.ENOTEMPTY, errno.EEXIST), os.rename, "full/x", "full")
    os.mkdir("empty"); os.rename("full", "empty")
    true("over an empty directory", os.path.isdir("empty/x") and not os.path.exists("full"))
    os.link("b", "b2"); os.rename("b", "b2")
    true("one inode under two names stays", os.path.exists("b") and os.path.exists("b2"))
    fd = os.open("c", os.O_RDONLY)
    put("new", b"N"); os.rename("new", "c")
    same("what was replaced is still open", (os.read(fd, 9), os.fstat(fd).st_nlink, get("c")), (b"B", 0, b"N"))
    os.close(fd)


def unlinked():
    put("f", b"0123456789")
    fd = os.open("f", os.O_RDWR)
    other = os.open("f", os.O_RDONLY)
    os.unlink("f")
    refused(errno.ENOENT, os.stat, "f")
    same("no name", os.fstat(fd).st_nlink, 0)
    same("read", os.pread(fd, 20, 0), b"0123456789")
    same("written", os.pwrite(fd, b"abc", 8), 3)
    same("read what was written", os.pread(fd, 20, 0), b"01234567abc")
    same("by who has it open, too", os.pread(other, 20, 0), b"01234567abc")
    same("size", os.fstat(fd).st_size, 11)
    os.ftruncate(fd, 4)
    same("cut", (os.fstat(fd).st_size, os.pread(fd, 20, 0)), (4, b"0123"))
    os.fchmod(fd, 0o600)
    same("mode", stat.S_IMODE(os.fstat(fd).st_mode), 0o600)
    put("f", b"another")
    same("another of the same name", (get("f"), os.pread(fd, 20, 0)), (b"another", b"0123"))
    m = mmap.mmap(fd, 4)
    m[0:2] = b"MM"; m.flush(); m.close()
    same("mapped", os.pread(other, 20, 0), b"MM23")
    os.fsync(fd)
    with open("big", "w+b") as f:
        os.unlink("big")
        for k in range(40):
            f.write(bytes([k]) * 50000)
        f.flush(); f.seek(0)
        same("a large one that never had much of a name", len(f.read()), 2000000)
    os.close(fd); os.close(other)
    os.mkdir("d"); d = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    refused(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=d)
    same("a directory that is gone", os.listdir(d), [])
    os.close(d)


def standing():
    """Who stands in a new directory stands there still when the guest has told of it."""
    top = os.getcwd()
    for k in range(200):
        os.mkdir(f"s{k}"); os.chdir(f"s{k}")
        open("f", "w").close()
        same("where we are", os.getcwd(), f"{top}/s{k}")
        os.unlink("f"); os.chdir("..")


def tempfiles():
    import tempfile
    with tempfile.TemporaryFile(dir=".") as f:
        f.write(b"x" * 100000); f.seek(0)
        same("read back", f.read(), b"x" * 100000)
    same("nothing left", os.listdir("."), [])


def open_flags():
    refused(errno.ENOENT, os.open, "f", os.O_WRONLY)
    a = os.open("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
    refused(errno.EEXIST, os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    same("mode", stat.S_IMODE(os.stat("f").st_mode), 0o640)
    b = os.open("f", os.O_WRONLY | os.O_APPEND)
    for k in range(50):
        os.write(a, b"a%03d\n" % k); os.write(b, b"b%03d\n" % k)
    same("appended in turns", get("f"), b"".join(b"a%03d\nb%03d\n" % (k, k) for k in range(50)))
    os.pwrite(a, b"AT-END", 0)
    true("an append has no offset", get("f").endswith(b"AT-END"))
    os.close(a); os.close(b)
    def writer(letter):
        fd = os.open("g", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for _ in range(60):
            os.write(fd, letter * 10)
        os.close(fd)
    ts = [threading.Thread(target=lambda l=l: elsewhere(writer, l)) for l in (b"x", b"y", b"z")]
    [t.start() for t in ts]; [t.join() for t in ts]
    parts = get("g")
    same("appends of three processes", sorted(parts[k:k + 10] for k in range(0, len(parts), 10)),
         sorted([b"x" * 10] * 60 + [b"y" * 10] * 60 + [b"z" * 10] * 60))
    fd = os.open("f", os.O_WRONLY | os.O_TRUNC); os.close(fd)
    same("O_TRUNC", os.stat("f").st_size, 0)
    os.mkdir("d"); os.symlink("f", "l")
    refused(errno.EISDIR, os.open, "d", os.O_WRONLY)
    refused(errno.ENOTDIR, os.open, "f", os.O_DIRECTORY)
    refused(errno.ELOOP, os.open, "l", os.O_RDONLY | os.O_NOFOLLOW)
    refused(errno.ENOTDIR, os.open, "f/x", os.O_RDONLY)
    refused(errno.EEXIST, os.open, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fd = os.open("f", os.O_RDONLY)
    refused(errno.EBADF, os.write, fd, b"x")
    os.close(fd)
    fd = os.open("f", os.O_RDWR | os.O_APPEND)
    os.write(fd, b"0123456789"); os.write(fd, b"x" * 4090)
    m = mmap.mmap(fd, 4100)
    m[2:4] = b"MM"; m.flush(); m.close(); os.close(fd)
    same("a map of a file that is open for appending", (get("f")[:10], os.stat("f").st_size), (b"01MM456789", 4100))


def odd_names():
    names = [bytes([k]) for k in range(1, 256) if k not in (46, 47)] + [b"x" * 255, b"-rf", b"a\nb", b"...",
             "\u00e4\u20ac\U0001f600".encode(), b"\xff\xfe"]
    for n in names:
        put(n, n)
    same("all there", sorted(os.listdir(b".")), sorted(set(names)))
    for n in names:
        same("bytes", get(n), n)
        os.unlink(n)
    same("all gone", os.listdir("."), [])


def name_limits():
    put("x" * 255); os.unlink("x" * 255)
    long = "x" * 256
    for fn, args in ((os.stat, (long,)), (os.mkdir, (long,)), (os.unlink, (long,)), (os.rmdir, (long,)), (put, (long,)),
                     (os.symlink, ("t", long)), (os.mkfifo, (long,)), (os.readlink, (long,))):
        refused(errno.ENAMETOOLONG, fn, *args)
    put("f")
    refused(errno.ENAMETOOLONG, os.rename, "f", long)
    refused(errno.ENAMETOOLONG, os.rename, long, "f")
    refused(errno.ENAMETOOLONG, os.link, "f", long)
    refused(errno.ENAMETOOLONG, os.stat, "y" * 2000)
    refused(errno.ENAMETOOLONG, os.stat, "d/" * 2100)
    same("NAME_MAX", os.pathconf(".", "PC_NAME_MAX"), 255)
    os.symlink("z" * 4000, "long-target")
    same("a long target", os.readlink("long-target"), "z" * 4000)
    os.symlink("b", "a"); os.symlink("a", "b")
    refused(errno.ELOOP, os.stat, "a")
    refused(errno.ELOOP, os.open, "a/x", os.O_RDONLY)


def links():
    put("f", b"x"); os.mkdir("d")
    os.link("f", "g"); os.link("f", "d/h")
    same("counted", [os.stat(n).st_nlink for n in ("f", "g", "d/h")], [3, 3, 3])
    same("one inode", len({os.stat(n).st_ino for n in ("f", "g", "d/h")}), 1)
    put("g", b"changed")
    same("one content", (get("f"), get("d/h")), (b"changed", b"changed"))
    os.unlink("f")
    same("two left", (os.stat("g").st_nlink, get("d/h")), (2, b"changed"))
    refused(errno.EEXIST, os.link, "g", "d/h")
    refused(errno.EPERM, os.link, "d", "d2")
    refused(errno.ENOENT, os.link, "none", "x")
    os.symlink("g", "s"); os.link("s", "s2", follow_symlinks=False)
    same("a link of a link", (os.readlink("s2"), os.lstat("s").st_nlink), ("g", 2))
    same("subdirectories", os.stat(".").st_nlink >= 1, True)


def directories():
    os.mkdir("d"); put("d/x")
    refused((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, "d")
    refused((errno.EISDIR, errno.EPERM), os.unlink, "d")
    refused(errno.ENOTDIR, os.rmdir, "d/x")
    refused(errno.EEXIST, os.mkdir, "d")
    refused(errno.EINVAL, os.rmdir, "d/.")
    refused(errno.ENOTDIR, os.mkdir, "d/x/y")
    os.unlink("d/x"); os.rmdir("d")
    refused(errno.ENOENT, os.rmdir, "d")


def streams_of_directories():
    for k in range(1000):
        put(f"k{k:04d}")
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    def names():
        d = ctypes.c_void_p(libc.opendir(b"."))
        try:
            while e := libc.readdir(d):
                yield ctypes.string_at(e + 19).decode()
        finally:
            libc.closedir(d)
    seen = []
    for i, name in enumerate(names()):
        seen.append(name)
        if i % 3 == 0:
            put(f"new{i:04d}")
        if name.startswith("k") and i % 2:
            os.unlink(name)
    stayed = [n for n in seen if n.startswith("k")]
    same("each name that stays once", sorted(set(stayed)), sorted(stayed))
    same("no name is missing", {f"k{k:04d}" for k in range(1000)} - set(stayed), set())
    for name in names():
        if name not in (".", ".."):
            os.unlink(name)
    same("removed while reading", os.listdir("."), [])


# --- bytes -------------------------------------------------------------------------------------------------------------

def truncate():
    put("f", b"0123456789" * 10000)
    os.truncate("f", 12345)
    same("cut", (os.stat("f").st_size, get("f")[-5:]), (12345, b"01234"))
    os.truncate("f", 200000)
    same("grown", (get("f")[:12345], get("f")[12345:].strip(b"\0")), ((b"0123456789" * 1235)[:12345], b""))
    fd = os.open("f", os.O_RDWR)
    os.ftruncate(fd, 5); os.pwrite(fd, b"X", 70000)
    same("a gap", os.pread(fd, 100000, 0), b"01234" + bytes(69995) + b"X")
    os.ftruncate(fd, 0)
    same("nothing", (os.fstat(fd).st_size, os.pread(fd, 10, 0)), (0, b""))
    refused(errno.EINVAL, os.ftruncate, fd, -1)
    os.close(fd)
    os.truncate("f", 1 << 40)
    same("a terabyte of nothing", (os.stat("f").st_size, os.stat("f").st_blocks < 1000), (1 << 40, True))
    os.truncate("f", 0)
    refused(errno.EISDIR, os.truncate, ".", 0)


def holes():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"A" * 65536, 0); os.pwrite(fd, b"B" * 65536, 8 << 20); os.ftruncate(fd, 16 << 20)
    os.fsync(fd)
    same("data", os.lseek(fd, 0, SEEK_DATA), 0)
    hole = os.lseek(fd, 0, SEEK_HOLE)
    true("a hole behind the first", 65536 <= hole <= 1 << 20)
    data = os.lseek(fd, hole, SEEK_DATA)
    true("data behind the hole", (8 << 20) - (1 << 20) <= data <= 8 << 20)
    true("a hole at the end", os.lseek(fd, data, SEEK_HOLE) <= (8 << 20) + (1 << 20))
    refused(errno.ENXIO, os.lseek, fd, 12 << 20, SEEK_DATA)
    refused(errno.ENXIO, os.lseek, fd, 17 << 20, SEEK_HOLE)
    same("the end is a hole", os.lseek(fd, 12 << 20, SEEK_HOLE), 12 << 20)
    os.close(fd)


def allocate():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"Q" * 300000, 0); os.fsync(fd)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 65520, 131040)
    wanted = b"Q" * 65520 + bytes(131040) + b"Q" * (300000 - 65520 - 131040)
    same("punched", os.pread(fd, 400000, 0) == wanted, True)
    os.fsync(fd)
    same("size", os.fstat(fd).st_size, 300000)
    true("a hole", os.lseek(fd, 0, SEEK_HOLE) < 200000)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 299000, 1 << 20)
    same("over the end", (os.fstat(fd).st_size, os.pread(fd, 10, 299990)), (300000, bytes(10)))
    fallocate(fd, 0, 0, 500000)
    same("longer", (os.fstat(fd).st_size, os.pread(fd, 10, 0)), (500000, b"Q" * 10))
    fallocate(fd, KEEP_SIZE, 0, 600000)
    same("not longer", os.fstat(fd).st_size, 500000)
    fallocate(fd, ZERO_RANGE, 10, 20)
    same("zeros", os.pread(fd, 40, 0), b"Q" * 10 + bytes(20) + b"Q" * 10)
    os.posix_fallocate(fd, 0, 700000)
    same("posix_fallocate", os.fstat(fd).st_size, 700000)
    if MOUNT:
        refused(errno.EOPNOTSUPP, fallocate, fd, 8, 0, 4096)
        room = os.fstatvfs(fd)
        refused((errno.ENOSPC, errno.EDQUOT), fallocate, fd, KEEP_SIZE, 0, 2 * room.f_blocks * room.f_frsize)
        os.ftruncate(fd, 600000)  # ext4 keeps what it could get
    refused(errno.EINVAL, fallocate, fd, 0, 0, 0)
    os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    refused(errno.EBADF, fallocate, fd, 0, 0, 10)
    os.close(fd)


def maps():
    put("f", b"0" * 10000)
    fd = os.open("f", os.O_RDWR)
    shared = mmap.mmap(fd, 10000)
    private = mmap.mmap(fd, 10000, flags=mmap.MAP_PRIVATE)
    shared[100:105] = b"share"
    same("read sees a shared map", os.pread(fd, 5, 100), b"share")
    private[200:205] = b"privy"
    same("read sees no private map", os.pread(fd, 5, 200), b"00000")
    os.pwrite(fd, b"write", 300)
    same("a map sees a write", shared[300:305], b"write")
    def another():
        with open("f", "r+b") as g, mmap.mmap(g.fileno(), 10000) as m:
            same("another process sees it", m[100:105], b"share")
            m[9995:10000] = b"other"
    elsewhere(another)
    same("and is seen", shared[9995:10000], b"other")
    shared.flush(); os.fsync(fd); os.close(fd)
    shared[0:5] = b"after"
    shared.close(); private.close()
    same("written when it was closed", (get("f")[:5], get("f")[100:105], len(get("f"))), (b"after", b"share", 10000))


def vectors_and_copies():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    same("pwritev", os.pwritev(fd, [b"ab", b"", b"cde"], 10), 5)
    a, b = bytearray(3), bytearray(10)
    same("preadv", (os.preadv(fd, [a, b], 9), bytes(a), bytes(b[:3])), (6, b"\0ab", b"cde"))
    put("src", os.urandom(3000000))
    s, d = os.open("src", os.O_RDONLY), os.open("dst", os.O_RDWR | os.O_CREAT)
    left = 3000000
    while left:
        n = os.copy_file_range(s, d, left)
        true("copy_file_range goes on", n > 0)
        left -= n
    same("copied", get("src") == get("dst"), True)
    os.ftruncate(d, 0); os.lseek(d, 0, 0)
    at = 0
    while n := os.sendfile(d, s, at, 1 << 20):
        at += n
    same("sent", get("src") == get("dst"), True)
    for x in (fd, s, d):
        os.close(x)


# --- attributes --------------------------------------------------------------------------------------------------------

def times():
    put("f")
    os.utime("f", ns=(1_000_000_001, 2_000_000_002))
    same("to the nanosecond", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (1_000_000_001, 2_000_000_002))
    NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
    def utimensat(a, m):
        spec = (ctypes.c_long * 4)(*a, *m)
        call("utimensat", -100, b"f", spec, 0)
    utimensat((0, OMIT), (5, 6))
    same("one left alone", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (1_000_000_001, 5_000_000_006))
    utimensat((7, 8), (0, OMIT))
    same("the other", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (7_000_000_008, 5_000_000_006))
    before = time.time() - 5
    utimensat((0, NOW), (0, OMIT))
    true("now", os.stat("f").st_atime > before and os.stat("f").st_mtime_ns == 5_000_000_006)
    utimensat((0, OMIT), (0, NOW))
    true("now, too", os.stat("f").st_mtime > before)
    c = os.stat("f").st_ctime_ns
    utimensat((0, OMIT), (0, OMIT))
    same("nothing", os.stat("f").st_ctime_ns, c)
    os.utime("f", ns=(-5_000_000_000, -7))
    same("before 1970", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (-5_000_000_000, -7))
    os.symlink("f", "l")
    os.utime("l", ns=(3, 4), follow_symlinks=False)
    same("of a link", os.lstat("l").st_mtime_ns, 4)
    m = os.stat(".").st_mtime_ns
    put("g")
    true("a new name is a change of its directory", os.stat(".").st_mtime_ns > m)
    m = os.stat("g").st_mtime_ns
    put("g", b"x")
    true("a write", os.stat("g").st_mtime_ns > m)
    c = os.stat("g").st_ctime_ns
    os.chmod("g", 0o600)
    true("a mode is a ctime", os.stat("g").st_ctime_ns > c)


def modes():
    os.umask(0o027)
    put("f"); os.mkdir("d")
    same("the mask", (stat.S_IMODE(os.stat("f").st_mode), stat.S_IMODE(os.stat("d").st_mode)), (0o640, 0o750))
    os.umask(0o022)
    for mode in (0, 0o777, 0o4755, 0o1777, 0o2755):
        os.chmod("f", mode)
        same("mode", stat.S_IMODE(os.stat("f").st_mode), mode)
    os.mkfifo("p", 0o600)
    same("a pipe", os.lstat("p").st_mode, stat.S_IFIFO | 0o600)
    os.chmod("d", 0o2775)
    os.mkdir("d/sub"); put("d/file")
    same("setgid goes to directories below", os.stat("d/sub").st_mode & 0o2000, 0o2000)
    same("not to files", os.stat("d/file").st_mode & 0o2000, 0)
    same("the group of the directory", (os.stat("d/sub").st_gid, os.stat("d/file").st_gid), (os.stat("d").st_gid,) * 2)
    os.chown("f", -1, -1)
    os.chown("f", os.stat("f").st_uid, os.stat("f").st_gid)
    if MOUNT:
        refused(errno.EPERM, os.chown, "f", 4711, -1)


def caller():
    st = os.stat(".")
    owner, group = st.st_uid, st.st_gid
    os.chmod(".", 0o755)
    put("secret", b"s"); os.chmod("secret", 0o600)
    put("group", b"g"); os.chmod("group", 0o640)
    put("public", b"p"); os.chmod("public", 0o644)
    os.mkdir("closed"); put("closed/x"); os.chmod("closed", 0o700)
    os.mkdir("sticky"); put("sticky/x"); os.chmod("sticky", 0o1777); os.chmod("sticky/x", 0o666)
    os.mkdir("open"); put("open/x"); os.chmod("open", 0o777)
    put("suid", b"#!"); os.chmod("suid", 0o4777)
    def member():
        refused(errno.EACCES, get, "secret")
        same("by the group", get("group"), b"g")
        refused(errno.EACCES, put, "group", b"x")
        refused(errno.EACCES, put, "public", b"x")
        refused(errno.EACCES, put, "new")
        refused(errno.EACCES, os.stat, "closed/x")
        refused(errno.EACCES, os.listdir, "closed")
        refused(errno.EACCES, os.unlink, "public")
        refused(errno.EPERM, os.chmod, "public", 0o777)
        refused(errno.EPERM, os.utime, "public", ns=(1, 1))
        refused((errno.EACCES, errno.EPERM), os.utime, "group")
        refused(errno.EACCES, os.setxattr, "public", "user.x", b"")
        refused((errno.EPERM, errno.EACCES), os.unlink, "sticky/x")
        refused((errno.EPERM, errno.EACCES), os.rename, "sticky/x", "sticky/y")
        put("sticky/x", b"w")
        os.unlink("open/x")
        put("open/mine")
        same("access", (os.access("public", os.R_OK), os.access("public", os.W_OK), os.access("secret", os.R_OK)),
             (True, False, False))
        put("suid", b"#!x")
    as_user(4711, group, [], member)
    same("who writes takes a setuid bit away", os.stat("suid").st_mode & 0o4000, 0)
    def its_owner():
        same("the owner reads", get("secret"), b"s")
        os.chmod("secret", 0o400)
        refused(errno.EACCES, put, "secret", b"x")
        os.chmod("secret", 0o600); put("secret", b"t")
        os.unlink("sticky/x")
        put("open/own"); os.utime("public", ns=(1, 1))
    if MOUNT: # on which root's files are not root's
        as_user(owner, group, [], its_owner)
    def stranger():
        refused(errno.EACCES, os.listdir, MOUNT)
    if MOUNT:
        as_user(4711, 4711, [], stranger)


def fifos():
    os.mkfifo("p")
    def writer():
        with open("p", "wb") as f:
            f.write(b"through")
    t = threading.Thread(target=elsewhere, args=(writer,))
    t.start()
    with open("p", "rb") as f:
        same("through a pipe", f.read(), b"through")
    t.join()
    refused(errno.ENXIO, os.open, "p", os.O_WRONLY | os.O_NONBLOCK)


def sockets():
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.bind("sock"); s.listen()
    def dial():
        c = socket.socket(socket.AF_UNIX)
        c.connect("sock"); c.sendall(b"hello"); c.close()
    t = threading.Thread(target=elsewhere, args=(dial,))
    t.start()
    c, _ = s.accept()
    same("through a socket", c.recv(9), b"hello")
    t.join(); c.close(); s.close()
    true("a socket", stat.S_ISSOCK(os.lstat("sock").st_mode))
    os.unlink("sock")


def locks():
    put("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    def conflict(fn, *args):
        g = os.open("f", os.O_RDWR)
        refused((errno.EWOULDBLOCK, errno.EACCES), fn, g, *args)
        os.close(g)
    elsewhere(conflict, fcntl.flock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    g = os.open("f", os.O_RDWR)
    refused(errno.EWOULDBLOCK, fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_SH)
    fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(g); fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
    elsewhere(conflict, fcntl.lockf, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 25)
    elsewhere(conflict, fcntl.lockf, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 29)
    def beside():
        g = os.open("f", os.O_RDWR)
        fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)
        fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 70, 30)
    elsewhere(beside)
    def waits():
        g = os.open("f", os.O_RDWR)
        os.write(told, b"x")
        fcntl.lockf(g, fcntl.LOCK_EX, 10, 20)
    ready, told = os.pipe()
    t = threading.Thread(target=elsewhere, args=(waits,))
    t.start()
    os.read(ready, 1)
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
    t.join()
    os.close(fd); os.close(ready); os.close(told)
    fd = os.open("f", os.O_RDWR)
    F_OFD_SETLK = 37
    import struct
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    fcntl.fcntl(fd, F_OFD_SETLK, whole)
    g = os.open("f", os.O_RDWR)
    refused((errno.EAGAIN, errno.EACCES), fcntl.fcntl, g, F_OFD_SETLK, whole)
    os.close(fd)
    fcntl.fcntl(g, F_OFD_SETLK, whole)
    os.close(g)


def room():
    st = os.statvfs(".")
    same("longest name", st.f_namemax, 255)
    true("blocks", st.f_blocks > 0 and st.f_bfree <= st.f_blocks and st.f_bavail <= st.f_bfree and st.f_frsize > 0)


CHECKS = [rename, unlinked, standing, tempfiles, open_flags, odd_names, name_limits, links, directories, streams_of_directories, truncate,
          holes, allocate, maps, vectors_and_copies, times, modes, caller, fifos, sockets, locks, room]


def main():
    top, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    failed = 0
    os.umask(0o022)
    for check in CHECKS:
        if wanted and check.__name__ not in wanted:
            continue
        at = os.path.join(top, check.__name__)
        os.mkdir(at); os.chdir(at)
        signal.alarm(120)
        try:
            check()
        except Exception as e:
            failed += 1
            where = [f for f in traceback.extract_tb(e.__traceback__) if f.name == check.__name__]
            print(f"{check.__name__}, line {where[-1].lineno if where else '?'}: {type(e).__name__} {e}")
        signal.alarm(0)
        os.umask(0o022)
        os.chdir(top)
    print(f"{len(wanted or CHECKS)} checks, {failed} failed")
    sys.exit(failed)


if __name__ == "__main__":
    main()
