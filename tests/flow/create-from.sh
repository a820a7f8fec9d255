#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sandboxes that begin with the files of another: every kind of file, a snapshot of a live one, a stored one; no content
# comes back from the guest; what does not fit, what is not there; ten thousand files with the time that they take.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
state() {
	(cd "$1" && find . -mindepth 1 \( -type f -printf '%P f %m %T@ %s ' -exec sha256sum {} \; \) -o \
		\( -type l -printf '%P l %l %T@\n' \) -o \( ! -type f ! -type l -printf '%P %y %m %T@\n' \) | sed 's, \./.*,,' | sort
		getfattr -R -P -h -d . | sort)
}
same() { diff "$2" "$3" >"$TOP/diff" || fail "$1: $(head -n 10 "$TOP/diff")"; }
sound() { berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"; }
brought() { berth df --json | python3 -c 'import json, sys
print([w for w in json.load(sys.stdin)["workspaces"] if w["id"] == sys.argv[1]][0]["brought_b"])' "$1"; }

# shellcheck disable=SC2016 # $i is the guest's
berth run "$id" -- sh -c 'mkdir -p a/b/c d e && echo one >a/b/c/f && echo two >d/g && ln -s d/g link && mkfifo d/p &&
	chmod 600 d/g && chmod 1777 e && touch -d 200102030405.06 a/b/c/f && head -c 30000000 /dev/urandom >big && : >empty &&
	for i in $(seq 2000); do echo $i >a/n$i; done && ln d/g a/same && echo w >w.b && mkdir w && ln w.b w/b && chmod 4755 big &&
	dd if=/dev/zero of=sparse bs=1 count=1 seek=50000000 2>/dev/null && printf x | dd of=sparse bs=1 seek=10000000 conv=notrunc 2>/dev/null
	touch -d 200001010000 d' </dev/null
setfattr -n user.kept -v one "$MNT/$id/a/b/c/f"
setfattr -n user.dir -v yes "$MNT/$id/d"
berth sync "$id"
state "$MNT/$id" >"$TOP/one"
berth snapshot "$id" one >/dev/null
berth run "$id" -- sh -c 'rm -r a; echo later >later' </dev/null
two=$(berth create --from "$id@one")
state "$MNT/$two" >"$TOP/now"
same "begins with a snapshot" "$TOP/one" "$TOP/now"
berth run "$two" -- sh -c 'cat a/b/c/f d/g a/same; stat -c "%h %a" d/g big; du -k sparse | cut -f1; ls a | wc -l; readlink link; echo more >>d/g' </dev/null >"$TOP/out"
equal "inside" "$(tr '\n' ' ' <"$TOP/out" | sed 's/ [0-9]* 2002 / K 2002 /')" "one two two 2 600 1 4755 K 2002 d/g "
[ "$(sed -n 6p "$TOP/out")" -lt 1000 ] || fail "a hole was filled: $(sed -n 6p "$TOP/out") KiB"
equal "its own from then on" "$(cat "$MNT/$two/a/same")" "$(printf 'two\nmore')"
[ "$(brought "$two")" -lt 100000 ] || fail "contents came back: $(brought "$two") bytes"
sound
berth kill "$id"
three=$(berth create --from "$id" --name third)
equal "begins with a stored one" "$(cat "$MNT/by-name/third/later")" later
berth kill "$two" "$three"
four=$(berth create --from "$two")
equal "what was changed goes on" "$(cat "$MNT/$four/d/g")" "$(printf 'two\nmore')"
equal "the same files" "$(berth diff "$two" "$four" | grep -vc '(time)' || :)" 0
refused 1 "no snapshot" berth create --from "$id@none"
refused 1 "no sandbox is called" berth create --from nobody
before=$(berth ps --all | wc -l)
refused 1 "no-space|No space|ENOSPC" berth create --from "$id@one" --workspace 16M
equal "nothing is left of it" "$(berth ps --all | wc -l)" "$before"

# Many files: how fast they are laid out.
# shellcheck disable=SC2016
berth run "$four" -- sh -c 'for d in $(seq 100); do mkdir -p m/$d; for i in $(seq 100); do echo $i >m/$d/$i; done; done' </dev/null
berth sync "$four"
berth snapshot "$four" many >/dev/null
# With a quarter of a processor, so that there is something to see.
seen() {
	curl -sf --max-time 5 --unix-socket "$STATE/run/api.sock" http://x/v1/sandboxes/watched >"$TOP/watched" || return 1
	python3 - "$TOP/watched" <<-'END'
		import json, sys
		j = json.load(open(sys.argv[1]))
		f = j.get("filling")
		if j["state"] != "creating":
		    sys.exit(99)
		sys.exit(not (f and f["files"] < f["files_total"] and f["files_total"] > 12000 and f["bytes_total"] > 30000000))
	END
}
curl -sf --unix-socket "$STATE/run/api.sock" http://x/v1/sandboxes -d "{\"from\": \"$four@many\", \"id\": \"watched\", \"cpu_milli\": 250}" \
	>"$TOP/created" &
wait_for 30 "files that are being laid out" seen
wait $!
equal "it says nothing of that afterwards" "$(grep -c filling "$TOP/created" || :)" 0
five=watched
equal "ten thousand" "$(find "$MNT/$five/m" -type f | wc -l)" 10000
say "laid out: $(sed -n "s/.*msg=\"laid out\" id=$five ms=\([0-9]*\).*/\1/p" "$LOG") ms for 12,000 files"
sound
say ok
