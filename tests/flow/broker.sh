#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The broker: alone against a service with TLS that demands the value (every check of tests/lib/broker-check.py), and below a
# daemon: a sandbox uses a value that it does not have, the broker is killed in the middle of a request, and the audit tells all of it. BERTH_LONG=1: each fence of it taken down must be noticed.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
cd "$TOP"
python=/usr/bin/python3 # where Debian's packages are
[ -x "$python" ] || python=python3

make_certs() {
	local name
	for name in ca other; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.pem -days 2 -subj "/CN=$name" 2>/dev/null
	done
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out req.pem -subj /CN=localhost 2>/dev/null
	printf 'subjectAltName=DNS:localhost' >ext
	openssl x509 -req -in req.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext 2>/dev/null
}
make_certs || fail "no certificates"

check() { # a directory of its own; PROGRAM
	rm -rf "$TOP/alone"
	mkdir -p "$TOP/alone/services"
	cp ./*.pem "$TOP/alone"
	[ -z "${2:-}" ] || echo "$2" >"$TOP/alone/services/weak"
	BROKER=$1 timeout 150 "$python" "$SRC/tests/lib/broker-check.py" "$BERTH_BUILD" "$TOP/alone" >"$TOP/check.log" 2>&1
}
check berth-broker || fail "$(tail -n 5 check.log; tail -n 3 alone/broker.log)"
say "$(grep -v Task check.log | grep -E '^HTTP|checks' | tr '\n' ';')"
if [ "${BERTH_LONG:-}" = 1 ]; then
	for word in mask hosts scope expired binding method path parse fields redirect private; do
		if check berth-broker-weak "$word"; then fail "without $word nothing was noticed"; fi
		say "without $word: $(grep broker-check: check.log | cut -c1-100)"
	done
fi

# below a daemon
token=brokered-$RANDOM$RANDOM$RANDOM
PYTHONUNBUFFERED=1 "$python" "$SRC/tests/lib/tls_service.py" cert.pem key.pem "$token" >port 2>upstream.log &
UPSTREAM=$!
at_end() { kill "$UPSTREAM" 2>/dev/null || :; }
wait_for 20 "the service" test -s port
port=$(cat port)
cat >"$TOP/services/svc.json" <<JSON
{"secrets": ["TOK"], "private": true, "ca": "$TOP/ca.pem", "vars": {"SVC_URL": "{base}"},
 "routes": [{"upstream": "https://localhost:$port/", "methods": ["GET", "POST"], "paths": ["/**"], "credential": {"as": "bearer"}}]}
JSON
start_daemon --set broker.user=nobody # an account of its own
berth secret key >host.pub
printf %s "$token" | "$BERTH_BUILD/berth-seal" seal --to host.pub --name TOK --host "localhost:$port" --for template=base --method GET --path '/*' -o tok.sealed
berth secret add tok.sealed
berth secret ls | grep -qF " host=localhost:$port service=svc method=GET path=/*" || fail "what it is for is not listed: $(berth secret ls)"
id=$(berth create --template base --secret TOK)
other=$(berth create --template base)
ask() { berth run "$1" ${3:+--id "$3"} -- curl -sSf --max-time 20 "http://berth.internal/svc/$2"; }
equal "a sandbox uses it" "$(ask "$id" x)" ok
ask "$id" echo >echoed
grep -q "Bearer \**\"" echoed || fail "it was not sent, or comes back: $(cat echoed)"
must_fail ask "$other" x # it was not given any
equal "a method that was not sealed" "$(berth run "$id" -- curl -sS -d x http://berth.internal/svc/x | field error | tr \' \")" \
	'{"rule": "method", "message": "secret TOK: it is for GET"}'
equal "its variable" "$(berth run "$id" -- sh -c 'echo $SVC_URL')" http://berth.internal/svc

broker_pid() { for p in /proc/[0-9]*; do grep -aqF -- "--state=$STATE" "$p/cmdline" 2>/dev/null && echo "${p#/proc/}"; done; }
equal "whose it is" "$(stat -c %U "/proc/$(broker_pid)/mem") $(sed -n 's/^Uid:.//p' "/proc/$(broker_pid)/status" | cut -f1)" "root $(id -u nobody)"

# whose it was: one that outlived its command, too
berth run "$id" --id deep -- sh -c 'setsid sh -c "curl -sSf http://berth.internal/svc/deep >/workspace/deep 2>&1" >/dev/null 2>&1 &'
is_deep() { [ "$(berth run "$id" -- cat /workspace/deep)" = ok ]; }
wait_for 20 "a process without parents" is_deep
ask "$id" again again >/dev/null
told() { berth secret audit --json >audit && grep -q "$1" audit; }
wait_for 20 "its row" told '"what":"used".*"process":"deep","command":"sh".*"path":"/deep"'
wait_for 20 "its row" told '"what":"used".*"process":"again","command":"curl".*"path":"/again"'

# it dies while the service has not answered yet
equal "one broker" "$(broker_pid | wc -l)" 1
berth run "$id" -- curl -sS -i --max-time 60 http://berth.internal/svc/hang >hung 2>&1 &
hung=$!
is_asked() { grep -qF /hang upstream.log; }
wait_for 20 "the request at the service" is_asked
kill -9 "$(broker_pid)"
wait "$hung" || :
grep -q '503' hung || fail "whoever waited was told nothing: $(cat hung)"
again() { [ "$(ask "$id" x)" = ok ]; }
wait_for 20 "another broker" again
equal "still one" "$(broker_pid | wc -l)" 1

# the audit
for row in '"what":"used","secret":"TOK","key":"socket".*"sandbox":"'"$id"'".*"command":"curl".*"delivery":"broker".*"service":"svc","method":"GET","host":"localhost:'"$port"'","path":"/x"' \
	'"path":"/x","count":[1-9][0-9]*,"status":200' '"what":"refused","secret":"TOK".*"why":"method".*"method":"POST"'; do
	wait_for 20 "the audit to say $row" told "$row"
done
if grep -qF "$token" audit echoed hung "$LOG"; then fail "the value is told"; fi
berth fsck >/dev/null
berth kill "$id" --grace 0
say passed
