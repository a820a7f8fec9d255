# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For flows that drive clients from npm: sourced behind flow.sh. need_clients puts them, as the lock file names them, and the programs
# of tests/clients into $TOP; start_e2b starts a daemon that they reach.
need_clients() {
	local key clients
	node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 18) ? 0 : 1)' 2>/dev/null ||
		skip "Node.js 20.18 or newer is not installed"
	command -v npm >/dev/null || skip "npm is not installed"
	key=$(cat "$SRC/tests/clients/package.json" "$SRC/tests/clients/package-lock.json" | sha256sum | cut -c 1-12)
	clients=/var/cache/berth-test/clients-$key
	# Two tests may come here at a time.
	mkdir -p "${clients%/*}"
	exec 8>"$clients.lock"
	flock 8
	if [ ! -d "$clients" ]; then
		rm -rf "$clients.new"
		mkdir -p "$clients.new"
		cp "$SRC/tests/clients/package.json" "$SRC/tests/clients/package-lock.json" "$clients.new"
		(cd "$clients.new" && npm ci --no-audit --no-fund >"$TOP/npm" 2>&1) ||
			skip "the packages cannot be fetched: $(tail -n 3 "$TOP/npm" | tr '\n' ' ')"
		mv "$clients.new" "$clients"
	fi
	exec 8>&-
	cp "$SRC/tests/clients/"*.mjs "$SRC/tests/clients/"*.cjs "$TOP/"
	ln -s "$clients/node_modules" "$TOP/node_modules"
}

start_e2b() {
	local port=$((20000 + RANDOM % 10000))
	start_daemon --set "api.listen=127.0.0.1:$port" --set "api.interpreter=$SRC/templates/interpreter" "$@"
	E2B_API_KEY=$(berth key create spawner)
	export E2B_API_KEY E2B_API_URL=http://127.0.0.1:$port E2B_SANDBOX_URL=http://127.0.0.1:$port
}

# table_of WORD: the table of docs/e2b.md whose first heading begins so.
table_of() { awk -v word="| $1 " 'index($0, word) == 1 { on = 1 } !/^\|/ { on = 0 } on' "$SRC/docs/e2b.md"; }

# matrix_is WHAT VERSION...: what was measured of these versions, in $TOP/of-VERSION, is what the table of docs/e2b.md says of them.
matrix_is() {
	local what=$1
	shift
	python3 - "$what" "$TOP" "$@" >"$TOP/matrix" <<'END'
import sys
what, top, versions = sys.argv[1], sys.argv[2], sys.argv[3:]
of = {v: dict(line.rstrip("\n").split("\t") for line in open(f"{top}/of-{v}")) for v in versions}
print(f"| {what} | " + " | ".join(versions) + " |")
print("|---|" + "---|" * len(versions))
for name in of[versions[-1]]:
    print(f"| {name} | " + " | ".join(of[v].get(name, "?").replace("none", "-") for v in versions) + " |")
END
	[ -z "${BERTH_MATRIX:-}" ] || cp "$TOP/matrix" "$BERTH_MATRIX"
	# Of the table that all versions make, the columns that were measured now.
	table_of "$what" | python3 -c 'import sys
rows = [line.strip().strip("|").split("|") for line in sys.stdin]
at = [0] + [i for i, v in enumerate(rows[0]) if v.strip() in sys.argv[1:]]
print("\n".join("|" + "|".join(row[i] for i in at) + "|" for row in rows))' "$@" >"$TOP/wanted"
	diff "$TOP/wanted" "$TOP/matrix" >"$TOP/diff" || fail "docs/e2b.md has another table: $(cat "$TOP/diff")"
}

# A daemon with a certificate of its own, and a client's variables for it: nothing but a domain set. $port, $tls: where.
start_tls_daemon() {
	port=$((20000 + RANDOM % 10000))
	tls=$TOP/tls
	berth tls init --dir "$tls" --domain sbx.localhost >"$TOP/said"
	chmod 755 "$TOP" "$tls"
	chown berth "$tls/key.pem"
	start_daemon --set "api.tls-listen=127.0.0.1:$port" --set "api.tls-cert=$tls/cert.pem" --set "api.tls-key=$tls/key.pem" --set "api.domain=sbx.localhost:$port"
	E2B_API_KEY=$(berth key create spawner)
	export E2B_API_KEY E2B_DOMAIN=sbx.localhost:$port NODE_EXTRA_CA_CERTS=$tls/ca.pem
}
