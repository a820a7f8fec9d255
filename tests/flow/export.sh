#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Archives of workspaces: what tar unpacks is what the mount shows, to the nanosecond and the hole; tar's own archives
# in every format come in; a round trip is the same tree; archives that mean harm are refused or contained; limits.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon --set sandbox.workspace=1G
id=$(berth create --template mini)
cat >"$TOP/make.py" <<'PY'
import os, sys
at = sys.argv[1]; os.chdir(at)
os.makedirs("d/e/f"); os.mkdir("empty")
open("d/a", "w").write("hello\n"); os.link("d/a", "d/e/b"); os.link("d/a", "z-link")
open("d/big", "wb").write(os.urandom(3_000_000))
os.symlink("../nowhere/" + "x" * 150, "d/long-link"); os.mkfifo("d/e/fifo", 0o640)
with open("sparse", "wb") as f:
    f.truncate(100_000_000)
    for off in (0, 70_000_000, 99_999_999): f.seek(off); f.write(b"data")
    f.truncate(100_000_003)
with open("all-hole", "wb") as f: f.truncate(50_000_000)
open("empty-file", "w").close()
for name in (b"n\xffot-text", "gr\u00fc\u00df".encode(), "e\u0301-composed-not".encode(), b" blank ", b"new\nline", b"-dash", b"x" * 255, b"=", b"a=b"):
    open(os.path.join(os.fsencode("d"), name), "wb").write(name)
os.makedirs("/".join(["deep" * 10] * 30)); open("/".join(["deep" * 10] * 30) + "/end", "w").write("x")
os.chmod("d/e/b", 0o4751); os.chmod("d/e", 0o1770); os.chmod("empty", 0o2555)
for n, path in enumerate(("d/a", "d/e/fifo", "sparse", "empty", "d/long-link")):
    os.utime(path, ns=(1, 981173106_123456789 + n), follow_symlinks=False)
os.utime("empty-file", ns=(0, -86400_000000001)); os.utime("all-hole", ns=(0, 4_000_000_000_000000007))
PY
# Times before 1970 and names that are no text need a program inside; the mount does all of it for a stopped one.
python3 "$TOP/make.py" "$MNT/$id" || fail "cannot make the files"
setfattr -n user.color -v blue "$MNT/$id/d/a" && setfattr -n user.bin -v 0x00ff0a3d "$MNT/$id/d/a" && setfattr -n user.d -v x "$MNT/$id/d" ||
	fail "no extended attributes"
berth sync "$id"
berth snapshot "$id" one >/dev/null
said() { (cd "$1" && find . -printf '%P\0%y\0%m\0%n\0%T@\0%l\0%s\n' | sed 's/\x00d\x00\([0-9]*\)\x00[0-9]*\x00\([^\x00]*\)\x00\x00[0-9]*$/\x00d\x00\1\x00\2/' | LC_ALL=C sort) >"$2"
	(cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) >>"$2"
	(cd "$1" && find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m '^user\.' -e hex 2>/dev/null) >>"$2"; }
same() { said "$1" "$TOP/said1"; said "$2" "$TOP/said2"
	diff -a "$TOP/said1" "$TOP/said2" >"$TOP/differs" || fail "$3: $(head -c 2000 "$TOP/differs" | cat -v)"; }
