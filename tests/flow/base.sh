#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many sandboxes that begin with the same files: laid out for the first, kept as a disk by the second, copied for the others.
# They are equal to what they began with and strangers to each other; several at once make one base; bases are bounded, are
# there for the next daemon, and one that dies in the making leaves nothing.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini

state() {
	(cd "$1" && find . -mindepth 1 -printf '%P %y %m %U %G %T@ %n %l ' \( -type f -printf '%s ' -exec sha256sum {} \; -o -printf '\n' \) |
		sed 's, \./.*,,' | sort
		getfattr -R -P -h -d . | sort)
}
same() { diff "$2" "$3" >"$TOP/diff" || fail "$1: $(head -n 10 "$TOP/diff")"; }
said() { grep -c "msg=\"$1\"" "$LOG" || :; }
bases() { find "$STATE/bases" -maxdepth 1 -type f ! -name '.*' | wc -l; }
tidy() {
	equal "$1: nothing is left half way" "$(find "$STATE/bases" -mindepth 1 -maxdepth 1 -name '.*' ! -name .boot | wc -l)" 0
	equal "$1: boxes" "$(find "$STATE/boxes" -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l)" "$2"
}
# shellcheck disable=SC2016 # $d and $i are the guest's
grow='for d in $(seq 20); do mkdir -p m/$d; for i in $(seq 50); do echo $d $i >m/$d/$i; done; done; ln -s m/1 link; mkfifo p
	ln m/1/1 m/2/hard; chmod 4755 m/3/3; chmod 1777 m/4; touch -d 200102030405.06 m/5/5; : >empty; touch -d 200001010000 m/6
	head -c 3000000 /dev/urandom >big; dd if=big of=sparse bs=1M seek=40 count=1 2>/dev/null; truncate -s 90M sparse'

start_daemon --set sandbox.bases=2
id=$(berth create --template mini)
berth run "$id" -- sh -c "$grow" </dev/null
setfattr -n user.kept -v one "$MNT/$id/m/1/1"
berth sync "$id"
state "$MNT/$id" >"$TOP/one"
berth snapshot "$id" one >/dev/null
a=$(berth create --from "$id@one")
equal "one alone makes no base" "$(bases)" 0
b=$(berth create --from "$id@one")
equal "the second makes it" "$(bases) $(said 'base made') $(said 'base copied')" "1 1 1"
c=$(berth create --from "$id@one")
equal "the third begins with a copy" "$(said 'laid out') $(said 'base made') $(said 'base copied')" "2 1 2"
for x in "$a" "$b" "$c"; do
	state "$MNT/$x" >"$TOP/now"
	same "$x begins with the snapshot" "$TOP/one" "$TOP/now"
done
equal "holes" "$([ "$(berth run "$c" -- sh -c 'du -k sparse | cut -f1' </dev/null)" -lt 3000 ] && echo kept)" kept
equal "inside" "$(berth run "$c" -- sh -c 'id -u; stat -c "%u %g %a %h" . m/3/3 m/2/hard | tr "\n" " "' </dev/null | tr '\n' ' ')" \
	"1000 1000 1000 755 3 1000 1000 4755 1 1000 1000 644 2 "
berth run "$c" -- sh -c 'echo more >>m/2/hard; rm -r m/7; echo new >new' </dev/null
equal "its own from then on" "$(cat "$MNT/$c/m/1/1"; cat "$MNT/$c/new"; cat "$MNT/$b/m/1/1"; find "$MNT/$b/m" -mindepth 1 -maxdepth 1 | wc -l)" \
	"$(printf '1 1\nmore\nnew\n1 1\n20')"
equal "no byte comes back" "$(curl -s --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$b" |
	python3 -c 'import json, sys; print(json.load(sys.stdin)["replication"]["shipments"])')" 0
berth sync "$c"
berth kill "$c"
equal "what was changed is kept" "$(cat "$MNT/$c/new")" new
d=$(berth create --from "$id@one" --workspace 512M)
equal "another size is another disk" "$(bases) $(said 'laid out')" "1 3"
berth kill "$d"

# Several at once: one of them makes the base, the others wait for it.
berth run "$a" -- sh -c 'echo two >m/two' </dev/null
berth sync "$a"
berth snapshot "$a" two >/dev/null
pids=()
for x in 1 2 3 4; do
	berth create --from "$a@two" --name "at-once-$x" >/dev/null &
	pids+=($!)
done
wait "${pids[@]}"
for x in 1 2 3 4; do equal "at once, $x" "$(cat "$MNT/by-name/at-once-$x/m/two")" two; done
equal "one was made for all" "$(said 'base made') $(bases)" "2 2"
for x in 1 2 3 4; do berth kill "at-once-$x"; done

# More than may be: the one that was used least recently goes.
old=$(find "$STATE/bases" -type f ! -name '.*' -printf '%T@ %f\n' | sort -n | head -n 1 | cut -d' ' -f2)
berth run "$a" -- sh -c 'echo three >m/three' </dev/null
berth sync "$a"
berth snapshot "$a" three >/dev/null
x=$(berth create --from "$a@three")
y=$(berth create --from "$a@three")
equal "two are kept" "$(bases)" 2
[ ! -e "$STATE/bases/$old" ] || fail "the oldest base is still there"
berth kill "$x" "$y"

# The next daemon has them; the sandboxes go on.
stop_daemon KILL
start_daemon --set sandbox.bases=2
x=$(berth create --from "$a@three")
equal "for the next daemon" "$(said 'base made') $(cat "$MNT/$x/m/three")" "3 three"
equal "the others went on" "$(berth run "$b" -- cat m/1/1 </dev/null)" "1 1"
berth kill "$x"

# One that dies while it makes one.
berth run "$a" -- sh -c 'echo four >m/four' </dev/null
berth sync "$a"
berth snapshot "$a" four >/dev/null
x=$(berth create --from "$a@four")
berth kill "$x"
laid=$(said 'laid out')
another() { [ "$(said 'laid out')" -gt "$laid" ]; }
berth create --from "$a@four" >/dev/null 2>&1 &
wait_for 30 "its files" another
stop_daemon KILL
wait $! 2>/dev/null || :
start_daemon --set sandbox.bases=2
tidy "after a death" 3
x=$(berth create --from "$a@four")
y=$(berth create --from "$a@four")
equal "as if nothing had been" "$(cat "$MNT/$x/m/four" "$MNT/$y/m/four")" "$(printf 'four\nfour')"
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
berth kill "$x" "$y" "$a" "$b" "$id"
tidy "at the end" 0
stop_daemon
start_daemon --set sandbox.bases=0
x=$(berth create --from "$a@four")
y=$(berth create --from "$a@four")
z=$(berth create --from "$a@four")
equal "none are wanted" "$(grep -c 'base copied' <(tail -n 20 "$LOG") || :)" 0
berth kill "$x" "$y" "$z"
stop_daemon
say ok
