#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# More inodes and open files than the mount has room for (a few, in this test): ENFILE, and what was made is there all the same:
# a name that the kernel heard nothing of must not stay absent for it. Live and stopped.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
BERTH_FAULT=full start_daemon
live=$(berth create --template mini)
stopped=$(berth create --template mini)
berth kill "$stopped"
cat >"$TOP/table.py" <<'PY'
import errno, os, sys
from berthtest import fail, until
top = sys.argv[1]
def shown(name):
    try:
        os.stat(f"{top}/{name}")
        return True
    except FileNotFoundError:
        return False
def fill(make, most):
    """Return: what was made and is held; the name at which there was no room."""
    held = []
    for i in range(most):
        try:
            os.stat(f"{top}/{make.__name__}{i}") # so that it is known to be absent
            fail("it is there already")
        except FileNotFoundError:
            pass
        try:
            held.append(make(f"{top}/{make.__name__}{i}"))
        except OSError as e:
            if e.errno != errno.ENFILE: raise
            return held, f"{make.__name__}{i}"
    fail(f"{most} times {make.__name__}, and always room")
def opened(path): return os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
def directory(path):
    os.mkdir(path)
    return path
held, name = fill(opened, 40)
for fd in held[::2]: os.close(fd)
until(lambda: shown(name), 20, f"{name} is absent, after ENFILE")
with open(f"{top}/{name}", "r+") as f: f.write("written")
with open(f"{top}/{name}") as f:
    if f.read() != "written": fail("what was written")
for fd in held[1::2]: os.close(fd)
for other in os.listdir(top): os.unlink(f"{top}/{other}")
held, name = fill(directory, 100)
for path in held[: len(held) // 2]: os.rmdir(path) # which the kernel forgets
until(lambda: shown(name), 20, f"{name} is absent, after ENFILE")
os.rmdir(f"{top}/{name}")
for path in held[len(held) // 2 :]: os.rmdir(path)
print("no room, and nothing is lost")
PY
for id in "$live" "$stopped"; do
	mkdir "$MNT/$id/d"
	timeout 100 python3 "$TOP/table.py" "$MNT/$id/d"
	equal "what is left" "$(ls "$MNT/$id/d")" ""
done
berth fsck
