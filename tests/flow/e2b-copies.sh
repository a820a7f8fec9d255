#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whole sandboxes: snapshots with what is outside of /workspace, forks, pauses that forget memory. Over restarts of the daemon
# and deaths in the middle; nothing half-made is offered, nothing is left on the disk.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
port=$((20000 + RANDOM % 10000))
up() { start_daemon --set "api.listen=127.0.0.1:$port" "$@"; }
up
key=$(berth key create copies) other=$(berth key create other)
layers() { find "$STATE/layers" -mindepth 1 ! -name ".*" | wc -l; }
cat >"$TOP/ask.py" <<'P'
import http.client, json, os, subprocess, sys, threading, time
port, key, other, state = int(sys.argv[1]), *sys.argv[2:5]
mine, theirs = {"X-API-Key": key}, {"X-API-Key": other}
def ask(method, path, body=None, who=mine, port=port):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request(method, path, None if body is None else json.dumps(body), {**who, "Content-Type": "application/json"})
    r = c.getresponse()
    text = r.read()
    return r.status, json.loads(text or b"null")
def wants(status, *a, **k):
    s, j = ask(*a, **k)
    assert s == status, (a, s, j)
    return j
def make(template="base", **more): return wants(201, "POST", "/v2/sandboxes", {"templateID": template, **more})["sandboxID"]
def sh(id, line, code=0):
    p = subprocess.run(["berth", "run", "--user", "root", id, "--", "sh", "-c", line], capture_output=True, text=True)
    assert p.returncode == code, (line, p)
    return p.stdout.strip()
def layers(): return [x for x in os.listdir(state + "/layers") if x[0] != "."] # others are on their way out
def until(what, f):
    end = time.time() + 30
    while time.time() < end:
        got = f()
        if got: return got
        time.sleep(0.02)
    raise AssertionError(what)
P
cat >"$TOP/one.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
import os
a = make(metadata={"who": "a"}, envVars={"SET": "yes"}, autoPause=True, timeout=900)
sh(a, "echo w >/workspace/w; echo home >/home/user/h; chown 1000:1000 /home/user/h; rm /etc/issue; ln -s /etc/x /root/l; sleep 1000 >/dev/null 2>&1 & echo $$ >/root/pid")
# --- snapshot: a moment of all of it
snap = wants(201, "POST", f"/sandboxes/{a}/snapshots", {})["snapshotID"]
sh(a, "echo later >/home/user/h; echo later >/workspace/w")
b = make(snap)
assert sh(b, "cat /workspace/w /home/user/h; stat -c %u:%g /home/user/h; readlink /root/l; test ! -e /etc/issue && hostname") == f"w\nhome\n1000:1000\n/etc/x\n{b}"
assert sh(b, "pgrep -c sleep || true") == "0"
info = wants(200, "GET", f"/sandboxes/{b}")
assert info["templateID"] == snap, info
assert sh(a, "cat /home/user/h") == "later" and sh(a, "pgrep -c sleep") == "1", "who was copied runs on"
assert wants(200, "GET", f"/snapshots?sandboxID={a}") == [{"snapshotID": snap, "names": [snap]}]
for who, status in ((theirs, 404), ):
    assert ask("POST", "/v2/sandboxes", {"templateID": snap}, who=who)[0] == status
    assert ask("DELETE", f"/templates/{snap}", who=who)[0] == 404
    assert ask("POST", f"/sandboxes/{a}/fork", {}, who=who)[0] == 404
