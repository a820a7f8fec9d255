#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The network of E2B's SDK as it comes from npm (BERTH_LONG=1: older ones, too) in a world of its own. The packages are those of e2b.sh.
. "$(dirname "$0")/../lib/net.sh"
. "$(dirname "$0")/../lib/flow.sh"
need_template base
command -v node >/dev/null || skip "Node.js is not installed"
key=$(cat "$SRC/tests/clients/package.json" "$SRC/tests/clients/package-lock.json" | sha256sum | cut -c 1-12)
clients=/var/cache/berth-test/clients-$key
[ -d "$clients" ] || skip "e2b.sh has not fetched the packages"
cp "$SRC/tests/clients/network.mjs" "$TOP/"
ln -s "$clients/node_modules" "$TOP/node_modules"
make_world
NETWORK=veth start_daemon --set network.dns=93.184.216.99 --set api.listen=127.0.0.1:7070
E2B_API_KEY=$(berth key create spawner)
export E2B_API_KEY E2B_API_URL=http://127.0.0.1:7070 E2B_SANDBOX_URL=http://127.0.0.1:7070
# Of the versions that know egressProxy.
nsenter -t "$INTERNET" -n -- python3 "$SRC/tests/lib/socks.py" "$TOP/socks-ready" "$TOP/asked" 93.184.216.35 1080 me word >>"$TOP/world.log" 2>&1 &
WORLD+=("$!")
wait_for 60 "a proxy" test -s "$TOP/socks-ready"
knows() { grep -q egressProxy "$clients/node_modules/e2b-$1/dist/index.mjs"; }
for v in ${BERTH_CLIENTS:-2.51 ${BERTH_LONG:+2.10 2.18 2.45}}; do
	socks=
	knows "$v" && socks="93.184.216.35:1080 me word"
	SOCKS=$socks timeout 100 node "$TOP/network.mjs" "e2b-$v" >"$TOP/of" 2>&1 || fail "e2b $v: $(tail -n 25 "$TOP/of")"
	say "$(tail -n 1 "$TOP/of")"
done
