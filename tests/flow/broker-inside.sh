#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A sandbox's end of the broker: berth.internal and the variables are there for sandboxes that have a service and for no others,
# whoever starts the command; bytes flow both ways, many connections are bounded; and what a pause, a new daemon and a new broker do.
. "$(dirname "$0")/../lib/flow.sh"
. "$(dirname "$0")/../lib/broker.sh"
need_template base
make_ca
TOKEN=token-$RANDOM$RANDOM-xyz
upstream web "$TOKEN"
PORT=$(cat "$TOP/web.port")
service web '{"secrets":["WEB"],"private":true,"ca":"'"$TOP"'/ca.pem","routes":[{"prefix":"/","upstream":"https://localhost:'"$PORT"'/",
	"methods":["GET","POST"],"paths":["/**"],"credential":{"as":"bearer"}}],"vars":{"WEB_BASE_URL":"{base}","WEB_KEY":"no-secret"},
	"git":{"from":"https://git.example.org/","prefix":"/"}}'
rm "$BERTHD_BROKER_SERVICES"/{bearer,basic,header,query}.json # which lead anywhere
start_daemon --set daemon.log-level=debug
secret WEB "$TOKEN" --host "localhost:$PORT"
equal "how it is delivered" "$(berth secret ls | awk '$1 == "WEB" { print $2, $NF }')" "broker service=web"

id=$(berth create --template base --secret WEB)
other=$(berth create --template base)
run() { berth run "$id" -- "$@"; }
hello() { equal "$1" "$(run curl -sS --max-time 20 http://berth.internal/web/hello)" hello; }
hello "from inside"
berth info "$id" | grep -q '^service  *http://berth.internal/web/ with WEB' || fail "info: $(berth info "$id")"

# variables, in every command; the caller's own win
api() { curl -s --unix-socket "$STATE/run/api.sock" "$@"; }
equal "a variable" "$(run sh -c 'echo $WEB_BASE_URL $WEB_KEY')" "http://berth.internal/web no-secret"
equal "in one request" "$(api "http://x/v1/sandboxes/$id/exec" -d '{"argv":["sh","-c","echo -n $WEB_BASE_URL"]}' | field stdout)" http://berth.internal/web
equal "the caller's own" "$(berth run --env WEB_BASE_URL=mine "$id" -- sh -c 'echo $WEB_BASE_URL')" mine
equal "git's" "$(run git config --get-all url.http://berth.internal/web/.insteadOf)" https://git.example.org/
equal "others have none" "$(berth run --user root "$other" -- sh -c 'echo ${WEB_BASE_URL:-none} ${GIT_CONFIG_COUNT:-none}; grep -c berth.internal /etc/hosts; curl -s -m 5 http://127.19.0.1/web/hello || echo refused' | tr '\n' ' ')" \
	"none none 0 refused "
! run sh -c 'cat /proc/*/environ 2>/dev/null' | grep -aq "$TOKEN" || fail "the value is inside"

# nobody but the sandbox itself reaches it: not another one, not the host
must_fail curl -s -m 3 http://127.19.0.1/web/hello
printf x | seal seal --to "$TOP/host.pub" --name NOWHERE --host nowhere.example -o "$TOP/n.sealed"
berth secret add "$TOP/n.sealed"
refused 1 'not exactly one of its services leads to its hosts' berth create --template base --secret NOWHERE

