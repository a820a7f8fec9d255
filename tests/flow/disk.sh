#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The disk below the state directory runs full, really: workloads stand still before they lose anything, everything says
# so, nothing that was acknowledged is lost, and it goes on when there is room. Then a disk that refuses every byte.
. "$(dirname "$0")/../lib/flow.sh"
need_root
truncate -s 2G "$TOP/disk.img"
mkfs.ext4 -q -m 0 "$TOP/disk.img"
mkdir "$STATE"
mount -o loop "$TOP/disk.img" "$STATE"
chmod 755 "$STATE"
away() {
	local status=$?
	rm -f "$STATE/filler" "$STATE/filler2"
	# shellcheck disable=SC2034
	STATE_MOUNTED=$STATE
	(exit "$status") || :
	trap - EXIT
	set +e
	if [ -n "$DAEMON" ] && kill -0 "$DAEMON" 2>/dev/null; then
		end_sandboxes
		kill "$DAEMON"
		wait "$DAEMON"
		DAEMON=
	fi
	# What flow.sh looks for is looked for while the disk is there; then it goes, and with it the rest.
	left=$(left_behind | grep -v "^mount $STATE\$")
	[ -z "$left" ] || { say "left behind: $left"; status=1; }
	[ "$status" = 0 ] || tail -n 30 "$LOG"
	force_clean
	umount "$STATE"
	rm -rf "$TOP"
	exit "$status"
}
need_template mini
trap away EXIT
start_daemon --set store.disk-low=600M --set store.disk-stop=400M --set sandbox.workspace=400M --set store.map-size=2G
free() { berth df --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["disk"]["free_b"] >> 20)'; }
state_is() { [ "$(berth df --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["disk"]["state"])')" = "$1" ]; }
state_is ok
id=$(berth create --template mini)
berth run "$id" -- sh -c 'mkdir d; i=0; while [ $i -lt 200 ]; do head -c 5000 /dev/urandom >d/$i; i=$((i+1)); done; sha256sum d/* >sums'
berth sync "$id"
sums=$(cat "$MNT/$id/sums")
berth df

# A neighbour that fills the disk, while the sandbox writes all the time.
berth run "$id" --detach --id writer -- sh -c \
	'i=0; while :; do head -c 20000 /dev/urandom >w.$i; sha256sum w.$i >>wsums; rm -f w.$((i-200)); echo $i >at; i=$((i+1)); done' >/dev/null
wait_for 20 "the writer" test -s "$MNT/$id/at"
fallocate -l $((($(free) - 500) * 1048576)) "$STATE/filler"
wait_for 10 "the disk to be low" state_is low
refused 1 "MiB are free" berth create --template mini
tar -C / -cf "$TOP/some.tar" etc/hostname
refused 1 "MiB are free" berth import "$TOP/some.tar"
equal "health" "$(healthy | field status)" disk-low
berth run "$id" -- true
fallocate -l 150M "$STATE/filler2"
wait_for 10 "the disk to be full" state_is full
equal "health" "$(healthy | field status)" disk-full
stands() { berth info "$id" --json | grep -q "stands still"; }
wait_for 10 "the sandbox to stand still" stands
refused 125 "until there is room" berth run "$id" -- true
berth sync "$id"
at=$(cat "$MNT/$id/at")
left=$(free)
[ "$left" -gt 30 ] || fail "it was stopped too late: $left MiB are left"
equal "reading" "$(cd "$MNT/$id" && sha256sum d/*)" "$sums"
# The daemon dies and comes back on the full disk; the sandbox is adopted and stands still again.
stop_daemon KILL
start_daemon --set store.disk-low=600M --set store.disk-stop=400M --set sandbox.workspace=400M --set store.map-size=2G
wait_for 10 "the sandbox to stand still" stands
equal "reading" "$(cd "$MNT/$id" && sha256sum d/*)" "$sums"
# Room again: everything goes on by itself.
rm "$STATE/filler2" "$STATE/filler"
wait_for 10 "the disk to be fine" state_is ok
goes_on() { [ "$(cat "$MNT/$id/at")" -gt $((at + 20)) ]; }
wait_for 20 "the writer to go on" goes_on
equal "health" "$(healthy | field status)" ok
berth run "$id" -- sh -c 'kill $(pgrep -f wsums | grep -v $$) 2>/dev/null; sync; tail -n 100 wsums | sha256sum -c >checked && ! grep -v OK checked'
say "it was stopped at $left MiB, went on, and lost nothing"

# No disk-stop, and not one free byte: the sandbox's own writes may fail, ours fail in words, and what was kept is kept.
berth kill "$id"
stop_daemon
start_daemon --set store.disk-low=0 --set store.disk-stop=0 --set sandbox.workspace=64M --set store.map-size=2G
id2=$(berth create --template mini)
berth run "$id2" -- sh -c 'echo first >first'
berth sync "$id2"
dd if=/dev/zero of="$STATE/filler" bs=1M 2>/dev/null || :
dd if=/dev/zero of="$STATE/filler2" bs=4k 2>/dev/null || :
# More than what a collection has made free inside of the store's own files, here and below.
berth run "$id2" -- sh -c 'head -c 45000000 /dev/urandom >second' || :
s=0
timeout 100 berth sync "$id2" 2>"$TOP/err" || s=$?
say "sync says: $(cat "$TOP/err")"
equal "sync on a full disk" "$s" 1
grep -qi "full\|no room\|space" "$TOP/err"
refused 1 "." berth create --template mini
equal "kept" "$(cat "$MNT/$id2/first")" first
s=0
(head -c 60000000 /dev/urandom >"$MNT/$id/by-hand") 2>"$TOP/err" || s=$?
say "a write on the mount says: $(cat "$TOP/err")"
[ "$s" != 0 ] || fail "a write into a stopped workspace on a full disk was taken"
grep -qi "no space" "$TOP/err"
stop_daemon KILL
rm "$STATE/filler" "$STATE/filler2"
start_daemon --set store.disk-low=0 --set store.disk-stop=0 --set sandbox.workspace=64M --set store.map-size=2G
equal "kept" "$(cat "$MNT/$id2/first")" first
equal "kept" "$(cd "$MNT/$id" && sha256sum d/*)" "$sums"
berth fsck
berth kill "$id2" || say "what was on the full disk: $(berth info "$id2" --json | field why)"
echo y >"$MNT/$id/by-hand"
equal "room again" "$(cat "$MNT/$id/by-hand")" y
berth fsck
