#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The log of a workspace: every change with the command during which it happened; two at once, changes from the host and
# of processes that outlive their command, a rename, a daemon that is killed and one that ends in between, a sandbox that
# is killed, a reader that follows, one that begins in the middle.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
berth log "$id" --follow --json >"$TOP/follow" &
reader=$!
cat >"$TOP/logs.py" <<'PY'
import json, os, subprocess, sys
from berthtest import Api, fail, until
box, mnt = sys.argv[1], sys.argv[2]
api = Api()
def rows(since=0, more=""):
    api.conn.request("GET", f"/v1/sandboxes/{box}/log?since={since}{more}")
    a = api.conn.getresponse(); text = a.read()
    if a.status != 200: fail(text)
    return [json.loads(l) for l in text.split(b"\n") if l]
def last():
    return max([r["seq"] for r in rows()], default=0)
def who(r):
    return sorted(c["argv"][-1] for c in r["commands"]) if r["by"] == "command" else r["by"]
def of(all, kind, path):
    got = [r for r in all if r["kind"] == kind and r.get("path") == path]
    if not got: fail(f"no {kind} of {path} in {all}")
    return got[-1]
def must(what, got, wanted):
    if got != wanted: fail(f"{what}: {got} instead of {wanted}")
def begin(script):
    """A command that goes on; its id."""
    p = subprocess.Popen(["berth", "run", box, "--", "sh", "-c", script], stdin=subprocess.PIPE,
                         stdout=subprocess.DEVNULL)
    until(lambda: any(r["kind"] == "began" and r["argv"][-1] == script for r in rows()), 20, "a command to begin")
    return p
PY
export PYTHONPATH="$TOP:${PYTHONPATH:-}"
python3 - "$id" "$MNT/$id" <<'PY'
from logs import *
# One: began, its changes, ended; all there when its end is.
at = last()
api.sh(box, "echo 1 > a; mv a b")
all = rows(at)
must("the order", [r["kind"] for r in all if r["kind"] in ("began", "ended")], ["began", "ended"])
must("the first", all[0]["argv"], ["sh", "-c", "echo 1 > a; mv a b"])
must("the last but contents", [r["kind"] for r in all if r["kind"] != "content"][-1], "ended")
must("its end", [(r["how"], r["code"]) for r in all if r["kind"] == "ended"], [("exit", 0)])
changes = [r for r in all if "by" in r]
if not {"a", "b"} & {r.get("path") for r in changes}: fail("no changes")
for r in changes: must(r["kind"], who(r), ["echo 1 > a; mv a b"])
# Contents have a hash, equal ones the same.
api.sh(box, "echo same > s1; echo same > s2; echo other > s3")
api.good("POST", f"/v1/sandboxes/{box}/sync")
all = rows(at)
h = {p: next(r["hash"] for r in reversed(all) if r.get("path") == p and "hash" in r) for p in ("s1", "s2", "s3")}
if h["s1"] != h["s2"] or h["s1"] == h["s3"]: fail(h)
# The end of a signal, and of what fails.
at = last()
api.sh(box, "kill -9 $$"); api.sh(box, "exit 7")
must("ends", [(r["how"], r["code"]) for r in rows(at) if r["kind"] == "ended"], [("signal", 9), ("exit", 7)])
# From the host, live, with and without a command.
at = last()
with open(f"{mnt}/h1", "w") as f: f.write("x")
os.rename(f"{mnt}/h1", f"{mnt}/h2")
all = rows(at)
must("the mount", who(of(all, "create", "h1")), "host")
r = of(all, "rename", "h2"); must("a rename", (who(r), r["from"]), ("host", "h1"))
# Two at once: each alone, then both.
at = last()
one = begin("read x; echo > one1; read x; echo > both; read x; exit 0")
def say(p, path):
    p.stdin.write(b"\n"); p.stdin.flush()
    until(lambda: os.path.exists(f"{mnt}/{path}"), 20, path)
A = "read x; echo > one1; read x; echo > both; read x; exit 0"
B = "read x; echo > two1; read x; exit 0"
say(one, "one1")
two = begin(B)
say(two, "two1"); say(one, "both")
with open(f"{mnt}/h3", "w") as f: f.write("x")
two.stdin.write(b"\n"); two.stdin.flush(); must("two ends", two.wait(20), 0)
all = rows(at)
must("one alone", who(of(all, "create", "one1")), [A])
must("both", who(of(all, "create", "both")), sorted([A, B]))
must("and both of the other's", who(of(all, "create", "two1")), sorted([A, B]))
must("the host meanwhile", who(of(all, "create", "h3")), "host")
# Who begins to read in the middle knows who runs.
mid = of(all, "create", "both")["seq"]
api.sh(box, "echo > three")
must("from the middle", [who(r) for r in rows(mid - 1) if r.get("path") == "both" and r["kind"] == "create"],
     [sorted([A, B])])
