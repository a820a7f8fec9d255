# SPDX-License-Identifier: Apache-2.0
"""The part of equal.py that runs inside: equal_guest.py ROOT [[operation, seed]…] [alone] does them one after the other. What each does
follows from its seed and from what is there; what cannot be done is skipped. "alone": nothing gets a second name."""
import hashlib, io, json, mmap, os, random, stat, sys
root = sys.argv[1]
os.chdir(root)
away = "/home/user/away"
os.makedirs(away, exist_ok=True)
names = ["a", "b", "c", "dir", "x y", "\u00e9", "-n", ".h", "n\nl", "long" * 50]
def dirs():
    out = ["."]
    for at, ds, fs in os.walk("."):
        out += [os.path.join(at, d) for d in ds if at.count("/") < 6 and not d.startswith("fault")]
        if len(out) > 60: break
    return out
def files():
    out = []
    for at, ds, fs in os.walk("."):
        out += [os.path.join(at, f) for f in fs]
        if len(out) > 200: break
    return sorted(out)
def some(kind):
    all = sorted(kind())
    return r.choice(all) if all else None
def new(): return os.path.join(some(dirs), r.choice(names) + r.choice(["", "", str(r.randrange(20))]))
def regular(): return [f for f in files() if stat.S_ISREG(os.lstat(f).st_mode)]
def data(n): return r.randbytes(n) if n < 200000 else r.randbytes(1000) * (n // 1000)
def size(): return r.choice([0, 1, 10, 100, 4096, 5000, 65520, 65521, 70000, 200000, 1500000])
def opener(path, flags): return os.open(path, flags | os.O_NONBLOCK, 0o644)  # nobody reads the FIFOs
def open(path, mode): return io.open(path, mode, opener=opener)
def create():
    with open(new(), "wb") as f: f.write(data(size()))
def append():
    with open(some(regular), "ab") as f: f.write(data(r.choice([1, 100, 5000])))
def overwrite():
    p = some(regular)
    n = os.path.getsize(p)
    with open(p, "r+b") as f:
        f.seek(r.randrange(n + 1000))
        f.write(data(r.choice([1, 50, 4096, 70000])))
def truncate(): os.truncate(some(regular), r.choice([0, 1, 4096, 65520, 100000, 3000000]))
def punch():
    p = some(regular)
    n = os.path.getsize(p)
    if n < 8192: return
    import ctypes
    fd = os.open(p, os.O_RDWR)
    at = r.randrange(n) // 4096 * 4096
    ctypes.CDLL(None, use_errno=True).fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(r.choice([4096, 65536, 200000])))
    os.close(fd)
def mapped():
    p = some(regular)
    if os.path.getsize(p) < 10: return
    with open(p, "r+b") as f:
        m = mmap.mmap(f.fileno(), 0)
        m[r.randrange(len(m))] = r.randrange(256)
        m.flush() if r.random() < .5 else None
        m.close()
def unlink(): os.unlink(some(files))
def mkdir(): os.mkdir(new())
def rmdir(): os.rmdir(some(lambda: dirs()[1:]))
def remove_tree():
    import shutil
    if r.random() < .3: shutil.rmtree(some(lambda: dirs()[1:]))
def rename_file(): os.rename(some(files), new())
def rename_dir(): os.rename(some(lambda: dirs()[1:]), new())
def exchange():
    import ctypes
    a, b = some(files), some(files)
    ctypes.CDLL(None).renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2)
def link(): os.link(some(regular), new())
def symlink(): os.symlink(r.choice(["a", "../x", "/nowhere/at/all", "gone"]), new())
def fifo(): os.mkfifo(new())
def chmod():
    p = r.choice([some(regular), some(lambda: dirs()[1:])])
    os.chmod(p, r.choice([0o600, 0o644, 0o755, 0o4755 if os.path.isfile(p) else 0o1777, 0o700]))
def utime(): os.utime(some(files), ns=(r.randrange(10**18), r.randrange(10**18)), follow_symlinks=False)
def again():
    p = some(regular)
    os.unlink(p)
    with open(p, "wb") as f: f.write(data(size()))
def replace():
    p = some(regular)
    with open(p + "~", "wb") as f: f.write(data(size()))
    os.rename(p + "~", p)
def move_out():
    p = some(lambda: dirs()[1:])
    os.rename(p, os.path.join(away, str(r.randrange(5)))) if os.stat(away).st_dev == os.stat(".").st_dev else None
def move_in():
    back = sorted(os.listdir(away))
    os.rename(os.path.join(away, r.choice(back)), new())
def xattr():
    p = r.choice([some(regular), some(lambda: dirs()[1:])])
    if r.random() < .3: os.removexattr(p, r.choice(sorted(os.listxattr(p))))
    else: os.setxattr(p, "user." + r.choice("abc"), data(r.choice([0, 1, 100, 1500])))
def xattr_link():
    p = some(regular)
    os.link(p, new())
    os.setxattr(p, "user.linked", b"yes")
