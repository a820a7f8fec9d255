#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every operation of docs/openapi.yaml is asked of a daemon, with a good answer and (where one can be had) a bad one, and
# each answer is held against the file.
. "$(dirname "$0")/../lib/flow.sh"
python3 -c 'import yaml' 2>/dev/null || skip "needs python3-yaml"
need_template mini
start_daemon
mini_tar "$TOP/mini.tar"
export SRC
cd "$TOP"
python3 - <<'PY'
import http.client, json, os, socket, subprocess
from berthtest import Unix, fail, until
from schema import Spec
spec = Spec(os.environ["SRC"] + "/docs/openapi.yaml")
path = os.environ["BERTH_URL"][5:]
conn = Unix(path)

def ask(method, target, body=None, wants=None, parse=True, **headers):
    data = json.dumps(body) if isinstance(body, (dict, list)) else body
    conn.request(method, target, data, headers)
    a = conn.getresponse()
    text = a.read()
    kind = a.getheader("Content-Type", "")
    value = None
    if kind.startswith("application/json"):
        value = json.loads(text)
    elif kind.startswith("application/x-ndjson"):
        for line in text.splitlines():
            value = json.loads(line)
            spec.answer(method, target, a.status, kind, value)
    spec.answer(method, target, a.status, kind, value)
    if wants and a.status != wants:
        fail(f"{method} {target}: {a.status} instead of {wants}: {text[:300]}")
    if method == "GET" and a.status < 300: # HEAD is there wherever GET is
        conn.request("HEAD", target, None, headers)
        h = conn.getresponse()
        if h.status != a.status or h.read() or h.getheader("Content-Type") != a.getheader("Content-Type"):
            fail(f"HEAD {target}: {h.status} {h.getheaders()}")
        heads.add(target.split("?")[0])
    return value if value is not None else text

heads = set()
def upgrade(method, target, body=b""):
    s = socket.socket(socket.AF_UNIX); s.settimeout(120); s.connect(path)
    s.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: berth-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    got = s.recv(65536)
    status = int(got.split()[1])
    spec.answer(method, target, status, "" if status == 101 else "application/json", None if status == 101 else json.loads(got.split(b"\r\n\r\n", 1)[1]))
    return s, got

ask("GET", "/health", wants=200)
ask("GET", "/v1/sandboxes", wants=200)
box = ask("POST", "/v1/sandboxes", {"template": "mini", "name": "one", "timeout_ms": 600000, "on_timeout": "pause", "metadata": {"a": "b"}}, 201)["id"]
ask("POST", "/v1/sandboxes", {"template": "none"}, 404)
ask("POST", "/v1/sandboxes", {"template": 5}, 400)
S = f"/v1/sandboxes/{box}"
ask("GET", "/v1/sandboxes?all=1", wants=200)
ask("GET", S, wants=200); ask("GET", "/v1/sandboxes/none", wants=404); ask("GET", S + "?what=1", wants=400)
ask("POST", S + "/timeout", {"timeout_ms": 900000}, 200)
ask("GET", S + "/network", wants=200); ask("PUT", S + "/network", {"internet": False, "deny": ["1.2.3.4"]}, 200)
ask("PUT", S + "/network", {"allow": ["example.org"]}, 501); ask("PUT", S + "/network", {"allow": ["a..b"]}, 400)
ask("PUT", S + "/network", {"allow": ["169.254.169.254"]}, 403)
ask("POST", S + "/pause", wants=200); ask("POST", S + "/exec", {"argv": ["true"]}, 409)
ask("POST", S + "/resume", {"timeout_ms": 800000}, 200); ask("POST", S + "/resume", wants=409)
assert ask("GET", S, wants=200)["memory"]
ask("POST", S + "/pause", {"memory": False}, 200); ask("POST", S + "/pause", {"memory": False}, 409); ask("POST", S + "/pause", {"memory": 1}, 400)
assert ask("GET", S, wants=200)["memory"] is False
ask("POST", S + "/resume", {"memory": True}, 200); ask("POST", S + "/pause", wants=200)
ask("POST", S + "/resume", {"memory": False, "timeout_ms": 800000}, 200); ask("POST", S + "/resume", {"memory": "no"}, 400)
ask("POST", S + "/sync?timeout_ms=60000", wants=200)
ask("POST", S + "/exec", {"argv": ["sh", "-c", "echo out; echo err >&2; mkfifo f; ln -s f l; exit 3"], "env": {"A": "1"}, "cwd": "/workspace", "stdin": "x"}, 200)
ask("POST", S + "/exec", {"argv": ["none"]}, 404)
upgrade("GET", S + "/stream")[0].close()
ask("GET", S + "/stream", wants=400)
upgrade("GET", S + "/listen?socket=%2Ftmp%2Fl.sock")[0].close()
ask("GET", S + "/tunnel?port=1", wants=400)
ask("GET", S + "/processes", wants=200)
ask("POST", S + "/processes/none/signal", {"signal": 0}, 404)
# a process that runs: the list has it, and it can be sent a signal
import subprocess
name = subprocess.run(["berth", "run", box, "--detach", "--", "sleep", "1000"], capture_output=True, text=True, check=True).stdout.strip()
if name not in [p["id"] for p in ask("GET", S + "/processes", wants=200)]: fail("the process is not listed")
ask("POST", f"{S}/processes/{name}/signal", {"signal": 9}, 200)
subprocess.run(["berth", "run", box, "--detach", "--", "nc", "-l", "-p", "7777"], capture_output=True, check=True)
def tunnelled():
    s, got = upgrade("GET", S + "/tunnel?port=7777")
    s.close()
    return b" 101 " in got
