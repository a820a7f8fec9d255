#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Snapshots of a live and of a stopped workspace, what differs, going back (live and stopped), forks; each state compared
# byte by byte with a copy that was made of the mount at the time; a new start of the daemon in between.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
TAKEOVER=10s
start_daemon
id=$(berth create --template mini)

# Names, kinds, modes, times, targets and bytes of a tree, a line each.
state() {
	(cd "$1" && find . -mindepth 1 \( -type f -printf '%P f %m %T@ %s ' -exec sha256sum {} \; \) -o \
		\( -type l -printf '%P l %l\n' \) -o \( ! -type f ! -type l -printf '%P %y %m %T@\n' \) | sed 's, \./.*,,' | sort
		getfattr -R -P -h -d . | sort)
}
same() { diff "$2" "$3" >"$TOP/diff" || fail "$1: $(head -n 10 "$TOP/diff")"; }
# The listing of a directory, also names with a dot.
names() { (cd "$1" && shopt -s nullglob dotglob && printf '%s\n' *); }
sound() { berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"; }

# shellcheck disable=SC2016 # $i is the guest's
berth run "$id" -- sh -c 'mkdir -p a/b/c d && echo one >a/b/c/f && echo two >d/g && ln -s d/g link && mkfifo d/p &&
	chmod 600 d/g && touch -d 200102030405.06 a/b/c/f && for i in $(seq 300); do echo $i >a/n$i; done &&
	head -c 3000000 /dev/urandom >big && : >empty' </dev/null
setfattr -n user.kept -v one "$MNT/$id/a/b/c/f"
setfattr -n user.dir -v yes "$MNT/$id/d"
state "$MNT/$id" >"$TOP/one"
equal "the name" "$(berth snapshot "$id" first)" "$id@first"
refused 1 "there is a snapshot first" berth snapshot "$id" first
refused 1 "a-z, 0-9 and -" berth snapshot "$id" 'No Good'
equal "nothing differs" "$(berth diff "$id@first" "$id")" ""

berth run "$id" -- sh -c 'echo three >>d/g && rm a/n7 && mkdir e && echo new >e/h && rm link && ln -s a link &&
	chmod 755 big && printf x | dd of=big bs=1 seek=1000000 conv=notrunc 2>/dev/null && rm -r a/b && echo file >a/b' </dev/null
state "$MNT/$id" >"$TOP/two"
berth snapshot "$id" second --no-freeze >/dev/null
berth diff "$id@first" "$id@second" >"$TOP/out"
cat >"$TOP/wanted" <<'END'
D  dir           4096                a/b
A  file             5                a/b
D  dir           4096                a/b/c
D  file             4                a/b/c/f
D  file             2                a/n7
M  file       3000000 -> 3000000    big
M  file             4 -> 10         d/g
A  dir           4096                e
A  file             4                e/h
M  symlink          3 -> 1          link
END
sed -i 's/^\([AD]  dir  *\)[0-9]*/\10/' "$TOP/wanted" "$TOP/out"
diff <(sed 's/  */ /g' "$TOP/wanted") <(sed 's/  */ /g' "$TOP/out") || fail "the difference"
berth diff "$id@first" "$id@second" --path d --patch >"$TOP/out"
grep -q '^+three$' "$TOP/out" && grep -q '^--- a/d/g' "$TOP/out" || fail "the patch: $(cat "$TOP/out")"
berth diff "$id@first" "$id@second" --json | python3 -c 'import json, sys
rows = json.load(sys.stdin)
told = [r for r in rows if not ("before" in r and "after" in r and r["after"]["type"] == "dir")]
assert len(told) == 10, rows
assert [r for r in rows if r["path"] == "d/g"][0]["before"]["size"] == 4'
refused 1 "no snapshot" berth diff "$id@first" "$id@third"

# Going back while it runs: its processes go on, the mount and the inside show the same.
berth run "$id" --detach --id sleeper -- sleep 1000 >/dev/null
kept=$(berth restore "$id@first" | sed 's/.*@//')
state "$MNT/$id" >"$TOP/now"
same "restored while it runs" "$TOP/one" "$TOP/now"
berth run "$id" -- sh -c 'cat a/b/c/f d/g; test -p d/p; cat link; ls a | wc -l; test -d e && echo e' </dev/null >"$TOP/out" || :
equal "inside" "$(tr '\n' ' ' <"$TOP/out")" "one two two 301 "
berth restore "$id@$kept" --no-keep >/dev/null
state "$MNT/$id" >"$TOP/now"
same "restored to what was before" "$TOP/two" "$TOP/now"
berth restore "$id@first" a/n7 --no-keep
berth restore "$id@first" a/b/c/f --no-keep && fail "a file became a directory by the way to something in it"
equal "one path" "$(cat "$MNT/$id/a/n7")" 7
equal "what was not asked for" "$(cat "$MNT/$id/a/b")" file
berth run "$id" -- sh -c 'cat /proc/[0-9]*/comm | grep -qx sleep' </dev/null >/dev/null || fail "the sleeper did not go on"
sound

# The same when it is stopped, over a new start of the daemon.
berth kill "$id"
berth snapshot "$id" third >/dev/null
state "$MNT/$id" >"$TOP/three"
berth restore "$id@first" >/dev/null
state "$MNT/$id" >"$TOP/now"
same "restored when it was stopped" "$TOP/one" "$TOP/now"
equal "restored is the same tree" "$(berth diff "$id@first" "$id")" ""
berth restore "$id@third" --no-keep
state "$MNT/$id" >"$TOP/now"
same "forth again" "$TOP/three" "$TOP/now"
refused 1 'Not a directory' berth restore "$id@first" a/b/c/f --no-keep
rm -r "$MNT/$id/a"
berth restore "$id@first" a/b/c/f --no-keep
equal "the way was made" "$(cat "$MNT/$id/a/b/c/f")" one
sound
stop_daemon
start_daemon
equal "the snapshots" "$(berth snapshots "$id" | awk 'NR > 1 { print $1 }' | grep -cE '^(first|second|third|before-restore-.*)$')" 5

# Forks: everything is there, and what is changed in one is changed in no other.
berth fork "$id@first" -n 5 >"$TOP/forks"
equal "five" "$(wc -l <"$TOP/forks")" 5
one=$(sed -n 1p "$TOP/forks") other=$(sed -n 2p "$TOP/forks")
equal "in a fork" "$(cat "$MNT/$one/a/b/c/f")" one
echo changed >"$MNT/$one/a/b/c/f"
rm -r "$MNT/$one/d"
mkdir "$MNT/$one/d" && echo more >"$MNT/$one/d/more"
mv "$MNT/$one/a/n1" "$MNT/$one/d/n1"
state "$MNT/$other" >"$TOP/now"
same "a fork that was left alone" "$TOP/one" "$TOP/now"
equal "of two forks" "$(berth diff "$other" "$one" | awk '{ print $1, $NF }' | tr '\n' ' ')" \
	"M a/b/c/f D a/n1 D d/g A d/more A d/n1 D d/p "
berth fork "$one" --name again >/dev/null
equal "a fork of a fork" "$(cat "$MNT/by-name/again/d/more")" more
refused 1 "called again exists" berth fork "$one" --name again
must_fail rmdir "$MNT/by-name/again/a"
grep -q "not empty" "$TOP/err" || fail "rmdir of a directory that was never looked into: $(cat "$TOP/err")"
rm -r "$MNT/by-name/again/a"
sound
berth restore "$one@nothing" && fail "a snapshot that is not there"
berth snapshot "$one" mine >/dev/null
echo again >"$MNT/$one/a/b/c/f"
berth restore "$one@mine" >/dev/null
equal "a fork goes back" "$(cat "$MNT/$one/a/b/c/f")" changed

# Hard links keep together.
echo linked >"$MNT/$one/x" && ln "$MNT/$one/x" "$MNT/$one/d/y"
berth snapshot "$one" links >/dev/null
state "$MNT/$one" >"$TOP/links"
rm "$MNT/$one/x" && echo other >"$MNT/$one/x"
berth restore "$one@links" >/dev/null
state "$MNT/$one" >"$TOP/now"
same "with hard links" "$TOP/links" "$TOP/now"
equal "one inode" "$(stat -c %i "$MNT/$one/x")" "$(stat -c %i "$MNT/$one/d/y")"
fork=$(berth fork "$one@links")
echo both >"$MNT/$fork/x"
equal "one file in the fork" "$(cat "$MNT/$fork/d/y")" both
sound

# The past on the mount: every snapshot as it was, nothing can be changed in it, and who does not know the name sees nothing.
past=$MNT/$id/.berth/snapshots
equal "a listing of them" "$(names "$past" | grep -cE '^(first|second|third)$')" 3
state "$past/first" >"$TOP/now"
same "the first snapshot on the mount" "$TOP/one" "$TOP/now"
state "$past/second" >"$TOP/now"
same "the second snapshot on the mount" "$TOP/two" "$TOP/now"
equal "not in a listing" "$(names "$MNT/$id" | grep -c berth)" 0
equal "not found" "$(find "$MNT/$id" -name '*berth*' | wc -l)" 0
diff -r --no-dereference -x p "$past/first" "$MNT/$other" || fail "a snapshot and a fork of it differ"
# FIFOs cannot be compared, all else must be told.
diff -rq --no-dereference -x p "$past/first" "$past/second" >"$TOP/diff" || :
equal "diff -r of two snapshots" "$(wc -l <"$TOP/diff")" 6
grep -q 'first/d/g and .*second/d/g differ' "$TOP/diff" || fail "diff -r: $(cat "$TOP/diff")"
for change in "touch $past/first/new" "rm $past/first/d/g" "mkdir $past/x" "mv $past/first/d $past/first/e" "chmod 777 $past/first/d/g" \
	"truncate -s 0 $past/first/d/g" "ln $past/first/d/g $past/first/h" "ln -s x $past/first/y"; do
	# shellcheck disable=SC2086 # words
	must_fail $change
	grep -qE 'Read-only file system|Operation not permitted' "$TOP/err" || fail "$change: $(cat "$TOP/err")"
done
must_fail rmdir "$MNT/$id/.berth"
must_fail cat "$past/nothing/x"
tar -C "$past/first" -cf "$TOP/first.tar" . && mkdir "$TOP/copy" && tar -C "$TOP/copy" -xf "$TOP/first.tar"
cmp "$TOP/copy/big" "$past/first/big" || fail "a copy by tar"
berth snapshot "$id" fourth >/dev/null
equal "a new one" "$(names "$past" | grep -c '^fourth$')" 1
equal "in it" "$(cat "$past/fourth/a/b/c/f")" one
berth rm "$id@fourth"
equal "is gone" "$(names "$past" | grep -c '^fourth$')" 0
must_fail cat "$past/fourth/a/b/c/f"
sound

# An agent that dies while somebody works on the sandbox keeps nobody waiting.
dying=$(berth create --template mini)
agent=$(berth info "$dying" --json | field pid)
kill -STOP "$agent"
berth snapshot "$dying" >/dev/null 2>&1 &
keeper=$!
read -rt 0.3 <> <(:) || : # it waits for the agent by now, most likely
kill -KILL "$agent"
is_failed() { [ "$(berth info "$dying" --json | field state)" = failed ]; }
wait_for 30 "the death to be noticed" is_failed
wait "$keeper" || : # nothing more is promised of it
berth rm "$dying"

# What is removed is removed.
berth rm "$id@first" "$id@second"
refused 1 "no snapshot" berth restore "$id@first"
berth rm "$id"
equal "a fork outlives where it came from" "$(cat "$MNT/$other/a/b/c/f")" one
berth snapshot "$other" kept >/dev/null
exec 9<"$MNT/$other/.berth/snapshots/kept/big"
cd "$MNT/$other/.berth/snapshots/kept/a"
stop_daemon
start_daemon
if grep -q 'msg="mounted" survives=yes' "$LOG"; then
	equal "who stands in the past goes on" "$(cat b/c/f)" one
	cmp "$MNT/$other/big" - <&9 || fail "a file of the past that was open"
fi
cd "$TOP"
exec 9<&-
state "$MNT/$other" >"$TOP/now"
same "a fork after a new start" "$TOP/one" "$TOP/now"
sound
say ok
