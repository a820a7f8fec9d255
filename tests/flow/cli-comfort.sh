#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Help that fits a screen, completion that runs nothing of what a guest called his files, progress on terminals only, and
# names that are not UTF-8.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon

# --- help: 24 lines of 80 columns ---
fits() { # WHAT COMMAND...
	local what=$1
	shift
	"$@" >"$TOP/help" 2>&1 || :
	[ "$(wc -l <"$TOP/help")" -le 24 ] || fail "$what: $(wc -l <"$TOP/help") lines"
	[ "$(wc -L <"$TOP/help")" -le 80 ] || fail "$what: $(wc -L <"$TOP/help") columns"
	[ -s "$TOP/help" ] || fail "$what: nothing"
}
fits "berth" berth
fits "berth help" berth help
for verb in $(berth help --words); do
	fits "berth help $verb" berth help "$verb"
	grep -q "^usage: berth $verb" "$TOP/help" || fail "help of $verb: $(head -n 1 "$TOP/help")"
	berth "$verb" --help | cmp - "$TOP/help"
	berth help | grep -qw "$verb" || fail "help does not name $verb"
	berth help all | grep -q "^  $verb " || fail "help all does not name $verb"
done
refused 2 'no such verb: nothing' berth help nothing
equal "status of no verb" "$(berth >/dev/null 2>&1; echo $?)" 2

# --- the daemon, for people and for programs ---
berth info >"$TOP/info"
grep -q '^status  *ok$' "$TOP/info" && grep -q "^mount  *$MNT\$" "$TOP/info" || fail "info: $(cat "$TOP/info")"
equal "info --json" "$(berth info --json | field status)" ok

# --- completion ---
id=$(berth create --template mini --name boxy)
berth run boxy -- sh -c 'mkdir sub; touch plain "sub/in" "sub/\$(touch pwned)" "sub/a b" "sub/\`touch pwned\`"'
cat >"$TOP/complete" <<'SH'
source "$1"
COMP_LINE=$2
COMP_POINT=${#2}
read -r -a COMP_WORDS <<<"$2"
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
cd "$3"
_berth
printf '%s\n' "${COMPREPLY[@]}"
SH
mkdir "$TOP/here"
completes() { bash "$TOP/complete" "$SRC/src/cli/completion/berth" "$1" "$TOP/here" 2>/dev/null | sort | tr '\n' ' '; }
equal "verbs" "$(completes 'berth cre')" "create "
equal "verbs of the same beginning" "$(completes 'berth ti') $(completes 'berth r' | tr ' ' '\n' | grep -cE '^(run|rm|resume)$')" "timeout  3"
equal "options" "$(completes 'berth run --det')" "--detach "
equal "names" "$(completes 'berth kill bo') $(completes "berth info ${id:0:8}")" "boxy  $id "
equal "verbs of a verb" "$(completes 'berth key rev') $(completes 'berth template bu')" "revoke  build "
equal "paths" "$(completes 'berth cat boxy:su') $(completes 'berth cat boxy:p')" "sub/  plain "
equal "paths below" "$(completes 'berth cat boxy:sub/i')" "sub/in "
completes 'berth cat boxy:sub/' >"$TOP/all"
grep -qF 'sub/a\ b' "$TOP/all" || fail "not quoted: $(cat "$TOP/all")"
grep -qF 'sub/\$\(touch\ pwned\)' "$TOP/all" || fail "not quoted: $(cat "$TOP/all")"
[ -z "$(ls "$TOP/here")" ] || fail "a guest's file name was run"
equal "nothing of the guest's command" "$(completes 'berth run boxy -- -')" " "

# --- progress: on a terminal, not else, not when it is told to be quiet ---
head -c 150000000 /dev/urandom >"$TOP/big"
berth cp "$TOP/big" boxy:big 2>"$TOP/err"
[ ! -s "$TOP/err" ] || fail "words without a terminal: $(head -c 200 "$TOP/err")"
python3 - "$TOP/big" "$TOP/out" <<'PY'
import os, pty, re, subprocess, sys
from berthtest import fail
def run(*argv):
    master, slave = pty.openpty()
    p = subprocess.Popen(argv, stderr=slave, stdout=subprocess.PIPE); os.close(slave)
    got = b""
    while True:
        try: part = os.read(master, 65536)
        except OSError: break
        if not part: break
        got += part
    if p.wait(): fail(f"{argv}: {got}")
    return got
# A wait of 300 ms comes before the first line; what is faster than that needs none, so there are several tries.
for i in range(10):
    got = b"".join(run("berth", "cp", sys.argv[1], "boxy:big") for _ in range(i + 1))
    if b"%" in got: break
else: fail("no progress is shown on a terminal")
if not re.search(rb"\[[# ]{20}\] +\d+%  [\d.]+ MiB of 143\.1 MiB  ", got): fail(got[:300])
if not got.endswith(b"\r\x1b[K"): fail(f"the line stays: {got[-100:]}")
if run("berth", "cp", "--quiet", sys.argv[1], "boxy:big"): fail("--quiet is not quiet")
print("progress:", re.findall(rb"\[[# ]{20}\][^\r\x1b]*", got)[-1].decode()[:60])
PY
cmp "$TOP/big" "$MNT/$id/big"

# --- names that are not UTF-8 ---
berth run boxy -- sh -c 'mkdir odd; printf hello >"odd/$(printf "x\\377y")"'
curl -sf --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/files?path=odd/x%FFy" | grep -q hello
curl -sf -T "$TOP/help" --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/files?path=odd/%C3%28" >/dev/null
cmp "$TOP/help" "$MNT/$id/odd/$(printf '\303(')"
odd=$(printf 'x\377y')
equal "from the command line" "$(berth cat "boxy:odd/$odd")" hello
curl -sf --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/list?path=odd" | python3 -c 'import json, sys
names = {e.get("name_hex"): e["name"] for e in json.load(sys.stdin)}
assert names == {"78ff79": "x\ufffdy", "c328": "\ufffd("}, names'
mkdir "$TOP/copied"
berth cp -r boxy:odd "$TOP/copied"
diff -r "$TOP/copied/odd" "$MNT/$id/odd"
berth cp -r "$TOP/copied/odd" boxy:back
diff -r "$TOP/copied/odd" "$MNT/$id/back"
curl -sf -X DELETE --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/files?path=odd/x%FFy" >/dev/null
[ ! -e "$MNT/$id/odd/$odd" ] || fail "it is still there"
# links, extended attributes, room
echo once >"$MNT/$id/first"
berth ln first boxy:second
berth ln -s first boxy:pointer
equal "a hard link" "$(stat -c %h "$MNT/$id/first") $(cat "$MNT/$id/second")" "2 once"
equal "a symbolic link" "$(readlink "$MNT/$id/pointer")" first
refused 1 'No such file' berth ln nothing boxy:third
berth xattr boxy:first colour 'light red'
berth xattr boxy:first user.empty ''
equal "its attributes" "$(berth xattr boxy:second | sort | tr '\n' ' ')" "user.colour user.empty "
equal "a value" "$(berth xattr boxy:first user.colour)" "light red"
berth xattr boxy:first colour --remove
equal "what is left" "$(berth xattr boxy:first)" user.empty
refused 1 ENODATA berth xattr boxy:first colour
refused 2 'ID:PATH is wanted' berth xattr boxy
berth df boxy | grep -q '^sandbox .* free of .*names: ' || fail "df: $(berth df boxy)"
berth kill boxy
berth df boxy | grep -q '^store .* free of ' || fail "df: $(berth df boxy)"
equal "they outlive the sandbox" "$(berth xattr boxy:first)" user.empty
