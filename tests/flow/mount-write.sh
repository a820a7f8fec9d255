#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writing on the mount: the same thousands of random operations on a local directory and on the mount give the same tree,
# for a live workspace (and the guest sees it too) and for a stopped one.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base)
export id
cat >"$TOP/model.py" <<'PY'
import ctypes, errno, os, random, sys
from berthtest import fail
libc = ctypes.CDLL(None, use_errno=True)
def renameat2(a, b, flags):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")
def step(rnd, root):
    """One operation with its outcome, the same for the same random state on any tree in the same state."""
    dirs = [""] + [f"d{k}" for k in range(4)] + [f"d{k}/e" for k in range(4)]
    def path():
        d = rnd.choice(dirs)
        return os.path.join(root, d, rnd.choice("abcdefg"))
    kind, a, b, n = rnd.randrange(14), path(), path(), rnd.randrange(200000)
    data = rnd.randbytes(rnd.choice([0, 1, 10, 4096, 66000, 140000]))
    try:
        # the mount does not follow what a guest may have linked
        if kind in (0, 1, 2, 3, 4, 5, 12) and os.path.islink(a): return "link"
        if kind <= 2:
            with open(a, "wb") as f: f.write(data)
        elif kind == 3:
            with open(a, "ab") as f: f.write(data)
        elif kind == 4:
            fd = os.open(a, os.O_RDWR)
            try:
                os.pwrite(fd, data, n)
                if os.pread(fd, len(data), n) != data: fail("own write not read back")
            finally: os.close(fd)
        elif kind == 5: os.truncate(a, n)
        elif kind == 6: os.unlink(a)
        elif kind == 7: os.rename(a, b)
        elif kind == 8: os.link(a, b, follow_symlinks=False)
        elif kind == 9: os.symlink("t" * (n % 50 + 1), a)
        elif kind == 10: os.mkdir(os.path.join(root, rnd.choice(dirs[1:])), 0o755)
        elif kind == 11: os.rmdir(os.path.join(root, rnd.choice(dirs[1:])))
        elif kind == 12: os.chmod(a, rnd.choice([0o600, 0o644, 0o755]), follow_symlinks=True)
        elif kind == 13: renameat2(a, b, rnd.choice([1, 2]))
        return "ok"
    except OSError as e:
        return errno.errorcode.get(e.errno, e.errno)
def shape(root):
    """Names, kinds, modes, sizes, bytes, link counts of files."""
    import hashlib, stat
    out = {}
    for at, ds, fs in os.walk(root):
        for name in ds + fs:
            p = os.path.join(at, name); st = os.lstat(p); rel = os.path.relpath(p, root)
            one = [stat.filemode(st.st_mode)]
            if stat.S_ISREG(st.st_mode): one += [st.st_nlink, st.st_size, hashlib.sha256(open(p, "rb").read()).hexdigest()]
            elif stat.S_ISLNK(st.st_mode): one += [os.readlink(p)]
            out[rel] = one
    return out
seed, local, mount, turns = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
os.umask(0o022)
one, two = random.Random(seed), random.Random(seed)
for i in range(turns):
    here, there = step(one, local), step(two, mount)
    if here != there:
        fail(f"seed {seed} turn {i}: local {here}, mount {there}")
    if i % 100 == 99 and shape(local) != shape(mount):
        a, b = shape(local), shape(mount)
        fail(f"seed {seed} turn {i}: " + str([(k, a.get(k), b.get(k)) for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)][:5]))
print(f"{turns} operations with the same outcome and the same tree")
PY
mkdir "$TOP/local1" "$TOP/local2"
berth run "$id" -- mkdir live
python3 "$TOP/model.py" 11 "$TOP/local1" "$MNT/$id/live" 1500
# the guest sees what the host wrote
tar -C "$TOP/local1" -cf "$TOP/want.tar" .
berth cp "$TOP/want.tar" "$id:want.tar"
berth run "$id" --user root -- sh -c 'mkdir want && tar -C want -xf want.tar && diff -r --no-dereference want live'
echo "the guest sees the same"
# a program with more than one open file, and removing while reading
cp -r /usr/share/doc/libc-bin "$MNT/$id/doc"
mkdir "$MNT/$id/many"
(cd "$MNT/$id/many" && seq 1 700 | xargs touch)
[ "$(find "$MNT/$id/many" -type f | wc -l)" = 700 ]
rm -r "$MNT/$id/many" "$MNT/$id/doc"
berth kill "$id"
mkdir "$MNT/$id/stopped"
python3 "$TOP/model.py" 12 "$TOP/local2" "$MNT/$id/stopped" 1500
berth fsck
stop_daemon
start_daemon
diff -r --no-dereference "$TOP/local1" "$MNT/$id/live"
diff -r --no-dereference "$TOP/local2" "$MNT/$id/stopped"
echo "still there after a restart"
