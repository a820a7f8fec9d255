#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Space comes back while others write: what is used goes down, what is shown stays the same byte by byte, fsck is clean; what a
# snapshot, a fork, a view or an open file needs is kept; the daemon collects by itself, and removes what is stopped too long.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
TAKEOVER=10s
start_daemon --set store.gc-interval=0

state() { (cd "$1" && find . -type f ! -name log -printf '%P ' -exec sha256sum {} \; | sed 's, \./.*,,' | sort); }
sound() { berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"; }
# One number of an object in the answer: used OBJECT KEY
used() { berth df --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]][sys.argv[2]])' "$1" "$2"; }
freed() { berth gc --json | field freed_b; }

one=$(berth create --template mini)
two=$(berth create --template mini)
busy=$(berth create --template mini)
berth gc >/dev/null
# shellcheck disable=SC2016 # the guest's
berth run "$one" -- sh -c 'for i in 1 2 3 4 5; do head -c 2000000 /dev/urandom >r$i; echo $i >s$i; done' </dev/null
berth run "$two" -- sh -c 'head -c 9000000 /dev/urandom >mine' </dev/null
berth snapshot "$one" first >/dev/null
# Somebody who writes all the time, small and big, the same and new.
# shellcheck disable=SC2016 # the guest's
berth run "$busy" --detach -- sh -c 'i=0; while :; do i=$((i + 1)); echo $i >>log; echo $((i % 7)) >small$((i % 20)); head -c 300000 /dev/urandom >big$((i % 3)); cp big$((i % 3)) copy; done' >/dev/null
wait_for 30 "the writer" test -s "$MNT/$busy/copy"

# What was replaced is gone, what a snapshot has is not.
# shellcheck disable=SC2016 # the guest's
berth run "$one" -- sh -c 'for i in 1 2 3; do head -c 2000000 /dev/urandom >r$i; done; rm r4' </dev/null
state "$MNT/$one" >"$TOP/one"
state "$MNT/$one/.berth/snapshots/first" >"$TOP/first"
berth gc
state "$MNT/$one" | diff "$TOP/one" - || fail "the workspace after gc"
state "$MNT/$one/.berth/snapshots/first" | diff "$TOP/first" - || fail "the snapshot after gc"
sum=$(berth run "$two" -- sha256sum mine </dev/null | cut -d' ' -f1) # inside: the host's kernel has no page of it

# Forks share; the snapshot goes; with the last fork its bytes.
fork=$(berth fork "$one@first" -n 2 | head -n 1)
berth gc >/dev/null
saved=$(used gc saved_b)
[ "$saved" -gt 8000000 ] || fail "sharing saves only $saved"
berth kill "$one" >/dev/null
before=$(used gc bytes)
berth rm "$one"
b=$(freed)
[ "$b" -gt 5000000 ] || fail "removing freed only $b" # three files of the present; the snapshot's are the forks'
state "$MNT/$fork" | diff "$TOP/first" - || fail "the fork after its origin went"
is_less() { berth gc >/dev/null && [ "$(used gc bytes)" -lt $((before - 3000000)) ]; } # the busy one has more or less on its way
wait_for 60 "less than $before bytes in use" is_less
sound

# Everybody while it runs: snapshots, forks, restores, removals, reading, and kill -9 of the daemon.
for i in 1 2 3 4 5 6; do
	berth gc >/dev/null &
	collector=$!
	berth snapshot "$busy" "b$i" >/dev/null
	berth fork "$busy@b$i" -n 2 >"$TOP/forks"
	while read -r f; do
		state "$MNT/$f" >"$TOP/state-$f"
		last=$f
	done <"$TOP/forks"
	berth diff "$busy@b1" "$busy" >/dev/null
	state "$MNT/$busy/.berth/snapshots/b$i" | diff "$TOP/state-$last" - || fail "snapshot b$i and its fork"
	wait "$collector"
	berth gc >/dev/null
	while read -r f; do
		state "$MNT/$f" | diff "$TOP/state-$f" - || fail "fork $f after gc"
		berth rm "$f"
	done <"$TOP/forks"