unpack() { rm -rf "$TOP/out" && mkdir "$TOP/out" && tar --xattrs --xattrs-include='user.*' -C "$TOP/out" -xpf "$1"; }
tree_of() { curl -sf --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$1/snapshots" | python3 -c 'import json,sys; print(json.load(sys.stdin)[-1]["tree"])'; }
berth export "$id" -o "$TOP/live.tar"
unpack "$TOP/live.tar"
same "$MNT/$id" "$TOP/out" "live, by tar"
[ "$(du -s --block-size=1M "$TOP/out/sparse" | cut -f 1)" -le 2 ] || fail "holes were filled"
[ "$(stat -c %s "$TOP/live.tar")" -lt 8000000 ] || fail "holes are in the archive"
berth export "$id@one" -o "$TOP/one.tar"
cmp "$TOP/live.tar" "$TOP/one.tar" || fail "a snapshot is not as the present"
berth export "$id" -o - >"$TOP/piped.tar"
cmp "$TOP/live.tar" "$TOP/piped.tar" || fail "standard output"
# Parts.
berth export "$id" d -o "$TOP/d.tar" && unpack "$TOP/d.tar" && diff -r --no-dereference -x fifo "$MNT/$id/d" "$TOP/out" || fail "a directory"
berth export "$id" d/big -o - | tar -xOf - | cmp - "$MNT/$id/d/big" || fail "a file"
berth export "$id@one" d/long-link -o - | tar -tvf - | grep -q 'long-link -> ../nowhere' || fail "a link"
refused 1 "no /workspace/none" berth export "$id" none -o "$TOP/none.tar"
[ ! -e "$TOP/none.tar" ] && [ ! -e "$TOP/none.tar.part" ] || fail "something was left"
refused 1 "no sandbox|no-such|none" berth export none -o "$TOP/none.tar"
refused 1 "snapshot" berth export "$id@none" -o "$TOP/none.tar"
# There and back: the same tree, whatever it was packed with.
for kind in tar tar.gz tar.zst; do
	command -v zstd >/dev/null || [ "$kind" != tar.zst ] || continue
	berth export "$id@one" -o "$TOP/back.$kind"
	back=$(berth import "$TOP/back.$kind" --name "back-${kind//./-}")
	berth snapshot "$back" two >/dev/null
	equal "the tree of $kind" "$(tree_of "$back")" "$(tree_of "$id")"
done
same "$MNT/$id" "$MNT/$back" "imported, on the mount"
back=$(berth import - <"$TOP/live.tar")
equal "nothing differs" "$(berth diff "$back" "$id" --json)" "[]"
berth export "$back" -o "$TOP/again.tar"
cmp "$TOP/live.tar" "$TOP/again.tar" || fail "the second archive is another one"
# A sandbox begins with it, and it can be written to.
next=$(berth create --template mini --from "$back")
same "$MNT/$back" "$MNT/$next" "a sandbox that begins with an archive"
berth kill "$next"
echo more >>"$MNT/$back/d/a"
equal "a link inside an import" "$(stat -c %h "$MNT/$back/z-link") $(tail -n 1 "$MNT/$back/z-link")" "3 more"
# What tar makes of a directory of ours, in all its formats.
rm -rf "$TOP/dir" && mkdir "$TOP/dir" && python3 "$TOP/make.py" "$TOP/dir"
setfattr -n user.color -v blue "$TOP/dir/d/a" || true
for format in pax gnu "pax --sparse-version=0.0" "pax --sparse-version=0.1"; do
	# GNU's own format has seconds alone: those of the copy that is compared go likewise.
	xattrs=--xattrs
	[ "$format" != gnu ] || xattrs=--no-xattrs
	# shellcheck disable=SC2086 # two words
	tar $xattrs -S --format=$format -C "$TOP/dir" -cf "$TOP/gnu.tar" . 2>"$TOP/err" || fail "tar: $(cat "$TOP/err")"
	got=$(berth import "$TOP/gnu.tar")
	unpack "$TOP/gnu.tar"
	same "$TOP/out" "$MNT/$got" "an archive of tar --format=$format"
	berth rm "$got"
done
# Archives that mean harm.
cat >"$TOP/harm.py" <<'PY'
import io, os, subprocess, sys, tarfile
from berthtest import Api, fail
top, mnt = sys.argv[1], sys.argv[2]
api = Api()
def entry(name, type=tarfile.REGTYPE, data=b"", **more):
    t = tarfile.TarInfo(name); t.type = type; t.size = len(data)
    for k, v in more.items(): setattr(t, k, v)
    return t, data
def archive(*entries, format=tarfile.PAX_FORMAT):
    b = io.BytesIO()
    with tarfile.open(fileobj=b, mode="w", format=format) as f:
        for t, data in entries: f.addfile(t, io.BytesIO(data))
    return b.getvalue()
def send(body, query=""):
    api.conn.request("POST", "/v1/import" + query, body)
    a = api.conn.getresponse(); text = a.read()
    import json
    return a.status, json.loads(text)
def refused(what, body, status=400, query=""):
    s, a = send(body, query)
    if s != status: fail(f"{what}: {s} {a}")
    print("refused:", what, "-", a["error"]["message"][:150])
def taken(what, body, query=""):
    s, a = send(body, query)
    if s != 201: fail(f"{what}: {s} {a}")
    return a["id"]
S, D, L = tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE
refused("..", archive(entry("../out", data=b"x")))
refused(".. inside", archive(entry("a/../../out", data=b"x")))
refused("an absolute path", archive(entry("/etc/passwd", data=b"x")))
refused("through a link", archive(entry("l", S, linkname="/etc"), entry("l/passwd", data=b"x")))
refused("through a link to a directory of its own", archive(entry("d", D), entry("l", S, linkname="d"), entry("l/f", data=b"x")))
refused("below a file", archive(entry("f", data=b"x"), entry("f/g", data=b"x")))
refused("a hard link out", archive(entry("h", L, linkname="../../etc/passwd")))
refused("a hard link to an absolute path", archive(entry("h", L, linkname="/etc/passwd")))
refused("a hard link to nothing", archive(entry("h", L, linkname="later"), entry("later", data=b"x")))
refused("a hard link to a directory", archive(entry("d", D), entry("h", L, linkname="d")))
refused("a hard link through a link", archive(entry("d/f", data=b"x"), entry("l", S, linkname="d"), entry("h", L, linkname="l/f")))
refused("a file that becomes a directory", archive(entry("x", data=b"x"), entry("x", D)))
refused("a directory that becomes a link", archive(entry("x", D), entry("x", S, linkname="/")))
refused("a long name", archive(entry("n" * 256, data=b"x")))
refused("a long path", archive(entry("/".join(["d" * 200] * 30), data=b"x")))
refused("nothing", b""); refused("noise", os.urandom(20000)); refused("text", b"hello" * 1000)
whole = archive(entry("a", data=os.urandom(5000)), entry("b", data=b"y" * 3000), entry("c", D))
for cut in list(range(0, len(whole.rstrip(b"\0")), 700)): refused(f"cut at {cut}", whole[:cut])
broken = bytearray(whole); broken[124:135] = b"77777777777"; refused("a size that lies, and so its sum", bytes(broken))
t, _ = entry("big"); t.size = 1 << 40
refused("a size that lies", t.tobuf() + b"x" * 10000)
t.size = 1 << 62; refused("a size beyond all", t.tobuf(tarfile.GNU_FORMAT))
t, _ = entry("hole", pax_headers={"GNU.sparse.map": "0,512,100,512", "GNU.sparse.size": "9999", "GNU.sparse.name": "hole"})
t.size = 1024; refused("holes that overlap", t.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024 + b"\0" * 1024)
t.pax_headers["GNU.sparse.map"] = "0,512,9000,512"; t.pax_headers["GNU.sparse.size"] = "9100"
refused("data behind the end", t.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024 + b"\0" * 1024)
# What is taken.
one = taken("names that come twice", archive(entry("f", data=b"first"), entry("g", L, linkname="f"), entry("f", data=b"second"), entry("d", D), entry("d", D, mode=0o700)))
if open(f"{mnt}/{one}/f").read() != "second" or open(f"{mnt}/{one}/g").read() != "first": fail("names that come twice")
if os.stat(f"{mnt}/{one}/g").st_nlink != 1: fail("links of what was replaced")
one = taken("devices", archive(entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3), entry("disk", tarfile.BLKTYPE), entry("f", data=b"x")))
if os.listdir(f"{mnt}/{one}") != ["f"]: fail("devices")
one = taken("a link that leads out", archive(entry("l", S, linkname="/etc/passwd")))
if os.readlink(f"{mnt}/{one}/l") != "/etc/passwd": fail("the text of a link")
one = taken("parents that nobody told", archive(entry("a/b/c", data=b"x"), entry("./a//b/./d/", D)))
if sorted(os.listdir(f"{mnt}/{one}/a/b")) != ["c", "d"]: fail("parents")
one = taken("deep", archive(*[entry("/".join(["d"] * n), D) for n in range(1, 2000, 50)]))
t, _ = entry("s", pax_headers={"GNU.sparse.map": "0,512", "GNU.sparse.size": str(1 << 43), "GNU.sparse.name": "s"}); t.size = 512
one = taken("a hole of 8 TiB", t.tobuf(tarfile.PAX_FORMAT) + b"x" * 512 + b"\0" * 1024)
if os.stat(f"{mnt}/{one}/s").st_size != 1 << 43: fail("a large hole")
# Limits: bytes and names follow from the size of the workspace.
refused("too many bytes", archive(entry("f", data=b"x" * 20_000_000)), 507, "?workspace=16777216")
s, a = send(archive(*[entry(f"f{i}", pax_headers={"SCHILY.xattr.user.a": "x" * 60000}) for i in range(300)]), "?workspace=16777216")
if s != 507 or "extended attributes" not in a["error"]["message"]: fail(f"too many attributes: {s} {a}")
link = entry("l", L, linkname="f")[0]
links = b"".join([tarfile.TarInfo("f").tobuf()] + [(setattr(link, "name", f"l{i}"), link.tobuf(tarfile.USTAR_FORMAT))[1] for i in range(65_000)])
refused("too many names of one file", links + b"\0" * 1024)
class Many:
    """The header of an empty file, a hundred thousand times."""
    def __init__(self, n): self.n, self.i, self.rest = n, 0, b""
    def read(self, size):
        while len(self.rest) < size and self.i <= self.n:
            self.rest += tarfile.TarInfo(f"{self.i // 1000}/{self.i}").tobuf() if self.i < self.n else b"\0" * 1024
            self.i += 1
        out, self.rest = self.rest[:size], self.rest[size:]
        return out
