#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sandboxes that run before the files that they begin with are there: commands run meanwhile and what they make stays,
# all is there in the end, also when the daemon dies meanwhile; what ends it is told.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
slow_agent=(--set daemon.agent="$BERTH_BUILD/tests/lib/agent-slow")
start_daemon "${slow_agent[@]}"
ask() { curl -sf --max-time 120 --unix-socket "$STATE/run/api.sock" "http://x$1" "${@:2}"; }
# Slow, so that there is something to see.
slow() { ask /v1/sandboxes -d "{\"from\": \"$id@all\", \"no_wait\": true, \"id\": \"$1\"${2:-}}" >"$TOP/$1.json"; }
is_filling() { ask "/v1/sandboxes/$1" | python3 -c 'import json, sys; f = json.load(sys.stdin).get("filling"); sys.exit(not f)'; }
has_begun() { ask "/v1/sandboxes/$1" | python3 -c 'import json, sys; f = json.load(sys.stdin).get("filling"); sys.exit(not f or f["files"] <= 20)'; }
is_filled() { ! ask "/v1/sandboxes/$1" | grep -q '"filling"'; }
why() { ask "/v1/sandboxes/$1" | python3 -c 'import json, sys; j = json.load(sys.stdin); print(j["state"], j["fill_why"])'; }
hurry() { berth run "$1" -- touch /tmp/hurry </dev/null; }
# Everything but what the workload makes.
state() {
	(cd "$1" && not=(-mindepth 1 ! -path ./mine ! -path './m/9/*' ! -path ./m ! -path ./m/9 ! -path ./m/7 ! -path './m/7/*')
		find . "${not[@]}" \( -type f -printf '%P f %m %U %n %T@ %s\n' -o -type l -printf '%P l %l\n' -o -printf '%P %y %m\n' \) | sort
		find . "${not[@]}" -type f -print0 | sort -z | xargs -0 sha256sum
		getfattr -R -P -h -d . | sort)
}
same() { diff "$2" "$3" >"$TOP/diff" || fail "$1: $(head -n 10 "$TOP/diff")"; }

id=$(berth create --template mini)
# shellcheck disable=SC2016 # $i is the guest's
berth run "$id" -- sh -c 'mkdir -p a/b && echo one >a/f && ln -s a/f link && mkfifo a/b/p && chmod 600 a/f && ln a/f a/b/same &&
	head -c 3000000 /dev/urandom >big && dd if=/dev/zero of=sparse bs=1 count=1 seek=50000000 2>/dev/null
	for d in $(seq 20); do mkdir -p m/$d; for i in $(seq 150); do printf %2000d $i >m/$d/$i; done; done; touch -d 200001010000 a' </dev/null
setfattr -n user.kept -v one "$MNT/$id/a/f"
berth sync "$id"
berth snapshot "$id" all >/dev/null
state "$MNT/$id" >"$TOP/first"

# What it makes first stays: a file, what is below a file, a directory that it removes again and again does no harm.
slow one
equal "it runs" "$(berth run one -- sh -c 'mkdir -p m/9; echo mine >m/9/5; echo mine >m/7 2>/dev/null; echo x >mine; cat mine' </dev/null)" x
is_filling one || fail "all was there when the first command had run: $(ask /v1/sandboxes/one)"
berth timeout one 1h || fail "its time cannot be set meanwhile"
hurry one
wait_for 60 "all files of one" is_filled one
equal "how it ended" "$(why one)" "running "
berth events | grep -q 'sandbox\.filled .*one' || fail "no event: $(berth events | tail -n 3)"
equal "a file of its own" "$(cat "$MNT/one/m/9/5" "$MNT/one/mine" | tr '\n' ' ')" "mine x "
equal "beside it" "$(find "$MNT/one/m/9" -type f | wc -l) $(tr -d " " <"$MNT/one/m/9/77")" "150 77"
if [ -f "$MNT/one/m/7" ]; then
	equal "instead of a directory" "$(cat "$MNT/one/m/7")" mine
else
	equal "the directory was first" "$(find "$MNT/one/m/7" -type f | wc -l)" 150
fi
berth sync one
state "$MNT/one" >"$TOP/one"
same "the rest of it" "$TOP/first" "$TOP/one"
equal "inside" "$(berth run one -- sh -c 'cat a/b/same; stat -c %h a/f; find . -name ".berth-*" | wc -l' </dev/null | tr '\n' ' ')" "one 2 0 "

# The daemon dies meanwhile, or is ended meanwhile; the next one goes on.
for how in KILL TERM; do
	name=two-${how,,}
	slow "$name"
	wait_for 30 "some files of $name" has_begun "$name"
	stop_daemon $how
	grep -q "laid out.*id=$name" "$LOG" && fail "$name had all when the daemon ended"
	start_daemon "${slow_agent[@]}"
	hurry "$name"
	wait_for 60 "all files of $name" is_filled "$name"
	[ "$(grep -c "laid out.*id=$name" "$LOG")" = 1 ] || fail "the next daemon did not go on"
	sed "/laid out.*id=$name/q" "$LOG" | tail -n +"$(grep -n 'msg="ended" result\|msg="mounted"' "$LOG" | tail -n 1 | cut -d: -f1)" |
		grep -q msg=\"ready\" || fail "the next daemon was ready only when all was there"
	equal "how $name ended" "$(why "$name")" "running "
	berth run "$name" -- sh -c 'echo x >mine; echo mine >m/9/5' </dev/null
	berth sync "$name"
	state "$MNT/$name" >"$TOP/two"
	same "after another daemon ($how)" "$TOP/first" "$TOP/two"
	berth kill "$name"
done

# Paused at its time, and killed: broken off; it goes on when it goes on.
slow three ', "timeout_ms": 1500, "on_timeout": "pause"'
is_paused() { equal_state three paused; }
equal_state() { [ "$(ask "/v1/sandboxes/$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])')" = "$2" ]; }
wait_for 60 "the pause" is_paused
is_filling three || fail "nothing is left to do: $(why three)"
berth resume three
berth timeout three 1h
hurry three
wait_for 60 "all files of three" is_filled three
state "$MNT/three" >"$TOP/three"
berth run three -- sh -c 'echo x >mine' </dev/null
same "after a pause" "$TOP/first" "$TOP/three"
slow four
wait_for 30 "some files of four" has_begun four
berth kill four
equal "killed" "$(why four)" "stopped it ended before all of its files were there"
stop_daemon
start_daemon "${slow_agent[@]}"
equal "written down" "$(why four)" "stopped it ended before all of its files were there"

# No room.
berth run "$id" -- sh -c 'head -c 30000000 /dev/urandom >big' </dev/null
berth snapshot "$id" large >/dev/null
six=$(berth create --from "$id@large" --no-wait --workspace 16M)
hurry "$six"
wait_for 60 "the end of what does not fit" is_filled "$six"
why "$six" | grep -qE '^running .*(space|ENOSPC)' || fail "no reason: $(why "$six")"
equal "it runs on" "$(berth run "$six" -- sh -c 'rm -f big; echo on' </dev/null)" on
refused 2 "without --from" berth create --no-wait
refused 2 "no-wait" berth create --from "$id@all" --wait --no-wait
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
