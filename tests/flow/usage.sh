#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What sandboxes used: time running and paused, processors, memory, bytes; by sandbox, key and hour; over a daemon that is
# killed and one that ends; after the sandbox is gone; and the same as samples for E2B's clients.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
port=$((20000 + RANDOM % 10000))
start_daemon --set "api.listen=127.0.0.1:$port"
cd "$TOP"
key=$(berth key create counted)
of() { # SANDBOX FIELD
	berth usage --json | python3 -c 'import json, sys
print(next((int(r[sys.argv[2]]) for r in json.load(sys.stdin) if r["sandbox"] == sys.argv[1]), -1))' "$1" "$2"; }
id=$(berth create --template mini)
made=$(date +%s%3N)
equal "nothing of another" "$(of none run_ms)" -1
# a second of one processor, and 20 MB of a file
berth run "$id" -- sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done; head -c 20000000 /dev/urandom >big; times >/workspace/times' 
cpu_inside() { berth stats "$id" --json | python3 -c 'import json, sys; print(int(json.load(sys.stdin)["cpu_ns"]) // 1000000)'; }
# the daemon looks each five seconds: until it has seen it
wait_for 20 "its processor time" eval '[ "$(of "$id" cpu_ms)" -ge $(($(cpu_inside) * 8 / 10)) ]'
[ "$(of "$id" moved_b)" -ge 20000000 ] || fail "moved: $(of "$id" moved_b)"
[ "$(of "$id" stored_b)" -ge 20000000 ] || fail "stored: $(of "$id" stored_b)"
near() { # WHAT IS SHOULD
	[ "$2" -le $(($3 + 1500)) ] && [ "$2" -ge $(($3 - 1500)) ] || fail "$1: $2, not about $3"; }
near "the time that it ran" "$(of "$id" run_ms)" $(($(date +%s%3N) - made))
# a daemon that dies: the time goes on for whoever runs, processors are not counted twice
cpu=$(of "$id" cpu_ms)
stop_daemon KILL 2>/dev/null
sleep 2
start_daemon --set "api.listen=127.0.0.1:$port"
berth run "$id" -- true
near "over a death" "$(of "$id" run_ms)" $(($(date +%s%3N) - made))
wait_for 20 "a look" eval '[ "$(of "$id" cpu_ms)" -ge $cpu ]'
[ "$(of "$id" cpu_ms)" -le $(($(cpu_inside) + 100)) ] || fail "processors: $(of "$id" cpu_ms) of $(cpu_inside)"
# paused time is other time
ran=$(of "$id" run_ms)
berth pause "$id"
paused=$(date +%s%3N)
sleep 2
near "paused" "$(of "$id" paused_ms)" $(($(date +%s%3N) - paused))
near "ran" "$(of "$id" run_ms)" "$ran"
berth resume "$id"
berth kill "$id"
after=$(of "$id" run_ms)
sleep 1
equal "its time after the end" "$(of "$id" run_ms)" "$after"
berth rm "$id"
equal "and when it is removed" "$(of "$id" run_ms)" "$after"
stop_daemon
start_daemon --set "api.listen=127.0.0.1:$port"
equal "and by the next daemon" "$(of "$id" run_ms)" "$after"
berth usage >table
grep -q "^- *$id *socket" table || fail "table: $(cat table)"
berth usage --csv >csv
equal "csv" "$(head -n 1 csv)" hour,sandbox,key,run_s,paused_s,cpu_s,memory_mib_s,stored_b,moved_b
grep -Eq "^,$id,socket,[0-9]+\.[0-9]{3}," csv || fail "csv: $(cat csv)"
berth usage --by hour --csv | grep -Eq "^20[0-9-]*T[0-9]*:00Z,$id,socket" || fail "by hour: $(berth usage --by hour --csv)"
berth usage --by key --csv | grep -Eq "^,,socket," || fail "by key: $(berth usage --by key --csv)"
refused 2 'sandbox, key or hour' berth usage --by day
# E2B's clients: samples of the past, the present, nothing of before; and whose it is
python3 - "$port" "$key" <<'P'
import http.client, json, sys, time
port, key = int(sys.argv[1]), sys.argv[2]
def ask(method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request(method, path, body, {"X-API-Key": key, "Content-Type": "application/json"})
    r = c.getresponse()
    return r.status, json.loads(r.read() or b"null")
status, box = ask("POST", "/v2/sandboxes", b'{"templateID": "mini"}')
assert status == 201, (status, box)
id, deadline = box["sandboxID"], time.time() + 40
while True:
    status, rows = ask("GET", f"/sandboxes/{id}/metrics?start=0")
    assert status == 200, rows
    if len(rows) >= 3: break
    assert time.time() < deadline, rows
    time.sleep(0.5)
for r in rows:
    assert r["cpuCount"] >= 1 and 0 <= r["cpuUsedPct"] <= 110 and 0 < r["memUsed"] <= r["memTotal"] and r["diskTotal"] > 0, r
stamps = [r["timestampUnix"] for r in rows]
assert stamps == sorted(stamps), stamps
assert ask("GET", f"/sandboxes/{id}/metrics?end={stamps[0] - 5}") == (200, [])
status, later = ask("GET", f"/sandboxes/{id}/metrics?start={stamps[0] + 1}&end={stamps[1]}")
assert [r["timestampUnix"] for r in later] == [stamps[1]], (stamps, later)
assert ask("GET", f"/sandboxes/{id}/metrics?start=x")[0] == 400
status, used = ask("GET", "/v1/usage?by=key&key=" + key[4:12])
assert status == 200 and len(used) == 1 and used[0]["run_ms"] > 5000, used
P
equal "the store" "$(berth fsck 2>&1 | tail -n 1 | grep -c 'clean\|0 problems' || :)" 1
say passed
