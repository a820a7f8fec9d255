#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The API over TCP: nothing without a key, scopes, limits, expiry, revocation of what is open, and that a key is nowhere
# in the clear but where it was shown.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start_daemon --set "api.listen=127.0.0.1:$port"
sock=$BERTH_URL
tcp=http://127.0.0.1:$port
code() { curl -s -o "$TOP/out" -w '%{http_code}' "$@" || :; }
slug() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["error"]["slug"])' "$TOP/out"; }

equal "no key" "$(code "$tcp/health") $(slug)" "401 key-needed"
equal "a key that is none" "$(code -H 'X-API-Key: e2b_12' "$tcp/health") $(slug)" "401 key-unknown"
equal "an unknown key" "$(code -H "X-API-Key: e2b_$(printf '%048d' 7)" "$tcp/health") $(slug)" "401 key-unknown"
equal "an unknown route" "$(code "$tcp/nothing") $(slug)" "401 key-needed"
equal "a long body of a stranger" "$(code -T /dev/zero -H 'Expect:' --max-time 20 "$tcp/v1/sandboxes/x/files?path=a")" 401
all=$(berth key create everything --scopes admin)
reader=$(berth key create reader --scopes read,others)
work=$(berth key create worker --sandboxes 1 --scopes read,files,run,others)
[[ $all =~ ^e2b_[0-9a-f]{48}$ ]] || fail "not the form of a key: $all"
refused 1 'a key called worker exists' berth key create worker
refused 1 'is no scope' berth key create other --scopes read,everything
equal "either header" "$(code -H "Authorization: Bearer $all" "$tcp/health") $(code -H "X-API-Key: $all" "$tcp/health")" "200 200"
equal "both at once twice" "$(code -H "X-API-Key: $all" -H "X-API-Key: $all" "$tcp/health")" 400
equal "one digit wrong" "$(code -H "X-API-Key: ${all%?}$([ "${all: -1}" = 0 ] && echo 1 || echo 0)" "$tcp/health")" 401

# scopes, over the command line and the library
export BERTH_URL=$tcp
refused 1 'an API key is needed' berth ps
export BERTH_API_KEY=$reader
berth ps >/dev/null
refused 1 'may not do this' berth create --template mini
refused 1 'may not do this' berth key ls
export BERTH_API_KEY=$work
id=$(berth create --template mini)
equal "a command over TCP" "$(echo in | berth run "$id" -- cat)" in
berth run "$id" -- sh -c 'head -c 3000000 /dev/urandom >big'
berth cat "$id:big" | cmp - "$MNT/$id/big"
berth cp "$MNT/$id/big" "$id:copy"
cmp "$MNT/$id/big" "$MNT/$id/copy"
refused 1 'may have 1 sandboxes at a time' berth create --template mini
equal "whose it is" "$(berth info "$id" --json | field key)" "${work:4:8}"
BERTH_API_KEY=$reader refused 1 'may not do this' berth cat "$id:big"
BERTH_API_KEY=$reader refused 125 'may not do this' berth run "$id" -- true
berth kill "$id"
two=$(berth create --template mini)

# exports: who takes nothing of his has four at most, others have theirs
head -c 12000000 /dev/urandom >"$TOP/big"
tar -C "$TOP" -cf "$TOP/big.tar" big
big=$(BERTH_API_KEY=$all berth import "$TOP/big.tar")
export tcp all work big
python3 - <<'PY2'
import http.client, os, socket
from berthtest import fail, until
host, port = os.environ["tcp"][7:].split(":")
def export(key):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); s.connect((host, int(port))); s.settimeout(20)
    s.sendall(f"GET /v1/export?from={os.environ['big']} HTTP/1.1\r\nHost: x\r\nX-API-Key: {os.environ[key]}\r\n\r\n".encode())
    return s, s.recv(1000)
slow = [export("all") for _ in range(4)]
if any(b" 200 " not in head[:20] for _, head in slow): fail(slow)
s, head = export("all")
if b" 429 " not in head[:20] or b"\r\nRetry-After: " not in head: fail(head)
other, head = export("work")
if b" 200 " not in head[:20]: fail(f"another key has none for the exports of the first: {head}")
slow[0][0].close()
until(lambda: b" 200 " in export("all")[1][:20], 20, "the place of one that ended is not free")
PY2
BERTH_API_KEY=$all berth rm "$big"

# rate
export BERTH_API_KEY=$all
limited=$(berth key create limited --rate 2)
codes=$(for _ in 1 2 3 4 5 6 7 8; do code -H "X-API-Key: $limited" "$tcp/health"; echo; done | sort | uniq -c | awk '{ print $2 }' | tr '\n' ' ')
equal "rate" "$codes" "200 429 "
# expiry
short=$(berth key create short --scopes read --timeout 300ms)
expired() { [ "$(code -H "X-API-Key: $short" "$tcp/health")" = 401 ]; }
wait_for 10 "the key to expire" expired
equal "why" "$(slug)" key-expired

