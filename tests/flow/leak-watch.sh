#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a sandbox was given, found in what it puts out: in every form, in streams, answers and files, told once; covered by
# stars where that is wanted, also where it comes byte by byte; and nothing of it where it was not given.
. "$(dirname "$0")/../lib/flow.sh"
seal() { "$BERTH_BUILD/berth-seal" "$@"; }
need_template mini
port=$((20000 + RANDOM % 10000))
start_daemon
cd "$TOP"
berth secret key >host.pub
mark="tok-$RANDOM$RANDOM-a?b/c"
printf %s "$mark" | seal seal --to host.pub --name TOKEN --deliver env -o t.sealed
printf %s "file-$mark" | seal seal --to host.pub --name cert --deliver file --owner user -o c.sealed
berth secret add t.sealed
berth secret add c.sealed
id=$(berth create --template mini --secret cert)
other=$(berth create --template mini)
audit() { berth secret audit --json | python3 -c '
import json, sys
for r in map(json.loads, sys.stdin):
    if r["what"] == "seen": print(r["secret"], r["form"], r["where"].split(" process ")[0], r["sandbox"])'; }
seen() { audit | grep -c -- "$1" || :; }

# told, and nothing is changed
equal "as it is" "$(berth run --secret TOKEN "$id" -- sh -c 'echo "$TOKEN"')" "$mark"
wait_for 10 "a row of the audit" eval '[ "$(seen "^TOKEN plain the output of $id")" = 1 ]'
berth events | grep -q "sandbox.leak.*TOKEN, plain, in the output of process" || fail "no event: $(berth events | tail -n 3)"
grep -q 'what=seen\|secret.*seen.*name=TOKEN' "$LOG" || fail "the log says nothing"
berth run --secret TOKEN "$id" -- sh -c 'printf %s "$TOKEN" | base64; printf %s "xx$TOKEN" | base64; printf %s "$TOKEN" | od -An -tx1 | tr -d " \n"; printf %s "$TOKEN" | rev' >/dev/null
for form in base64 hex reversed; do
	wait_for 10 "$form" eval '[ "$(seen "^TOKEN $form the output")" -ge 1 ]'
done
# a process, a form: once
berth run --secret TOKEN "$id" -- sh -c 'i=0; while [ $i -lt 3000 ]; do echo "$TOKEN"; i=$((i + 1)); done' >/dev/null
wait_for 10 "the second" eval '[ "$(seen "^TOKEN plain the output")" = 2 ]'
# in a file, also across the borders of what is shipped
berth run --secret TOKEN "$id" -- sh -c 'mkdir d; head -c 65530 /dev/zero >d/big; printf %s "$TOKEN" >>d/big; echo key=$TOKEN >.env'
wait_for 10 "a file" eval '[ "$(seen "^TOKEN plain the file d/big $id")" = 1 ]'
wait_for 10 "another" eval '[ "$(seen "^TOKEN plain the file .env $id")" = 1 ]'
# what it was given as a file
berth run "$id" -- sh -c 'cat /run/berth/secrets/cert; cp /run/berth/secrets/cert copy' >/dev/null
wait_for 10 "a file's value" eval '[ "$(seen "^cert plain the file copy $id")" = 1 ]'
# of others nothing is known: the same bytes are just bytes
printf %s "$mark" | berth run "$other" -- sh -c 'tee f' >out
equal "of another" "$(cat out)" "$mark"
berth sync "$other" >/dev/null 2>&1 || :
equal "rows of another" "$(seen "$other")" 0

# covered
stop_daemon
start_daemon --set secrets.watch-output=mask --set secrets.watch-files=off --set "api.listen=127.0.0.1:$port"
stars=$(printf %s "$mark" | tr -c '' '*' | cut -c1-${#mark})
equal "stars" "$(berth run --secret TOKEN "$id" -- sh -c 'echo "before $TOKEN after"; echo "err $TOKEN" >&2' 2>&1 | sort | tr '\n' ,)" "before $stars after,err $stars,"
equal "byte by byte" "$(berth run --secret TOKEN "$id" -- sh -c 'printf %s "$TOKEN" | while IFS= read -r -n 1 c; do printf %s "$c"; done; printf " end"' )" "$stars end"
equal "at a terminal" "$(berth run --tty --secret TOKEN "$id" -- sh -c 'echo "<$TOKEN>"' </dev/null 2>&1 | tr -d '\r')" "<$stars>"
api() { curl -s --unix-socket "$STATE/run/api.sock" "$@"; }
equal "in an answer" "$(api "http://x/v1/sandboxes/$id/exec" -d '{"argv":["sh","-c","echo a $TOKEN b"],"secrets":["TOKEN"]}' | field stdout)" "a $stars b"
# what waits comes when nothing follows, and at the end; nothing is lost or comes twice
equal "a prompt" "$( (berth run --secret TOKEN "$id" -- sh -c 'printf Password:; read -r x; printf done' <<<x))" "Password:done"
sum=$(berth run --secret TOKEN "$id" -- sh -c 'seq 1 300000 | tee /tmp/s | sha256sum >/tmp/sum; cat /tmp/s' | sha256sum)
equal "much of it" "$sum" "$(berth run "$id" -- cat /tmp/sum)"
equal "its status" "$(berth run --secret TOKEN "$id" -- sh -c 'printf tail; exit 7' || echo " $?")" "tail 7"
n=$(berth run --secret TOKEN "$id" -- sh -c 'i=0; while [ $i -lt 2000 ]; do printf "%s\n" "$TOKEN-$i"; i=$((i + 1)); done' | grep -c "^\*\{${#mark}\}-[0-9]*$")
equal "each of many" "$n" 2000
# E2B's clients: what the sandbox has in a file
key=$(berth key create e2b)
python3 - "$port" "$key" "$id" "$mark" <<'P'
import base64, http.client, json, struct, sys
port, key, box, mark = int(sys.argv[1]), *sys.argv[2:]
def ask(method, path, headers, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request(method, path, body, headers)
    r = c.getresponse()
    return r.status, r.read()
head = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
status, body = ask("POST", "/v1/sandboxes", head, b'{"template": "mini", "secrets": ["cert"]}')
assert status == 201, (status, body)
box = json.loads(body)["id"]
status, body = ask("POST", f"/sandboxes/{box}/connect", {"X-API-Key": key, "Content-Type": "application/json"}, b'{"timeout": 300}')
assert status in (200, 201), (status, body)
door = {"E2b-Sandbox-Id": box, "X-Access-Token": json.loads(body).get("envdAccessToken") or "", "Content-Type": "application/connect+json"}
message = json.dumps({"process": {"cmd": "sh", "args": ["-c", "cat /run/berth/secrets/cert; printf ' and %s' end"]}}).encode()
status, body = ask("POST", "/process.Process/Start", door, struct.pack(">BI", 0, len(message)) + message)
assert status == 200, (status, body)
out, at = b"", 0
while at < len(body):
    flags, n = struct.unpack_from(">BI", body, at)
    m = json.loads(body[at + 5:at + 5 + n] or b"{}")
    out += base64.b64decode(m.get("event", {}).get("data", {}).get("stdout", ""))
    at += 5 + n
assert out == b"*" * len("file-" + mark) + b" and end", out
P
equal "no file is looked at" "$(berth run --secret TOKEN "$id" -- sh -c 'echo $TOKEN >off' && berth sync "$id" >/dev/null 2>&1; seen 'the file off')" 0
berth fsck >/dev/null 2>&1 || :
say "passed"
