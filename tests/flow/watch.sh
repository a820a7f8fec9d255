#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Watching a workspace: exact kinds and paths of what commands do, of what is done through the mount and in a stopped
# workspace; a deep tree, a burst, a reader that does not read, a cursor over a new start of the daemon.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
berth watch "$id" --json >"$TOP/follow" &
reader=$!
follows() { touch "$MNT/$id/probe" && rm "$MNT/$id/probe" && [ -s "$1" ]; }
wait_for 20 "the reader to follow" follows "$TOP/follow"
cat >"$TOP/watch.py" <<'PY'
import json, os, socket, sys
from berthtest import Api, fail, until
api, box, mnt = Api(), sys.argv[1], sys.argv[2]
def rows(since, more="&recursive=1"):
    api.conn.close() # it may have been idle for longer than the daemon keeps one
    api.conn.request("GET", f"/v1/sandboxes/{box}/watch?since={since}{more}")
    a = api.conn.getresponse(); text = a.read()
    if a.status != 200: fail(text)
    return [json.loads(l) for l in text.split(b"\n") if l]
def last():
    all = rows(0)
    return all[-1]["seq"] if all else 0
def short(r):
    return " ".join([r["kind"]] + ([r["from"]] if "from" in r else []) + [r["path"]])
def told(since, more="&recursive=1"):
    """Writes of one file that follow each other are one: how many there are is not promised."""
    out = []
    for r in rows(since, more):
        if not (out and out[-1] == short(r) and r["kind"] == "write"): out.append(short(r))
    return out
def sh(script):
    """The changes of a command, which are there when its end is told."""
    at = last()
    r = api.sh(box, script)
    if r["how"] != "exit" or r["code"]: fail(r)
    return told(at)
def in_two(got, wanted):
    """The page says: a rename that the agent could only tell in two batches is a create and a remove."""
    got, wanted = list(got), list(wanted)
    for w in [w for w in wanted if w.startswith("rename ") and w not in got]:
        a, b = w.split(" ")[1:]
        if f"create {b}" not in got or f"remove {a}" not in got: return False
        for g in (f"create {b}", f"remove {a}", f"remove {b}"):
            if g in got: got.remove(g)
        wanted.remove(w)
    return sorted(got) == sorted(wanted)
def must(what, got, wanted):
    if got != wanted and in_two(got, wanted): print(f"{what}: told in two batches: {got}")
    elif got != wanted: fail(f"{what}: {got} instead of {wanted}")
PY
export PYTHONPATH="$TOP:${PYTHONPATH:-}"
python3 - "$id" "$MNT/$id" <<'PY'
from watch import *
must("mkdir", sh("mkdir d"), ["create d"])
must("an empty file", sh(": > d/e"), ["create d/e"])
must("a file", sh("echo 1 > d/f"), ["create d/f", "write d/f"])
must("append", sh("echo 2 >> d/f"), ["write d/f"])
must("chmod", sh("chmod 600 d/f"), ["chmod d/f"])
must("rename", sh("mv d/f d/g"), ["rename d/f d/g"])
must("link", sh("ln d/g d/h"), ["create d/h"])
must("write of two names", sh("echo 3 >> d/g"), ["write d/g", "write d/h"])
must("symlink", sh("ln -s nowhere d/s"), ["create d/s"])
must("unlink of one name", sh("rm d/h"), ["remove d/h"])
must("rename over", sh("mv d/g d/e"), ["rename d/g d/e"])
must("fifo", sh("mkfifo p"), ["create p"])
must("truncate", sh(": > d/e"), ["write d/e"])
must("chmod of a directory", sh("chmod 700 d"), ["chmod d"])
must("rename of a directory with children", sh("mv d n"), ["rename d n"])
must("write below its new name", sh("echo 4 > n/e"), ["write n/e"])
must("nothing", sh("cat n/e >/dev/null; ls -lR >/dev/null"), [])
must("remove", sh("rm n/s"), ["remove n/s"])
def net(got):
    """Which names there are behind these rows, of those that they made: what came and went in one pass is not told at all, in two it is."""
    there = {}
    for g in got:
        kind, *paths = g.split(" ")
        if kind == "create": there[paths[0]] = False
        elif kind == "remove": there = {p: w for p, w in there.items() if p != paths[0] and not p.startswith(paths[0] + "/")}
        elif kind == "rename": there = {paths[1] + p[len(paths[0]):] if p == paths[0] or p.startswith(paths[0] + "/") else p: w for p, w in there.items()}
        elif kind == "write": there[paths[0]] = True
    return there
for turn in range(20):
    got = sh(f"mkdir o; echo 1 > o/a; mv o/a kept{turn}; rm -r o")
    if net(got) != {f"kept{turn}": True} or len(got) > 8: fail(f"out of a directory that goes: {got}")