until(tunnelled, 20, "a tunnel")
ask("PUT", S + "/files?path=a&mode=384", b"hello", 201)
ask("GET", S + "/files?path=a", wants=200); ask("GET", S + "/files?path=none", wants=404)
ask("GET", S + "/files?path=a&path=b", wants=400)
# parts of a file
def part(wants, text, content_range, target=S + "/files?path=a", method="GET", **headers):
    conn.request(method, target, headers={k.replace("_", "-"): v for k, v in headers.items()})
    a = conn.getresponse(); got = a.read()
    spec.answer(method, target, a.status, a.getheader("Content-Type"), json.loads(got) if a.status >= 400 else None)
    if a.status != wants or (text is not None and got != text) or a.getheader("Content-Range") != content_range:
        fail(f"{method} {target} {headers}: {a.status} {got} {a.getheader('Content-Range')}")
    return a
part(206, b"ell", "bytes 1-3/5", Range="bytes=1-3"); part(206, b"lo", "bytes 3-4/5", Range="bytes=3-"); part(206, b"lo", "bytes 3-4/5", Range="bytes=-2")
part(206, b"hello", "bytes 0-4/5", Range="bytes=-99"); part(206, b"hello", "bytes 0-4/5", Range="bytes=0-99"); part(206, b"o", "bytes 4-4/5", Range="bytes=4-4")
part(416, None, "bytes */5", Range="bytes=5-"); part(416, None, "bytes */5", Range="bytes=-0")
for whole in ("bytes=0-1,3-4", "bytes=3-1", "lines=1-2", "bytes=x"): part(200, b"hello", None, Range=whole)
part(200, b"hello", None, Range="bytes=1-2", If_Range="x")
ask("PUT", S + "/files?path=empty", b"", 201); part(416, None, "bytes */0", S + "/files?path=empty", Range="bytes=0-")
a = part(200, b"", None, method="HEAD")
if a.getheader("Content-Length") != "5" or a.getheader("Accept-Ranges") != "bytes": fail(a.getheaders())
# extended attributes
X = S + "/xattr?path=a&name=user."
for value in (b"\0value\xff", b"", b"x" * 3000):
    ask("PUT", X + "one", value, 200)
    conn.request("GET", X + "one"); a = conn.getresponse(); got = a.read()
    spec.answer("GET", S + "/xattr", a.status, a.getheader("Content-Type"), None)
    if a.status != 200 or got != value: fail(f"{a.status} {got} and not {value}")