# a snapshot of a copy, of one that is paused, and one whose sandbox is killed
sh(b, "echo b >/root/b")
snap2 = wants(201, "POST", f"/sandboxes/{b}/snapshots", {"name": "named"})["snapshotID"]
assert snap2 == f"{b}:named" and ask("POST", f"/sandboxes/{b}/snapshots", {"name": "named"})[0] == 409
assert len(layers()) == 2, "the one that failed left nothing"
wants(204, "POST", f"/sandboxes/{b}/pause", {})
snap3 = wants(201, "POST", f"/sandboxes/{b}/snapshots", {})["snapshotID"]
wants(204, "DELETE", f"/sandboxes/{b}")
c = make(snap2)
assert sh(c, "cat /root/b /home/user/h") == "b\nhome"
wants(204, "DELETE", f"/sandboxes/{c}")
c = make(snap3)
assert sh(c, "cat /root/b") == "b"
wants(204, "DELETE", f"/templates/{snap3}")
assert ask("DELETE", f"/templates/{snap3}")[0] == 404 and ask("POST", "/v2/sandboxes", {"templateID": snap3})[0] == 404
assert sh(c, "cat /root/b") == "b", "who began with it needs it no more"
assert len(layers()) == 2
wants(204, "DELETE", f"/sandboxes/{c}")
# --- fork
for body in ({"count": 0}, {"count": 101}, {"timeout": 0}): assert ask("POST", f"/sandboxes/{a}/fork", body)[0] == 400, body
assert ask("POST", "/sandboxes/none/fork", {})[0] == 404
forks = wants(201, "POST", f"/sandboxes/{a}/fork", {"count": 3, "timeout": 600})
ids = [f["sandbox"]["sandboxID"] for f in forks]
assert len({a, *ids}) == 4 and all(f["sandbox"]["envdAccessToken"] for f in forks)
for k, f in enumerate(ids):
    assert sh(f, "cat /home/user/h /workspace/w; pgrep -c sleep || true; echo mine >/home/user/h") == "later\nlater\n0"
    i = wants(200, "GET", f"/sandboxes/{f}")
    assert i["metadata"] == {"who": "a"} and i["templateID"] == "base" and i["lifecycle"]["onTimeout"] == "pause", i
    assert wants(200, "GET", "/envs", who={"E2b-Sandbox-Id": f, "X-Access-Token": i["envdAccessToken"]}) == {"SET": "yes"}
