#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The broker where sandboxes have a network: berth.internal is reached without the internet being on, by the host's network and not by
# the sandbox's, and neither from another sandbox nor by the address that the sandbox has there.
. "$(dirname "$0")/../lib/net.sh"
. "$(dirname "$0")/../lib/flow.sh"
. "$(dirname "$0")/../lib/broker.sh"
need_template base
make_world
make_ca
upstream web a-token-of-the-test
PORT=$(cat "$TOP/web.port")
rm -f "$BERTHD_BROKER_SERVICES"/*.json
service web '{"secrets":["WEB"],"private":true,"ca":"'"$TOP"'/ca.pem","routes":[{"prefix":"/","upstream":"https://localhost:'"$PORT"'/",
	"methods":["GET"],"paths":["/**"],"credential":{"as":"bearer"}}]}'
first=yes
for mode in veth pasta; do
	NETWORK=$mode start_daemon
	[ -z "$first" ] || secret WEB a-token-of-the-test --host "localhost:$PORT"
	first=
	id=$(berth create --secret WEB)
	other=$(berth create)
	equal "$mode: its network" "$(berth net "$id" | awk '$1 == "network" { print $2 }')" "$mode"
	equal "$mode: from inside" "$(berth run "$id" -- curl -sS -m 20 http://berth.internal/web/hello)" hello
	address=$(berth run "$id" -- sh -c 'hostname -I | cut -d" " -f1')
	[ -n "$address" ] || fail "$mode: it has no address"
	for where in 127.19.0.1 "$address"; do
		must_fail berth run "$other" -- curl -s -m 5 "http://$where/web/hello"
		must_fail curl -s -m 5 "http://$where/web/hello"
	done
	must_fail berth run "$id" -- curl -s -m 5 "http://$address/web/hello"
	berth kill "$id" --grace 0
	berth kill "$other" --grace 0
	stop_daemon
done
say passed