if [x["name"] for x in ask("GET", S + "/xattrs?path=a", wants=200)] != ["user.one"]: fail("names of extended attributes")
ask("GET", X + "none", wants=404); ask("GET", S + "/xattr?path=a&name=security.capability", wants=403); ask("PUT", X + "two", b"x" * 65537, 413)
ask("GET", S + "/xattr?path=a", wants=400); ask("GET", S + "/xattrs?path=none", wants=404)
ask("DELETE", X + "one", wants=200); ask("DELETE", X + "one", wants=404)
# a hard link, and room
ask("POST", S + "/make", {"path": "hard", "link": "a"}, 200); ask("POST", S + "/make", {"path": "hard", "link": "a"}, 409)
ask("POST", S + "/make", {"path": "x", "link": "none"}, 404); ask("POST", S + "/make", {"path": "x", "link": "a", "target": "a"}, 400)
if ask("GET", S + "/stat?path=hard", wants=200)["nlink"] != 2: fail("a hard link is one name of two")
if ask("GET", S + "/stat?path=l", wants=200)["target"] != "f": fail("the target of a link")
ask("DELETE", S + "/files?path=hard", wants=200)
room = ask("GET", S + "/statfs", wants=200)
inside = [int(x) for x in ask("POST", S + "/exec", {"argv": ["stat", "-f", "-c", "%S %b %c", "/workspace"]}, 200)["stdout"].split()]
if room["of"] != "sandbox" or [room["total_b"], room["files"]] != [inside[0] * inside[1], inside[2]]: fail(f"{room} and not {inside}")
ask("GET", "/v1/sandboxes/none/statfs", wants=404)
ask("GET", S + "/watch?recursive=1", wants=200); ask("GET", S + "/watch?path=..", wants=400)
ask("GET", "/v1/export?from=none", wants=404); ask("GET", "/v1/export", wants=400)
ask("POST", "/v1/import", {}, 400)
with open(os.environ["TOP"] + "/mini.tar", "rb") as f: laid = ask("POST", S + "/archive?path=laid", f.read(), 200)
if laid["files"] < 1 or ask("GET", S + "/stat?path=laid", wants=200)["type"] != "dir": fail(f"{laid}")
ask("POST", S + "/archive?path=laid", b"x" * 600, 400); ask("POST", S + "/archive", b"", 400)
ask("POST", "/v1/sandboxes/none/archive?path=x", b"x", 404)
tar = ask("GET", "/v1/export?from=" + S.split("/")[-1], wants=200, parse=False)
with open(os.environ["TOP"] + "/mini.tar", "rb") as f: got = ask("POST", "/v1/import?name=imported", f.read(), 201)
ask("DELETE", "/v1/sandboxes/" + got["id"], wants=200)
ask("GET", S + "/log", wants=200); ask("GET", S + "/log?path=..", wants=400); ask("GET", S + "/log?since=x", wants=400)
ask("GET", S + "/list?path=", wants=200); ask("GET", S + "/list?path=a", wants=400)
ask("GET", S + "/stat?path=l", wants=200); ask("GET", S + "/stat", wants=400)
ask("POST", S + "/make", {"path": "d/e"}, 200); ask("POST", S + "/make", {"path": "a/b"}, None)
ask("POST", S + "/rename", {"from": "a", "to": "b"}, 200)
ask("DELETE", S + "/files?path=d&recursive=1", wants=200); ask("DELETE", S + "/files?path=", wants=400)
for kind in ("templates", "keys"): ask("GET", f"/v1/{kind}", wants=200)
s, got = upgrade("PUT", "/v1/templates/again", open(os.environ["TOP"] + "/mini.tar", "rb").read())
while b"berth: " not in got:
    part = s.recv(65536)
    if not part: break
    got += part
if b"berth: ok" not in got: fail(got[-300:])
def built():
    conn.request("GET", "/v1/events")
    return b'"template.built"' in conn.getresponse().read()
until(built, 30, "the event of a build") # before it is removed again: the event says what is there then
ask("GET", "/v1/events", wants=200)
upgrade("POST", "/v1/templates", b'{"name":"never","packages":["no-such-package"]}')[0].close()
# snapshots
ask("PUT", S + "/files?path=kept", b"kept", 201)
ask("POST", S + "/snapshots", {"name": "one"}, 201); ask("POST", S + "/snapshots", {"name": "one"}, 409); ask("POST", S + "/snapshots", {"name": "?"}, 400)
ask("POST", S + "/snapshots", {"freeze": False}, 201)
if len(ask("GET", S + "/snapshots", wants=200)) != 2: fail("two snapshots")
ask("PUT", S + "/files?path=later", b"later", 201)
rows = ask("GET", f"/v1/diff?from={box}@one&to={box}", wants=200)
if [r["path"] for r in rows if r["change"] == "added"] != ["later"]: fail(rows)
ask("GET", f"/v1/diff?from={box}@none&to={box}", wants=404); ask("GET", "/v1/diff?from=x", wants=404); ask("GET", "/v1/diff", wants=400); ask("GET", f"/v1/diff?from={box}&to={box}@", wants=400)
ask("GET", S + "/files?path=kept&at=one", wants=200); ask("GET", S + "/files?path=later&at=one", wants=404); ask("GET", S + "/files?path=kept&at=none", wants=404)
if not ask("POST", S + "/restore", {"snapshot": "one"}, 200)["kept"].startswith("before-restore-"): fail("nothing was kept")
ask("GET", S + "/files?path=later", wants=404)
ask("POST", S + "/restore", {"snapshot": "none"}, 404); ask("POST", S + "/restore", {}, 400); ask("POST", S + "/restore", {"snapshot": "one", "path": "none"}, 404)
ask("POST", S + "/restore", {"snapshot": "one", "path": "../x"}, 400)
for f in ask("POST", S + "/fork", {"count": 2, "snapshot": "one"}, 201): ask("DELETE", "/v1/sandboxes/" + f["id"], wants=200)
ask("POST", S + "/fork", {"count": 0}, 400); ask("POST", S + "/fork", {"count": 2, "name": "x"}, 400); ask("POST", S + "/fork", {"snapshot": "none"}, 404)
ask("DELETE", S + "/snapshots/one", wants=200); ask("DELETE", S + "/snapshots/one", wants=404)
ask("PUT", "/v1/templates/again/keep", {"keep": "[none]\nnode_modules/\n"}, wants=200)
ask("PUT", "/v1/templates/again/keep", {"keep": "node_modules/\n"}, wants=400)
ask("GET", "/v1/templates/again/keep", wants=200)
ask("DELETE", "/v1/templates/again", wants=200); ask("DELETE", "/v1/templates/none", wants=404)
key = ask("POST", "/v1/keys", {"name": "k", "scopes": ["read", "run"], "per_second": 5}, 201)
ask("GET", "/v1/keys", wants=200)
ask("DELETE", f"/v1/keys/{key['id']}", wants=200); ask("DELETE", "/v1/keys/k", wants=404)
with open("pub", "w") as f: f.write(ask("GET", "/v1/secrets/key", wants=200)["public"] + "\n")
def sealed(*more):
    return subprocess.run([os.environ["BERTH_BUILD"] + "/berth-seal", "seal", "--to", "pub", "--name", "TOKEN", "--deliver", "env", *more],
                          input=b"value", capture_output=True, check=True).stdout
