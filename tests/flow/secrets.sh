#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Secrets of the daemon: kept sealed, replaced by newer ones only, delivered as files and variables to whom they are for,
# taken away by a pause, audited; and no value in the state directory, the log, the captures or an answer.
. "$(dirname "$0")/../lib/flow.sh"
seal() { "$BERTH_BUILD/berth-seal" "$@"; }
need_template mini
install -o berth -m 600 /dev/null "$TOP/trace" # the daemon is not root when it captures
export BERTH_TRACE=$TOP/trace
start_daemon --set daemon.log-level=debug
cd "$TOP"

berth secret key >host.pub
grep -q '^berth-pub-1:' host.pub || fail "no public key: $(cat host.pub)"
equal "its key" "$(stat -c '%a %U' "$STATE/secrets/host.key")" "600 root"
mark=mark$RANDOM$RANDOM
# Commands tell a digest: what they print is in captures, and would be a value that is found there.
sum_of() { printf %s "$1" | sha256sum | cut -c1-16; }
TELL='printf %s "$TOKEN" | sha256sum | cut -c1-16'
TELL_FILE='sha256sum </run/berth/secrets/cert | cut -c1-16'
make() { # NAME VALUE OPTIONS...
	local name=$1 value=$2
	shift 2
	printf %s "$value" | seal seal --to host.pub --name "$name" "$@" -o "$name.sealed"
}
make TOKEN "$mark-env-1" --deliver env --for template=mini
make cert "$mark-file-1" --deliver file --for template=mini --owner root
make other "$mark-other" --deliver file --for template=ci-fix
make web "$mark-web" --host api.example.org
make short "$mark-short" --deliver env --expires 3s
for name in TOKEN cert other web short; do berth secret add "$name.sealed"; done
berth secret ls >list
grep -q '^TOKEN  *env  *1 .*template=mini' list && grep -q '^web  *broker .*host=api.example.org' list || fail "ls: $(cat list)"
equal "ls --json" "$(berth secret ls --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" 5

# what is not taken
refused 1 'exists: rotate it' berth secret add TOKEN.sealed
seal keygen -o stranger.key >stranger.pub
printf x | seal seal --to stranger.pub --name X --deliver env -o x.sealed
refused 1 'not sealed to the key' berth secret add x.sealed
refused 1 "which is $(curl -s --unix-socket "$STATE/run/api.sock" http://x/v1/secrets/key | field id)" berth secret add x.sealed
printf 'nothing\n' >n.sealed
refused 1 'no sealed file' berth secret add n.sealed
sed 's/^\(...\)./\1x/2' TOKEN.sealed | head -n 3 >cut.sealed
refused 1 'damaged|cut off' berth secret add cut.sealed
refused 1 'not as cert' berth secret rotate cert TOKEN.sealed

# variables, of the one command that asks
id=$(berth create --template mini)
equal "asked for" "$(berth run --secret TOKEN "$id" -- sh -c "$TELL")" "$(sum_of "$mark-env-1")"
equal "not asked for" "$(berth run "$id" -- sh -c 'echo "${TOKEN:-none}"')" none
api() { curl -s --unix-socket "$STATE/run/api.sock" "$@"; }
equal "in one request" "$(api "http://x/v1/sandboxes/$id/exec" -d '{"argv":["sh","-c","printf %s $TOKEN | sha256sum | cut -c1-16"],"secrets":["TOKEN"]}' | field stdout)" \
	"$(sum_of "$mark-env-1")"
equal "over the caller's own" "$(berth run --secret TOKEN --env TOKEN=own "$id" -- sh -c "$TELL")" "$(sum_of "$mark-env-1")"
refused 125 'as file, not as env' berth run --secret cert "$id" -- true
refused 125 'no secret is called' berth run --secret nothing "$id" -- true
wait_for 10 "its end" sh -c "! berth run --secret short $id -- true 2>/dev/null"
refused 125 'has expired' berth run --secret short "$id" -- true
refused 1 'it is for template ci-fix, not for mini' berth create --template mini --secret other
berth kill "$(berth create --template mini --secret web)" --grace 0 # nothing of it is inside
equal "nothing was left of those" "$(berth ps --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" 1