def held():
    f = open(new(), "wb")
    f.write(data(1000))
    os.unlink(f.name) if r.random() < .5 else None
    f.write(data(1000))
    f.close()
def stays():
    """A writer that stays, while others give its file other names, fewer, or none."""
    import time
    p = new()
    with open(p, "wb", 0) as f:
        for i in range(r.choice([5, 20, 40])):
            f.write(data(r.choice([1, 30, 5000])))
            time.sleep(.003)
            if r.random() < .1:
                q = new()
                r.choice([os.rename, os.rename, os.link] if not sys.argv[3:] else [os.rename])(p, q)
                if r.random() < .3 and os.path.lexists(p) and os.path.samefile(p, q): os.unlink(p)
                p = q
            if r.random() < .1: f.seek(r.randrange(3000))
            if r.random() < .05: f.truncate(r.randrange(5000))
def many():
    at = new()
    os.mkdir(at)
    for i in range(r.choice([10, 100, 400])):
        with open(f"{at}/{i}", "w") as f: f.write(str(i))
# --- what goes on for a while, in directories of its own, all at once

def burst(count):
    for i in range(count):
        if i % 1000 == 0:
            os.mkdir(f"burst{i // 1000}")
        with open(f"burst{i // 1000}/{i}", "w") as f: f.write(str(i))
def trees(count):
    """Whole trees are renamed, and into each other, while they are shipped."""
    for i in range(count):
        os.makedirs(f"tree{i}/in/deep")
        for k in range(12):
            with open(f"tree{i}/in/{k}", "wb") as f: f.write(r.randbytes(30000))
            os.rename(f"tree{i}/in", f"tree{i}/out")
            with open(f"tree{i}/out/deep/{k}", "wb") as f: f.write(r.randbytes(30000))
            os.rename(f"tree{i}/out", f"tree{i}/in")
        if i % 3: os.rename(f"tree{i}", f"tree{i - 1}/in/tree{i}") if i % 3 == 1 else os.rename(f"tree{i}", f"renamed{i}")
def one_name(count):
    import shutil
    for i in range(count):
        if i % 5 == 0:
            os.makedirs("name/below")
            with open("name/below/f", "w") as f: f.write(str(i))
            shutil.rmtree("name")
        elif i % 5 == 1:
            os.symlink(str(i), "name")
            os.unlink("name")
        else:
            with open("name", "w") as f: f.write("x" * (i % 5000))
            if i + 1 < count: os.unlink("name")
def log(count):
    """A line each thousandth of a second, by a writer that stays."""
    import time
    begin = time.monotonic()
    with open("log", "ab") as f:
        for i in range(count):
            f.write(b"%08d a line of a log\n" % i)
            f.flush()
            time.sleep(max(0, begin + (i + 1) / 1000 - time.monotonic()))
def database(count):
    import sqlite3
    for mode in ("delete", "wal"):
        db = sqlite3.connect(mode + ".db", isolation_level=None)
        db.execute("pragma journal_mode=" + mode)
        db.execute("create table if not exists t (k integer primary key, v blob)")
        for i in range(count):
            db.execute("begin immediate")
            db.execute("insert or replace into t values (?, ?)", (r.randrange(500), r.randbytes(r.choice([10, 3000]))))
            db.execute("delete from t where k = ?", (r.randrange(500),))
            db.execute("commit")
        if db.execute("pragma integrity_check").fetchone()[0] != "ok": raise SystemExit("the database is broken")
        if mode == "wal": os._exit(0)  # with its log, as a process that is killed leaves it
        db.close()
def scenes(files):
    def one(what, count):
        pid = os.fork()
        if pid: return pid
        try:
            os.makedirs("scene-" + what.__name__)
            os.chdir("scene-" + what.__name__)
            what(count)
            os._exit(0)
        except BaseException as e:
            print(what.__name__, repr(e), file=sys.stderr, flush=True)
            os._exit(1)
    pids = [one(burst, files), one(trees, max(12, files // 1000)), one(one_name, files // 4), one(log, 5000), one(database, 200)]
    if any([os.waitpid(pid, 0)[1] for pid in pids]): sys.exit(1)
def flood(count):
    """While the agent stands still, which is what is waited for."""
    import time
    end = time.monotonic() + 60
    while " T " not in io.open("/proc/1/stat").read():
        if time.monotonic() > end: sys.exit("the agent was not stopped")
        time.sleep(.005)
    for i in range(count):
        with open(f"flood/{i}", "w") as f: f.write(str(i))
    for i in range(0, count, 3): os.unlink(f"flood/{i}")
    with open("flooded", "w"): pass
def half_of_a_fault(): os.mkdir(f"fault{r.randrange(1 << 30)}")
for name, seed in json.loads(sys.argv[2]):
    r = random.Random(seed)
    op = globals()[name]
    if op in (scenes, flood): op(seed)
    else:
        if sys.argv[3:] and op in (link, xattr_link): op = create  # what is written under a name that is not kept may be told late
        try: op()
        except (OSError, TypeError, IndexError): pass
