#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# E2B's SDK, several versions, with a gateway of MCP: what it asks for with `mcp`, starts inside, reads there and reaches by name, over
# TLS; without a template that has one it is told so. The gateway is a stand-in (tests/lib/mcp-gateway.sh). The table in docs/e2b.md is
# what is measured here.
. "$(dirname "$0")/../lib/flow.sh"
. "$SRC/tests/lib/clients.sh"
need_clients
need_root
command -v busybox >/dev/null || skip "needs busybox"
read -ra versions <<<"${BERTH_CLIENTS:-2.10 2.15 2.18 2.45 2.50 2.51}"
start_tls_daemon

# A root that their clients can use, and the same with a gateway.
mkdir "$TOP/extra"
for f in /bin/bash $(ldd /bin/bash | grep -o '/[^ ]*'); do cp -L --parents "$f" "$TOP/extra"; done
mini_tar "$TOP/mini.tar"
tar -C "$TOP/extra" -rf "$TOP/mini.tar" .
berth template build without --tar "$TOP/mini.tar" >"$TOP/built" 2>&1 || fail "template: $(tail -n 5 "$TOP/built")"
client() { timeout 120 node --require "$TOP/names.cjs" "$TOP/mcp.mjs" "$@"; }
install -D -m 644 "$SRC/tests/lib/mcp-gateway.sh" "$TOP/own/mcp-gateway"
E2B_API_KEY=$(berth key create own) client e2b-2.51 own "$TOP/own" >"$TOP/of-own" 2>&1 || fail "its own: $(tail -n 5 "$TOP/of-own")"
for v in "${versions[@]}"; do
	client "e2b-$v" without >"$TOP/of-$v" 2>"$TOP/err-$v" || fail "e2b $v: $(grep FAILED "$TOP/of-$v") $(tail -n 5 "$TOP/err-$v")"
done
install -D -m 755 "$SRC/tests/lib/mcp-gateway.sh" "$TOP/gateway/usr/bin/mcp-gateway"
tar -C "$TOP/gateway" -rf "$TOP/mini.tar" ./usr/bin/mcp-gateway
berth template build mcp-gateway --tar "$TOP/mini.tar" >"$TOP/built" 2>&1 || fail "template: $(tail -n 5 "$TOP/built")"
for v in "${versions[@]}"; do
	client "e2b-$v" with >>"$TOP/of-$v" 2>>"$TOP/err-$v" ||
		fail "e2b $v: $(grep FAILED "$TOP/of-$v" | cut -c 1-500) $(tail -n 5 "$TOP/err-$v")"
done

# What the servers are given is in no record and no log; the journal has a command's first kilobyte.
end_sandboxes
stop_daemon
grep -rqF -- "mcp-gateway --config" "$STATE" || fail "the journal has no commands"
! grep -rlF kept-nowhere "$STATE" "$LOG" >"$TOP/kept" || fail "it was kept: $(head -n 3 "$TOP/kept")"
matrix_is MCP "${versions[@]}"
say ok
