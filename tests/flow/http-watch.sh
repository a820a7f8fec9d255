#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is to be seen from outside: metrics in a form that a strict parser takes, events of every kind in order and over a
# new start of the daemon, readers that are slow, and the list of what the host has.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon

# --- events: a reader that follows hears all of a life ---
berth events --follow --json >"$TOP/events" &
reader=$!
following() { [ "$(berth create --template none >/dev/null 2>&1 || :; wc -l <"$TOP/events")" -gt 0 ]; }
wait_for 20 "the reader to follow" following
a=$(berth create --template mini --name first)
b=$(berth create --template mini --timeout 1s)
berth pause "$a"
berth resume "$a"
has() { grep -q "$1" "$TOP/events"; }
wait_for 30 "the end of a time" has "\"kind\":\"sandbox.stopped\",\"id\":\"$b\""
kill -9 "$(berth info "$a" --json | field pid)"
wait_for 30 "a failure" has "\"kind\":\"sandbox.failed\",\"id\":\"$a\""
berth rm "$a" "$b"
berth key create k >/dev/null
berth key revoke k
mini_tar "$TOP/mini.tar"
berth template build again --tar "$TOP/mini.tar" >/dev/null
wait_for 30 "the event of a build" has template.built
berth template build again --replace --tar /dev/null >/dev/null 2>&1 || :
python3 - "$TOP/events" "$a" "$b" <<'PY'
import json, sys
from berthtest import fail
rows = [json.loads(line) for line in open(sys.argv[1])]
if [r["seq"] for r in rows] != sorted({r["seq"] for r in rows}): fail("numbers do not ascend")
def of(box): return [r["kind"].split(".")[1] for r in rows if r["id"] == box and r["kind"].startswith("sandbox.")]
if [k for k in of(sys.argv[2]) if not k.endswith("ing") or k == "running"] != ["created", "running", "paused", "resumed", "failed", "removed"]: fail(of(sys.argv[2]))
if [k for k in of(sys.argv[3]) if k != "stopping"] != ["created", "running", "timeout", "stopped", "removed"]: fail(of(sys.argv[3]))
kinds = {r["kind"] for r in rows}
if not kinds >= {"key.created", "key.revoked", "template.built"}: fail(kinds)
PY

# --- where one stopped, one goes on; also over a new start ---
berth events --json >"$TOP/all"
tail -n +2 "$TOP/events" | head -n 3 >"$TOP/some"
seq=$(head -n 1 "$TOP/events" | field seq)
berth events --json --since "$seq" | head -n 3 | cmp - "$TOP/some"
stop_daemon
wait "$reader" || :
start_daemon
berth create --template none 2>/dev/null || :
equal "the gap over a new start" "$(berth events --json --since "$seq" | head -n 1 | field kind)" lost
equal "no gap from the beginning" "$(berth events --json | head -n 1 | field kind)" sandbox.created