# bytes both ways, and many at once
run sh -c 'cat >bytes.py' <<'PY'
import hashlib, http.client, socket, sys, threading
A = "berth.internal"
def whole(n, back, out):
    c = http.client.HTTPConnection(A, timeout=60)
    data = bytes(i * 7 & 255 for i in range(1000)) * (n // 1000)
    c.request("POST", "/web/sum?back=%d" % back, data)
    r = c.getresponse()
    got = r.read()
    out.append(r.status == 200 and got == hashlib.sha256(data).hexdigest().encode() + b"\n" + b"z" * back)
out = []
whole(20_000_000, 20_000_000, out)
t = [threading.Thread(target=whole, args=(100_000, 300_000, out)) for _ in range(100)]
[x.start() for x in t]; [x.join() for x in t]
if out != [True] * 101: sys.exit("of 101 came whole: %d" % out.count(True))
# many that say nothing: some are let in, the others see an end; and afterwards all is as before
many = []
for i in range(2000):
    s = socket.create_connection((A, 80), 30)
    many.append(s)
served = 0
for s in many:
    try:
        s.sendall(b"GET /web/hello HTTP/1.1\r\nHost: berth.internal\r\n\r\n")
        served += s.recv(100).startswith(b"HTTP/1.1 200")
    except OSError: pass
if not 200 <= served <= 256: sys.exit("of 2000 connections were served: %d" % served)
for s in many: s.close()
print("of 2000 at once served:", served)
PY
say "$(run python3 bytes.py)"
free_again() { run curl -sSf --max-time 20 http://berth.internal/web/hello >/dev/null 2>&1; }
wait_for 20 "room for another connection" free_again
# half-close: the request's end is not the connection's
equal "half-closed" "$(run python3 -c 'import socket
s = socket.create_connection(("berth.internal", 80)); s.sendall(b"GET /web/hello HTTP/1.1\r\nHost: berth.internal\r\n\r\n"); s.shutdown(socket.SHUT_WR)
got = b""
while (p := s.recv(1000)): got += p
print(got.decode().split()[-1])')" hello

# a stream that goes on while nobody else is held up
seconds=5
[ -z "${BERTH_LONG:-}" ] || seconds=600
berth run --detach --id streamer "$id" -- sh -c "curl -sSN http://berth.internal/web/events?seconds=$seconds >events; touch over" >/dev/null
begun() { run test -s events; }
wait_for 10 "the first event" begun
hello "beside a stream"
long_over() { run test -e over; }
wait_for $((seconds + 30)) "the end of the stream" long_over
run cat events >"$TOP/events"
python3 - "$TOP/events" "$seconds" <<'PY'
import sys
from berthtest import fail
rows = [l.split()[1:] for l in open(sys.argv[1]) if l.startswith("data:")]
if rows[-1] != ["end"]: fail(f"it does not end: {rows[-1]}")
n = [int(r[0]) for r in rows[:-1]]
if n != list(range(len(n))): fail("events are missing")
if len(n) < int(sys.argv[2]) * 5: fail(f"only {len(n)} events")
print(f"{len(n)} events in {sys.argv[2]} s")
PY

# a pause cuts what is open, and the next one works
berth run --detach --id cut "$id" -- sh -c 'curl -sN http://berth.internal/web/events?seconds=1000 >cut; echo $? >cut.status' >/dev/null
begun_too() { run test -s cut; }
wait_for 10 "a stream" begun_too
berth pause "$id"
berth resume "$id"
is_cut() { run test -s cut.status; }
wait_for 20 "the end of the stream" is_cut
hello "after a pause"

# a daemon that ended in order, one that did not, a broker that died
stop_daemon
start_daemon --set daemon.log-level=debug
hello "with the next daemon"
stop_daemon KILL
start_daemon --set daemon.log-level=debug
hello "after a crash"
broker_pid() { pgrep -f "^berth-broker.*--state=$STATE" | head -n 1; }
pid=$(broker_pid)
kill -KILL "$pid"
wait_for 20 "another broker" free_again
hello "after the broker's death"
equal "the variables" "$(run sh -c 'echo $WEB_BASE_URL')" http://berth.internal/web

# a policy that changes and a secret that goes show in the next command
sed -i 's/no-secret/another/' "$BERTHD_BROKER_SERVICES/web.json"
changed() { [ "$(run sh -c 'echo $WEB_KEY')" = another ]; }
wait_for 10 "the new policy" changed
berth secret rm WEB
equal "without the secret" "$(run sh -c 'echo ${WEB_BASE_URL:-none}; curl -s -o /dev/null -w "%{http_code}" http://berth.internal/web/hello' | tr '\n' ' ')" "none 403"
for s in "$id" "$other"; do berth kill "$s" --grace 0; done
if grep -aq "$TOKEN" "$LOG"; then fail "the log has the value"; fi
say passed