# revocation: streams, events and kept-alive connections end
export BERTH_URL=$sock
export tcp work reader all two
python3 - <<'PY'
import http.client, json, os, socket, subprocess, time
from berthtest import fail, until, Api
host, port = os.environ["tcp"][7:].split(":")
work, box = os.environ["work"], os.environ["two"]
kept = http.client.HTTPConnection(host, int(port))
kept.request("GET", "/health", headers={"X-API-Key": work}); kept.getresponse().read()
def raw(path, more=""):
    s = socket.create_connection((host, int(port))); s.settimeout(20)
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {work}\r\n{more}\r\n".encode())
    return s, s.recv(65536)
events, head = raw("/v1/events?follow=1")
if b"200" not in head[:20]: fail(head)
stream, head = raw(f"/v1/sandboxes/{box}/stream", "Connection: Upgrade\r\nUpgrade: berth-stream\r\n")
if b"101" not in head[:20]: fail(head)
slow = socket.create_connection((host, int(port))); slow.settimeout(20)
slow.sendall(f"POST /v1/sandboxes/{box}/exec HTTP/1.1\r\nHost: x\r\nX-API-Key: {work}\r\nContent-Length: 28\r\n\r\n".encode() + b'{"argv":["sleep", "100000"]}')
api = Api()
subprocess.run(["berth", "key", "revoke", "worker"], check=True)
def ended(s):
    try:
        while s.recv(65536): pass
    except OSError: pass
    return True
ended(events); ended(stream); ended(slow)
try:
    kept.request("GET", "/health", headers={"X-API-Key": work}); status = kept.getresponse().status
    fail(f"a revoked key on a kept connection: {status}")
except (http.client.HTTPException, OSError): pass
# the socket, and other keys, go on
api.good("GET", "/health")
PY
equal "revoked" "$(code -H "X-API-Key: $work" "$tcp/health") $(slug)" "401 key-unknown"
equal "a key by id" "$(berth key revoke "${reader:4:8}"; code -H "X-API-Key: $reader" "$tcp/health")" 401
refused 1 'no key is called' berth key revoke reader

# kept over a new start, and in the clear nowhere
berth fsck
stop_daemon
start_daemon --set "api.listen=127.0.0.1:$port"
equal "after a new start" "$(code -H "X-API-Key: $all" "$tcp/health") $(code -H "X-API-Key: $work" "$tcp/health")" "200 401"
equal "names" "$(berth key ls --json | python3 -c 'import json, sys; print(*sorted(k["name"] for k in json.load(sys.stdin)))')" "everything limited short"
for key in "$all" "$work" "$reader" "$limited" "$short"; do
	grep -q "${key:12}" "$LOG" && fail "a key is in the log"
	grep -rqF "${key:12}" "$STATE/store" && fail "a key is in the store"
done
grep -q "key=worker/${work:4:8} " "$LOG" || fail "the log does not say whose request it was"
# an address that shows no key again and again is told so; who has a key is taken, whoever has the same address
stop_daemon
start_daemon --set "api.listen=127.0.0.1:$port" --set api.failures=10
export all tcp LOG
python3 - <<'PY'
import http.client, os, time
from berthtest import fail, until
host, port = os.environ["tcp"][7:].split(":")
good = {"X-API-Key": os.environ["all"]}
def ask(headers, conn=None):
    c = conn or http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("GET", "/health", headers=headers)
    a = c.getresponse(); text = a.read()
    return a.status, text
kept = http.client.HTTPConnection(host, int(port), timeout=20)
if ask(good, kept)[0] != 200: fail("no answer with a key")
codes = [ask({"X-API-Key": "e2b_" + "%048d" % i} if i % 2 else {})[0] for i in range(40)]
if codes[:8] != [401] * 8 or codes[-1] != 429 or codes.count(401) > 14: fail(codes)
status, text = ask({})
if status != 429 or b"too-many-failures" not in text: fail(f"{status} {text}")
if ask(good)[0] != 200: fail("a good key is refused for the failures of its address")
if ask(good, kept)[0] != 200: fail("a connection that has shown a key is shut out")
other = http.client.HTTPConnection(host, int(port), timeout=20, source_address=("127.0.0.2", 0))
if ask({}, other)[0] != 401: fail("another address is shut out")
with open(os.environ["LOG"]) as log: before = log.read().count("status=401")
flood = [ask({"X-API-Key": "e2b_" + "%048x" % i})[0] for i in range(200)]
if flood.count(401) > 60: fail(f"a flood is answered in full: {flood.count(401)}")
with open(os.environ["LOG"]) as log: lines = log.read().count("status=401") - before
if lines > flood.count(401): fail(f"{lines} lines in the log of a flood that was refused")
until(lambda: ask({})[0] == 401, 30, "the address is shut out for ever")
# more addresses than the table has places
for i in range(1200):
    c = http.client.HTTPConnection(host, int(port), timeout=20, source_address=(f"127.1.{i >> 8}.{i & 255}", 0))
    if ask({}, c)[0] != 401: fail(f"address {i}")
    c.close()
if ask(good)[0] != 200: fail("no answer after many addresses")
PY
refused 2 'ADDRESS:PORT in numbers' "$BERTH_BUILD/berthd" --check --set api.listen=localhost:80
berth kill "$two"
