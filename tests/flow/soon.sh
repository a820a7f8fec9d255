#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Changes through the mount are durable soon: the death of the daemon loses none of them; fsync hears of a disk that fails,
# and then the mount shows what is in the store, not what is void; where the disk works again everything goes on.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
need_faults
start_faulty
live=$(berth create --template mini)
id=$(berth create --template mini)
berth kill "$id"

# Killed in the middle of a stream of small files: every one that was closed is there, whole.
for how in 1 2 3; do
	at=$MNT/$id/k$how
	mkdir "$at"
	(
		i=0
		while [ $i -lt 400 ]; do
			printf '%s\n' "file $i of $how" >"$at/$i" 2>/dev/null || exit 0
			echo "$i" >>"$TOP/closed$how"
			i=$((i + 1))
		done
	) 2>/dev/null &
	writer=$!
	more() { [ "$(wc -l 2>/dev/null <"$TOP/closed$how" || echo 0)" -ge $((how * 60)) ]; }
	wait_for 30 "some files" more
	stop_daemon KILL
	wait "$writer" || :
	start_faulty
	while read -r i; do
		equal "file $i after a kill" "$(cat "$MNT/$id/k$how/$i")" "file $i of $how"
	done <"$TOP/closed$how"
	berth fsck
done

# A sync that fails: what was answered and not durable is void, and told so.
cat >"$TOP/void.py" <<'PY'
import errno, os, sys
from berthtest import fail
top, fault = sys.argv[1:]
# It may be void before it is closed; and the agent is dialled anew.
EXPECTED = (errno.EIO, errno.ENOENT, errno.ESTALE, errno.EPIPE)
def put(name, text, sync):
    fd = os.open(f"{top}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    try:
        os.write(fd, text)
        if sync: os.fsync(fd)
    finally:
        os.close(fd)
put("first", b"durable", True)
d = os.open(top, os.O_RDONLY)
os.fsync(d)
put("first", b"not durable", False)
with open(fault, "w", encoding="ascii") as f:
    f.write("sync")
failed = 0
try:
    put("second", b"never durable", True)
except OSError as e:
    if e.errno not in EXPECTED: raise
    failed += 1
try:
    os.fsync(d)
except OSError as e:
    if e.errno not in EXPECTED: raise
    failed += 1
if not failed: fail("an fsync was answered although the disk fails")
os.unlink(fault)
PY
void() { PYTHONPATH=$SRC/tests/lib python3 "$TOP/void.py" "$@"; }
for w in "$id" "$live"; do
	void "$MNT/$w" "$TOP/fail"
	# What is void is of the stopped workspace alone: the guest's disk has its own, and tells it again.
	if [ "$w" = "$id" ]; then
		shown() { case $(cat "$MNT/$id/first" 2>/dev/null) in durable) [ ! -e "$MNT/$id/second" ] ;; *) false ;; esac; }
	else
		inside=$(berth run "$live" -- cat second)
		shown() { [ "$(cat "$MNT/$live/first" "$MNT/$live/second" 2>/dev/null)" = "not durable$inside" ]; }
	fi
	wait_for 30 "the mount of $w to show what there is" shown
	echo again >"$MNT/$w/third"
	sync "$MNT/$w/third"
	wait_for 60 "a sync of $w" berth sync "$w"
	equal "third" "$(cat "$MNT/$w/third")" again
	berth fsck
done
stop_daemon KILL
start_faulty
equal "third, after a kill" "$(cat "$MNT/$id/third")" again
berth kill "$live"
equal "of the live one" "$(cat "$MNT/$live/third")" again
berth fsck
