#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rules of what is kept, of a template and of a sandbox: what is not replicated takes no room and no name; what is
# replicated as a name is fetched when it is opened, and never turns into zeros or an empty file when it cannot be; a new
# start of the daemon, snapshots, forks, archives and new sandboxes with such files; renames across the border both ways.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
TAKEOVER=10s
start_daemon

guest() { berth run "$id" -- sh -c "$1" </dev/null; }
names() { (cd "$1" && find . -mindepth 1 | sort | tr '\n' ' '); }
sound() { berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"; }
shipped() { berth info "$id" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["replication"]["shipped_b"])'; }
no_data() { # FILE: it has its size, and nobody can read it
	if cat "$1" >"$TOP/out" 2>"$TOP/err"; then fail "$1 could be read"; fi
	grep -q "No data available" "$TOP/err" || fail "$1: $(cat "$TOP/err")"
	equal "nothing of it" "$(stat -c %s "$TOP/out")" 0
}

printf '[none]\nnode_modules/\n*.o\n' >"$TOP/template"
printf '[names]\n*.bin\n/tmp/**\n[full]\nsmall.bin\n[none]\n!keep.o\n' >"$TOP/own"
printf '*.o\n' >"$TOP/bad"
berth template keep mini "$TOP/template"
equal "the template's rules" "$(berth template keep mini)" "$(cat "$TOP/template")"
refused 1 "line 1: a pattern before" berth template keep mini "$TOP/bad"
refused 1 "line 1: a pattern before" berth create --template mini --keep "$TOP/bad"
id=$(berth create --template mini --keep "$TOP/own")
berth info "$id" | grep -q '^keep  *by these rules' || fail "info: $(berth info "$id")"
equal "all rules" "$(berth info "$id" --json | field keep)" "$(cat "$TOP/template")

$(cat "$TOP/own")"
equal "followed" "$(berth info "$id" --json | field keep_followed)" true

# --- live
guest 'mkdir -p src/node_modules/a/b src/lib tmp node_modules/x && echo x >node_modules/x/f && echo o >src/a.o && echo o >src/keep.o &&
	echo text >src/lib/t && head -c 5000000 /dev/zero | tr "\0" x >big.bin && echo few >small.bin && : >none.bin && echo t >tmp/t'
equal "what is here" "$(names "$MNT/$id")" \
	"./big.bin ./none.bin ./small.bin ./src ./src/keep.o ./src/lib ./src/lib/t ./tmp ./tmp/t "
berth sync "$id"
[ "$(shipped)" -lt 1000 ] || fail "$(shipped) bytes were shipped"
equal "its size" "$(stat -c %s "$MNT/$id/big.bin")" 5000000
equal "as inside" "$(stat -c '%s %a %Y' "$MNT/$id/big.bin")" "$(berth run "$id" -- stat -c '%s %a %Y' big.bin </dev/null)"
equal "an empty one" "$(cat "$MNT/$id/none.bin")" ""
equal "fetched when it is opened" "$(tr -d x <"$MNT/$id/big.bin" | wc -c) $(wc -c <"$MNT/$id/big.bin")" "0 5000000"
[ "$(shipped)" -ge 5000000 ] || fail "it was not shipped"
was=$(shipped)
cat "$MNT/$id/big.bin" >/dev/null
equal "fetched once" "$(shipped)" "$was"
guest 'echo more >>big.bin; chmod 600 small.bin'
berth sync "$id"
equal "not shipped anew" "$(shipped)" "$was"
equal "its size now" "$(stat -c %s "$MNT/$id/big.bin")" 5000005
equal "fetched anew" "$(tail -c 5 "$MNT/$id/big.bin")" more
equal "by the API" "$(berth cat "$id:tmp/t" 2>/dev/null || berth cp "$id:tmp/t" -)" t

# --- from the host: what would vanish is refused, the rest goes through
must_fail mkdir "$MNT/$id/node_modules"
must_fail mv "$MNT/$id/src/lib" "$MNT/$id/src/node_modules"
must_fail cp "$TOP/own" "$MNT/$id/x.o"
refused 1 "not kept" berth cp "$TOP/own" "$id:y.o"
echo host >"$MNT/$id/host.bin"
equal "written from the host" "$(cat "$MNT/$id/host.bin") $(berth run "$id" -- cat host.bin </dev/null)" "host host"
echo again >>"$MNT/$id/tmp/t"
equal "appended to" "$(berth run "$id" -- cat tmp/t </dev/null | tr '\n' ' ')" "t again "

# --- across the border, both ways
guest 'mv src/lib node_modules/ && mkdir node_modules/lib/new && echo n >node_modules/lib/new/n'
[ ! -e "$MNT/$id/src/lib" ] || fail "src/lib is still here"
guest 'mv node_modules/lib src/lib'
equal "it is back" "$(cat "$MNT/$id/src/lib/new/n" "$MNT/$id/src/lib/t" | tr '\n' ' ')" "n text "
guest 'mv src/lib/t src/lib/t.bin && mv tmp/t src/lib/full && echo z >src/z && mv src/z tmp/z'
equal "names to full" "$(tr '\n' ' ' <"$MNT/$id/src/lib/full")" "t again "
equal "full to names" "$(cat "$MNT/$id/src/lib/t.bin")" text

# --- the daemon dies, and finds the rules again
guest 'echo changed >>big.bin'
stop_daemon KILL
start_daemon
equal "the rules" "$(berth info "$id" --json | field keep_followed)" true
guest 'mkdir -p node_modules/later src/sub && echo l >src/sub/l.bin && echo o >src/sub/o.o'
equal "after it" "$(names "$MNT/$id/src/sub")" "./l.bin "
equal "a name" "$(stat -c %s "$MNT/$id/src/sub/l.bin")" 2
berth sync "$id"

# --- states of it
berth snapshot "$id" one >/dev/null
view=$MNT/$id/.berth/snapshots/one
no_data "$view/big.bin"
equal "its size in the past" "$(stat -c %s "$view/big.bin")" "$(stat -c %s "$MNT/$id/big.bin")"
equal "what was fetched is in it" "$(cat "$view/src/lib/t.bin")" text
berth export "$id@one" -o "$TOP/a.tar" 2>"$TOP/err"
grep -q "files were left out" "$TOP/err" || fail "export said nothing: $(cat "$TOP/err")"
tar tf "$TOP/a.tar" >"$TOP/list"
if grep -q big.bin "$TOP/list"; then fail "big.bin is in the archive"; fi
grep -q src/lib/t.bin "$TOP/list" || fail "t.bin is not in the archive"
guest 'echo x >src/keep.o; echo other >big.bin; rm -r src/lib'
berth diff "$id@one" "$id" --patch >"$TOP/diff" || fail "diff: $(cat "$TOP/diff")"
grep -qE '^M  *file  *[0-9]+ -> 6  *big.bin$' "$TOP/diff" && grep -q '^-text' "$TOP/diff" || fail "diff: $(cat "$TOP/diff")"
berth diff "$id@one" "$id" --json | grep -q '"elsewhere":true' || fail "diff says nothing of it"
berth restore "$id@one" >/dev/null 2>"$TOP/err"
grep -q "of [0-9]* files $id@one has only the names" "$TOP/err" || fail "restore said nothing: $(cat "$TOP/err")"
equal "back, and what cannot come stays" "$(tr '\n' ' ' <"$MNT/$id/src/lib/full") $(berth run "$id" -- cat big.bin </dev/null)" \
	"t again  other"
sound
berth kill "$id"
equal "stopped" "$(berth info "$id" --json | field state)" stopped
no_data "$MNT/$id/src/sub/l.bin"
refused 1 "its content is not here" berth cp "$id:src/sub/l.bin" "$TOP/l"
must_fail dd if=/dev/zero of="$MNT/$id/src/sub/l.bin" bs=1 count=1 seek=1 conv=notrunc
equal "untouched" "$(stat -c %s "$MNT/$id/src/sub/l.bin")" 2
: >"$MNT/$id/src/sub/l.bin"
echo anew >"$MNT/$id/src/sub/l.bin"
equal "replaced" "$(cat "$MNT/$id/src/sub/l.bin")" anew
mkdir "$MNT/$id/node_modules" # nobody lives there any more
fork=$(berth fork "$id@one")
no_data "$MNT/$fork/big.bin"
equal "in a fork" "$(stat -c %s "$MNT/$fork/big.bin") $(cat "$MNT/$fork/small.bin")" "$(stat -c %s "$view/big.bin") few"
next=$(berth create --from "$id@one" 2>"$TOP/err")
grep -q "files were left out" "$TOP/err" || fail "create said nothing: $(cat "$TOP/err")"
[ ! -e "$MNT/$next/big.bin" ] || fail "big.bin was made of nothing"
equal "begins with" "$(tr '\n' ' ' <"$MNT/$next/src/lib/full")" "t again "
berth gc >/dev/null
sound
no_data "$MNT/$fork/big.bin"
berth kill "$next"
berth template rm mini
equal "the rules went with it" "$(berth template keep mini)" ""
say "passed"