assert sh(a, "cat /home/user/h; pgrep -c sleep") == "later\n1"
assert len(layers()) == 2, "a fork leaves no layer"
for f in ids[1:]: wants(204, "DELETE", f"/sandboxes/{f}")
# several are made at a time, by two who ask at once: as many as there is room for, and each of the others says so
had, said = len(wants(200, "GET", "/v2/sandboxes")), [None, None]
def fork_many(n): said[n] = wants(201, "POST", f"/sandboxes/{a}/fork", {"count": 9})
both = [threading.Thread(target=fork_many, args=(n,)) for n in (0, 1)]
for t in both: t.start()
for t in both: t.join()
many = [f["sandbox"]["sandboxID"] for s in said for f in s if "sandbox" in f]
refused = [f["error"]["code"] for s in said for f in s if "error" in f]
assert len(said[0]) == len(said[1]) == 9 and len({*many}) == len(many) == 16 - had and refused == [429] * (18 - len(many)), (had, said)
assert sh(many[0], "cat /home/user/h") == sh(many[-1], "cat /home/user/h") == "later"
for f in many: wants(204, "DELETE", f"/sandboxes/{f}")
assert len(wants(200, "GET", "/v2/sandboxes")) == had and len(layers()) == 2
wants(204, "POST", f"/sandboxes/{a}/pause", {})
assert ask("POST", f"/sandboxes/{a}/fork", {})[0] == 409
# --- a pause without memory
wants(201, "POST", f"/sandboxes/{a}/connect", {"timeout": 900})
tokens = wants(200, "GET", f"/sandboxes/{a}")["envdAccessToken"]
wants(204, "POST", f"/sandboxes/{a}/pause", {"memory": False})
assert ask("POST", f"/sandboxes/{a}/pause", {"memory": False})[0] == 409
assert [x["state"] for x in wants(200, "GET", "/v2/sandboxes?state=paused")] == ["paused"]
assert wants(200, "GET", f"/sandboxes/{a}")["state"] == "paused"
snap4 = wants(201, "POST", f"/sandboxes/{a}/snapshots", {})["snapshotID"]
assert open(f"{state}/mnt/{a}/w").read() == "later\n"
assert subprocess.run(["pgrep", "-f", f"berth/agent.*{a}"]).returncode == 1, "nothing of it runs"
got = wants(201, "POST", f"/v2/sandboxes/{a}/connect", {})
assert got["sandboxID"] == a and got["envdAccessToken"] == tokens
assert sh(a, "cat /home/user/h /workspace/w; pgrep -c sleep || true; hostname; cat /root/pid >/dev/null && echo again >>/workspace/w; test ! -e /etc/issue") == f"later\nlater\n0\n{a}"
assert open(f"{state}/mnt/{a}/w").read() == "later\nagain\n"
assert wants(200, "GET", f"/sandboxes/{a}")["metadata"] == {"who": "a"}
# one that has memory forgets it when asked at connecting
sh(a, "sleep 1000 >/dev/null 2>&1 & echo")
wants(204, "POST", f"/sandboxes/{a}/pause", {})
wants(201, "POST", f"/v2/sandboxes/{a}/connect", {"memory": False})
assert sh(a, "cat /home/user/h; pgrep -c sleep || true") == "later\n0"
# its time: paused so, woken by traffic
d = make(autoPause=True, autoPauseMemory=False, autoResume={"enabled": True}, timeout=300)
door = {"E2b-Sandbox-Id": d, "X-Access-Token": wants(200, "GET", f"/sandboxes/{d}")["envdAccessToken"]}
sh(d, "echo d >/root/d; chmod 755 /root; sleep 1000 >/dev/null 2>&1 & echo")
wants(204, "POST", f"/sandboxes/{d}/timeout", {"timeout": 0})
until("paused when its time is over", lambda: wants(200, "GET", f"/sandboxes/{d}")["state"] == "paused")
c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
c.request("GET", "/files?path=/root/d&username=root", headers=door)
r = c.getresponse()
assert (r.status, r.read()) == (200, b"d\n"), r.status
assert wants(200, "GET", f"/sandboxes/{d}")["state"] == "running" and sh(d, "pgrep -c sleep || true") == "0"
wants(204, "POST", f"/sandboxes/{d}/pause", {"memory": False})
e = make(snap4)
assert sh(e, "cat /home/user/h") == "later"
wants(204, "POST", f"/sandboxes/{e}/pause", {"memory": False})
wants(204, "DELETE", f"/sandboxes/{e}")
assert ask("POST", f"/sandboxes/{e}/connect", {})[0] == 404 and open(f"{state}/mnt/{e}/w").read() == "later\n"
print(a, d, snap, snap2, snap4)
P
read -r a d snap snap2 snap4 <<<"$(cd "$TOP" && python3 one.py "$port" "$key" "$other" "$STATE")" || fail "calls"
[ -n "$snap4" ] || fail "calls"
# A sandbox that the operator removes: its snapshot stays its key's, until it is removed itself.
b=${snap2%%:*}
was=$(berth ps --all --json | python3 -c "import json, sys; print(len(json.load(sys.stdin)))")
berth rm "$b" 2>"$TOP/said"
grep -q "1 snapshots of all of $b stay" "$TOP/said" || fail "$(cat "$TOP/said")"
[ ! -e "$MNT/$b" ] || fail "it is shown still"
must_fail berth rm "$b"
must_fail berth export "$b" -o "$TOP/none.tar"
must_fail berth fork "$b"
must_fail berth snapshot "$b"
removed() { berth ps --all | awk -v id="$b" '$1 == id { print $4 }'; }
equal "its state" "$(removed)" removed
equal "one has changed its state" "$(berth ps --all --json | python3 -c "import json, sys; print(len(json.load(sys.stdin)))")" "$was"
berth export "$b@named" -o "$TOP/named.tar"
tar -xOf "$TOP/named.tar" w | grep -qx w || fail "its workspace"
cat >"$TOP/gone.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
b, snap = sys.argv[5:]
assert wants(200, "GET", f"/snapshots?sandboxID={b}") == [{"snapshotID": snap, "names": [snap]}]
assert wants(200, "GET", f"/snapshots?sandboxID={b}", who=theirs) == []
assert ask("POST", "/v2/sandboxes", {"templateID": snap}, who=theirs)[0] == 404
assert ask("DELETE", f"/templates/{snap}", who=theirs)[0] == 404
assert ask("GET", f"/sandboxes/{b}")[0] == 404 and ask("POST", f"/sandboxes/{b}/connect", {})[0] == 404
c = make(snap)
assert sh(c, "cat /root/b /workspace/w") == "b\nw"
wants(204, "DELETE", f"/sandboxes/{c}")
P
(cd "$TOP" && python3 gone.py "$port" "$key" "$other" "$STATE" "$b" "$snap2") || fail "a snapshot whose sandbox was removed"
berth fsck
cat >"$TOP/two.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
a, d, snap, snap2, snap4 = sys.argv[5:]
ask("POST", f"/sandboxes/{a}/connect", {"timeout": 900})
assert sh(a, "cat /home/user/h; echo >>/root/deaths") == "later"
assert wants(200, "GET", f"/sandboxes/{d}")["state"] == "paused"
wants(201, "POST", f"/sandboxes/{d}/connect", {"timeout": 300})
assert sh(d, "cat /root/d; hostname") == f"d\n{d}"
wants(204, "POST", f"/sandboxes/{d}/pause", {"memory": False})
for s in (snap, snap2, snap4):
    b = make(s)
    assert sh(b, "test ! -e /etc/issue && cat /home/user/h") == ("later" if s == snap4 else "home")
    wants(204, "DELETE", f"/sandboxes/{b}")