done
sound
# A file that is deleted and open: its bytes stay until the last one closes it.
berth kill "$two" >/dev/null
exec 7<"$MNT/$two/mine"
rm "$MNT/$two/mine"
freed >/dev/null
b=$(used gc bytes)
equal "a deleted file that is open" "$(sha256sum <&7 | cut -d' ' -f1)" "$sum"
exec 7<&-
closed() { berth gc && [ "$(used gc bytes)" -lt $((b - 5000000)) ]; }
wait_for 20 "the space of a deleted file" closed
berth rm "$two"
berth gc >/dev/null &
collector=$!
stop_daemon KILL
wait "$collector" || true
start_daemon --set store.gc-interval=0
sound
state "$MNT/$fork" | diff "$TOP/first" - || fail "the fork after kill -9"
berth gc
sound
berth kill "$busy" >/dev/null
for i in 1 2 3 4 5; do curl -sf -X DELETE --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$busy/snapshots/b$i" >/dev/null; done
state "$MNT/$busy" >"$TOP/busy"
berth df
stop_daemon

# By itself, and what is stopped: one is kept, the youngest, and its files.
start_daemon --set store.keep-stopped-count=1 --set store.gc-interval=2s
alone() { [ "$(berth ps --all --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" = 1 ]; }
wait_for 60 "retention" alone
state "$MNT/$busy" | diff "$TOP/busy" - || fail "the one that is kept"
collected() { [ "$(used gc freed_b)" -ge 0 ] && [ "$(used gc objects)" -lt 100 ]; }
wait_for 60 "a collection" collected
curl -sf --unix-socket "$STATE/run/api.sock" http://x/metrics >"$TOP/metrics"
grep -q '^berth_gc_runs_total [1-9]' "$TOP/metrics" || fail "metrics"
sound
stop_daemon

# Ten full rewrites as fast as the guest can, with nobody's help and the defaults, while a reader has old versions open: the
# file grows by what is on its way, not by what was replaced.
start_daemon
id=$(berth create --template mini)
files=512 # what is on its way is the same for all
[ -z "${BERTH_LONG:-}" ] || files=1600
berth run "$id" -- mkdir d </dev/null
for round in first 1 2 3 4 5 6 7 8 9 10; do
	# shellcheck disable=SC2016 # the guest's
	berth run "$id" -- sh -c 'i=0; while [ $i -lt '$files' ]; do head -c 262144 /dev/urandom >new; mv new d/$i; i=$((i + 1)); done' </dev/null
	berth sync "$id"
	[ "$round" != first ] || exec 7<"$MNT/$id/d/7" 8<"$MNT/$id/d/8"
	[ "$round" != 1 ] || exec 9<"$MNT/$id/d/9"
done
head -c 100000 <&7 | cmp -s -n 100000 - "$MNT/$id/d/7" && fail "it was not rewritten, or the reader sees the new one"
live=$((files * 262144 + 3 * 262144)) now=$(used store content_b)
say "after ten rewrites of $live bytes the file has $now"
[ $((now * 10)) -le $((live * 13)) ] || fail "the file has $now bytes for $live"
exec 7<&- 8<&- 9<&-
berth kill "$id" >/dev/null
berth rm "$id"
sound
stop_daemon

# By age; one that runs and one that is paused stay.
start_daemon --set store.keep-stopped=1s
runs=$(berth create --template mini)
rests=$(berth create --template mini)
berth pause "$rests" >/dev/null
wait_for 60 "retention by age" sh -c "! berth ps --all --json | grep -q '\"$busy\"'"
berth ps --all --json >"$TOP/ps"
grep -q "$runs" "$TOP/ps" && grep -q "$rests" "$TOP/ps" || fail "what runs or is paused was removed: $(cat "$TOP/ps")"
[ ! -e "$MNT/$busy" ] || fail "what was removed is still shown"
