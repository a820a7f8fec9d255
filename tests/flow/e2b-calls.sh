#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Calls of E2B's that its npm package does not make, but its Python package and its command line: watchers that are asked,
# and logs; also from somebody who may not.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
port=$((20000 + RANDOM % 10000))
start_daemon --set "api.listen=127.0.0.1:$port"
key=$(berth key create calls) other=$(berth key create other)
python3 - "$port" "$key" "$other" <<'P'
import http.client, json, subprocess, sys, time
port, key, other = int(sys.argv[1]), *sys.argv[2:]
def ask(method, path, headers, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    c.request(method, path, None if body is None else json.dumps(body), {**headers, "Content-Type": "application/json"})
    r = c.getresponse()
    text = r.read()
    return r.status, json.loads(text or b"null")
mine = {"X-API-Key": key}
def make():
    status, box = ask("POST", "/v2/sandboxes", mine, {"templateID": "mini"})
    assert status == 201, box
    return box["sandboxID"], {"E2b-Sandbox-Id": box["sandboxID"], "X-Access-Token": box["envdAccessToken"]}
id, door = make()
def run(*argv, code=0):
    p = subprocess.run(["berth", "run", id, "--", *argv], capture_output=True)
    assert p.returncode == code, p
def call(name, body, door=door): return ask("POST", "/filesystem.Filesystem/" + name, door, body)
def until(what, f):
    end = time.time() + 15
    while time.time() < end:
        got = f()
        if got: return got
        time.sleep(0.05)
    raise AssertionError(what)

# watchers
assert call("CreateWatcher", {"path": "/workspace/none"})[0] == 404
run("mkdir", "-p", "/workspace/d/e")
status, w = call("CreateWatcher", {"path": "/workspace/d", "recursive": True, "includeEntry": True})
assert status == 200 and w["watcherId"].startswith("w"), w
assert call("GetWatcherEvents", w) == (200, {"events": []})
run("sh", "-c", "echo x >/workspace/d/e/f; mv /workspace/d/e/f /workspace/d/g; rm /workspace/d/g")
seen = []
def kinds():
    seen.extend(call("GetWatcherEvents", w)[1]["events"])
    return {(e["name"], e["type"]) for e in seen} >= {("e/f", "EVENT_TYPE_CREATE"), ("e/f", "EVENT_TYPE_WRITE"), ("e/f", "EVENT_TYPE_RENAME"),
                                                      ("g", "EVENT_TYPE_CREATE"), ("g", "EVENT_TYPE_REMOVE")}
until(f"events: {seen}", kinds)
# each only once
assert len([e for e in seen if (e["name"], e["type"]) == ("g", "EVENT_TYPE_REMOVE")]) == 1, seen
assert call("GetWatcherEvents", w) == (200, {"events": []})
# nobody else's
id2, door2 = make()
assert call("GetWatcherEvents", w, door2)[0] == 404 and call("RemoveWatcher", w, door2)[0] == 404
# more than is kept: it says so, once, and goes on
def overflow():
    run("sh", "-c", "cd /workspace/d; rm -rf n*; for i in $(seq 40); do mkdir n$i; (cd n$i; seq 400 | xargs touch); done")
    status, a = call("GetWatcherEvents", w)
    return status == 429 and "more came" in a["message"]
until("an overflow", overflow)
run("touch", "/workspace/d/after")
until("what comes after", lambda: any(e["name"] == "after" for e in call("GetWatcherEvents", w)[1].get("events", [])))
assert call("RemoveWatcher", w) == (200, {})
assert call("RemoveWatcher", w)[0] == 404 and call("GetWatcherEvents", w)[0] == 404
many = [call("CreateWatcher", {"path": "/workspace"}) for _ in range(66)]
assert [s for s, _ in many].count(200) == 64 and many[-1][0] == 429, [s for s, _ in many]
kept = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
def by_kept(path, headers):
    kept.request("GET", path, None, headers)
    r = kept.getresponse()
    r.read()
    return r.status
assert by_kept("/files?path=/etc/hostname", door2) == 200
w2 = call("CreateWatcher", {"path": "/workspace"}, door2)[1]
assert ask("DELETE", f"/sandboxes/{id2}", mine)[0] == 204
assert call("GetWatcherEvents", w2, door2)[0] == 502
# a kept connection that was of the one that is gone serves for others
assert by_kept("/v2/sandboxes", mine) == 200

# logs: of the commands
run("sh", "-c", "echo needle; exit 3", code=3)
def entries(query="", v="/v2", **more):
    status, a = ask("GET", f"{v}/sandboxes/{id}/logs{query}", more.get("who", mine))
    assert status == more.get("wants", 200), (status, a)
    return a
all = until("a log", lambda: [e for e in entries()["logs"] if "needle" in e["fields"]["cmd"]][1:] and entries()["logs"])
last = [e for e in all if "needle" in e["fields"]["cmd"]]
assert [(e["level"], e["message"]) for e in last] == [("info", "process started"), ("error", "process exited with status 3")], last
assert last[1]["fields"]["exit_code"] == "3"
assert entries("?level=error")["logs"] == last[1:]
assert entries("?search=needle&limit=1")["logs"] == last[:1]
assert entries("?direction=backward&limit=1")["logs"] == last[1:]
assert entries("?cursor=9000000000000")["logs"] == []
old = entries(v="")
assert len(old["logs"]) == len(old["logEntries"]) == len(all) and json.loads(old["logs"][-1]["line"])["exit_code"] == 3, old["logs"][-1]
entries("?cursor=x", wants=400)
entries(who={"X-API-Key": other}, wants=404)
P
say passed
