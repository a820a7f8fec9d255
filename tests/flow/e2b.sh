#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# E2B's SDK as it comes from npm, several versions, against berthd over TCP with a key: every method, and what is refused.
# The table in docs/e2b.md is what is measured here; BERTH_MATRIX=FILE writes it.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_template base
read -ra versions <<<"${BERTH_CLIENTS:-2.10 2.15 2.18 2.45 2.50 2.51}"
start_e2b
status() { equal "$1" "$(curl -s -o /dev/null -w '%{http_code}' --max-time 10 "${@:3}")" "$2"; }
status "without a key" 401 "$E2B_API_URL/v2/sandboxes"
status "a sandbox that is not there" 502 -H "E2b-Sandbox-Id: nothing" "$E2B_API_URL/health"
# Three at a time, as three programs would be.
all_of() {
	local v
	for v in "$@"; do
		timeout 120 node "$TOP/e2b.mjs" "e2b-$v" "$MNT" >"$TOP/of-$v" 2>"$TOP/err-$v" || : >"$TOP/bad-$v"
	done
}
lanes=()
for ((k = 0; k < 3 && k < ${#versions[@]}; k++)); do
	lane=()
	for ((i = k; i < ${#versions[@]}; i += 3)); do lane+=("${versions[i]}"); done
	all_of "${lane[@]}" &
	lanes+=($!)
done
wait "${lanes[@]}"
for v in "${versions[@]}"; do
	[ ! -e "$TOP/bad-$v" ] || fail "e2b $v: $(grep FAILED "$TOP/of-$v" | head -n 5) $(tail -n 5 "$TOP/err-$v")"
done

berth tls init --dir "$TOP/tls" --domain inside.example >/dev/null
timeout 120 node "$TOP/ports.mjs" e2b-2.51 "$TOP/tls" >"$TOP/ports" 2>&1 || fail "ports: $(tail -n 25 "$TOP/ports")"

# Another key sees nothing of it.
other=$(berth key create other)
id=$(curl -sf -H "X-API-Key: $E2B_API_KEY" "$E2B_API_URL/v2/sandboxes" -d '{"templateID": "base"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["sandboxID"])')
status "its own" 200 -H "X-API-Key: $E2B_API_KEY" "$E2B_API_URL/sandboxes/$id"
for what in "GET /sandboxes/$id" "DELETE /sandboxes/$id" "POST /sandboxes/$id/timeout" "POST /sandboxes/$id/pause" "POST /sandboxes/$id/connect" \
	"POST /v2/sandboxes/$id/connect" "POST /sandboxes/$id/resume" "POST /sandboxes/$id/refreshes" "GET /sandboxes/$id/metrics" \
	"GET /sandboxes/$id/logs" "POST /sandboxes/$id/snapshots"; do
	status "$what by another" 404 -X "${what% *}" -H "X-API-Key: $other" "$E2B_API_URL${what#* }"
done
equal "another's list" "$(curl -sf -H "X-API-Key: $other" "$E2B_API_URL/v2/sandboxes")" "[]"
for header in "X-Access-Token: 0123456789012345678901234567890123456789" "X-None: 1"; do
	status "without its token ($header)" 401 -H "$header" -H "E2b-Sandbox-Id: $id" "$E2B_API_URL/files?path=/etc/passwd"
done
status "a port where nobody listens" 502 -H "E2b-Sandbox-Id: $id" -H "E2b-Sandbox-Port: 8080" "$E2B_API_URL/"

python3 - "$TOP" "${versions[@]}" >"$TOP/matrix" <<'END'
import sys
top, versions = sys.argv[1], sys.argv[2:]
of = {v: [line.rstrip("\n").split("\t") for line in open(f"{top}/of-{v}")] for v in versions}
print("| method | " + " | ".join(versions) + " |")
print("|---|" + "---|" * len(versions))
for name, _ in of[versions[-1]]:
    print(f"| {name} | " + " | ".join(dict(of[v]).get(name, "?").replace("none", "-") for v in versions) + " |")
END
[ -z "${BERTH_MATRIX:-}" ] || cp "$TOP/matrix" "$BERTH_MATRIX"
[ -n "${BERTH_CLIENTS:-}" ] || table_of method | diff - "$TOP/matrix" >"$TOP/diff" || fail "docs/e2b.md has another table: $(cat "$TOP/diff")"
say ok
