#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stands in for a gateway of MCP, as E2B's SDK starts one: mcp-gateway --config JSON, as root, with GATEWAY_ACCESS_TOKEN. It listens on
# port 50005 and answers whoever sends the token with its configuration and what was asked of it. For tests/flow/e2b-mcp.sh.
set -eu
dir=/etc/mcp-gateway
port=50005

# One request of HTTP on standard input.
answer() {
	given='' len=0
	IFS= read -r request
	while IFS= read -r line; do
		line=${line%"$(printf '\r')"}
		case $line in
		'') break ;;
		[Aa]uthorization:\ *) given=${line#*: } ;;
		[Cc]ontent-[Ll]ength:\ *) len=${line#*: } ;;
		esac
	done
	asked=$(head -c "$len")
	status='200 OK'
	text="{\"config\":$(cat $dir/config),\"request\":\"${request%% HTTP*}\",\"asked\":${asked:-null}}"
	[ "$given" = "Bearer $(cat $dir/.token)" ] || status='401 Unauthorized' text='{"error":"who are you?"}'
	printf 'HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n%s' "$status" "$text"
}

case ${1:-} in
answer) answer ;;
pull) # while a template is built
	shift
	mkdir -p $dir
	printf '%s\n' "$@" >>$dir/pulled
	;;
--config)
	[ "$(id -u)" = 0 ] || { echo "not as root" >&2; exit 3; }
	[ -n "${GATEWAY_ACCESS_TOKEN:-}" ] || { echo "no token" >&2; exit 3; }
	case ${2:-} in '{'*'}') ;; *) echo "no configuration" >&2; exit 3 ;; esac
	mkdir -p $dir
	umask 077
	printf %s "$GATEWAY_ACCESS_TOKEN" >$dir/.token
	printf %s "$2" >$dir/config
	nc -ll -p $port -e "$0" answer </dev/null >/dev/null 2>&1 &
	# Its client takes the end of this for a gateway that is there.
	until nc -w 1 127.0.0.1 $port </dev/null >/dev/null 2>&1; do sleep 0.05; done
	;;
*)
	echo "mcp-gateway: what?" >&2
	exit 2
	;;
esac
