#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Extended attributes: made inside and seen on the mount, made on the mount and seen inside; every flag and error of the
# calls, live and stopped; kept by snapshots, restores, forks and new sandboxes; nothing but users' own leaves the guest.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
TAKEOVER=10s
start_daemon
id=$(berth create --template base)
cat >"$TOP/x.py" <<'PY'
import errno, os, sys
from berthtest import fail
def refused(code, fn, *args, **more):
    try: fn(*args, **more)
    except OSError as e:
        if e.errno != code: fail(f"{fn.__name__} {args}: {e}, wanted {errno.errorcode[code]}")
        return
    fail(f"{fn.__name__} {args}: was not refused with {errno.errorcode[code]}")
def same(what, got, wanted):
    if got != wanted: fail(f"{what}: {got!r}, wanted {wanted!r}")
def every_call(top):
    f, d, l, p = (os.path.join(top, n) for n in ("f", "d", "l", "p"))
    open(f, "w").close(); os.mkdir(d); os.symlink("f", l); os.mkfifo(p)
    for at in (f, d):
        same("none", os.listxattr(at), [])
        refused(errno.ENODATA, os.getxattr, at, "user.a")
        refused(errno.ENODATA, os.setxattr, at, "user.a", b"1", os.XATTR_REPLACE)
        before = os.stat(at)
        os.setxattr(at, "user.a", b"1", os.XATTR_CREATE)
        same("made", os.getxattr(at, "user.a"), b"1")
        refused(errno.EEXIST, os.setxattr, at, "user.a", b"2", os.XATTR_CREATE)
        os.setxattr(at, "user.a", bytes(range(256)) * 3, os.XATTR_REPLACE)
        same("replaced", os.getxattr(at, "user.a"), bytes(range(256)) * 3)
        os.setxattr(at, "user.empty", b"")
        same("empty", os.getxattr(at, "user.empty"), b"")
        os.setxattr(at, "user.\xc3\xa4 z", b"odd")
        same("names", sorted(os.listxattr(at)), sorted(["user.a", "user.empty", "user.\xc3\xa4 z"]))
        os.removexattr(at, "user.\xc3\xa4 z")
        refused(errno.ENODATA, os.removexattr, at, "user.\xc3\xa4 z")
        after = os.stat(at)
        same("times", (after.st_mtime_ns, after.st_size), (before.st_mtime_ns, before.st_size))
        if after.st_ctime_ns <= before.st_ctime_ns: fail("ctime stands still")
        refused(errno.E2BIG, os.setxattr, at, "user.big", b"x" * 65537)
        refused(errno.ENOSPC, os.setxattr, at, "user.big", b"x" * 65536)
        for name in ("security.x", "trusted.x", "other.x"):
            refused(errno.EOPNOTSUPP, os.setxattr, at, name, b"x")
            refused(errno.EOPNOTSUPP, os.getxattr, at, name)
            refused(errno.EOPNOTSUPP, os.removexattr, at, name)
        refused(errno.EOPNOTSUPP, os.setxattr, at, "user.", b"x")
    for at in (l, p):
        refused(errno.EPERM, os.setxattr, at, "user.a", b"x", follow_symlinks=False)
        refused(errno.ENODATA, os.getxattr, at, "user.a", follow_symlinks=False)
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(767)
    same("too small", (libc.getxattr(f.encode(), b"user.a", room, 767), ctypes.get_errno()), (-1, errno.ERANGE))
    same("its length", libc.getxattr(f.encode(), b"user.a", None, 0), 768)
    same("list too small", (libc.listxattr(f.encode(), room, 5), ctypes.get_errno()), (-1, errno.ERANGE))
    fd = os.open(f, os.O_RDONLY)
    same("by a descriptor", os.getxattr(fd, "user.a"), bytes(range(256)) * 3)
    os.close(fd)
def dump(top):
    lines = []
    for at, ds, fs in os.walk(top):
        for name in sorted(ds + fs) + (["."] if at == top else []):
            path = os.path.join(at, name)
            if os.path.islink(path): continue
            for x in sorted(os.listxattr(path)): lines.append(f"{os.path.relpath(path, top)} {x} {os.getxattr(path, x).hex()[:80]}")
    print("\n".join(sorted(lines)))
def closed(top):
    refused(errno.EROFS, os.setxattr, os.path.join(top, "f"), "user.a", b"x")
    refused(errno.EROFS, os.removexattr, os.path.join(top, "f"), "user.a")
{"every_call": every_call, "dump": dump, "closed": closed}[sys.argv[1]](sys.argv[2])
PY
x() { python3 "$TOP/x.py" "$@"; }
same() { diff "$2" "$3" >"$TOP/diff" || fail "$1: $(head -n 10 "$TOP/diff")"; }
inside() { berth run "$1" -- python3 - dump "$2" <"$TOP/x.py"; }
sed -i 's/^from berthtest import fail$/def fail(words): sys.exit(words)/' "$TOP/x.py"

