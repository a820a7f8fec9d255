#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a sandbox reaches and what it does not, by each kind of network, in a world of its own (tests/lib/net.sh).
. "$(dirname "$0")/../lib/net.sh"
. "$(dirname "$0")/../lib/flow.sh"
need_template base
export WORLD_TUNNEL=$TOP/tunnel
touch "$WORLD_TUNNEL"
make_world

# reach ID ATTEMPT...: a line of result for each.
reach() {
	local id=$1
	shift
	timeout 60 berth run "$id" -- python3 /workspace/reach.py "$@"
}

# expect ID "ATTEMPT: RESULT"...: all at once; what differs is told.
expect() {
	local id=$1 line tries=()
	shift
	for line in "$@"; do tries+=("${line%%: *}"); done
	reach "$id" "${tries[@]}" >"$TOP/got" || fail "attempts in $id: $(tail -n 3 "$TOP/got")"
	printf '%s\n' "$@" >"$TOP/wanted"
	diff "$TOP/wanted" "$TOP/got" >"$TOP/diff" || fail "in $id: $(cat "$TOP/diff")"
}

make() {
	id=$(berth create --template base "$@")
	berth cp --quiet "$SRC/tests/lib/reach.py" "$id:reach.py"
}

try_mode() {
	NETWORK=$1 start_daemon --set network.dns=93.184.216.99 --set network.private=10.20.0.0/24
	say "$1: open"
	make --net
	equal "mode" "$(berth net "$id" | awk '$1 == "network" { print $2 }')" "$1"
	expect "$id" "tcp 93.184.216.34: 93.184.216.34" "udp 93.184.216.35: 93.184.216.35 hello" \
		"tcp example.test: 93.184.216.34" "name example.test: 2a01:4f8::34 93.184.216.34" \
		"tcp 2a01:4f8::34: 2a01:4f8::34" "udp 2a01:4f8::34: 2a01:4f8::34 hello" \
		"dnstcp 198.19.0.1 many.test: code 0 records 61" "dns 198.19.0.1 none.test: code 3 records 0"
	say "$1: the fence"
	expect "$id" "settled eth0: yes" "tcp 10.20.0.2: refused" "udp 10.20.0.2: unreachable" "tcp 169.254.169.254: refused" \
		"tcp 93.184.216.1: refused" "tcp 10.20.0.1: refused" "tcp 198.18.0.1: refused" "tcp 198.19.0.1: refused" \
		"tcp 198.19.16.1: refused" "tcp fd00:ec2::254: refused" "tcp fe80::1%eth0: refused" \
		"tcp ::ffff:10.20.0.2: refused" "tcp 64:ff9b::a14:2: refused" "tcp 2002:a14:2::1: refused" \
		"tcp 168.63.129.16: refused" "tcp 2a01:4f8::1: refused"
	expect "$id" "raw x: none"
	say "$1: names that tell private addresses"
	expect "$id" "name rebind.test: noname" "name meta.test: noname" "name mixed.test: noname" "name mapped.test: noname"
	local open=$id

	say "$1: nothing"
	make
	# By the address of one that may: the first, while both are there.
	expect "$id" "spoof fd62:6572:7468:1::1000 2a01:4f8::34: timeout"
	berth kill "$open" --grace 0
	expect "$id" "tcp 93.184.216.34: refused" "udp 93.184.216.34: unreachable" "tcp 2a01:4f8::34: refused" \
		"name example.test: noname" "dns 198.19.0.1 secret.tunnel.test: code 3 records 0" \
		"dnstcp 198.19.0.1 secret.tunnel.test: code 3 records 0" "dns 93.184.216.99 secret.tunnel.test: unreachable"
	equal "what left by names, and by another address" "$(cat "$WORLD_TUNNEL")" ""

	say "$1: rules, changed while it runs"
	berth net "$id" --allow 93.184.216.35 --allow '*.example.test' --allow 10.20.0.2
	expect "$id" "tcp 93.184.216.35: 93.184.216.35" "tcp 93.184.216.34: refused" "tcp 10.20.0.2: 10.20.0.2" \
		"tcp 10.20.0.1: refused" "name example.test: noname" "name other.test: noname" \
		"tcp v4.example.test: 93.184.216.34" "tcp 93.184.216.34: 93.184.216.34" "tcp 2a01:4f8::34: refused"
	berth net "$id" --clear --allow example.test
	expect "$id" "tcp 93.184.216.34: refused" "tcp 93.184.216.35: refused" "tcp 10.20.0.2: refused" \
		"tcp example.test: 93.184.216.34" "tcp 93.184.216.34: 93.184.216.34" "name v4.example.test: noname" \
		"tcp 2a01:4f8::34: 2a01:4f8::34"
	berth net "$id" --clear --internet on --deny 93.184.216.32/30 --deny 2a01:4f8::/32 --deny other.test \
		--allow 93.184.216.34
	expect "$id" "tcp 93.184.216.35: refused" "tcp 93.184.216.34: 93.184.216.34" "tcp 2a01:4f8::34: refused" \
		"name other.test: noname" "name www.example.test: 93.184.216.34"
	must_fail berth net "$id" --allow 10.99.0.0/16
	grep -q "not of the internet" "$TOP/err" || fail "a private range: $(cat "$TOP/err")"
	must_fail berth net "$id" --allow 'a..b'
	must_fail berth net "$id" --allow '1.2.3'
	berth kill "$id" --grace 0
	if [ "$1" = veth ]; then
		make --net
		nft flush ruleset
		expect "$id" "tcp 93.184.216.1: refused" "tcp 10.20.0.1: refused"
		berth kill "$id" --grace 0
	fi
	stop_daemon
}

for mode in ${MODES:-veth pasta}; do
	try_mode "$mode"
	! ip -o link | grep -q ": bt" || fail "a link is left: $(ip -o link)"
	[ -z "$(nft list tables)" ] || fail "rules are left: $(nft list tables)"
done