P
say_to() { curl -s -o "$TOP/said" --max-time 30 -H "X-API-Key: $key" "http://127.0.0.1:$port/sandboxes/$1" -d "$2" || :; }
again() { (cd "$TOP" && python3 two.py "$port" "$key" "$other" "$STATE" "$a" "$d" "$snap" "$snap2" "$snap4") || fail "after $1"; }
stop_daemon
up
again "a restart"
stop_daemon KILL
: >"$STATE/layers/$(printf 'ab%.0s' {1..32})"
up
equal "what nobody has goes" "$(layers)" 3
again "a death"
# One that cannot be read at the start keeps its disks and the layers of its snapshots; one of whose box something is in the way
# of its end is still paused.
say_to "$a/connect" '{}' && say_to "$a/pause" '{"memory": false}'
ws=$(find "$STATE" -path "*/ws/$a" -not -path "$MNT/*" | head -n 1)
[ -d "$ws" ] && [ -f "$STATE/boxes/$a/root.img" ] || fail "no workspace, or no disk"
stop_daemon
mv "$ws" "$TOP/kept"
mkdir "$ws"
head -c 65536 /dev/urandom >"$ws/data.mdb"
up
must_fail berth info "$a"
equal "layers while one cannot be read" "$(layers)" 3
[ -f "$STATE/boxes/$a/root.img" ] && [ -f "$STATE/boxes/$a/ws.img" ] || fail "the disks of one that cannot be read are gone"
stop_daemon
rm -r "$ws"
mv "$TOP/kept" "$ws"
mkdir "$STATE/boxes/$a/stuck"
: >"$STATE/boxes/$a/record"
stuck=$(chattr +i "$STATE/boxes/$a/stuck" 2>/dev/null && echo yes || :) # not on every file system
up
[ -z "$stuck" ] || chattr -i "$STATE/boxes/$a/stuck"
again "one that could not be read"
# The id range of one whose box could not be ended is nobody else's, over a restart too.
if [ -n "$stuck" ]; then
	uid_of() { stat -c %u "/proc/$(berth info "$1" --json | field pid)"; }
	say_to "$a/connect" '{}'
	uid=$(uid_of "$a")
	mkdir "$STATE/boxes/$a/stuck"
	chattr +i "$STATE/boxes/$a/stuck"
	say_to "$a/pause" '{"memory": false}'
	equal "paused all the same" "$(berth info "$a" --json | field state)" paused
	stop_daemon
	up
	new=$(berth create)
	[ "$(uid_of "$new")" != "$uid" ] || fail "its range was given away"
	berth rm --force "$new"
	chattr -i "$STATE/boxes/$a/stuck"
	again "one whose box could not be ended"