# files, as long as it runs
two=$(berth create --template mini --secret cert --secret TOKEN)
equal "a file" "$(berth run --user root "$two" -- sh -c "$TELL_FILE; stat -c '%a %u' /run/berth/secrets/cert" | tr '\n' ' ')" \
	"$(sum_of "$mark-file-1") 400 0 "
must_fail berth run "$two" -- test -r /run/berth/secrets/cert # another account
equal "a variable of each command" "$(berth run "$two" -- sh -c "$TELL")" "$(sum_of "$mark-env-1")"
delivered() { berth secret audit --json | grep -c "\"delivered\",\"secret\":\"TOKEN\".*\"sandbox\":\"$two\""; }
berth run --detach --id back "$two" -- sh -c "$TELL"
before=$(delivered)
equal "who comes back to a command" "$(berth attach "$two" back </dev/null)" "$(sum_of "$mark-env-1")"
equal "and nothing was delivered for that" "$(delivered)" "$before"
# many variables of the caller's push none of it off
equal "behind many" "$(berth run $(seq -f '--env V%g=1' 60) "$two" -- sh -c "$TELL")" "$(sum_of "$mark-env-1")"
equal "others have none" "$(berth run --user root "$id" -- sh -c 'ls /run/berth 2>/dev/null; echo end')" end
equal "which" "$(berth info "$two" --json | field secrets)" '["cert", "TOKEN"]'
berth snapshot "$two" before >/dev/null
# while it is paused there is none: a process that was stopped in the middle of looking sees it gone, then back
berth run --detach --id looker --user root "$two" -- sh -c 'while [ -e /run/berth/secrets/cert ] || [ ! -e /tmp/go ]; do :; done; echo gone >/workspace/seen'
berth pause "$two"
stop_daemon # and the next one brings it back
start_daemon --set daemon.log-level=debug
berth resume "$two"
equal "after a pause" "$(berth run --user root "$two" -- sh -c "$TELL_FILE")" "$(sum_of "$mark-file-1")"

# rotation: the newer one from now on, never an old one again
cp TOKEN.sealed old.sealed
make TOKEN "$mark-env-2" --deliver env --for template=mini
berth secret rotate TOKEN <TOKEN.sealed
equal "rotated" "$(berth run "$two" -- sh -c "$TELL")" "$(sum_of "$mark-env-2")"
refused 1 'here before' berth secret rotate TOKEN old.sealed
# for another delivery only when that is said: commands would look for it in vain
make TOKEN "$mark-env-3" --deliver file --for template=mini
refused 1 'sealed for delivery file, and what is there is for env' berth secret rotate TOKEN TOKEN.sealed
refused 1 'sealed for delivery file, not broker' berth secret rotate TOKEN TOKEN.sealed --deliver broker
equal "it is as it was" "$(berth run "$two" -- sh -c "$TELL")" "$(sum_of "$mark-env-2")"
berth secret rotate TOKEN TOKEN.sealed --deliver file
berth secret ls | grep -q '^TOKEN  *file  *3 ' || fail "it is not there: $(berth secret ls)"
berth secret rm TOKEN
refused 125 'no secret is called' berth run --secret TOKEN "$id" -- true
refused 1 'here before' berth secret add old.sealed
make cert "$mark-file-2" --deliver file --for template=mini --owner root --expires 1h
berth secret rotate cert cert.sealed
berth kill "$two" --grace 0

# the audit
berth secret audit --json >audit
for words in '"what":"added","secret":"cert","key":"socket"' '"what":"rotated","secret":"TOKEN"' '"what":"removed","secret":"TOKEN"' \
	'"what":"delivered","secret":"TOKEN".*"sandbox":"'"$id"'","command":"sh","delivery":"env"' \
	'"what":"delivered","secret":"cert".*"sandbox":"'"$two"'","delivery":"file"' \
	'"what":"refused","secret":"other".*"why":"wrong-template"' '"what":"refused","secret":"short".*"why":"expired"' \
	'"what":"refused","secret":"TOKEN".*"why":"old-secret"'; do
	grep -q "$words" audit || fail "the audit lacks $words: $(cat audit)"
