#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A backup of a daemon whose sandboxes write all the time; restored, it has what was acknowledged before, each workspace
# at one moment, and no problem. Broken archives are refused and leave nothing.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon

# Three that write without an end: a log, files that come and go, one that is replaced.
ids=()
for n in 1 2 3; do
	id=$(berth create --template mini --name "busy-$n")
	ids+=("$id")
	berth run "$id" -- sh -c "head -c 5000000 /dev/urandom >big; mkdir d; echo acknowledged $n >sure"
	berth sync "$id"
	cp "$MNT/$id/big" "$TOP/big-$n"
	berth run --detach "$id" -- sh -c 'i=0; while :; do i=$((i + 1)); echo $i >>log;
		echo $i >d/$i; rm -f d/$((i - 50)); head -c 300000 /dev/urandom >noise; done' >/dev/null
done
dead=$(berth create --template mini --name dead)
berth run "$dead" -- sh -c 'echo still here >f; ln -s f link; chmod 640 f'
berth kill "$dead"
key=$(berth key create ops --scopes read)
wait_for 30 "writing" test -s "$MNT/${ids[2]}/noise"

cut=("$TOP/one.tar" "$TOP/two.tar")
berth backup -o "${cut[0]}" &
first=$!
must_fail berth backup
equal "a second one beside it, or after it" "$(berth backup -o "${cut[1]}" 2>&1 | grep -v 'another backup' || :)" ""
wait "$first"
before=$(tail -n 1 "$MNT/${ids[0]}/log")
berth backup -o "${cut[1]}"
tar -tf "${cut[1]}" >"$TOP/members"
equal "the last member" "$(tail -n 1 "$TOP/members")" manifest
[ ! -e "${cut[1]}.part" ] || fail "a part is left"
for id in "${ids[@]}"; do berth run "$id" -- echo still on >/dev/null; done
berth fsck

# A program, for timeout(1).
printf '#!/bin/sh\nexec %s --restore "$1" --set "daemon.state-dir=$2"\n' "$BERTH_BUILD/berthd" >"$TOP/bin/restore"
chmod 755 "$TOP/bin/restore"

refused 1 "a berthd runs" restore "${cut[1]}" "$STATE"
for id in "${ids[@]}"; do berth kill "$id" --grace 0; done
stop_daemon
refused 1 "nothing is restored over it" restore "${cut[1]}" "$STATE"

# Archives that are not whole, or not as they were made.
size=$(stat -c %s "${cut[1]}")
head -c $((size / 2)) "${cut[1]}" >"$TOP/short.tar"
cp "${cut[1]}" "$TOP/bent.tar"
printf X | dd of="$TOP/bent.tar" bs=1 seek=$((size / 3)) conv=notrunc status=none
head -c 3000 /dev/urandom >"$TOP/noise.tar"
mkdir "$TOP/none"
for bad in short bent noise; do
	refused 1 "no whole backup" restore "$TOP/$bad.tar" "$TOP/none"
	[ ! -e "$TOP/none/store" ] && [ ! -e "$TOP/none/store.restoring" ] || fail "$bad: something is left"
done

# The state of before goes, as after the loss of a disk; templates do not belong to a backup.
rm -rf "$STATE/store"
restore "${cut[1]}" "$STATE"
start_daemon
berth fsck
n=0
for id in "${ids[@]}"; do
	n=$((n + 1))
	equal "state" "$(berth info "$id" --json | field state)" failed
	equal "why" "$(berth info "$id" --json | field why)" "restored from a backup"
	equal "acknowledged" "$(cat "$MNT/$id/sure")" "acknowledged $n"
	cmp "$TOP/big-$n" "$MNT/$id/big"
	last=$(tail -n 1 "$MNT/$id/log")
	seq "$last" | cmp - "$MNT/$id/log" || fail "$id: the log is not as it was at any moment"
	[ "$(find "$MNT/$id/d" -type f | wc -l)" -gt 0 ] || fail "$id: an empty directory"
	find "$MNT/$id" -type f -exec cat {} + >/dev/null
done
[ "$(tail -n 1 "$MNT/${ids[0]}/log")" -ge "$before" ] || fail "older than what was seen before the backup"
equal "a stopped one" "$(cat "$MNT/by-name/dead/f") $(readlink "$MNT/by-name/dead/link")" "still here f"
equal "its state" "$(berth info "$dead" --json | field state)" stopped
berth key ls | grep -q ops || fail "the key is gone"
[ -n "$key" ]
new=$(berth create --template mini)
equal "a new one" "$(berth run "$new" -- echo new)" new
berth kill "$new"
stop_daemon
