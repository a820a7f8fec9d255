#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Untar 5,000 files with links, modes, odd names and times; then guest and mount are equal in everything a reader can see,
# again after the sandbox was killed, and again after the daemon was restarted.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base)
work=$TOP/work
mkdir "$work"
python3 - "$work" <<'PY'
import os, random, sys
rnd, root = random.Random(7), os.fsencode(sys.argv[1]) + b"/tree"
os.mkdir(root)
odd = [b"new\nline", b"sp ace", b"-dash", b"\xff\xfe", b"x" * 255, "gr\u00fc\u00df".encode(), b"'quote\"", b"*", b"\\back", b".hidden"]
dirs, files = [root], []
for i in range(250):
    d = os.path.join(rnd.choice(dirs), rnd.choice([b"d%d" % i, odd[i % len(odd)] + b"%d" % i])[:255])
    if len(d) < 3000:
        os.mkdir(d, rnd.choice([0o755, 0o700, 0o775]))
        dirs.append(d)
for i in range(4300):
    f = os.path.join(rnd.choice(dirs), odd[i // 50] if i % 50 == 0 and i // 50 < len(odd) else b"f%d" % i)
    if os.path.lexists(f) or len(f) > 3500:
        continue
    with open(f, "wb") as h:
        h.write(rnd.randbytes(rnd.choice([0, 1, 100, 4096, 5000, 70000, 0])))
    os.chmod(f, rnd.choice([0o644, 0o600, 0o755, 0o444]))
    os.utime(f, ns=(rnd.randrange(10**18, 17 * 10**17), rnd.randrange(10**18, 17 * 10**17)))
    files.append(f)
with open(root + b"/big", "wb") as h:
    h.write(rnd.randbytes(3_000_001))
with open(root + b"/sparse", "wb") as h:
    h.seek(50_000_000)
    h.write(b"end")
for i in range(200):
    os.link(rnd.choice(files), os.path.join(rnd.choice(dirs), b"l%d" % i))
for i in range(200):
    os.symlink(rnd.choice([b"/etc/passwd", b"../x", b"a/b" * 100, b"nowhere"]), os.path.join(rnd.choice(dirs), b"s%d" % i))
os.mkfifo(root + b"/fifo")
PY
tar -C "$work" --sparse -cf "$work/tree.tar" tree
berth cp "$work/tree.tar" "$id:tree.tar"
berth cp "$SRC/tests/lib/berthtest.py" "$id:berthtest.py"
berth run "$id" -- tar -xf tree.tar
berth run "$id" -- python3 berthtest.py manifest tree >"$work/inside.json"
compare() {
	python3 - "$MNT/$id/tree" "$work/inside.json" "$1" <<'PY'
import json, sys
from berthtest import manifest, differences, fail
inside, here = json.load(open(sys.argv[2])), manifest(sys.argv[1])
rows = differences(inside, here)
if rows:
    fail(sys.argv[3] + ": inside and mount differ:\n" + "\n".join(rows))
print(f"{sys.argv[3]}: {len(inside)} entries equal")
PY
}
compare "while it runs"
berth kill "$id"
compare "after the kill"
stop_daemon
start_daemon
compare "after a restart"
berth fsck