fi

# Deaths in the middle: what was answered is there, what was not is not half, and nothing is left of it.
cat >"$TOP/three.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
import os
a, d = sys.argv[5:7]
boxes = wants(200, "GET", "/v2/sandboxes")
for x in boxes: # forks whose maker did not hear of them
    if x["sandboxID"] not in (a, d): wants(204, "DELETE", f"/sandboxes/{x['sandboxID']}")
assert {a, d} <= {x["sandboxID"] for x in boxes}, boxes
said = ask("POST", f"/sandboxes/{a}/connect", {"timeout": 900})
assert said[0] in (200, 201), said
assert sh(a, "cat /home/user/h /workspace/w | head -n 2") == "later\nlater"
snaps = [x["snapshotID"] for x in wants(200, "GET", f"/snapshots?sandboxID={a}")]
assert len(layers()) == len(snaps) + 1, (snaps, layers())
b = make(snaps[-1])
assert sh(b, "cat /home/user/h") == "later"
wants(204, "DELETE", f"/sandboxes/{b}")
for x in snaps[2:]: wants(204, "DELETE", f"/templates/{x}")
P
for what in ${BERTH_LONG:+snapshots fork pause connect fork pause snapshots connect} snapshots fork pause connect; do
	for ((k = 0; k < ${BERTH_LONG:+10} + 1; k++)); do
		[ "$what" != connect ] || say_to "$a/pause" '{"memory": false}'
		say_to "$a/$what" '{"memory": false, "count": 2}' &
		sleep "0.0$((RANDOM % 7))$((RANDOM % 10))" # where it dies is chance
		stop_daemon KILL
		wait $! || :
		up
		(cd "$TOP" && python3 three.py "$port" "$key" "$other" "$STATE" "$a" "$d") || fail "after a death in $what"
	done
done
again "deaths in the middle"

