#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# berth-seal by hand: values, files and files of variables; statuses; what must not happen with values and keys.
. "$(dirname "$0")/../lib/flow.sh"
seal() { "$BERTH_BUILD/berth-seal" "$@"; }
cd "$TOP"
export TMPDIR=$TOP/tmp HOME=$TOP
mkdir -p tmp "$STATE"
unset BERTH_SEAL_KEY

# status WANTED COMMAND...: standard output goes to "out", errors to "err"
status() {
	local want=$1 got=0
	shift
	"$@" >out 2>err </dev/null || got=$?
	[ "$got" = "$want" ] || fail "$*: status $got instead of $want: $(cat err)"
}
# Nothing came out, and nothing was left.
nothing() { [ ! -s out ] || fail "$1: something came out"; }

# keys
umask 022
seal keygen -o a.key >a.pub
seal keygen -o b.key >b.pub
equal "the mode of a key" "$(stat -c %a a.key)" 600
equal "the public half" "$(seal pub a.key)" "$(cat a.pub)"
status 2 seal keygen -o a.key # is there
chmod 644 b.key
status 3 seal pub b.key
chmod 600 b.key
printf 'correct horse\n' >pass
printf 'correct house\n' >wrong
seal keygen --passphrase-file pass -o p.key >p.pub
status 3 seal pub p.key
status 3 seal pub p.key --passphrase-file wrong
equal "under a passphrase" "$(seal pub p.key --passphrase-file pass)" "$(cat p.pub)"
sed 's/^\(berth-pub-1:..\)./\1#/' a.pub >typo.pub
equal "--json" "$(seal pub a.key --json | field id)" "$(sed -n 's/^# berth key //p' a.pub)"

# one value
value=mark-$RANDOM-$RANDOM-value
printf %s "$value" | seal seal --to a.pub --name TOKEN --for template=ci --host api.github.com --deliver env --expires 90d -o t.sealed
equal "the mode of a sealed file" "$(stat -c %a t.sealed)" 600
! grep -q "$value" t.sealed || fail "the value is readable"
equal "opened" "$(seal open -k a.key --for template=ci --host api.github.com t.sealed)" "$value"
equal "by a pipe" "$(seal open -k a.key --any-scope - <t.sealed)" "$value"
equal "BERTH_SEAL_KEY" "$(BERTH_SEAL_KEY=a.key seal open --any-scope t.sealed)" "$value"
equal "the second reader agrees" "$(python3 - <<PY
import sealed
key = [l for l in open("a.key") if l.startswith("berth-key-1:")][0].split(":")[1].strip()
import base64
print(sealed.read(open("t.sealed", "rb").read(), base64.b64decode(key + "=" * (-len(key) % 4))[:32])[1].decode())
PY
)" "$value"
status 3 seal open -k b.key --any-scope t.sealed
nothing "the wrong key"
status 4 seal open -k a.key t.sealed
status 4 seal open -k a.key --for template=other --host api.github.com t.sealed
status 4 seal open -k a.key --for template=ci --host evil.org t.sealed
status 4 seal open -k a.key --any-scope --name OTHER t.sealed
nothing "another purpose"
status 0 seal inspect t.sealed
grep -q '^name  *TOKEN$' out && grep -q '^hosts  *api.github.com$' out || fail "inspect: $(cat out)"
equal "inspect --json" "$(seal inspect --json <t.sealed | field templates)" '["ci"]'
status 0 seal verify -k a.key t.sealed
! grep -q "$value" out || fail "verify printed the value"
status 0 seal verify t.sealed
status 3 seal verify -k b.key t.sealed
equal "errors are JSON, too" "$(seal verify --json -k b.key t.sealed 2>&1 >/dev/null | python3 -c 'import json, sys; e = json.load(sys.stdin)["error"]; print(e["slug"], e["status"])')" \
	"wrong-key 3"

# what requests the broker may use it for: said by options, shown, read by the second reader, kept by rewrap
printf %s "$value" | seal seal --to a.pub --name TOKEN --host '*' --host api.github.com --method GET --method POST --path '/repos/*/issues' \
	--path '/search/**' --per-minute 60 --body-max 64K --answer-max 1M --header 'Authorization: token ' -o q.sealed
want='"*,api.github.com GET,POST /repos/*/issues,/search/** 60 65536 1048576 Authorization:token ."'
as_words='import json, sys; j = json.load(sys.stdin); print(json.dumps(" ".join([*(",".join(j[n]) for n in ("hosts", "methods", "paths")),
	*(str(j[n]) for n in ("per_minute", "body_max", "answer_max")), j["header"] + ":" + j["prefix"] + "."])))'
