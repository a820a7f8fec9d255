#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# berth cp -r of a directory, out of a sandbox and into one: every kind of file, names of any bytes, links, holes, attributes
# and times, the same bit for bit, live and stopped, into nothing and over an earlier copy; what cannot be is told of.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
state() {
	(cd "$1" && find . -mindepth 1 \( -type l -printf '%P l %T@ %l\n' \) -o \( -type d -printf '%P d %m %T@\n' \) -o \
		\( -type f -printf '%P f %m %T@ %n %s ' -exec sha256sum {} \; \) -o -printf '%P %y %m %T@\n' | sed 's, \./.*,,' | sort
		getfattr -R -P -h -d -m user. . | sort)
}
same() { diff "$2" "$3" >"$TOP/diff" || fail "$1: $(head -n 10 "$TOP/diff")"; }
kib() { du -k "$1" | cut -f1; }

# shellcheck disable=SC2016 # $i is the guest's
berth run "$id" -- sh -c 'mkdir -p t/a/b/c t/empty t/many && cd t && echo one >a/one && ln a/one a/b/again && ln -s ../nowhere a/link &&
	for i in $(seq 300); do echo $i >many/$i; done && head -c 2000000 /dev/urandom >big && mkfifo pipe && : >nothing &&
	dd if=big of=sparse bs=1M seek=60 count=1 2>/dev/null && truncate -s 80M sparse && chmod 0400 a/one && chmod 1777 empty &&
	printf x >"$(printf "a/\377 \n-")" && touch -d 200102030405.06 big many && mkdir shut && echo s >shut/s && chmod 0500 shut' </dev/null
setfattr -n user.file -v one "$MNT/$id/t/a/one"
setfattr -n user.dir -v two "$MNT/$id/t/a/b"
berth sync "$id"
state "$MNT/$id/t" >"$TOP/t"
mkdir "$TOP/o"
berth cp -r "$id:t" "$TOP/o"
state "$TOP/o/t" >"$TOP/now"
same "from a live one" "$TOP/t" "$TOP/now"
equal "the directory itself" "$(stat -c '%a %Y' "$TOP/o/t")" "$(stat -c '%a %Y' "$MNT/$id/t")"
[ "$(kib "$TOP/o/t/sparse")" -lt 3000 ] || fail "holes were filled: $(kib "$TOP/o/t/sparse") KiB"
equal "one inode" "$(stat -c %i "$TOP/o/t/a/one")" "$(stat -c %i "$TOP/o/t/a/b/again")"

# Over an earlier copy: what changed is changed, what is not there inside stays, a directory does not become something else.
echo mine >"$TOP/o/t/mine"
echo old >"$TOP/o/t/big"
rm "$TOP/o/t/many/7"
berth cp -r "$id:t" "$TOP/o"
state "$TOP/o/t" | grep -v '^mine f' >"$TOP/now"
same "over an earlier one" "$TOP/t" "$TOP/now"
equal "what was there besides" "$(cat "$TOP/o/t/mine")" mine
rm -r "$TOP/o/t/many"
echo file >"$TOP/o/t/many"
refused 1 "many: there is something else than a directory" berth cp -r "$id:t" "$TOP/o"
equal "it stays" "$(cat "$TOP/o/t/many")" file
find "$TOP/o/t" -name '.berth-*' | grep . && fail "temporary files were left"

# Files that set ids are for the guest alone; what cannot be written is told of and the others go on.
berth run "$id" -- sh -c 'mkdir s && echo s >s/s && chmod 4755 s/s && echo t >s/t' </dev/null
berth cp -r "$id:s" "$TOP/s"
equal "no set-user-id" "$(stat -c %a "$TOP/s/s")" 755
mkdir "$TOP/tiny"
unshare -m sh -c 'mount -t tmpfs -o size=1m t "$1/tiny" && berth cp -r "$2:t" "$1/tiny/t" 2>"$1/said"; s=$?
	cat "$1/tiny/t/many/300"; ls -A "$1/tiny/t" | grep -c "^[.]berth"; exit $s' sh "$TOP" "$id" >"$TOP/tiny.out" && fail "there was no room for it"