# What was damaged is named; what was lost is; a backup has it all.
df=$(berth df)
grep -qE "^layers +[0-9.]+[KMG] of $(layers) snapshots of whole sandboxes, at most 64G" <<<"$df" || fail "df: $df"
berth backup -o "$TOP/all.tar"
layer=$(find "$STATE/layers" -type f ! -name '.*' | sort | head -n 1)
blocks=$(stat -c %b "$layer")
for id in $(berth ps --json | python3 -c 'import json, sys; print(*(x["id"] for x in json.load(sys.stdin)))'); do berth kill "$id" --grace 0; done
printf X | dd of="$layer" bs=1 seek=70000 conv=notrunc status=none
refused 1 "is damaged: its bytes have another hash" berth fsck
truncate -s 1M "$layer"
refused 1 "has 1048576 bytes and should have" berth fsck
rm "$layer"
refused 1 "is missing" berth fsck
stop_daemon
rm -rf "$STATE/store" "$STATE"/layers/*
"$BERTH_BUILD/berthd" --restore "$TOP/all.tar" --set "daemon.state-dir=$STATE" >"$TOP/said" 2>&1 || fail "$(cat "$TOP/said")"
grep -q "0 problems" "$TOP/said" || fail "$(cat "$TOP/said")"
[ ! -e "$STATE/layers.restoring" ] || fail "something is left of restoring"
[ "$(stat -c %b "$layer")" -le "$blocks" ] || fail "holes were filled"
up
berth fsck
equal "a removed one, restored" "$(removed)" removed
cat >"$TOP/four.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
snaps, b = sys.argv[5:-1], sys.argv[-1]
for s in snaps:
    c = make(s)
    assert sh(c, "test ! -e /etc/issue && cat /home/user/h") in ("later", "home")
    wants(204, "DELETE", f"/sandboxes/{c}")
wants(204, "DELETE", f"/templates/{snaps[1]}")
assert wants(200, "GET", f"/snapshots?sandboxID={b}") == [] and ask("DELETE", f"/templates/{snaps[1]}")[0] == 404
P
n=$(layers)
(cd "$TOP" && python3 four.py "$port" "$key" "$other" "$STATE" "$snap" "$snap2" "$snap4" "$b") || fail "after a restore"
equal "with its last snapshot it goes" "$(removed)" ""
[ ! -e "$STATE/store/ws/$b" ] && [ "$(layers)" = "$((n - 1))" ] || fail "something of it is left"
# As long as it may; and all at once.
berth rm "$a" 2>/dev/null
berth rm --snapshots "$a"
[ ! -e "$STATE/store/ws/$a" ] || fail "something of it is left"
stop_daemon
up --set store.keep-snapshots=1ms
wait_for 30 "snapshots that are too old" sh -c "[ -z \"\$(find '$STATE/layers' -mindepth 1 ! -name '.*')\" ]"
berth fsck
# A key has half of the room for layers, also when it asks for several at once.
stop_daemon
up
cat >"$TOP/five.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
import threading
if sys.argv[5] == "make":
    boxes = [make() for _ in range(4)]
    for b in boxes: sh(b, "head -c 3000000 /dev/urandom >/root/big; sync /root/big")
    print(max(os.stat(f"{state}/boxes/{b}/root.img").st_blocks * 512 for b in boxes), *boxes)
else:
    got = []
    each = [threading.Thread(target=lambda b=b: got.append(ask("POST", f"/sandboxes/{b}/snapshots", {})[0])) for b in sys.argv[5:]]
    for t in each: t.start()
    for t in each: t.join()
    assert got.count(201) == 1 and sorted(got)[:1] == [201] and len(set(got)) == 2, got
    assert len(layers()) == 1
P
read -ra four <<<"$(cd "$TOP" && python3 five.py "$port" "$key" "$other" "$STATE" make)" || fail "four of a key"
stop_daemon
up --set "sandbox.layers-size=$((four[0] * 3))" # so that half of it is one and a half
(cd "$TOP" && python3 five.py "$port" "$key" "$other" "$STATE" "${four[@]:1}") || fail "several at once"
berth fsck
# What a backup keeps from going counts until it has gone: there is room for one and a half of the largest.
read -r size big < <(cd "$STATE/boxes" && stat -c "%b %n" -- */root.img | sort -nr | head -n 1)
stop_daemon
up --set "sandbox.layers-size=$((size * 512 * 3))"
cat >"$TOP/six.py" <<'P'
import sys; sys.path.insert(0, ".")
from ask import *
what, box = sys.argv[5:]
if what == "full":
    for x in wants(200, "GET", "/snapshots"): wants(204, "DELETE", f"/templates/{x['snapshotID']}")
    assert wants(200, "GET", "/snapshots") == [] and len(layers()) == 1
    status, said = ask("POST", f"/sandboxes/{box}/snapshots", {})
    assert status != 201 and "half of it" in str(said), (status, said)
else:
    until("there is room again", lambda: ask("POST", f"/sandboxes/{box}/snapshots", {})[0] == 201)
until("one is there", lambda: len(layers()) == 1)
P
exec 8< <(berth backup -o -)
slow=$!
dd bs=512 count=1 <&8 >"$TOP/begun" 2>/dev/null
[ "$(stat -c %s "$TOP/begun")" = 512 ] || fail "the backup did not begin"
(cd "$TOP" && python3 six.py "$port" "$key" "$other" "$STATE" full "${big%/*}") || fail "while a backup runs"
cat <&8 >/dev/null
exec 8<&-
wait "$slow" || fail "the backup"
(cd "$TOP" && python3 six.py "$port" "$key" "$other" "$STATE" room "${big%/*}") || fail "after the backup"
berth fsck
say ok
