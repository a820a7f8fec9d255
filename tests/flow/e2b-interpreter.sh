#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# E2B's code interpreter as it comes from npm: code with state, rich results, contexts, interrupts, kernels that die; who has no
# token runs nothing. The charts need a template of half a gigabyte, so they are looked at with BERTH_LONG=1.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template mini
if [ -n "${BERTH_LONG:-}" ]; then
	need_template code-interpreter-v1
else
	grep -vE 'matplotlib|pandas' "$SRC/templates/code-interpreter-v1.list" >"$TOP/list"
	need_template code-interpreter-v1 "$TOP/list"
fi
start_e2b
timeout 300 node "$TOP/interpreter.mjs" >"$TOP/out" 2>&1 || fail "$(grep FAILED "$TOP/out" | cut -c1-600; tail -n 5 "$TOP/out" | cut -c1-300)"
{ printf '| code-interpreter 2.8 | |\n|---|---|\n'; sed 's/^/| /; s/\t/ | /; s/$/ |/' "$TOP/out"; } >"$TOP/matrix"
table_of code-interpreter >"$TOP/table"
[ -n "${BERTH_LONG:-}" ] || sed -i '/charts\|tables/d' "$TOP/table" "$TOP/matrix"
diff "$TOP/table" "$TOP/matrix" >"$TOP/diff" || fail "docs/e2b.md has another table: $(cat "$TOP/diff")"
say "$(grep -c 'ok$' "$TOP/out") methods"
id=$(curl -sf -H "X-API-Key: $E2B_API_KEY" "$E2B_API_URL/v2/sandboxes" -d '{"templateID": "code-interpreter-v1"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["sandboxID"])')
ask() { curl -s -o "$TOP/answer" -w '%{http_code}' --max-time 60 -H "E2b-Sandbox-Id: $id" -H "E2b-Sandbox-Port: 49999" "$E2B_API_URL$1" "${@:2}"; }
equal "health" "$(ask /health) $(cat "$TOP/answer")" "200 OK"
equal "without a token" "$(ask /execute -d '{"code": "1"}')" 401
equal "with another" "$(ask /execute -d '{"code": "1"}' -H 'X-Access-Token: 0123456789012345678901234567890123456789')" 401
equal "no JSON" "$(ask /contexts -d '{')" 400
equal "a list" "$(ask /contexts -d '[]')" 400
say ok
