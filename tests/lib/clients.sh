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