first, other = sealed(), sealed("--for", "template=other")
ask("POST", "/v1/secrets", first, 201); ask("POST", "/v1/secrets", other, 409); ask("POST", "/v1/secrets", b"nothing", 400)
ask("GET", "/v1/secrets", wants=200)
ask("POST", S + "/exec", {"argv": ["true"], "secrets": ["TOKEN"]}, 200); ask("POST", S + "/exec", {"argv": ["true"], "secrets": ["NONE"]}, 404)
ask("PUT", "/v1/secrets/TOKEN?deliver=file", other, 400); ask("PUT", "/v1/secrets/TOKEN?deliver=env", other, 200); ask("PUT", "/v1/secrets/TOKEN", first, 409); ask("PUT", "/v1/secrets/NONE", other, 400)
ask("POST", S + "/exec", {"argv": ["true"], "secrets": ["TOKEN"]}, 403)
ask("POST", "/v1/sandboxes", {"template": "mini", "secrets": ["TOKEN"]}, 403)
ask("GET", "/v1/secrets/audit", wants=200); ask("GET", "/v1/secrets/audit?since=x", wants=400)
ask("DELETE", "/v1/secrets/TOKEN", wants=200); ask("DELETE", "/v1/secrets/TOKEN", wants=404)
ask("GET", "/v1/usage", wants=200); ask("GET", "/v1/usage?by=hour&since=0", wants=200); ask("GET", "/v1/usage?by=x", wants=400)
ask("GET", "/v1/df", wants=200); ask("GET", S + "/stats", wants=200); ask("GET", S + "/logs", wants=200); ask("GET", S + "/logs?from=x", wants=400)
ask("GET", "/metrics", wants=200); ask("GET", "/v1/host", wants=200)
ask("POST", "/v1/fsck", wants=200)
ask("POST", "/v1/gc", wants=200)
ask("GET", "/v1/df", wants=200)
upgrade("GET", "/v1/backup", b"")[0].close()
ask("GET", "/v1/backup", wants=400)
ask("POST", S + "/kill", {"grace_ms": 100}, 200); ask("POST", S + "/kill", wants=409)
ask("GET", S + "/xattrs?path=b", wants=200)
room = ask("GET", S + "/statfs", wants=200)
if room["of"] != "store" or not 0 < room["files_free"] < room["files"]: fail(room)
ask("DELETE", S, wants=200); ask("DELETE", S, wants=404)
if spec.unseen(): fail(f"operations that were not asked: {spec.unseen()}")
# wrong methods say which are right
conn.request("PATCH", S); a = conn.getresponse(); a.read()
if a.status != 405 or a.getheader("Allow") != "GET, HEAD, DELETE": fail(f"{a.status} {a.getheader('Allow')}")
conn.request("HEAD", "/nothing"); a = conn.getresponse(); a.read()
if a.status != 404: fail(f"HEAD of nothing: {a.status}")
conn.request("HEAD", "/v1/fsck"); a = conn.getresponse(); a.read()
if a.status != 405 or a.getheader("Allow") != "POST": fail(f"{a.status} {a.getheader('Allow')}")
if len(heads) < 15: fail(f"few were asked for a head: {heads}")
print(f"{len(spec.seen)} kinds of answers are as the file says")
PY
