#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rules that put secrets into requests: the broker alone (every check of tests/lib/broker-rules.py), packages of E2B against a service that
# demands the value, an operator's secret that a rule cannot take elsewhere, and the broker and the daemon killed below a sandbox.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/broker.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
make_ca
python=/usr/bin/python3
[ -x "$python" ] || python=python3
mkdir -p "$TOP/alone/services"
cp "$TOP"/*.pem "$TOP/alone"
timeout 100 "$python" "$SRC/tests/lib/broker-rules.py" "$BERTH_BUILD" "$TOP/alone" >"$TOP/check.log" 2>&1 || fail "$(tail -n 5 "$TOP/check.log" "$TOP/alone/broker.log")"
say "$(tail -n 1 "$TOP/check.log")"

RULE_TOKEN=ruled-$RANDOM$RANDOM$RANDOM
PYTHONUNBUFFERED=1 "$python" "$SRC/tests/lib/tls_service.py" "$TOP/cert.pem" "$TOP/key.pem" "$RULE_TOKEN" >"$TOP/port" 2>"$TOP/upstream.log" &
SERVERS+=($!)
wait_for 20 "the service" test -s "$TOP/port"
RULE_HOST=localhost:$(cat "$TOP/port")
export RULE_TOKEN RULE_HOST
service svc '{"secrets": ["NOBODYS"], "private": true, "rules": true, "ca": "'"$TOP"'/ca.pem", "vars": {"SVC_URL": "{base}/v1"},
	"routes": [{"prefix": "/v1/", "upstream": "https://'"$RULE_HOST"'/echo/", "methods": ["GET"], "paths": ["/"], "credential": {"as": "none"}}]}'
read -ra versions <<<"${BERTH_CLIENTS:-2.45 2.50 2.51}"
start_e2b
for v in "${versions[@]}"; do
	timeout 120 node "$TOP/secret.mjs" "e2b-$v" "some-$RANDOM$RANDOM" >"$TOP/of-$v" 2>"$TOP/err-$v" ||
		fail "e2b $v: $(grep FAILED "$TOP/of-$v" | head -n 5) $(tail -n 5 "$TOP/err-$v")"
done
matrix_is secrets "${versions[@]}"

ask() { curl -s --max-time 30 -H "X-API-Key: $E2B_API_KEY" -o "$TOP/answer" -w '%{http_code}' "${@:2}" "$E2B_API_URL$1"; }
member() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$TOP/answer" "$1"; }
equal "a secret" "$(ask /secrets -d '{"name": "up", "value": "'"$RULE_TOKEN"'"}')" 201
rules='"rules": {"'$RULE_HOST'": [{"transform": {"headers": {"Authorization": "Bearer ${e2b.secrets.up}"}}}]}'
equal "a sandbox" "$(ask /v2/sandboxes -d '{"templateID": "base", "timeout": 600, "network": {'"$rules"'}}')" 201
id=$(member sandboxID)
through() { berth run "$1" -- curl -s --max-time 20 -o /dev/null -w '%{http_code}' "http://berth.internal/rules/$RULE_HOST/echo"; }
equal "through" "$(through "$id")" 200
equal "its log" "$(ask "/v2/sandboxes/$id/logs") $(grep -c "network rule of $RULE_HOST: .* its headers are on requests to http://berth.internal/rules/$RULE_HOST/" "$TOP/answer")" "200 1"
equal "what it is told of" "$(ask "/v1/sandboxes/$id") $(grep -c '"url":"http://berth.internal/rules/'"$RULE_HOST"'/"' "$TOP/answer")" "200 1"

# An operator's secret is had by sandboxes that were made with it, for its hosts alone.
secret OPERATORS "$RULE_TOKEN" --host api.example.com
secret MINE "$RULE_TOKEN" --host "$RULE_HOST"
service far '{"secrets": ["OPERATORS"], "routes": [{"upstream": "https://api.example.com/", "methods": ["GET"], "paths": ["/**"], "credential": {"as": "bearer"}}]}'
service mine '{"secrets": ["MINE"], "routes": [{"upstream": "https://'"$RULE_HOST"'/", "methods": ["GET"], "paths": ["/**"], "credential": {"as": "bearer"}}]}'
given() { ask /v1/sandboxes -d '{"template": "base", "secrets": ["OPERATORS", "MINE"]}' && [ "$(grep -c '"id"' "$TOP/answer")" = 1 ]; }
wait_for 20 "the policies to be read" given
other=$(member id)
put() { ask "/sandboxes/$1/network" -X PUT -d '{"rules": {"'"$RULE_HOST"'": [{"transform": {"headers": {"Authorization": "Bearer ${e2b.secrets.'"$2"'}"}}}]}}'; }
equal "one that it was given" "$(put "$other" mine) $(through "$other")" "204 200"
equal "for another host" "$(put "$other" OPERATORS) $(through "$other")" "204 403"
told() { berth secret audit --json >"$TOP/audit" && grep -q "$1" "$TOP/audit"; }
wait_for 20 "the audit to say that" told '"what":"refused","secret":"OPERATORS".*"why":"wrong-host"'
equal "one that it was not given" "$(put "$id" mine)" 400
grep -q "secret 'mine' not found" "$TOP/answer" || fail "it is not named: $(cat "$TOP/answer")"

# Another key's sandbox has nothing of it.
key=$(berth key create other)
equal "another key" "$(E2B_API_KEY=$key ask /v2/sandboxes -d '{"templateID": "base", "network": {'"$rules"'}}')" 400

# Whoever dies, the rules are there again.
broker_pid() { for p in /proc/[0-9]*; do grep -aqF -- "--state=$STATE" "$p/cmdline" 2>/dev/null && echo "${p#/proc/}"; done; }
again() { [ "$(through "$id")" = 200 ]; }
kill -9 "$(broker_pid)"
wait_for 20 "another broker to know them" again
stop_daemon KILL
start_daemon --set "api.listen=${E2B_API_URL#http://}"
wait_for 20 "another daemon to know them" again
wait_for 20 "the audit to say its use" told '"what":"used","secret":"key.'"${E2B_API_KEY:4:8}"'.up".*"sandbox":"'"$id"'".*"service":"rules","method":"GET","host":"'"$RULE_HOST"'","path":"/echo"}'
if grep -qF "$RULE_TOKEN" "$TOP/audit" "$LOG" "$TOP/answer"; then fail "the value is told"; fi
berth fsck >/dev/null
berth kill "$id" --grace 0
berth kill "$other" --grace 0
say passed
