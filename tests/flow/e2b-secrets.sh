#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Secrets by the door of E2B's clients: another key has nothing of one, an operator's is another one, and what the audit tells.
# What their packages ask for, and what secrets are used for, is in e2b-rules.sh.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_template base
start_e2b
value=marked-$RANDOM$RANDOM$RANDOM
ask() { curl -s --max-time 20 -H "X-API-Key: $1" -o "$TOP/answer" -w '%{http_code}' "${@:3}" "$E2B_API_URL$2"; }
other=$(berth key create other)
equal "made" "$(ask "$E2B_API_KEY" /secrets -d '{"name": "gone", "value": "'"$value"'"}')" 201
equal "removed" "$(ask "$E2B_API_KEY" /secrets/GONE -X DELETE)" 204
equal "made" "$(ask "$E2B_API_KEY" /secrets -d '{"name": "github", "value": "'"$value"'"}')" 201
id=$(sed 's/.*"secretID":"\([^"]*\)".*/\1/' "$TOP/answer")
equal "the same name of another key" "$(ask "$other" /secrets -d '{"name": "github", "value": "theirs-12345678"}')" 201
for what in "$id" nothing; do
	equal "another's $what" "$(ask "$other" "/secrets/$what")" 404
	equal "another's $what, rotated" "$(ask "$other" "/secrets/$what" -d '{"value": "mine-now-12345"}')" 404
	equal "another's $what, removed" "$(ask "$other" "/secrets/$what" -X DELETE)" 404
done
equal "its own" "$(ask "$other" /secrets) $(grep -o '"name"' "$TOP/answer" | wc -l)" "200 1"
ask "$other" /v1/secrets >/dev/null
if grep -q "key.${E2B_API_KEY:4:8}" "$TOP/answer" || ! grep -q "key.${other:4:8}.github" "$TOP/answer"; then fail "another's are shown: $(cat "$TOP/answer")"; fi
equal "another's for a sandbox" "$(ask "$other" /v1/sandboxes -d '{"template": "base", "secrets": ["key.'"${E2B_API_KEY:4:8}"'.github"]}')" 404
# An operator's of the same name is another one, and no sealed file comes under a name of theirs.
printf 'operators' | "$BERTH_BUILD/berth-seal" seal --to <(berth secret key) --name github --host api.example.com -o "$TOP/op.sealed"
berth secret add "$TOP/op.sealed"
printf 'operators' | "$BERTH_BUILD/berth-seal" seal --to <(berth secret key) --name "key.${other:4:8}.github" --host api.example.com -o "$TOP/bad.sealed"
if berth secret add "$TOP/bad.sealed" 2>"$TOP/why" || ! grep -q 'made for themselves' "$TOP/why"; then fail "a name of theirs: $(cat "$TOP/why")"; fi
for body in 'not {"value":"'"$value"'"' '{"name": "x"}' '{"name": "x", "value": 1}' '[]' '"x"'; do
	equal "a body that is none ($body)" "$(ask "$other" /secrets -d "$body")" 400
	if grep -qF "$value" "$TOP/answer"; then fail "it is quoted: $(cat "$TOP/answer")"; fi
done

# All of it outlives the daemon, and the audit tells it.
stop_daemon
start_daemon --set "api.listen=${E2B_API_URL#http://}"
equal "after a new start" "$(ask "$E2B_API_KEY" /secrets/github) $(grep -o '"currentVersion":1' "$TOP/answer")" '200 "currentVersion":1'
equal "the next version" "$(ask "$E2B_API_KEY" "/secrets/$id" -d '{"value": "another-value"}') $(grep -o '"currentVersion":2' "$TOP/answer")" '200 "currentVersion":2'
berth secret audit --json >"$TOP/audit"
for what in added rotated removed; do
	grep -q '"what":"'$what'","secret":"key.'"${E2B_API_KEY:4:8}"'\..*"key":"'"${E2B_API_KEY:4:8}"'"' "$TOP/audit" || fail "the audit does not tell: $what"
done
if grep -qF "$value" "$TOP/audit" "$LOG"; then fail "a value is told"; fi
# A key that is revoked takes its own along, and nobody else's.
berth key revoke other
if berth secret ls | grep -q "key.${other:4:8}"; then fail "secrets of a revoked key: $(berth secret ls)"; fi
berth secret ls | grep -q "key.${E2B_API_KEY:4:8}.github" && berth secret ls | grep -q '^github ' || fail "others went with them: $(berth secret ls)"
berth fsck >/dev/null
say passed
