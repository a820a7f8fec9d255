# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A world for tests of networks: source it first of all, before flow.sh. The test runs again in a network namespace of
# its own, which is "the host" from then on; nothing of the machine's is touched, and with its last process the kernel
# takes everything away. make_world then builds
#
#	the internet	93.184.216.0/24 and 2a01:4f8::/64 behind h0: servers at .34 (example.test), .35 (other.test), .99 (dns)
#	a private net	10.20.0.0/24 behind h1: a server at .2, and the metadata service at 169.254.169.254
#
# Each server tells its own address over HTTP (port 80), UDP echo (port 7777).
if [ -z "${BERTH_NET_WORLD:-}" ]; then
	[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
	for tool in ip unshare nsenter; do
		command -v "$tool" >/dev/null || { echo "needs $tool"; exit 77; }
	done
	unshare --net true 2>/dev/null || { echo "needs network namespaces"; exit 77; }
	export BERTH_NET_WORLD=1
	exec unshare --net -- bash "$0" "$@"
fi

WORLD=()

# in_net PID COMMAND...
in_net() {
	local pid=$1
	shift
	nsenter -t "$pid" -n -- "$@"
}

# A process that holds a namespace; its number is in $NET.
new_net() {
	unshare --net -- sh -c 'echo >"$1"; exec sleep 3600' sh "$TOP/net-ready" &
	NET=$!
	WORLD+=("$NET")
	wait_for 60 "a network namespace" test -e "$TOP/net-ready"
	rm "$TOP/net-ready"
	in_net "$NET" ip link set lo up
}

# serve PID ARGUMENTS...: of world.py, there.
serve() {
	local pid=$1
	shift
	nsenter -t "$pid" -n -- python3 "$SRC/tests/lib/world.py" "$TOP/world-ready" "$@" >>"$TOP/world.log" 2>&1 &
	WORLD+=("$!")
	wait_for 60 "servers" test -e "$TOP/world-ready"
	rm "$TOP/world-ready"
}

make_world() {
	command -v nft >/dev/null || skip "needs nft"
	command -v pasta >/dev/null || skip "needs pasta (package passt)"
	nft add table inet try 2>/dev/null && nft delete table inet try || skip "the kernel has no nftables"
	ip link set lo up
	new_net
	INTERNET=$NET
	new_net
	PRIVATE=$NET
	ip link add h0 type veth peer name i0 netns "$INTERNET"
	ip link add h1 type veth peer name p0 netns "$PRIVATE"
	ip addr add 93.184.216.1/24 dev h0
	ip -6 addr add 2a01:4f8::1/64 dev h0 nodad
	ip addr add 10.20.0.1/24 dev h1
	ip link set h0 up
	ip link set h1 up
	local a
	for a in 34 35 99; do in_net "$INTERNET" ip addr add "93.184.216.$a/24" dev i0; done
	in_net "$INTERNET" ip -6 addr add 2a01:4f8::34/64 dev i0 nodad
	in_net "$INTERNET" ip link set i0 up
	in_net "$PRIVATE" ip addr add 10.20.0.2/24 dev p0
	in_net "$PRIVATE" ip addr add 169.254.169.254/32 dev lo
	in_net "$PRIVATE" ip link set p0 up
	in_net "$PRIVATE" ip route add default via 10.20.0.1
	ip route add default via 93.184.216.34
	ip -6 route add default via 2a01:4f8::34
	ip route add 169.254.169.254/32 via 10.20.0.2
	serve "$INTERNET" 93.184.216.34 93.184.216.35 2a01:4f8::34 dns=93.184.216.99
	serve "$PRIVATE" 10.20.0.2 169.254.169.254
	# What listens on the host itself, at every address of it.
	serve $$ 93.184.216.1 10.20.0.1 127.0.0.1
}

# Processes of pasta in this world.
pastas() {
	local dir name
	for dir in /proc/[0-9]*; do
		{ read -r name <"$dir/comm"; } 2>/dev/null || continue
		case $name in
		passt* | pasta*) [ "$(readlink "$dir/ns/net")" = "$(readlink /proc/$$/ns/net)" ] && echo "${dir#/proc/}" ;;
		esac
	done
	return 0
}

# What a daemon has made in this world and not taken away; flow.sh asks at the end.
net_left() {
	ip -o link | awk -F': ' '$2 ~ /^bt[0-9a-f]/ { print "link " $2 }'
	nft list tables 2>/dev/null | awk '$3 ~ /^berth-/ { print "rules " $3 }'
	pastas | sed 's/^/pasta /'
}
no_net_left() { [ -z "$(net_left)" ]; }

# flow.sh calls it at the end, whatever it is.
at_end() {
	local p
	for p in "${WORLD[@]}"; do kill "$p" 2>/dev/null || :; done
	wait 2>/dev/null || :
}