equal "a policy of requests" "$(seal inspect --json q.sealed | python3 -c "$as_words")" "$want"
seed=$(python3 -c 'import base64; key = [l for l in open("a.key") if l.startswith("berth-key-1:")][0].split(":")[1].strip()
print(base64.b64decode(key + "=" * (-len(key) % 4))[:32].hex())')
equal "as the second reader has it" "$(python3 "$SRC/tests/lib/sealed.py" "$seed" q.sealed | python3 -c "$as_words")" "$want"
seal rewrap -k a.key --to b.pub -o r.sealed q.sealed 2>/dev/null
equal "sealed to another key" "$(seal inspect --json r.sealed | python3 -c "$as_words")" "$want"
equal "their versions" "$(for f in t.sealed r.sealed; do seal inspect --json $f | field format; done | tr '\n' ' ')" "1 2 "
refused() { status 2 seal seal --to a.pub --name X --host a.b "$@" a.pub; }
refused --method get
refused --path a
refused --per-minute 0
refused --body-max x
refused --header Host
refused --host '**'
refused --method GET --deliver env
refused --host '*' --deliver file

# expired: a clock of its own would be needed to wait for it, so the file is of the year 2000
status 2 seal seal --to a.pub --name X --expires 2000-01-01 a.pub
seal seal --to a.pub --name X --deliver env --expires 1ms -o x.sealed a.pub
status 5 seal open -k a.key x.sealed
nothing "expired"
status 5 seal verify -k a.key x.sealed

# damage: one byte anywhere, cut off, another version
head -c 300000 /dev/urandom >file
seal seal --to a.pub --to b.pub --sign b.key --name file --binary -o f.sealed file
seal open -k b.key -o f.out f.sealed && cmp file f.out
seal open -k a.key f.sealed | cmp - file
seal open -k a.key --signer b.pub f.sealed | cmp - file
status 3 seal open -k a.key --signer a.pub f.sealed
status 3 seal open -k a.key --any-scope --signer a.pub t.sealed # unsigned
status 0 seal verify --signer b.pub f.sealed
cat >damage.py <<'PY'
import sys
data = bytearray(open("f.sealed", "rb").read())
at = int(sys.argv[1])
if sys.argv[2] == "cut": data = data[:at]
else: data[at] ^= 1
open("d.sealed", "wb").write(data)
PY
size=$(stat -c %s f.sealed)
echo before >kept
for at in 3 14 150 $((size - 200000)) $((size - 1)); do
	for how in flip cut; do
		python3 damage.py $((at % size)) $how
		status 6 seal open -k a.key d.sealed
		nothing "damaged at $at ($how)"
		status 6 seal open -k a.key -o kept d.sealed
		equal "the file that was there" "$(cat kept)" before
	done
done
status 6 seal verify d.sealed
printf 'BERTHSF\003aaaaaaaaaaaaaaaa' >v3
status 6 seal inspect v3
grep -q 'version 3' err || fail "the version is not named"
status 6 seal open -k a.key /dev/null
equal "files that were left" "$(find . -name '.berth-seal-*'; ls tmp)" ""

# one that is killed while it writes leaves nothing
mkdir dir
mkfifo pipe
"$BERTH_BUILD/berth-seal" open -k a.key -o dir/out pipe &
opener=$!
exec 7>pipe
head -c 200000 f.sealed >&7
wait_for 20 "the opener to have a file" sh -c "ls -l /proc/$opener/fd | grep -q dir"
grep -q '^Max core file size  *0 ' "/proc/$opener/limits" || fail "it could leave a core"
kill -9 "$opener"
exec 7>&-
wait "$opener" 2>/dev/null || :
equal "what a killed one left" "$(ls -A dir)" ""

# values do not stand on command lines
for what in hunter2 PASSWORD=hunter2 a/b; do
	status 2 seal seal --to a.pub --name X "$what"
	! grep -q "$what" err || fail "it repeats the value"
done
status 2 seal seal --to a.pub --name X --value hunter2
grep -q 'does not belong on a command line' err || fail "not told why: $(cat err)"
status 2 seal seal --to typo.pub --name X a.pub
status 2 seal seal --to a.pub --name 'no/name' a.pub
status 2 seal seal --to a.pub --name X --deliver broker a.pub # to which hosts?
status 2 seal open -k a.key --nonsense t.sealed
status 2 seal frobnicate
status 1 seal open -k a.key nowhere

# files of variables
printf 'A=one\n# why\nexport B="two \\"words\\""   # said\nC=\n' >vars
seal seal --env --to a.pub -o env.sealed vars 2>/dev/null
equal "names stay readable" "$(sed 's/berth-sealed:.*/*/' env.sealed | tr '\n' '|')" 'A=*|# why|export B=*|C=*|'
equal "opened" "$(seal open -k a.key env.sealed | tr '\n' '|')" "A=one|# why|export B='two \"words\"'   # said|C=|"
equal "exec" "$(seal exec -k a.key env.sealed -- sh -c 'echo "$A/$B/$C"')" 'one/two "words"/'
cp env.sealed env.edit
sed -i 's/^A=.*/A=other/' env.edit
seal seal --env --to a.pub -o env.new env.edit 2>/dev/null
equal "a change of one value is one line" "$(diff env.sealed env.new | grep -c '^>')" 1
equal "exec again" "$(seal exec -k a.key env.new -- sh -c 'echo "$A/$B"')" 'other/two "words"'
status 0 seal inspect --json env.sealed
equal "inspect" "$(grep -c '"delivery":"env"' out)" 3
sed 's/^export B=/D=/' env.sealed >moved
status 4 seal open -k a.key moved
nothing "a value under another name"
sed 's/^A=berth-sealed:\(....\)./A=berth-sealed:\1x/' env.sealed >broken
status 6 seal open -k a.key broken
status 6 seal exec -k a.key broken -- sh -c "echo >ran"
[ ! -e ran ] || fail "it ran without its values"
printf 'A="one\n' >open-quote
status 2 seal seal --env --to a.pub open-quote
status 126 seal exec -k a.key env.sealed -- ./vars
status 127 seal exec -k a.key env.sealed -- no-such-command

# other keys
status 0 seal rewrap -k a.key --to b.pub -o t2.sealed t.sealed
grep -q 'The secret itself is what it was' err || fail "it does not say that"
equal "rewrapped" "$(seal open -k b.key --any-scope t2.sealed)" "$value"
status 3 seal open -k a.key --any-scope t2.sealed
equal "the same policy" "$(seal inspect --json t.sealed | sed 's/"keys.*//; s/t.sealed//')" "$(seal inspect --json t2.sealed | sed 's/"keys.*//; s/t2.sealed//')"
status 2 seal rewrap -k a.key --to b.pub f.sealed # is signed
status 0 seal rewrap -k a.key --to b.pub --unsigned -o f2.sealed f.sealed
seal open -k b.key f2.sealed | cmp - file
cat a.pub b.pub >both # a file of recipients
status 0 seal rewrap -k a.key --to both -o env.both env.sealed
for k in a b; do equal "one of both" "$(seal exec -k $k.key env.both -- sh -c 'echo $A')" one; done

# a terminal: a warning, a value that is typed, a passphrase that is typed
python3 - <<'PY'
import os, pty, sys
from berthtest import fail
seal = os.environ["BERTH_BUILD"] + "/berth-seal"
def run(argv, answers):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(seal, [seal] + argv)
    seen = b""
    while True:
        try:
            part = os.read(fd, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
        if answers and seen.endswith(answers[0][0]):
            os.write(fd, answers.pop(0)[1] + b"\n")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen
status, seen = run(["open", "-k", "a.key", "--any-scope", "t.sealed"], [])
if status != 0 or b"onto this terminal" not in seen or b"-value" not in seen: fail(f"no warning: {status} {seen}")
status, seen = run(["seal", "--to", "p.pub", "--name", "TYPED", "-o", "typed.sealed"], [(b"value: ", b"typed-secret")])
if status != 0 or b"typed-secret" in seen: fail(f"a value that was typed: {status} {seen}")
status, seen = run(["open", "-k", "p.key", "typed.sealed"], [(b"passphrase: ", b"correct horse")])
if status != 0 or b"typed-secret" not in seen or b"horse" in seen: fail(f"a passphrase that was typed: {status} {seen}")
PY

# a key of this machine, where systemd-creds is
if command -v systemd-creds >/dev/null; then
	machine=/var/lib/systemd/credential.secret
	had=$([ -e $machine ] && echo yes || :)
	if seal keygen --systemd-creds -o c.key >c.pub 2>err; then
		equal "a key of this machine" "$(seal pub c.key 2>/dev/null)" "$(cat c.pub)"
		! grep -q '^berth-key-1:' c.key || fail "the key is in clear"
	else
		say "systemd-creds does not work here: $(tail -n 1 err)"
	fi
	[ "$had" ] || rm -f $machine
fi
status 0 seal help --words
grep -qx rewrap out || fail "completion has no verbs"
status 0 seal help --words seal
grep -qx -- --expires out || fail "completion has no options"
say passed