done
python3 - <<'PY'
import json
from berthtest import fail
rows = [json.loads(line) for line in open("audit")]
if [r["seq"] for r in rows] != list(range(1, len(rows) + 1)): fail("rows are missing")
if len({r["link"] for r in rows}) != len(rows): fail("links are not of their rows")
PY
equal "rows behind one" "$(berth secret audit --since 3 --json | head -n 1 | field seq)" 4
berth fsck

# scopes of keys: values may be used by those who run commands, changed by an admin
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
stop_daemon
start_daemon --set daemon.log-level=debug --set "api.listen=127.0.0.1:$port"
runner=$(berth key create runner --scopes read,run)
BERTH_URL=http://127.0.0.1:$port BERTH_API_KEY=$runner berth secret ls | grep -q '^cert' || fail "a reader sees names"
BERTH_URL=http://127.0.0.1:$port BERTH_API_KEY=$runner refused 1 'may not do this' berth secret rm cert
BERTH_URL=http://127.0.0.1:$port BERTH_API_KEY=$runner refused 1 'may not do this' berth secret audit
three=$(BERTH_URL=http://127.0.0.1:$port BERTH_API_KEY=$runner berth create --template mini --secret cert)
berth secret audit --json | tail -n 1 | grep -q "\"key\":\"${runner:4:8}\"" || fail "the audit does not say which key"

# no value anywhere: not in what is kept, said or captured, nor in the memory of the daemon
{
	api "http://x/v1/sandboxes/$three"
	api "http://x/v1/secrets"
	api "http://x/v1/secrets/audit"
	berth info "$three" --json
} >answers
export mark STATE LOG DAEMON three
python3 - <<'PY'
import base64, os, re
from berthtest import fail
mark = os.environ["mark"].encode()
forms = [mark, mark[::-1], mark.hex().encode()] + [base64.b64encode(b"x" * i + mark)[4:-4] for i in range(3)]
def look(what, data):
    for form in forms:
        if form in data: fail(f"{what} has the value as {form}")
names = [os.environ["LOG"], "answers", "audit", "list", "trace"]
for top, _, files in os.walk(os.environ["STATE"]):
    if "/templates" in top or "/mnt" in top: continue
    names += [os.path.join(top, f) for f in files]
n = 0
for name in names:
    try:
        with open(name, "rb") as f:
            at, size = 0, os.fstat(f.fileno()).st_size
            while at < size: # what is no hole
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                while at < end:
                    look(name, os.pread(f.fileno(), min(end - at + 100, 1 << 24), at))
                    at = min(end, at + (1 << 24))
        n += 1
    except OSError: pass
if n < 10: fail("too few files")
if os.path.getsize("trace") < 1000: fail("no capture")
def memory(pid, mark):
    found = b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not m: continue
            a, b = int(m[1], 16), int(m[2], 16)
            for at in range(a, b, 1 << 24):
                try:
                    mem.seek(at)
                    part = mem.read(min(b - at, 1 << 24))
                except (OSError, ValueError): continue
                if mark in part: found += part[max(0, part.find(mark) - 40):part.find(mark) + 60]
    return found
if not memory(int(os.environ["DAEMON"]), os.environ["three"].encode()): fail("the memory of the daemon cannot be searched")
left = memory(int(os.environ["DAEMON"]), mark)
if left: fail(f"the daemon's memory has a value: {left}")
PY
# a key that the service manager gives comes first; what was sealed to the other does not open
stop_daemon
mkdir creds
seal keygen -o creds/berth.key >creds.pub
export CREDENTIALS_DIRECTORY=$TOP/creds
start_daemon
equal "a credential" "$(berth secret key)" "$(cat creds.pub)"
refused 1 'not sealed to the key' berth create --template mini --secret cert
say passed
