#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a tool expects of a local file system (tests/lib/posix.py): on the host's disk, so that it is known to be true there;
# on the mount of a live workspace, a stopped one and a fork. Files without a name while snapshots are made and daemons
# come and go. No room: inside, and in what a stopped workspace may use.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
TAKEOVER=10s
checks() {
	mkdir "$2"
	ON_MOUNT=${3:-} python3 "$SRC/tests/lib/posix.py" "$2" >"$TOP/out" 2>&1 || fail "$1: $(cat "$TOP/out")"
	say "$1: $(tail -n 1 "$TOP/out")"
}
sound() { berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"; }
checks "the host's disk" "$TOP/disk"
start_daemon
id=$(berth create --template base --workspace 64M)
checks live "$MNT/$id/t" "$MNT"

# Without a name: by the host, by the guest, by a rename inside; over a snapshot, two daemons, and the end of the sandbox.
for n in one two three; do printf '%s' "$n" >"$MNT/$id/$n"; done
exec 7<>"$MNT/$id/one" 8<>"$MNT/$id/two" 9<>"$MNT/$id/three"
rm "$MNT/$id/one"
berth run "$id" -- sh -c 'rm two; echo new >x; mv x three'
written() { python3 -c 'import os, sys
for fd, what in ((7, b"one"), (8, b"two"), (9, b"three")):
    os.pwrite(fd, sys.argv[1].encode(), 10); got = os.pread(fd, 99, 0)
    assert got == what + bytes(10 - len(what)) + sys.argv[1].encode() and os.fstat(fd).st_nlink == 0, (fd, got)' "$1"; }
written abc
equal "who has the name now" "$(cat "$MNT/$id/three")" new
berth snapshot "$id" held >/dev/null
sound
written def
stop_daemon
start_daemon
if grep -q 'msg="mounted" survives=yes' "$LOG"; then
	written ghi
	stop_daemon KILL
	start_daemon
	written jkl
fi
berth kill "$id"
written mno
sound
exec 7>&- 8>&-
written_last() { python3 -c 'import os
assert os.pread(9, 99, 0) == b"three\0\0\0\0\0mno"'; }
written_last
exec 9>&-
sound
equal "nothing came back" "$(find "$MNT/$id" -maxdepth 1 -name one -o -maxdepth 1 -name two | wc -l)" 0

checks stopped "$MNT/$id/s" "$MNT"
fork=$(berth fork "$id")
checks "a fork" "$MNT/$fork/f" "$MNT"
sound

# No room: the error of the file system inside; and the bytes that were there before are still there.
id=$(berth create --template base --workspace 16M)
printf 'kept' >"$MNT/$id/kept"
python3 - "$MNT/$id" <<'PY'
import errno, os, sys
fd = os.open(sys.argv[1] + "/full", os.O_WRONLY | os.O_CREAT)
try:
    for k in range(64): os.pwrite(fd, os.urandom(1 << 20), k << 20)
    sys.exit("64 MiB into 16")
except OSError as e: assert e.errno == errno.ENOSPC, e
st = os.statvfs(sys.argv[1])
assert st.f_blocks * st.f_frsize <= 16 << 20 and st.f_bavail * st.f_frsize < 2 << 20, st
PY
equal "kept" "$(cat "$MNT/$id/kept")" kept
rm "$MNT/$id/full"
printf 'room' >"$MNT/$id/again"
equal "room again" "$(berth run "$id" -- cat again)" room
berth kill "$id"
# Stopped: eight times its size may be held. What was written over counts until it is collected (quota.sh).
python3 - "$MNT/$id" <<'PY'
import errno, os, sys
st = os.statvfs(sys.argv[1])
assert st.f_blocks * st.f_frsize == 128 << 20 and 0 < st.f_bavail < st.f_blocks and st.f_files == 65536, st
files = st.f_ffree
fd = os.open(sys.argv[1] + "/full", os.O_WRONLY | os.O_CREAT)
try:
    for k in range(200): os.pwrite(fd, os.urandom(1 << 20), k << 20)
    sys.exit("200 MiB into 128")
except OSError as e: assert e.errno == errno.EDQUOT, e
st = os.statvfs(sys.argv[1])
assert st.f_bavail * st.f_frsize < 2 << 20 and st.f_ffree == files - 1, st
st = os.statvfs(os.path.dirname(sys.argv[1]))
assert st.f_blocks * st.f_frsize != 128 << 20, st
PY
equal "kept" "$(cat "$MNT/$id/kept")" kept
sound
say ok
