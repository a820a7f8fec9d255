# SPDX-License-Identifier: Apache-2.0
"""Is the host's copy what the guest has? Random operations, from a seed, are performed inside; after each round both sides are
compared: names, kinds, modes, times, links, targets, attributes, bytes, holes. What differs is shrunk to the fewest operations that show it.

	equal.py SANDBOX-TEMPLATE MOUNT SEED ROUNDS OPERATIONS [--host] [--kill FILE] [--keep [--in ID]]

--host: somebody writes through the mount at the same time, in a directory of its own and in one that both use.
--kill: FILE is made when a round begins; whoever sees it kills the daemon, starts another one, and removes FILE.
--keep: with rules of what is kept; the guest's side is what they keep. --in: one round in a sandbox that has them."""
import json
import os
import random
import re
import subprocess
import sys
import threading

from berthtest import Api, differences, fail, manifest, until

# Runs inside. Operations follow from the seed alone, so that a round can be had again; what cannot be done is skipped.
GUEST = r'''
import hashlib, io, json, mmap, os, random, stat, sys
root, seed, count, begin = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
os.chdir(root)
away = "/home/user/away"
os.makedirs(away, exist_ok=True)
r = random.Random(seed)
names = ["a", "b", "c", "dir", "x y", "\u00e9", "-n", ".h", "n\nl", "long" * 50]
def dirs():
    out = ["."]
    for at, ds, fs in os.walk("."):
        out += [os.path.join(at, d) for d in ds if at.count("/") < 6]
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
def many():
    at = new()
    os.mkdir(at)
    for i in range(r.choice([10, 100, 400])):
        with open(f"{at}/{i}", "w") as f: f.write(str(i))
if sys.argv[5:]: link = xattr_link = create  # what is written under a name that is not kept may be told late
ops = [create] * 6 + [append] * 3 + [overwrite] * 3 + [truncate, punch, mapped, unlink, unlink, mkdir, mkdir, rmdir, remove_tree] + \
      [rename_file] * 3 + [rename_dir] * 3 + [exchange, link, link, symlink, fifo, chmod, chmod, utime, again, replace, held, many, move_out, move_in, xattr, xattr, xattr_link]
for i in range(count):
    op = r.choice(ops)
    try: op()
    except (OSError, TypeError, IndexError): pass
'''

# What kept() says. A file that is in both classes' reach is in the lower one.
RULES = "[names]\na\ndir/\n[none]\nb\nb?\nb??\nc/\n/a/dir\n"


def kept(path, mode):
    """The same without the code that is tried."""
    parts = os.fsdecode(bytes.fromhex(path)).split("/")
    for i, name in enumerate(parts):
        if re.fullmatch(r"b.{0,2}", name, re.S) or (name == "c" and (i + 1 < len(parts) or mode[0] == "d")):
            return False
    return parts[:2] != ["a", "dir"]


MANIFEST = "\n".join(open(os.path.join(os.path.dirname(__file__), "berthtest.py"), encoding="utf-8").read().split("\n"))


def sides(api, box, mnt, keep):
    """What each side shows. The guest's own list is made by the same program."""
    answer = api.run(box, "python3", "-c", MANIFEST, "manifest", "/workspace", "attrs", user="root")
    if answer["code"] != 0:
        fail(answer["stderr"])
    inside = json.loads(answer["stdout"])
    if keep:
        inside = {path: one for path, one in inside.items() if kept(path, one[0])}
    return inside, manifest(mnt, attrs=True)


def round_of_a_daemon_that_dies(box, seed, count, please):
    """By the command line, which goes on with the next daemon."""
    with open(please, "w", encoding="utf-8"):
        pass
    r = subprocess.run(["berth", "run", "--user", "root", box, "--", "python3", "-c", GUEST, "/workspace", str(seed), str(count), "0"],
                       stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300, check=False)
    until(lambda: not os.path.exists(please), 60, "no new daemon")
    if r.returncode != 0:
        fail(f"seed {seed}: {r.returncode} {r.stderr[-2000:]}")