grep -q "big: No space left" "$TOP/said" || fail "it does not say what has no room: $(head -n 3 "$TOP/said")"
equal "the others, and nothing half" "$(tr '\n' ' ' <"$TOP/tiny.out")" "300 0 "

# The way in: what came out goes into another one, and is the same on the mount as soon as the command has ended.
inside() { berth run "$two" -- sh -c "$1" </dev/null; }
in_mount() { state "$MNT/$two/$1"; }
two=$(berth create --template mini)
rm -r "$TOP/o"
mkdir "$TOP/o"
berth cp -r "$id:t" "$TOP/o"
state "$TOP/o/t" >"$TOP/mine"
touch -d '1999-01-02 03:04:05.123456789' "$TOP/o/t"
berth cp -r "$TOP/o/t" "$two:"
in_mount t >"$TOP/now"
same "into a live one" "$TOP/mine" "$TOP/now"
equal "the directory itself" "$(stat -c '%a %.9Y' "$TOP/o/t")" "$(stat -c '%a %.9Y' "$MNT/$two/t")"
[ "$(inside 'du -k t/sparse | cut -f1')" -lt 3000 ] || fail "holes were filled inside"
equal "one inode" "$(inside 'stat -c %i t/a/one')" "$(inside 'stat -c %i t/a/b/again')"
equal "owners are the directory's" "$(inside 'find t -exec stat -c %u:%g {} + | sort -u')" "$(inside 'stat -c %u:%g .')"
equal "as inside" "$(inside 'sha256sum t/big t/sparse t/many/299 | sha256sum')" "$(cd "$TOP/o" && sha256sum t/big t/sparse t/many/299 | sha256sum)"

# Over an earlier copy, while a command reads: it sees the old file or the new one. What is there besides stays; a link that
# stands where a file goes is replaced and not followed.
inside 'echo mine >t/mine; rm t/many/7 t/nothing; echo outside >victim; ln -s ../victim t/nothing; echo old >t/many/9; touch t/a/b'
berth run "$two" --detach -- sh -c 'while [ ! -e stop ]; do s=$(stat -c %s t/big) && [ "$s" = 2000000 ] || echo "$s" >>torn; done' </dev/null >/dev/null
berth cp -r "$TOP/o/t" "$two:/workspace/"
inside ': >stop'
in_mount t | grep -v '^mine f' >"$TOP/now"
same "over an earlier one" "$TOP/mine" "$TOP/now"
equal "what is there besides" "$(inside 'cat t/mine victim; ls -A t t/many | grep -c "^[.]berth"; cat torn 2>/dev/null')" "$(printf 'mine\noutside\n0')"
inside 'rm t/many/3 && mkdir t/many/3'
refused 1 "many/3: a directory is there" berth cp -r "$TOP/o/t" "$two:"
inside 'rm -r t/many && echo file >t/many'
refused 1 "many: something else is there" berth cp -r "$TOP/o/t" "$two:"
equal "it stays" "$(inside 'cat t/many')" file
inside 'chmod 0700 t/shut && rm -r t && mkdir deep away && ln -s ../away deep/link'
refused 1 "deep/link" berth cp -r "$TOP/o/t" "$two:deep/link/t"
equal "no link is followed" "$(inside 'ls -A away')" ""

# The contents alone: attributes of the directory stay. Parents are made.
inside 'chmod 0711 deep; touch -d 200001010000 deep'
berth cp -r "$TOP/o/t/many/." "$two:deep"
equal "contents" "$(inside 'cat deep/300; stat -c %a deep')" "$(printf '300\n711')"
berth cp -r "$TOP/o/t/a" "$two:new/way/a"
equal "the way" "$(cat "$MNT/$two/new/way/a/b/again")" one

