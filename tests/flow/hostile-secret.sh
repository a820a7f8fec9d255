#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A hostile sandbox that may use secrets by way of the broker, and tries to have their values: each way is a row with what stopped it,
# and docs/security.md has the same rows. Values are looked for in all that it got, in every form. Then some of it again with a broker
# whose fence is down: there the way must lead to a value, or the row would prove nothing.
. "$(dirname "$0")/../lib/flow.sh"
. "$(dirname "$0")/../lib/broker.sh"
need_template base
make_ca
TOKEN="s3cr+t/$RANDOM$RANDOM=value"
NEW="n3w+$RANDOM$RANDOM/value="
for name in WEB OTHER OLD TURNED; do upstream "$name" "$TOKEN"; done
kill "${SERVERS[3]}"
wait "${SERVERS[3]}" 2>/dev/null || :
rm "$TOP/TURNED.port" "$TOP/TURNED.seen"
unset 'SERVERS[3]'
upstream TURNED "$NEW"
(cd "$TOP" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout s.key -out stranger.pem -days 2 -subj /CN=stranger) 2>/dev/null
chmod 644 "$TOP/stranger.pem"
rm -f "$BERTHD_BROKER_SERVICES"/*.json
# policy NAME SECRETS UPSTREAM MORE
policy() {
	service "$1" '{"secrets":['"$2"'],"routes":[{"prefix":"/","upstream":"'"$3"'","methods":["GET","HEAD","POST"],
		"paths":["/hello","/hello/*","/echo","/sum","/events","/redirect"],"credential":{"as":"bearer"}}]'"$4"'}'
}
at() { echo "localhost:$(cat "$TOP/$1.port")"; }
ours=',"private":true,"ca":"'$TOP/ca.pem'"'
policy web '"WEB"' "https://$(at WEB)/" "$ours"
policy other '"OTHER"' "https://$(at OTHER)/" "$ours"
policy both '"BOTH1","BOTH2"' "https://$(at WEB)/" "$ours"
policy old '"OLD"' "https://$(at OLD)/" "$ours"
policy turned '"TURNED"' "https://$(at TURNED)/" "$ours"
policy inner '"INNER"' "https://$(at WEB)/" ',"ca":"'"$TOP"'/ca.pem"'
policy stranger '"STRANGER"' "https://$(at WEB)/" ',"private":true,"ca":"'"$TOP"'/stranger.pem"'
policy moved '"MOVED"' "https://$(at OLD)/" "$ours"
policy sealed '"SEALED"' "https://$(at WEB)/" "$ours"
policy headed '"HEADED"' "https://$(at WEB)/" "$ours"
service only '{"secrets":["HEADED"],"routes":[{"upstream":"https://'"$(at WEB)"'/","methods":["GET"],"paths":["/hello"],"credential":{"as":"header","name":"X-Only"}}]'"$ours}"
policy any '"ANY"' 'https://{host}/' "$ours"
install -o berth -m 600 /dev/null "$TOP/trace"
export BERTH_TRACE=$TOP/trace
# begin [BROKER]: the daemon, and who tries.
begin() {
	start_daemon --set daemon.log-level=debug --set "broker.program=${1:-$BERTHD_BROKER_PROGRAM}"
}
begin
secret WEB "$TOKEN" --host "$(at WEB)"
secret OTHER "$TOKEN" --host "$(at OTHER)"
secret BOTH1 "$TOKEN" --host "$(at WEB)"
secret BOTH2 "$TOKEN" --host "$(at WEB)"
secret OLD "$TOKEN" --host "$(at OLD)" --expires 8s
secret TURNED "$TOKEN" --host "$(at TURNED)"
secret INNER "$TOKEN" --host "$(at WEB)"
secret STRANGER "$TOKEN" --host "$(at WEB)"
secret MOVED "$TOKEN" --host "$(at OLD)"
secret SEALED "$TOKEN" --host "$(at WEB)" --method GET --path /hello --body-max 10
secret HEADED "$TOKEN" --host "$(at WEB)" --header X-Only
secret ANY "$TOKEN" --host "$(at WEB)"
secret FOREIGN "$TOKEN" --host "$(at WEB)" --for template=ci
policy foreign '"FOREIGN"' "https://$(at WEB)/" "$ours"
id=$(berth create --template base --secret WEB --secret BOTH1 --secret BOTH2 --secret OLD --secret TURNED --secret INNER --secret STRANGER --secret MOVED --secret SEALED --secret HEADED --secret ANY)
policy moved '"MOVED"' "https://$(at WEB)/" "$ours"
second=$(berth create --template base --secret OTHER)
third=$(berth create --template base)
printf %s "$NEW" | seal seal --to "$TOP/host.pub" --name TURNED --host "$(at TURNED)" -o "$TOP/new.sealed"
berth secret rotate TURNED "$TOP/new.sealed"
for s in "$id" "$second" "$third"; do berth cp "$SRC/tests/lib/hostile_secret.py" "$s:hostile_secret.py"; done
old_is_over() { berth run "$id" -- curl -s http://berth.internal/old/hello | grep -q expired; }
wait_for 20 "its expiry" old_is_over

try() { berth run --user root "$id" -- python3 /workspace/hostile_secret.py /workspace/got "$@" </dev/null; }
row() { printf '%s\t%s\n' "$1" "$2" >>"$TOP/rows"; }
try >"$TOP/rows"
[ "$(wc -l <"$TOP/rows")" -ge 60 ] || fail "it did not come to its end: $(tail -n 3 "$TOP/rows")"

# from outside of that sandbox, and what it could keep
berth create --template base --secret FOREIGN >"$TOP/foreign" 2>&1 && fail "a secret for another template was given"
row a-secret-for-another-template "not given: $(grep -o 'it is for template ci' "$TOP/foreign")"
got=$(berth run --user root "$third" -- sh -c 'curl -s -m 5 http://127.19.0.1/web/hello; echo $?' </dev/null)
row another-sandbox-without-one "nobody listens: curl $got"
got=$(berth run --user root "$second" -- sh -c 'curl -s http://berth.internal/web/hello' </dev/null | field error | python3 -c 'import ast, sys; print(ast.literal_eval(sys.stdin.read())["rule"])' || :)
row another-sandbox-with-one "403 \`$got\`"
berth snapshot "$id" kept >/dev/null
berth export "$id" -o "$TOP/export.tar" --quiet
berth backup -o "$TOP/backup.tar"
row a-snapshot "it is not in a workspace"
row an-export "it is not in a workspace"
row a-backup "sealed, and no key"
{
	for what in "sandboxes/$id" sandboxes secrets secrets/audit "sandboxes/$id/processes" "sandboxes/$id/log" events; do
		curl -s -m 5 --unix-socket "$STATE/run/api.sock" "http://x/v1/$what" || :
	done
	berth logs "$id"
} >"$TOP/answers"
row answers-of-the-API "no answer has a value"
row the-audit "names and paths, no value"
row the-log-of-the-daemon "names and paths, no value"
row a-capture-of-the-wire "no value is on it"
berth run "$id" -- tar -C /workspace -cf - got </dev/null >"$TOP/got.tar"

# look NAME...: in which of these files a value is, in any form
look() {
	TOKEN=$TOKEN NEW=$NEW python3 - "$@" <<'PY'
import base64, os, sys, urllib.parse
forms = {}
for word in ("TOKEN", "NEW"):
    t = os.environ[word].encode()
    for f in (t, t[::-1], t.hex().encode(), t.hex().upper().encode(), urllib.parse.quote(t, safe="").encode(), urllib.parse.quote(t).encode()): forms[f] = word
    for i in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode): forms[encode(b"x" * i + t + b"yyy")[4:4 + (len(t) - 3) // 3 * 4]] = word
for name in sys.argv[1:]:
    data = open(name, "rb").read()
    for f in forms:
        if f in data: print(name, f.decode("latin-1"))
PY
}
look "$TOP/got.tar" "$TOP/export.tar" "$TOP/backup.tar" "$TOP/answers" "$LOG" "$TOP/trace" >"$TOP/found"
[ ! -s "$TOP/found" ] || fail "found: $(cat "$TOP/found")"
if grep 'achieved' "$TOP/rows"; then fail "a way leads on"; fi
if grep -E $'\tanswered' "$TOP/rows"; then fail "a way was answered"; fi
# of fields of its own: one credential came, ours, and none of those that were said
python3 - "$TOP/WEB.seen" <<'PY'
import sys
from berthtest import fail
rows = [l.split() for l in open(sys.argv[1]) if "way=" in l]
if len(rows) < 5: fail("requests with fields of its own did not arrive")
for method, path, token, names in rows:
    names = names.split(",")
    if token != "token" or names.count("authorization") != 1: fail(f"{path}: {token} {names}")
    for n in ("x-api-key", "cookie", "proxy-authorization", "range", "x-forwarded-host", "x-original-url", "x-http-method-override"):
        if n in names: fail(f"{path}: {n} was passed on")
PY
if grep -vE ' token ' "$TOP/WEB.seen"; then fail "a request came without the credential"; fi
[ ! -e "$TOP/OTHER.seen" ] || [ ! -s "$TOP/OTHER.seen" ] || fail "somebody reached another one's service: $(cat "$TOP/OTHER.seen")"
say "$(wc -l <"$TOP/rows") ways, none leads to a value"

# the same rows are in the document
awk -F'\t' '{ gsub("-", " ", $1); print "| " $1 " | " $2 " |" }' "$TOP/rows" >"$TOP/table"
sed -n '/^| way of a hostile sandbox/,/^$/p' "$SRC/docs/security.md" | sed '1,2d; /^$/d' >"$TOP/documented"
diff -u "$TOP/documented" "$TOP/table" >"$TOP/diff" || fail "docs/security.md has other rows: $(cat "$TOP/diff")"

# --- and without the fence it does work ---
weak=$BERTH_BUILD/berth-broker-weak
[ -x "$weak" ] || fail "there is no $weak (make everything)"
stop_daemon
begin "$weak"
# without FENCE WANTED WAY...: each of the ways leads to a value ("value"), or its row is WANTED (an extended regular expression).
without() {
	local fence=$1 wanted=$2 attempt
	shift 2
	echo "$fence" >"$BERTHD_BROKER_SERVICES/weak"
	for attempt in "$@"; do
		wait_for 10 "without $fence: $attempt leads on" leads_on "$attempt" "$wanted"
		say "without $fence: $attempt: $(if [ "$wanted" = value ]; then echo "the value was had"; else cut -f 2 "$TOP/weak-row"; fi)"
	done
	rm "$BERTHD_BROKER_SERVICES/weak"
}
leads_on() { # it is read anew within a second
	berth run --user root "$id" -- rm -rf /workspace/got </dev/null
	try "$1" >"$TOP/weak-row"
	berth run "$id" -- tar -C /workspace -cf - got </dev/null >"$TOP/weak.tar"
	look "$TOP/weak.tar" >"$TOP/found"
	if [ "$2" = value ]; then [ -s "$TOP/found" ]; elif [ "${2%% *}" = sees ]; then grep "way=$1" "$TOP/WEB.seen" | grep -q "${2#sees }"; else cut -f 2 "$TOP/weak-row" | grep -qE "^($2)\$"; fi
}
without mask value said-back-in-the-body said-back-in-gzip said-back-in-a-header said-back-byte-by-byte said-back-in-base64-shifted \
	a-redirect-here-that-says-it
without hosts 'answered 200' a-service-that-leads-elsewhere-than-the-file
without expired 'answered 200' an-expired-one
without method 'answered [0-9]+' a-method-that-is-not-allowed a-method-that-was-not-sealed
without path 'answered (200|404)' a-path-that-is-not-allowed a-path-that-was-not-sealed
without parse 'answered 200' two-lengths
without fields 'sees x-api-key' a-key-of-ours
without redirect 'answered 302' a-redirect-to-another-host
without private 'answered 200' an-address-of-the-inside
for s in "$id" "$second" "$third"; do berth kill "$s" --grace 0; done
say passed
