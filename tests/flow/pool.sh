#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# [pool]: sandboxes that are started ahead. What takes one, what does not, that nobody sees one before and nothing of one is left;
# over restarts, deaths, a template that is built anew, and no room.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
port=$((20000 + RANDOM % 10000))
up() { start_daemon --set "api.listen=127.0.0.1:$port" "$@"; }
ready() { curl -sf --unix-socket "$STATE/run/api.sock" http://x/metrics | sed -n "s/^berth_$1{template=\"mini\"} //p"; }
has_ready() { [ "$(ready ready)" = "$1" ]; }
ids() { berth ps --json "$@" | python3 -c 'import json, sys; print(*(x["id"] for x in json.load(sys.stdin)), sep="\n", end="")' | awk NF; }
boxes() { find "$STATE/boxes" -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l; }
"$BERTH_BUILD/berthd" --help | grep -A 1 "^\[pool\]" | grep -q "TEMPLATE *= 0 " || fail "berthd --help has no [pool]"
"$BERTH_BUILD/berthd" --set pool.mini=2 --help | grep -q "^  mini *= 2" || fail "berthd --help does not tell what is kept ready"
up --set pool.mini=2 --set pool.none=1
key=$(berth key create pool) other=$(berth key create other)
wait_for 60 "two that are ready" has_ready 2
equal "nobody is shown one" "$(berth ps --all --json)" "[]"
equal "nor on the mount" "$(ls "$MNT")" "by-name"
equal "they are there" "$(boxes)" 2
berth info --host | grep -q "missing.*0 of 1 sandboxes are ready: there is no such template" || fail "no reason: $(berth info --host)"
berth info --host | grep -q "2 of 2 sandboxes are ready" || fail "berth info --host says nothing of them: $(berth info --host)"
python3 - "$port" "$key" "$other" "$MNT" <<'P' || fail calls
import http.client, json, os, subprocess, sys
port, key, other, mnt = int(sys.argv[1]), *sys.argv[2:5]
def ask(method, path, body=None, key=key, **more):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request(method, path, None if body is None else json.dumps(body), {"X-API-Key": key, "Content-Type": "application/json", **more})
    r = c.getresponse()
    text = r.read()
    return r.status, json.loads(text or b"null")
def taken():
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request("GET", "/metrics", headers={"X-API-Key": admin})
    return [int(l.split()[-1]) for l in c.getresponse().read().decode().splitlines() if l.startswith('berth_ready_taken_total{template="mini"}')][0]
admin = subprocess.run(["berth", "key", "create", "all", "--scopes", "admin,others,read"], capture_output=True, text=True, check=True).stdout.strip()
def run(id, *argv): return subprocess.run(["berth", "run", id, "--", *argv], capture_output=True, text=True, check=True).stdout
n = taken()
status, a = ask("POST", "/v2/sandboxes", {"templateID": "mini", "metadata": {"k": "v"}, "envVars": {"E": "e"}, "timeout": 77})
assert status == 201 and taken() == n + 1, (a, taken())
id = a["sandboxID"]
i = ask("GET", f"/sandboxes/{id}")[1]
assert i["metadata"] == {"k": "v"} and i["state"] == "running" and i["envdAccessToken"] == a["envdAccessToken"], i
assert ask("GET", f"/sandboxes/{id}", key=other)[0] == 404 and ask("GET", "/v2/sandboxes", key=other)[1] == []
assert run(id, "sh", "-c", "echo x >/workspace/f; hostname") == id + "\n" and open(f"{mnt}/{id}/f").read() == "x\n"
assert ask("GET", "/envs", **{"E2b-Sandbox-Id": id, "X-Access-Token": a["envdAccessToken"]})[1] == {"E": "e"}
events = subprocess.run(["berth", "log", id], capture_output=True, text=True).stdout
assert "hostname" in events, events
# the other door, with a name; and what must be another one
status, b = ask("POST", "/v1/sandboxes", {"template": "mini", "name": "b", "metadata": {"x": "y"}})
assert status == 201 and b["name"] == "b" and b["metadata"] == {"x": "y"}, b
assert os.readlink(f"{mnt}/by-name/b") == f"../{b['id']}"
assert ask("POST", "/v1/sandboxes", {"template": "mini", "name": "b"})[0] == 409
n = taken()
for body in ({"memory_b": 64 << 20}, {"workspace_b": 64 << 20}, {"pids": 77}, {"cpu_milli": 333}, {"id": "chosen"}, {"keep": "[none]\nx/\n"}, {"from": id}):
    s, c = ask("POST", "/v1/sandboxes", {"template": "mini", **body})
    assert s == 201 and taken() == n, (body, c, taken(), n)
    assert ask("POST", f"/v1/sandboxes/{c['id']}/kill", {})[0] == 200
# snapshots, forks and pauses of one that was taken are as of any other
s, snap = ask("POST", f"/sandboxes/{id}/snapshots", {})
assert s == 201 and ask("POST", "/v2/sandboxes", {"templateID": snap["snapshotID"]})[0] == 201
assert ask("POST", f"/sandboxes/{id}/pause", {"memory": False})[0] == 204 and ask("POST", f"/sandboxes/{id}/connect", {})[0] == 201
assert run(id, "cat", "/workspace/f") == "x\n"
P
wait_for 60 "two again" has_ready 2
# A template that is built anew: those of the old one go.
before=$(find "$STATE/boxes" -mindepth 1 -maxdepth 1 ! -name '.*' -printf '%f\n' | sort)
mini_tar "$TOP/mini.tar"
berth template build mini --replace --tar "$TOP/mini.tar" >"$TOP/build.log" 2>&1 || fail "template: $(tail -n 3 "$TOP/build.log")"
renewed() { has_ready 2 && [ "$(comm -12 <(echo "$before") <(find "$STATE/boxes" -mindepth 1 -maxdepth 1 ! -name '.*' -printf '%f\n' | sort) | wc -l)" = "$(ids | wc -l)" ]; }
wait_for 60 "two of the new one" renewed
# An orderly end takes them away, a death leaves them to the next daemon; those that are somebody's go on.
somebodys=$(ids | wc -l)
stop_daemon
equal "an end leaves what is somebody's" "$(boxes)" "$somebodys"
# At whatever moment it comes: nothing is left of one in the making, of which the next daemon would have to tell.
for ((k = 0; k < ${BERTH_LONG:+20} + 3; k++)); do
	TAKEOVER=$((k % 2 * 20))s up --set pool.mini=2
	[ "$k" = 0 ] || wait_for 60 "one in the making" sh -c "[ \"\$(find '$STATE/boxes' -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l)\" -gt $somebodys ]"
	stop_daemon
	equal "an end while one is made" "$(boxes)" "$somebodys"
done
if grep -q "just being made" "$TOP/log"; then fail "$(grep "just being made" "$TOP/log")"; fi
up --set pool.mini=2
wait_for 60 "two that are ready" has_ready 2
stop_daemon KILL
up
equal "the next daemon removes what was nobody's" "$(boxes) $(ids | wc -l)" "$somebodys $somebodys"
equal "and forgets it" "$(ids --all | wc -l)" "$(find "$STATE/store/ws" -mindepth 1 -maxdepth 1 ! -name '.*' | wc -l)"
berth fsck >/dev/null || fail "fsck"
for id in $(ids); do berth kill "$id" >/dev/null; done
stop_daemon
# No room: those that are ready make it.
up --set pool.mini=3 --set sandbox.max=3
wait_for 60 "three" has_ready 3
berth create --template mini --memory 64M >/dev/null || fail "one that is ready did not make room"
berth create --template mini >/dev/null
berth create --template mini >/dev/null
refused 1 "which is the limit" berth create --template mini
equal "none is ready" "$(ready ready)" 0
for id in $(ids); do berth kill "$id" >/dev/null; done
# Templates that clients build, by their name or id, with the sizes that they have; two of one disk are two.
stop_daemon
up --set pool.mini=1 --set pool.worker=1 --set pool.own=1 --set pool.taken=1
python3 - "$port" "$key" "$other" "$STATE" "$TOP/id" "$LOG" <<'P' || fail "templates with sizes of their own"
import http.client, json, os, subprocess, sys, time
port, key, other, state, id_file = int(sys.argv[1]), *sys.argv[2:6]
def ask(method, path, body=None, key=key):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request(method, path, None if body is None else json.dumps(body), {"X-API-Key": key, "Content-Type": "application/json"})
    r = c.getresponse()
    return r.status, json.loads(r.read() or b"null")
def told(what, of):
    out = subprocess.run(["curl", "-sf", "--unix-socket", f"{state}/run/api.sock", "http://x/metrics"], capture_output=True, text=True).stdout
    return [int(l.split()[-1]) for l in out.splitlines() if l.startswith(f'berth_{what}{{template="{of}"}} ')][0]
def wait(what, of, n):
    until = time.time() + 60
    while told(what, of) != n:
        assert time.time() < until, (what, of, told(what, of), n)
        time.sleep(0.02)
def build(name, size, steps=[], key=key):
    t = ask("POST", "/v3/templates", {"name": name, **size}, key)[1]
    ask("POST", f"/v2/templates/{t['templateID']}/builds/{t['buildID']}", {"fromTemplate": "mini", "steps": steps}, key)
    until = time.time() + 60
    while (s := ask("GET", f"/templates/{t['templateID']}/builds/{t['buildID']}/status", key=key)[1])["status"] != "ready":
        assert s["status"] != "error" and time.time() < until, s
        time.sleep(0.02)
    return t["templateID"]
def create(template, key=key):
    status, s = ask("POST", "/v2/sandboxes", {"templateID": template}, key)
    assert status == 201, s
    i = ask("GET", f"/sandboxes/{s['sandboxID']}", key=key)[1]
    ask("DELETE", f"/sandboxes/{s['sandboxID']}", key=key)
    return i["cpuCount"], i["memoryMB"]
for name in ("mini", "worker"):
    wait("ready", name, 1 if name == "mini" else 0)
with open(id_file, "w") as f:
    f.write(build("worker", {"cpuCount": 1, "memoryMB": 192}))
build("taken", {"memoryMB": 192})
wait("ready", "worker", 1)
wait("ready", "taken", 1)
assert create("worker") == (1, 192) and told("ready_taken_total", "worker") == 1
wait("ready", "mini", 1)
assert create("mini")[1] == 1024 and told("ready_taken_total", "mini") == 1
# Others that are called so: the oldest is meant, until it is gone.
mine = build("taken", {"memoryMB": 256}, key=other)
said, until = [], time.time() + 60
while not said:
    said = [l for l in open(sys.argv[6]) if "several templates have one name" in l]
    assert time.time() < until
    time.sleep(0.02)
for n in 1, 2:
    assert create("taken")[1] == 192 and told("ready_taken_total", "taken") == n, n
    wait("ready", "taken", 1)
assert create(mine, other)[1] == 256 and told("ready_taken_total", "taken") == 2
said = [l for l in open(sys.argv[6]) if "several templates have one name" in l]
assert len(said) == 1 and "name=taken" in said[0], said
assert ask("DELETE", "/templates/taken")[0] in (200, 204)
until = time.time() + 60
while create(mine, other)[1] != 256 or told("ready_taken_total", "taken") == 2:
    assert time.time() < until
wait("ready", "worker", 1)
# Built anew, with another size and a disk of its own: the next is one of these, for both doors.
build("worker", {"cpuCount": 2, "memoryMB": 160}, [{"type": "RUN", "args": ["echo x >/etc/x", "root"]}])
disk = [d for d in os.listdir(f"{state}/templates") if d.startswith("e2b-")]
assert len(disk) == 1, disk
n = told("ready_taken_total", "worker")
until = time.time() + 60
while True: # the old one may still be given to whoever asks for the old disk, never to who asks for this
    assert create("worker") == (2, 160) and time.time() < until
    if told("ready_taken_total", "worker") > n:
        break
wait("ready", "worker", 1)
n = told("ready_taken_total", "worker")
out = subprocess.run(["berth", "create", "--template", disk[0]], capture_output=True, text=True, check=True).stdout.split()[0]
i = json.loads(subprocess.run(["berth", "info", "--json", out], capture_output=True, text=True, check=True).stdout)
assert told("ready_taken_total", "worker") == n + 1 and i["memory_b"] == 160 << 20 and i["cpu_milli"] == 2000, i
subprocess.run(["berth", "kill", out], check=True, capture_output=True)
P
# By id, by which a name is not known to be another's.
id=$(cat "$TOP/id")
stop_daemon
up --set "pool.$id=1"
wait_for 60 "one by its id" sh -c "curl -sf --unix-socket '$STATE/run/api.sock' http://x/metrics | grep -q 'berth_ready{template=\"$id\"} 1'"
refused 2 "a number from 0" "$BERTH_BUILD/berthd" --check --set pool.mini=x
refused 2 "name of a template" "$BERTH_BUILD/berthd" --check --set 'pool.?=1'
say ok