# No room: it says so, and nothing is half.
small=$(berth create --template mini --workspace 32M)
mkdir "$TOP/fat"
head -c 40000000 /dev/urandom >"$TOP/fat/fat"
echo thin >"$TOP/fat/thin"
refused 1 "more than 33554432 bytes" berth cp -r "$TOP/fat" "$small:"
truncate -s 30000000 "$TOP/fat/fat"
refused 1 "fat/fat: ENOSPC" berth cp -r "$TOP/fat" "$small:"
equal "nothing half" "$(berth run "$small" -- sh -c 'ls -A fat | grep -v thin' </dev/null)" ""
berth rm --force "$small" 2>/dev/null || berth kill "$small"

# Archives of anybody's, by the route.
hostile() { # WHAT NAME TYPE LINK
	python3 - "$2" "$3" "$4" >"$TOP/h.tar" <<'END'
import io, sys, tarfile
t = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT)
link = tarfile.TarInfo("way"); link.type = tarfile.SYMTYPE; link.linkname = "/etc"; t.addfile(link)
i = tarfile.TarInfo(sys.argv[1]); i.type = sys.argv[2].encode(); i.linkname = sys.argv[3]
if i.type == tarfile.REGTYPE: i.size = 4
t.addfile(i, io.BytesIO(b"evil") if i.size else None); t.close()
END
	for at in "$two" "$id"; do
		code=$(curl -s -o "$TOP/answer" -w '%{http_code}' --unix-socket "$STATE/run/api.sock" --data-binary "@$TOP/h.tar" "http://x/v1/sandboxes/$at/archive?path=h")
		[ "$code" = 400 ] && grep -q bad-archive "$TOP/answer" || fail "$1: $code $(cat "$TOP/answer")"
	done
}
berth kill "$id"
berth cp -r "$id:t" "$TOP/stopped"
state "$TOP/stopped" >"$TOP/now"
same "from a stopped one" "$TOP/t" "$TOP/now"
refused 1 "nowhere" berth cp -r "$id:nowhere" "$TOP/x"

hostile "above" ../../h 0 ""
hostile "absolute" /etc/passwd 0 ""
hostile "through a link" way/passwd 0 ""
hostile "a hard link to outside" h 1 ../../etc/passwd
hostile "a hard link to nothing" h 1 nothing
head -c 700 "$TOP/h.tar" >"$TOP/cut.tar"
equal "cut off" "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$STATE/run/api.sock" --data-binary "@$TOP/cut.tar" "http://x/v1/sandboxes/$two/archive?path=h")" 400
equal "nothing was made" "$(inside 'ls -d h 2>/dev/null'; ls -d "$MNT/$id/h" 2>/dev/null)" ""

# Into a stopped one: the same; what cannot be leaves everything as it was.
state "$MNT/$id/t" >"$TOP/before"
rm "$TOP/o/t/many/5" && mkdir "$TOP/o/t/many/5"
refused 1 "many/5: something else is there" berth cp -r "$TOP/o/t" "$id:"
state "$MNT/$id/t" >"$TOP/now"
same "nothing of it" "$TOP/before" "$TOP/now"
rmdir "$TOP/o/t/many/5"
echo five >"$TOP/o/t/many/5"
ln "$TOP/o/t/many/5" "$TOP/o/t/empty/five"
setfattr -n user.more -v three "$TOP/o/t/a/b"
state "$TOP/o/t" >"$TOP/mine"
berth cp -r "$TOP/o/t" "$id:"
state "$MNT/$id/t" >"$TOP/now"
same "over the first" "$TOP/mine" "$TOP/now"
berth cp -r "$TOP/o/t" "$id:fresh/t"
state "$MNT/$id/fresh/t" >"$TOP/now"
same "into a stopped one" "$TOP/mine" "$TOP/now"
three=$(berth create --from "$id")
state "$MNT/$three/fresh/t" >"$TOP/now"
same "and in one that begins with it" "$TOP/mine" "$TOP/now"
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