# --- one that does not read: told that it lost some, and nobody waits for it ---
python3 - <<'PY'
import json, os, socket
from berthtest import Api, fail, until
api, path = Api(), os.environ["BERTH_URL"][5:]
s = socket.socket(socket.AF_UNIX); s.settimeout(30)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); s.connect(path)
s.sendall(b"GET /v1/events?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
got = s.recv(200)
for i in range(3000):
    api.call("POST", "/v1/keys", {"name": f"k{i % 50}", "scopes": ["read"]})
    api.call("DELETE", f"/v1/keys/k{i % 50}")
last = [json.loads(l) for l in (lambda c: (c.request("GET", "/v1/events"), c.getresponse().read().splitlines())[1])(api.conn)]
if len(last) != 4096: fail(f"{len(last)} events are kept")
rows, buf = [], b""
while not rows or rows[-1]["seq"] < last[-1]["seq"]:
    got = s.recv(65536)
    if not got: fail("the stream ended")
    buf += got
    rows = []
    for line in buf.split(b"\r\n"):
        for part in line.split(b"\n"):
            if part.startswith(b"{") and part.endswith(b"}"): rows.append(json.loads(part))
if "lost" not in {r["kind"] for r in rows}: fail("nobody said that events were lost")
seqs = [r["seq"] for r in rows]
if seqs != sorted(set(seqs)): fail("numbers do not ascend")
print(f"a slow reader got {len(rows)} of {last[-1]['seq'] - last[0]['seq'] + 1}+ events, and was told")
PY

# --- metrics ---
c=$(berth create --template mini)
berth run "$c" -- sh -c 'echo hello > file'
curl -s --unix-socket "$STATE/run/api.sock" http://x/none >/dev/null
python3 - "$c" <<'PY'
import re, sys
from berthtest import Api, fail
api = Api()
api.conn.request("GET", "/metrics"); a = api.conn.getresponse(); text = a.read().decode()
if a.getheader("Content-Type") != "text/plain; version=0.0.4; charset=utf-8": fail(a.getheader("Content-Type"))
if not text.endswith("\n"): fail("no newline at the end")
meta, samples, order = {}, {}, []
name_re, label_re = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*"'
for line in text.splitlines():
    m = re.fullmatch(rf"# (HELP|TYPE) ({name_re}) (.+)", line)
    if m:
        if m[1] in meta.setdefault(m[2], {}): fail(f"twice: {line}")
        if m[1] == "TYPE" and m[3] not in ("counter", "gauge", "histogram"): fail(line)
        meta[m[2]][m[1]] = m[3]; order.append(m[2]); continue
    m = re.fullmatch(rf"({name_re})(?:\{{({label_re}(?:,{label_re})*)\}})? (-?[0-9]+(?:\.[0-9]+)?|NaN|[+-]Inf)", line)
    if not m: fail(f"no sample: {line}")
    base = m[1]
    for tail in ("_bucket", "_sum", "_count"):
        if base.endswith(tail) and meta.get(base[:-len(tail)], {}).get("TYPE") == "histogram": base = base[:-len(tail)]
    if set(meta.get(base, {})) != {"HELP", "TYPE"}: fail(f"not declared before: {line}")
    if order[-1] != base: fail(f"not with its family: {line}")
    if not base.startswith("berth_"): fail(line)
    if meta[base]["TYPE"] == "counter" and not base.endswith("_total"): fail(f"a counter's name: {base}")
    labels = tuple(sorted(re.findall(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"', m[2] or "")))
    if (m[1], labels) in samples: fail(f"twice: {line}")
    samples[m[1], labels] = float(m[3])
hist = {}
for (name, labels), v in samples.items():
    if name == "berth_http_request_seconds_bucket":
        rest = tuple(x for x in labels if x[0] != "le")
        hist.setdefault(rest, []).append((float(dict(labels)["le"]), v))
for rest, rows in hist.items():
    rows.sort()
    if [v for _, v in rows] != sorted(v for _, v in rows): fail(f"buckets do not ascend: {rest}")
    if rows[-1][0] != float("inf") or rows[-1][1] != samples["berth_http_request_seconds_count", rest]: fail(f"+Inf: {rest}")
total = {}
for (name, labels), v in samples.items():
    if name == "berth_http_requests_total":
        rest = tuple(x for x in labels if x[0] != "status"); total[rest] = total.get(rest, 0) + v
if total != {k: samples["berth_http_request_seconds_count", k] for k in hist}: fail("requests and durations differ")
if samples["berth_sandboxes", (("state", "running"),)] != 1: fail("sandboxes that run")
if samples["berth_http_requests_total", (("method", ""), ("route", ""), ("status", "404"))] < 1: fail("no route")
for need in ("store_content_bytes", "replication_queued_bytes", "process_open_fds", "process_resident_bytes", "http_streams"):
    if ("berth_" + need, ()) not in samples: fail(f"{need} is missing")
if sys.argv[1] in text or "first" in text: fail("a sandbox's name is a label")
print(f"metrics: {len(samples)} samples of {len(meta)} families")
PY

# --- the host ---
berth info --host >"$TOP/host"
for part in crun user-namespaces idmapped-mounts seccomp-sandbox seccomp-daemon oci; do
	grep -qE "^  $part +on " "$TOP/host" || fail "$part: $(grep "$part" "$TOP/host")"
done
grep -qE '^  firecracker +not-built' "$TOP/host"
# This daemon does not wait for a next one, and says so on a kernel where it could.
grep -qE '^  takeover +(off|missing) ' "$TOP/host" || fail "takeover: $(grep takeover "$TOP/host")"
watcher=$(berth info "$c" --json | field watcher)
grep -qE "^  ${watcher%%-*} +on " "$TOP/host" || fail "the watcher: $watcher"
berth kill "$c"
equal "without a sandbox" "$(berth info --host --json | python3 -c 'import json, sys
print({p["name"]: p["state"] for p in json.load(sys.stdin)["parts"]}["user-namespaces"])')" untested
