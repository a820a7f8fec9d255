#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trees that a guest makes to be a nuisance: 10,000 names in one directory, 200 directories in each other, names that share
# a hash, newlines, 255 bytes, no UTF-8, leading dashes, FIFOs, sockets, a device node, hard links, 4 GiB of nothing. Guest
# and mount are equal in all that a reader can see, while it runs and after the kill, and nobody who lists is held up.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base)
berth cp "$SRC/tests/lib/berthtest.py" "$id:berthtest.py"
cat >"$TOP/make.py" <<'PY'
import os, socket
root = b"/workspace/tree"
os.makedirs(root + b"/many")
os.makedirs(root + b"/pairs")
os.makedirs(root + b"/odd")
def put(path, text=b""):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, text)
    os.close(fd)
for i in range(10000):
    put(root + b"/many/f%d" % i)
# Two names of one FNV-1a: so are all that begin like them.
for i in range(1500):
    for name in (b"OJeJj3Djl5c", b"GCER0nuvkdd"):
        put(root + b"/pairs/" + name + b"%d" % i)
os.chdir(root)
for i in range(200):
    os.mkdir(b"deep-%d" % i)
    os.chdir(b"deep-%d" % i)
put(b"bottom", b"deep\n")
os.chdir(root + b"/odd")
for i, name in enumerate([b"new\nline", b"\n", b"-rf", b"--help", b"-", b"\xff\xfe\x80", b"\xc0\xaf", b"x" * 255, b"\xff" * 255,
                          b" ", b"...", b".. ", b"a\\b", b"a\tb", b"\x01\x7f", b"%s%n", b"$(id)", b"CON", b"\xe2\x80\xae.txt"]):
    put(name, b"%d" % i)
    os.mkdir((b"d" + name)[:255])
    put(os.path.join((b"d" + name)[:255], name), b"below")
os.mkfifo(b"fifo")
os.mkfifo(b"-fifo\n")
socket.socket(socket.AF_UNIX).bind(b"socket")
os.mknod(b"device", 0o020666, os.makedev(0, 0)) # the only one that the kernel lets anybody make
for dev in ((1, 3), (1, 1), (8, 0), (7, 0), (10, 229)):
    for kind in (0o020666, 0o060666):
        try:
            os.mknod(b"node", kind, os.makedev(*dev))
            raise SystemExit(f"made a device node {dev}")
        except PermissionError:
            pass
for i in range(300):
    os.link(b"new\nline", b"link\n%d" % i)
os.symlink(b"../" * 300 + b"etc/shadow", b"out")
os.symlink(b"loop", b"loop")
os.symlink(b"\xff\n", b"nowhere")
fd = os.open("/workspace/sparse", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4 << 30)
os.pwrite(fd, b"first", 0)
os.pwrite(fd, b"middle", (2 << 30) + 12345)
os.pwrite(fd, b"end", (4 << 30) - 3)
PY
berth cp "$TOP/make.py" "$id:make.py"
berth run "$id" -- python3 make.py </dev/null
berth run "$id" -- python3 berthtest.py manifest tree </dev/null >"$TOP/inside.json"

compare() {
	timeout 120 python3 - "$MNT/$id" "$TOP/inside.json" "$1" <<'PY'
import json, os, stat, sys
from berthtest import manifest, differences, fail
top, when = sys.argv[1], sys.argv[3]
inside, here = json.load(open(sys.argv[2])), manifest(top + "/tree")
rows = differences(inside, here)
if rows:
    fail(when + ": inside and mount differ:\n" + "\n".join(rows))
if len(os.listdir(top + "/tree/many")) != 10000:
    fail("not all of 10,000 names are listed")
if len(set(os.listdir(top + "/tree/pairs"))) != 3000:
    fail("names that share a hash are hidden")
for name in ("fifo", "socket", "device"):
    try:
        os.close(os.open(os.path.join(top, "tree/odd", name), os.O_RDWR | os.O_NONBLOCK))
        if name != "fifo":
            fail(name + " could be opened on the mount")
    except OSError:
        pass
with open(top + "/sparse", "rb") as f:
    st = os.fstat(f.fileno())
    if st.st_size != 4 << 30 or st.st_blocks * 512 > 1 << 20:
        fail(f"sparse: {st.st_size} bytes, {st.st_blocks} blocks")
    for at, want in ((0, b"first\0"), ((2 << 30) + 12345, b"middle\0"), ((4 << 30) - 3, b"end"), (1 << 30, b"\0" * 4096)):
        got = os.pread(f.fileno(), len(want), at)
        if got != want:
            fail(f"sparse at {at}: {got[:20]}")
print(f"{when}: {len(inside)} entries equal")
PY
}
# Readers whose buffers end everywhere: each of them sees each name once.
buffers() {
	python3 - "$MNT/$id/tree/pairs" <<'PY'
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
for size in (300, 512, 1000, 4096, 32768):
    fd, names = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), []
    buf = ctypes.create_string_buffer(size)
    while (n := libc.syscall(ctypes.c_long(217 if os.uname().machine == "x86_64" else 61), fd, buf, size)) > 0:
        at = 0
        while at < n:
            length = struct.unpack_from("H", buf.raw, at + 16)[0]
            names.append(buf.raw[at + 19:at + length].split(b"\0")[0])
            at += length
    os.close(fd)
    if n < 0 or len(names) != 3002 or len(set(names)) != 3002:
        sys.exit(f"FAILED: with {size} bytes: {len(names)} names, {len(set(names))} different, {n}")
PY
}
compare "while it runs"
buffers
berth cp -r "$id:tree/odd" "$TOP/copy" >"$TOP/cp" 2>&1 || say "the copy says: $(tail -n 1 "$TOP/cp" | tr -c '[:print:]\n' '?')"
[ "$(find "$TOP" -xdev -newer "$TOP/inside.json" -name shadow | wc -l)" = 0 ] || fail "a copy followed a link"
berth kill "$id"
compare "after the kill"
