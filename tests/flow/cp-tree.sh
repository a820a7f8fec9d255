#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# berth cp -r of a directory out of a sandbox: every kind of file, names of any bytes, links, holes, attributes and times, the
# same bit for bit, from a live and from a stopped one, into nothing and over an earlier copy; what cannot be is told of.
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

berth kill "$id"
berth cp -r "$id:t" "$TOP/stopped"
state "$TOP/stopped" >"$TOP/now"
same "from a stopped one" "$TOP/t" "$TOP/now"
refused 1 "nowhere" berth cp -r "$id:nowhere" "$TOP/x"
say ok