must("one still runs", who(of(rows(mid), "create", "three")), sorted([A, "echo > three"]))
one.stdin.write(b"\n"); one.stdin.flush(); must("one ends", one.wait(20), 0)
# What a command leaves behind.
at = last()
api.sh(box, "(while [ ! -e go ]; do sleep 0.05; done; echo > late) >/dev/null 2>&1 & exit 0")
with open(f"{mnt}/go", "w"): pass
until(lambda: os.path.exists(f"{mnt}/late"), 20, "what was left behind")
must("left behind", who(of(rows(at), "create", "late")), "background")
# A path; the words of a command at most a KiB.
api.sh(box, "mkdir d; echo > d/x; echo > y")
got = rows(at, "&path=d")
must("a path", sorted({r.get("path") for r in got}), ["d", "d/x"])
at = last()
api.run(box, "echo", "y" * 3000, "tail")
must("words", sum(len(w) + 1 for w in rows(at)[0]["argv"]) <= 1024 and rows(at)[0]["argv"][0], "echo")
PY
# A daemon that is killed while a command runs, and one that ends: the command is the same after it.
berth run "$id" --detach -- sh -c 'n=0; while :; do [ -e /workspace/want$n ] && { echo > got$n; n=$((n + 1)); }; sleep 0.05; done' \
	>/dev/null
touch "$MNT/$id/want0"
wait_for 20 "the command to work" test -e "$MNT/$id/got0"
stop_daemon KILL
start_daemon
touch "$MNT/$id/want1"
wait_for 20 "the command to work for the next daemon" test -e "$MNT/$id/got1"
stop_daemon
start_daemon
touch "$MNT/$id/want2"
wait_for 20 "the command to work for the third daemon" test -e "$MNT/$id/got2"
python3 - "$id" "$MNT/$id" <<'PY'
from logs import *
all = rows()
for n in range(3):
    r = of(all, "create", f"got{n}")
    must(f"got{n}", (r["by"], len(r["commands"])), ("command", 1))
must("began once", len([r for r in all if r["kind"] == "began" and "got$n" in " ".join(r["argv"])]), 1)
must("not ended", [r for r in all if r["kind"] == "ended" and "got$n" in " ".join(r["argv"])], [])
PY
berth log "$id" got1 >"$TOP/text"
grep -q 'create .*got1 .*\[[a-z0-9-]*: sh -c' "$TOP/text" || fail "not as text: $(cat "$TOP/text")"
# It is killed: its end is told, and in the stopped workspace the host is who works.
berth kill "$id"
touch "$MNT/$id/stopped"
python3 - "$id" "$MNT/$id" <<'PY'
from logs import *
all = rows()
r = [r for r in all if r["kind"] == "ended"][-1]
must("its last words", ("got$n" in " ".join(r["argv"]), r["how"]), (True, "signal"))
must("who began ended", len([r for r in all if r["kind"] == "began"]), len([r for r in all if r["kind"] == "ended"]))
must("stopped", of(all, "create", "stopped")["by"], "host")
PY
# An agent that dies with all that it knows.
gone=$(berth create --template mini)
berth run "$gone" --detach -- sleep 1000 >/dev/null
began() { berth log "$gone" | grep -q 'began .*sleep'; }
wait_for 20 "the command to begin" began
pid=$(berth info "$gone" --json | field pid)
stop_daemon KILL
kill -9 "$pid"
start_daemon
berth kill "$gone" 2>/dev/null || true
berth log "$gone" | grep -q 'ended .*sleep' || fail "no end: $(berth log "$gone")"
berth fsck
# The one that followed from the start has the same first rows as one that reads all.
wait "$reader" || true
berth log "$id" --json >"$TOP/all"
# (Where a content is shown is where its file is when somebody reads.)
changes() { grep seq "$1" | grep -v '"kind":"content"' | sed 's/,"hash".*//;s/,"by".*//'; }
lines=$(changes "$TOP/follow" | wc -l)
[ "$lines" -gt 20 ] || fail "only $lines lines were followed"
cmp <(changes "$TOP/follow") <(changes "$TOP/all" | head -n "$lines") || fail "who follows sees something else"
stop_daemon