# Inside: seen on the mount when the command has ended, also when it is all that changed.
berth run "$id" --user root -- python3 - <<'PY'
import os
os.mkdir("t"); os.mkdir("t/d"); open("t/f", "w").write("bytes"); open("t/plain", "w")
os.setxattr("t/f", "user.b", b"2"); os.setxattr("t/f", "user.a", b"1" * 2000); os.setxattr("t/d", "user.of.dir", b"\0\1")
os.setxattr(".", "user.root", b"top"); os.chown("t/f", 1000, 1000)
PY
x dump "$MNT/$id" >"$TOP/got"
cat >"$TOP/wanted" <<END
. user.root 746f70
t/d user.of.dir 0001
t/f user.a $(printf '31%.0s' $(seq 40))
t/f user.b 32
END
same "on the mount" "$TOP/wanted" "$TOP/got"
berth run "$id" --user root -- python3 -c 'import os
os.setxattr("t/f", "user.b", b"3"); os.removexattr("t/f", "user.a"); os.setxattr("t/plain", "user.late", b"x")'
equal "changed inside" "$(getfattr --absolute-names --only-values -n user.b "$MNT/$id/t/f")" 3
must_fail getfattr -n user.a "$MNT/$id/t/f"
equal "the change alone" "$(getfattr --absolute-names --only-values -n user.late "$MNT/$id/t/plain")" x
berth watch "$id" --kept --json >"$TOP/kept"
tail -n 3 "$TOP/kept" | grep -q '"chmod".*t/plain' || fail "a change of extended attributes is not told: $(tail -n 3 "$TOP/kept")"

# From outside: every call, and the guest has the same.
mkdir "$MNT/$id/live"
x every_call "$MNT/$id/live"
x dump "$MNT/$id/live" >"$TOP/got"
inside "$id" live >"$TOP/wanted"
same "inside" "$TOP/wanted" "$TOP/got"
[ "$(wc -l <"$TOP/got")" = 4 ] || fail "too few: $(cat "$TOP/got")"

# Snapshots, the past, going back while it runs.
x dump "$MNT/$id" >"$TOP/one"
berth snapshot "$id" one >/dev/null
setfattr -n user.b -v other "$MNT/$id/t/f"
setfattr -x user.root "$MNT/$id"
setfattr -n user.new -v n "$MNT/$id/t/d"
echo more >>"$MNT/$id/t/plain"
x dump "$MNT/$id" >"$TOP/two"
berth snapshot "$id" two >/dev/null
berth diff "$id@one" "$id@two" | grep -q 't/f$' || fail "diff does not tell: $(berth diff "$id@one" "$id@two")"
x dump "$MNT/$id/.berth/snapshots/one" >"$TOP/got"
same "in the past" "$TOP/one" "$TOP/got"
x closed "$MNT/$id/.berth/snapshots/one/live"
berth restore "$id@one" --no-keep >/dev/null
x dump "$MNT/$id" >"$TOP/got"
same "gone back while it runs" "$TOP/one" "$TOP/got"
inside "$id" . >"$TOP/got"
same "gone back, inside" "$TOP/one" "$TOP/got"
# shellcheck disable=SC2046
equal "no difference" "$(berth diff "$id@one" "$id" | grep -vc '(time)' || :)" 0
berth restore "$id@two" --no-keep >/dev/null
inside "$id" . >"$TOP/got"
same "and forth, inside" "$TOP/two" "$TOP/got"

# A sandbox that begins with them; the daemon in between.
stop_daemon
start_daemon
x dump "$MNT/$id" >"$TOP/got"
same "after a new start of the daemon" "$TOP/two" "$TOP/got"
new=$(berth create --from "$id@one")
inside "$new" . >"$TOP/got"
same "a new sandbox, inside" "$TOP/one" "$TOP/got"
x dump "$MNT/$new" >"$TOP/got"
same "a new sandbox" "$TOP/one" "$TOP/got"

# Stopped: the same calls, the API, going back, forks.
berth kill "$id" "$new"
x dump "$MNT/$id" >"$TOP/got"
same "stopped" "$TOP/two" "$TOP/got"
mkdir "$MNT/$id/stopped"
x every_call "$MNT/$id/stopped"
berth xattr "$id:t/f" user.api -- value 2>/dev/null || berth xattr "$id:t/f" user.api value
equal "by the API" "$(getfattr --absolute-names --only-values -n user.api "$MNT/$id/t/f")" value
equal "got by the API" "$(berth xattr "$id:t/f" user.api)" value
equal "listed by the API" "$(berth xattr "$id:t/f" | tr '\n' ' ')" "user.api user.b "
berth xattr "$id:t/f" user.api --remove
refused 1 "ENODATA|No data" berth xattr "$id:t/f" user.api
python3 - "$MNT/$id/t/plain" <<'PY'
import errno, os, sys
for k in range(64): os.setxattr(sys.argv[1], f"user.many{k}", b"x" * 1000)
try:
    for k in range(9): os.setxattr(sys.argv[1], f"user.more{k}", b"x" * 1000)
    sys.exit("no end of it")
except OSError as e: assert e.errno == errno.ENOSPC, e
PY
x dump "$MNT/$id" >"$TOP/three"
fork=$(berth fork "$id")
x dump "$MNT/$fork" >"$TOP/got"
same "a fork" "$TOP/three" "$TOP/got"
berth snapshot "$fork" three >/dev/null
berth restore "$fork@three" --no-keep >/dev/null
setfattr -x user.b "$MNT/$fork/t/f"
setfattr -n user.x -v y "$MNT/$fork/t/d"
berth restore "$fork@three" --no-keep >/dev/null
x dump "$MNT/$fork" >"$TOP/got"
same "a fork went back" "$TOP/three" "$TOP/got"
rm -r "$MNT/$fork/t" "$MNT/$fork/live"
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