must("a tree goes", sorted(sh("rm -r n")), ["remove n", "remove n/e"])
# names of other bytes, and with newlines
at = last(); api.sh(box, "echo > \"$(printf 'a\\377b')\"; echo > \"$(printf 'x\\ny')\"")
names = {r["path_hex"] if "path_hex" in r else r["path"] for r in rows(at)}
must("names", names, {b"a\xffb".hex(), "x\ny"})
# a deep tree: from its top to its bottom
deep = [("/".join(["deep"] + [f"d{i}" for i in range(n)])) for n in range(60)]
must("a deep tree", sorted(sh(f"mkdir -p {deep[-1]}; echo 1 > {deep[-1]}/f")), sorted([f"create {d}" for d in deep] + [f"create {deep[-1]}/f", f"write {deep[-1]}/f"]))
must("its top renamed", sh("mv deep deeper"), ["rename deep deeper"])
must("a tree that goes", len(sh("rm -r deeper")), 61)
# only what is in a directory
at = last(); sh("mkdir q q/r; echo 1 > q/f; echo 1 > q/r/f; echo 1 > beside")
must("flat", sorted(told(at, "&path=q")), ["create q", "create q/f", "create q/r", "write q/f"])
must("below", sorted(set(told(at, "&path=/workspace/q/r&recursive=1"))), ["create q/r", "create q/r/f", "write q/r/f"])
# a burst
at = last(); sh("mkdir b; i=0; while [ $i -lt 2000 ]; do echo $i > b/f$i; i=$((i+1)); done")
made = [r["path"] for r in rows(at) if r["kind"] == "create" and r["type"] == "file"]
must("a burst", sorted(made), sorted(f"b/f{i}" for i in range(2000)))
must("written", {r["path"] for r in rows(at) if r["kind"] == "write"}, set(made))
# through the mount
def host(what, do, wanted):
    at = last(); do()
    got = told(at)
    must(what, got, wanted)
def write(path, text, mode="w"):
    with open(path, mode) as f: f.write(text)
host("mkdir on the host", lambda: os.mkdir(mnt + "/h"), ["create h"])
host("a file from the host", lambda: write(mnt + "/h/f", "x"), ["create h/f", "write h/f"])
host("chmod on the host", lambda: os.chmod(mnt + "/h/f", 0o600), ["chmod h/f"])
host("rename on the host", lambda: os.rename(mnt + "/h", mnt + "/i"), ["rename h i"])
host("link on the host", lambda: os.link(mnt + "/i/f", mnt + "/i/g"), ["create i/g"])
host("remove on the host", lambda: (os.unlink(mnt + "/i/f"), os.unlink(mnt + "/i/g"), os.rmdir(mnt + "/i")), ["remove i/f", "remove i/g", "remove i"])
seqs = [r["seq"] for r in rows(0)]
if seqs != sorted(set(seqs)): fail("numbers do not ascend")
print(f"{len(seqs)} changes of commands and of the host are as they should be")
PY
# the one that follows has heard of all that is kept
seq=$(berth watch "$id" --kept --json | tail -n 1 | field seq)
heard() { tail -n 1 "$TOP/follow" | grep -q "\"seq\":$seq,"; }
wait_for 20 "the reader to have heard of it all" heard
berth watch "$id" --kept --json >"$TOP/kept"
first=$(head -n 1 "$TOP/follow" | field seq)
berth watch "$id" --kept --json --since $((first - 1)) | cmp - "$TOP/follow"
# over a new start of the daemon: nothing is lost, and what happened meanwhile is told
stop_daemon
wait "$reader" || :
start_daemon
berth watch "$id" --kept --json | head -n "$(wc -l <"$TOP/kept")" | cmp - "$TOP/kept"
berth run "$id" -- sh -c 'echo 1 >after'
berth watch "$id" --kept --since "$seq" >"$TOP/after"
grep -qx 'create  after' "$TOP/after" || fail "after a new start: $(cat "$TOP/after")"

# --- one that does not read ---
python3 - "$id" "$MNT/$id" <<'PY'
from watch import *
s = socket.socket(socket.AF_UNIX); s.settimeout(60)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); s.connect(os.environ["BERTH_URL"][5:])
s.sendall(f"GET /v1/sandboxes/{box}/watch?follow=1&recursive=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
buf = s.recv(200)
for i in range(9): # more than are kept
    sh("mkdir t; cd t; seq 5000 | xargs touch; cd ..; rm -r t")
top = last()
got = []
while not got or got[-1]["seq"] < top:
    part = s.recv(1 << 20)
    if not part: fail("the stream ended")
    buf += part
    got = []
    for line in buf.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"{") and line.endswith(b"}"): got.append(json.loads(line))
lost = [i for i, r in enumerate(got) if r["kind"] == "lost"]
if not lost: fail("nobody said that changes were lost")
must("it goes on to the end", [r for r in got[lost[-1] + 1:]], rows(got[lost[-1]]["seq"]))
print(f"a slow reader got {len(got)}, lost: {sum(r['kind'] == 'lost' for r in got)}")
PY

berth fsck

# --- stopped ---
berth kill "$id"
python3 - "$id" "$MNT/$id" <<'PY'
from watch import *
at = last()
os.mkdir(mnt + "/st"); open(mnt + "/st/f", "w").write("x"); os.rename(mnt + "/st", mnt + "/su"); os.chmod(mnt + "/su/f", 0o600)
open(mnt + "/su/g", "w").write("y"); os.rename(mnt + "/su/g", mnt + "/su/f"); os.unlink(mnt + "/su/f"); os.rmdir(mnt + "/su")
must("stopped", told(at), ["create st", "create st/f", "write st/f", "rename st su", "chmod su/f", "create su/g", "write su/g", "rename su/g su/f", "remove su/f", "remove su"])
PY
berth watch "$id" >"$TOP/end" &
reader=$!
wait_for 20 "the reader to follow" follows "$TOP/end"
berth rm "$id"
wait "$reader" && fail "the end of the sandbox was not told"
refused 1 "no sandbox" berth watch "$id"
