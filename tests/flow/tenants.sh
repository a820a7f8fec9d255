#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One key's sandboxes are not there for another: every route of the tables of the API is asked, with the other's ids, names
# and snapshots in the place of each parameter, by a key that may do all to its own. What it asked for has not happened.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
port=$((20000 + RANDOM % 10000))
start_daemon --set "api.listen=127.0.0.1:$port" --set api.failures=0
owner=$(berth key create owner) stranger=$(berth key create stranger) sees=$(berth key create sees --scopes read,files,run,others)
# what a key built has such a name on the disk
built=e2b-$(printf 'a%.0s' $(seq 40))
cp -al "$STATE/templates/mini" "$STATE/templates/$built"
export SRC built
python3 - "$port" "$owner" "$stranger" "$sees" <<'P'
import http.client, json, os, re, sys
port, owner, stranger, sees = int(sys.argv[1]), *sys.argv[2:]
def ask(method, path, key, body=None, **headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    head = {"X-API-Key": key, "Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    c.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), head)
    r = c.getresponse()
    text = b""
    while len(text) < 1 << 20 and not (r.getheader("Content-Type", "").endswith("ndjson") and text):
        more = r.read1(65536)
        if not more: break
        text += more
    return r.status, text
# the tables
routes = []
for file in ("v1/v1.c", "e2b/e2b.c"):
    with open(os.environ["SRC"] + "/host/api/" + file) as f: text = f.read()
    for table in re.findall(r"static const struct http_route \w+\[\] = \{\n(.*?)\n\};", text, re.S):
        routes += [(file[:3].strip("/"), *row) for row in re.findall(r'^\t\{ "(\w+)", "([^"]+)", (\w+), ([\w| ]+),', table, re.M)]
assert len(routes) > 120, len(routes)
# what the owner has
status, text = ask("POST", "/v2/sandboxes", owner, {"templateID": "mini", "metadata": {"mark": "owners-mark"}, "timeout": 600})
assert status == 201, text
box = json.loads(text)
id, token = box["sandboxID"], box["envdAccessToken"]
V = "/v1/sandboxes/" + id
def exec(*argv):
    status, text = ask("POST", V + "/exec", owner, {"argv": argv})
    assert status == 200, text
    return json.loads(text)["stdout"]
exec("sh", "-c", "echo owners-words >/workspace/words; sleep 300 >/dev/null 2>&1 &")
assert ask("POST", V + "/snapshots", owner, {"name": "kept"})[0] in (200, 201)
status, text = ask("POST", "/v1/sandboxes", owner, {"template": "mini", "name": "owners-name"})
assert status == 201, text
named = json.loads(text)["id"]
assert ask("POST", f"/v1/sandboxes/{named}/kill", owner, {})[0] == 200 # a stopped one
status, text = ask("POST", "/secrets", owner, {"name": "owners-secret", "value": "owners-value", "metadata": {"a": "owners-meta"}})
assert status == 201, text
secret = json.loads(text)["secretID"]
status, text = ask("POST", "/v2/sandboxes", stranger, {"templateID": "mini"})
assert status == 201, text
mine = json.loads(text)
def state():
    status, text = ask("GET", V, owner)
    assert status == 200, text
    i = json.loads(text)
    names = exec("sh", "-c", "cd /workspace; find . | sort; cat words")
    procs = exec("sh", "-c", "ps 2>/dev/null | grep -c '[s]leep 300'; true")
    return {k: i[k] for k in ("state", "ends_ns", "key")}, names, procs, sorted(x["name"] for x in json.loads(ask("GET", V + "/snapshots", owner)[1])), ask("GET", V + "/network", owner), ask("GET", "/secrets", owner)
before = state()
secrets = (id.encode(), named.encode(), b"owners-words", b"owners-mark", b"owners-name", token.encode(), b"owners-value", b"owners-meta", secret.encode(), b"owners-secret")
queries = {"path": "words", "from": id, "to": named, "port": "8000", "socket": "/tmp/x", "name": "user.x", "at": "kept", "sandbox_ids": id, "since": "0", "by": "hour"}
bodies = {"argv": ["touch", "/workspace/strange"], "path": "/workspace/words", "signal": 9, "name": "strange", "from": id, "template": "mini", "timeout_ms": 1000, "timeout": 1,
          "count": 1, "snapshot": "kept", "templateID": id + ":kept", "metadata": {}, "user": "", "value": "strangers-value", "process": {"cmd": "true"}, "grace_ms": 0, "allow": ["1.1.1.1"]}
asked, refused = 0, {}
for front, method, path, handler, need in routes:
    door = path.startswith(("/process.", "/filesystem.")) or (front == "e2b" and path in ("/health", "/envs", "/metrics", "/files"))
    for target in (id, id + "@kept", named, "owners-name", id + ":kept", *(("owners-secret", secret) if "/secrets" in path else ())):
        if "{}" not in path and target not in (id, id + "@kept"): continue
        at = path.replace("{}", target, 1).replace("{}", "kept") + "?" + "&".join(f"{k}={target if k == 'from' else v}" for k, v in queries.items() if front == "e2b" or k in (
            {"path", "from", "to"} if path in ("/v1/diff",) else {"path", "from"} if path == "/v1/export" else {"path"} if path.endswith(("/files", "/list", "/stat")) else set()))
        body = {k: v for k, v in bodies.items()}
        if front == "v1": # the strict door: what it takes of these
            body = {"exec": {"argv": body["argv"]}, "make": {"path": "strange"}, "rename": {"from": "words", "to": "strange"}, "snapshots": {"name": "strange"}, "restore": {"snapshot": "kept"},
                    "fork": {"n": 1}, "timeout": {"timeout_ms": 1000}, "network": {"internet": False}, "signal": {"signal": 9}, "sandboxes": {"template": "mini", "from": target}}.get(path.split("/")[-1], {})
        headers = {"E2b_Sandbox_Id": id, "X_Access_Token": mine["envdAccessToken"]} if door else {}
        upgrade = {"Upgrade": "berth-stream", "Connection": "Upgrade"} if path.endswith(("/stream", "/tunnel", "/listen")) else {}
        status, text = ask(method, at, stranger, None if method in ("GET", "HEAD", "DELETE") else body, **headers, **upgrade)
        asked += 1
        refused.setdefault(status, 0)
        refused[status] += 1
        for s in secrets:
            assert s not in text or s == target.encode() and status in (400, 403, 404, 501) or s == id.encode() and (door or status in (400, 404, 501)), (method, at, status, text[:300])
        if "{}" in path and "/sandboxes/{}" in path or path in ("/v1/diff", "/v1/export") or (door and path != "/health"):
            assert status in (400, 401, 403, 404, 501) and (status != 400 or "/v1/" not in path), (method, at, status, text[:300])
        if path.startswith("/secrets/"):
            assert status == 404, (method, at, status, text[:300])
        if need.strip() == "ACCESS_ADMIN" or "OTHERS" in need:
            assert status in (403, 404) or b"not-built" in text or b"does not have this yet" in text, (method, at, status, text[:300])
assert asked > 300, asked
# a new one from what is another's
for body in ({"template": "mini", "from": id}, {"from": id + "@kept"}, {"from": "owners-name"}):
    status, text = ask("POST", "/v1/sandboxes", stranger, body)
    assert status == 404, (body, status, text)
assert ask("POST", "/v2/sandboxes", stranger, {"templateID": id + ":kept"})[0] == 404
built = os.environ["built"]
for key, sight in ((stranger, False), (owner, False), (sees, True)):
    assert (built in ask("GET", "/v1/templates", key)[1].decode()) == sight, key
    assert sight or ask("POST", "/v1/sandboxes", key, {"template": built})[0] == 404
    assert sight or ask("POST", "/v2/sandboxes", key, {"templateID": built})[0] == 404
for words in ("owners-secret", f"key.{owner[4:12]}.owners-secret"): # in a rule, and for a sandbox
    rules = {"x.example": [{"transform": {"headers": {"a": "${e2b.secrets.%s}" % words}}}]}
    assert ask("POST", "/v2/sandboxes", stranger, {"templateID": "mini", "network": {"rules": rules}})[0] == 400, words
    assert ask("PUT", f"/sandboxes/{mine['sandboxID']}/network", stranger, {"rules": rules})[0] == 400, words
    assert ask("POST", "/v1/sandboxes", stranger, {"template": "mini", "secrets": [words]})[0] == 404, words
after = state()
assert before == after, (before, after)
# the same requests by whoever may: so they were requests that could have worked
for path in (V, V + "/list?path=", V + "/files?path=words", f"/v1/export?from={id}@kept", f"/v1/diff?from={id}@kept&to={id}", V + "/stats", V + "/snapshots", V + "/log", V + "/network", "/v1/sandboxes/owners-name"):
    for key in (owner, sees):
        status, text = ask("GET", path, key)
        assert status == 200, (path, status, text[:200])
owners, strangers = {id, named}, {mine["sandboxID"]}
for key, want, never in ((owner, owners, strangers), (stranger, strangers, owners), (sees, owners | strangers, set())):
    ids = {x["id"] for x in json.loads(ask("GET", "/v1/sandboxes?all=1", key)[1])}
    assert ids >= want and not ids & never, (ids, want, never)
print(f"tenants: {asked} requests of {len(routes)} routes by a stranger: {refused}")
P
say passed
