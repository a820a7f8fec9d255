# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Services for tests of the broker: an authority, servers on loopback that demand a token, policies that lead to them.
# Source it behind flow.sh. Processes are ended when the test ends.
command -v openssl >/dev/null || skip "needs openssl"
seal() { "$BERTH_BUILD/berth-seal" "$@"; }
SERVERS=()
end_servers() {
	local status=$? pid
	set +e
	for pid in "${SERVERS[@]}"; do
		kill "$pid" 2>/dev/null || :
		wait "$pid" 2>/dev/null || :
	done
	(exit "$status")
	cleanup
}
trap end_servers EXIT

# make_ca: ca.pem, and cert.pem with key.pem for localhost and 127.0.0.1.
make_ca() {
	(
		cd "$TOP"
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority \
			-addext basicConstraints=critical,CA:TRUE
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.csr -subj /CN=localhost
		printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >ext
		openssl x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem
		chmod 644 ca.pem
	) >"$TOP/openssl.log" 2>&1 || fail "openssl: $(cat "$TOP/openssl.log")"
}

# upstream NAME TOKEN: starts tests/lib/token_server.py; its port is in $TOP/NAME.port.
upstream() {
	python3 "$SRC/tests/lib/token_server.py" "$TOP/cert.pem" "$TOP/key.pem" "$TOP/$1" < <(printf %s "$2") 2>"$TOP/$1.err" &
	SERVERS+=($!)
	wait_for 20 "$1" test -s "$TOP/$1.port"
}

# service NAME JSON: a policy of the operator's.
service() { printf '%s\n' "$2" >"$BERTHD_BROKER_SERVICES/$1.json"; }

# secret NAME VALUE OPTIONS...: sealed and kept.
secret() {
	local name=$1 value=$2
	shift 2
	[ -e "$TOP/host.pub" ] || berth secret key >"$TOP/host.pub"
	rm -f "$TOP/$name.sealed"
	printf %s "$value" | seal seal --to "$TOP/host.pub" --name "$name" "$@" -o "$TOP/$name.sealed"
	berth secret add "$TOP/$name.sealed"
}
