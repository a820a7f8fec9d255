#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A sandbox that writes a large file while somebody looks into another one: it is shipped slowly, small files pass it, and
# whoever waits for it does not wait: a sync, a reader, the end of the sandbox; nor does it when nobody looks any more.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon --set mount.calm-rate=16K

of() { berth info "$2" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["replication"][sys.argv[1]])' "$1"; }
more() { [ "$(of "$1" "$writer")" -gt "$2" ]; }
looked=$(berth create --template mini)
writer=$(berth create --template mini)
begin_to_look() { # each name is asked for the first time, so the daemon answers; until the directory is no more
	python3 -c 'import itertools, os, sys, time
for n in itertools.count():
    if os.path.exists(f"{sys.argv[1]}/none-{os.getpid()}-{n}") or not os.path.isdir(sys.argv[1]):
        break
    time.sleep(0.05)' "$MNT/$looked" &
	looker=$!
}
end_looking() {
	kill "$looker"
	wait "$looker" || :
}
large() { # NAME: told, and on its way
	local held
	held=$(of held_b "$writer")
	berth run "$writer" -- sh -c "head -c 24000000 /dev/urandom >$1; sha256sum $1" >"$TOP/$1"
	wait_for 30 "a large file that waits" more held_b "$held"
}
slow() { # BYTES of it came before; it is on its way still
	[ "$(($(of shipped_b "$writer") - $1))" -lt 12000000 ] || fail "it came as if nobody looked"
}

begin_to_look
before=$(of shipped_b "$writer")
large one
ships=$(of shipments "$writer")
berth run "$writer" -- sh -c 'for i in 1 2 3 4 5 6 7 8; do echo $i >small$i; done'
wait_for 30 "small files that pass it" more shipments $((ships + 7))
slow "$before"
berth sync "$writer"
[ "$(($(of shipped_b "$writer") - before))" -ge 24000000 ] || fail "a sync ended without it"

before=$(of shipped_b "$writer")
large two
slow "$before"
equal "what a reader gets" "$(cd "$MNT/$writer" && sha256sum two)" "$(cat "$TOP/two")"

large three
end_looking
wait_for 30 "the rest of it, when nobody looks" more shipped_b $((before + 47999999))

begin_to_look
before=$(of shipped_b "$writer")
large four
slow "$before"
berth kill "$writer"
end_looking
equal "what is left of it" "$(cd "$MNT/$writer" && sha256sum one two three four)" "$(cat "$TOP/one" "$TOP/two" "$TOP/three" "$TOP/four")"
berth fsck