def many(n, query):
    with open(top + "/many.tar", "wb") as f:
        m = Many(n)
        while piece := m.read(1 << 20): f.write(piece)
    with open(top + "/many.tar", "rb") as f: return send(f, query)
s, a = many(70_000, "?workspace=16777216")
if s != 507: fail(f"too many names: {s} {a}")
n = 1_000_000 if os.environ.get("BERTH_LONG") else 100_000
s, a = many(n, "")
if s != 201: fail(f"{n} names: {s} {a}")
got = sum(len(f) for _, _, f in os.walk(f"{mnt}/{a['id']}"))
if got != n: fail(f"{got} of {n} names")
if not os.environ.get("SANITIZED"): print("resident:", open(f"/proc/{sys.argv[3]}/status").read().split("VmHWM:")[1].split("kB")[0].strip(), "KiB at most")
# Nothing of what was refused is left.
left = [d for d in os.listdir(sys.argv[4] + "/store/ws") if "import" in d]
if left: fail(f"left behind: {left}")
PY
python3 "$TOP/harm.py" "$TOP" "$MNT" "$DAEMON" "$STATE"
refused 1 "damaged|ends early" berth import /etc/hostname
# A client that goes away in the middle, one that reads slowly when the daemon ends.
head -c 100000 < <(berth export "$id" -o - 2>/dev/null) | wc -c >/dev/null
curl -s --limit-rate 1000 --unix-socket "$STATE/run/api.sock" "http://x/v1/export?from=$id" >/dev/null &
slow=$!
berth fsck
berth kill "$id"
stop_daemon
kill "$slow" 2>/dev/null || true # what the kernel holds for it would last for minutes
wait "$slow" 2>/dev/null || true