def round_of(api, box, seed, count, keep):
    answer = api.run(box, "python3", "-c", GUEST, "/workspace", str(seed), str(count), "0", *["keep"] * keep, user="root",
                     timeout_ms=300000)
    if answer["code"] != 0:
        fail(f"seed {seed}: {answer['stderr'][-2000:]}")


def quick(path, flags):
    return os.open(path, flags | os.O_NONBLOCK, 0o644)


class Writer(threading.Thread):
    """Through the mount: a directory of its own, and names that the guest may take away at any moment."""

    def __init__(self, mnt, seed):
        super().__init__(daemon=True)
        self.mnt, self.random, self.going, self.did = mnt, random.Random(seed), True, 0

    def one(self):
        r = self.random
        at = os.path.join(self.mnt, r.choice(["host", "host", "a", "dir", "."]))
        os.makedirs(os.path.join(self.mnt, "host"), exist_ok=True)
        path = os.path.join(at, f"h{r.randrange(30)}")
        what = r.randrange(6)
        if what < 3:
            with open(path, "wb", opener=quick) as f:
                f.write(r.randbytes(r.choice([0, 10, 5000, 100000])))
        elif what == 3:
            os.unlink(path)
        elif what == 4:
            os.rename(path, path + "r")
        else:
            with open(path, "ab", opener=quick) as f:
                f.write(b"more")

    def run(self):
        while self.going:
            try:
                self.one()
                self.did += 1
            except OSError:
                pass


def play(api, template, mount, seed, rounds, count, with_host, tell=True, keep=False, please=None):
    """Return: what differs, and in which round; or None."""
    box = api.good("POST", "/v1/sandboxes", {"template": template, "keep": RULES if keep else ""})["id"]
    mnt, writer, outside = f"{mount}/{box}", None, None
    try:
        for k in range(rounds):
            writer = Writer(mnt, seed + k) if with_host else None
            if writer:
                writer.start()
            if please:
                round_of_a_daemon_that_dies(box, seed * 1000 + k, count, please)
                api = Api()
            else:
                round_of(api, box, seed * 1000 + k, count, keep)
            if writer:
                writer.going = False
                writer.join()
            inside, outside = sides(api, box, mnt, keep)
            if inside != outside:
                return differences(inside, outside), k
        if tell:
            print(f"seed {seed}: {rounds} rounds of {count} operations, {len(inside)} names at the end"
                  + (f", {writer.did} changes of the host in the last" if writer else ""), flush=True)
    finally:
        if writer:
            writer.going = False
        api.good("POST", f"/v1/sandboxes/{box}/kill", {"grace_ms": 0})
        after = manifest(mnt, attrs=True)
        api.good("DELETE", f"/v1/sandboxes/{box}")
    if outside is not None and after != outside:
        return differences(outside, after), "the end"
    return None


def shrink(api, template, mount, seed, rounds, count, keep):
    """The fewest rounds and operations of this seed that still differ."""
    for fewer in range(1, rounds):
        if play(api, template, mount, seed, fewer, count, False, False, keep):
            rounds = fewer
            break
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if play(api, template, mount, seed, rounds, middle, False, False, keep):
            high = middle
        else:
            low = middle
    return rounds, high


if __name__ == "__main__" and sys.argv[1:] == ["rules"]:
    sys.stdout.write(RULES)
elif __name__ == "__main__":
    template, mount, seed, rounds, count = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    api, with_host = Api(), "--host" in sys.argv
    keep = "--keep" in sys.argv
    if "--in" in sys.argv:
        box = sys.argv[sys.argv.index("--in") + 1]
        round_of(api, box, seed, count, keep)
        inside, outside = sides(api, box, f"{mount}/{box}", keep)
        if inside != outside:
            print(f"seed {seed}: differs (inside / outside):", *differences(inside, outside), sep="\n")
        sys.exit(inside != outside)
    please = sys.argv[sys.argv.index("--kill") + 1] if "--kill" in sys.argv else None
    found = play(api, template, mount, seed, rounds, count, with_host, keep=keep, please=please)
    if found:
        print(f"seed {seed}: differs in round {found[1]} (inside / outside):", *found[0], sep="\n", flush=True)
        if not with_host and not please:
            print("shrunk: rounds, operations =", shrink(api, template, mount, seed, rounds, count, keep))
        sys.exit(1)
