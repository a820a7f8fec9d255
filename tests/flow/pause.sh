#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Pause and resume: the workload stands still, what it wrote is durable and readable, writes from the host are refused,
# processes and their memory go on where they were, time limits too; a timeout that pauses; kill of a paused sandbox; a
# daemon that dies while a sandbox is paused, and while it pauses.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --name still --meta colour=red --meta 'odd=a "b" \ c' --on-timeout pause)
id2=$(berth create)
export id id2

# A writer that counts in memory, and a process that would be over its time if time went on.
berth run "$id" --detach --id counter -- python3 -c '
import os, time
n = 0
while True:
    n += 1
    with open("next", "w") as f: f.write(str(n))
    os.rename("next", "count") # nobody reads half of it
    time.sleep(0.01)' >/dev/null
wait_for 20 "the counter to begin" test -s "$MNT/$id/count"
berth run "$id" -- sh -c 'head -c 300000 /dev/urandom >data; sha256sum data >sum'

berth pause "$id"
equal "state" "$(berth info "$id" --json | field state)" paused
before=$(cat "$MNT/$id/count")
python3 - <<'PY'
import glob, os, subprocess, time
from berthtest import Api, until
api, box = Api(), os.environ["id"]
info = api.good("GET", f"/v1/sandboxes/{box}")
assert info["metadata"] == {"colour": "red", "odd": 'a "b" \\ c'}, info["metadata"]
assert info["on_timeout"] == "pause" and info["ends_ns"] == 0, info
assert [s["id"] for s in api.good("GET", "/v1/sandboxes?key=colour&value=red")] == [box]
assert api.good("GET", "/v1/sandboxes?key=colour&value=blue") == []
assert api.call("GET", "/v1/sandboxes?key=colour")[0] == 400

# Not a tick of processor time is used by any of its processes, the agent among them.
def ticks():
    total = {}
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            pid = stat.split("/")[2]
            if f'berth-{os.stat(os.environ["STATE"]).st_dev:x}-' not in open(f"/proc/{pid}/cgroup").read(): continue
            if box not in open(f"/proc/{pid}/cgroup").read(): continue
            f = open(stat).read().rsplit(")", 1)[1].split()
            total[pid] = int(f[11]) + int(f[12])
        except (FileNotFoundError, ProcessLookupError): pass
    return total
a = ticks()
assert len(a) >= 2, a
other = os.environ["id2"]
end = time.monotonic() + 60
while api.sh(other, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; cut -d' ' -f14 /proc/self/stat")["code"] == 0:
    break  # a neighbour has worked meanwhile
assert ticks() == a, (a, ticks())

for method, path, body in (("POST", "exec", {"argv": ["true"]}), ("POST", "make", {"path": "new", "mode": 493}),
                           ("POST", "pause", None)):
    status, answer = api.call(method, f"/v1/sandboxes/{box}/{path}", body)
    assert status == 409, (path, status, answer)
status, answer = api.call("POST", f"/v1/sandboxes/{other}/resume")
assert status == 409 and answer["error"]["slug"] == "not-paused", (status, answer)
PY
equal "reading while paused" "$(cd "$MNT/$id" && sha256sum data)" "$(cat "$MNT/$id/sum")"
must_fail sh -c "echo x >'$MNT/$id/new'"
grep -qi "busy" "$TOP/err"
equal "it stands still" "$(cat "$MNT/$id/count")" "$before"
berth sync "$id"

berth resume "$id"
later() { [ "$(cat "$MNT/$id/count")" -gt "$before" ]; }
wait_for 20 "the counter to go on" later
[ "$(cat "$MNT/$id/count")" -lt $((before + 100000)) ]
equal "a write works again" "$(echo y >"$MNT/$id/new" && berth run "$id" -- cat new)" y
equal "the process is the same one" "$(berth run "$id" -- sh -c 'ps -eo args | grep -c "[n] += 1"')" 1

# A stream is cut with a reason; the process lives and can be joined again.
berth run "$id" --id talker -- sh -c 'mkfifo fifo; echo hello; read x <fifo; echo there' >"$TOP/out" 2>"$TOP/talk" &
talker=$!
wait_for 20 "the talker" grep -q hello "$TOP/out"
for _ in 1 2 3 4 5; do
	berth pause "$id"
	berth resume "$id"
done
wait "$talker" || say "the stream ended: $(cat "$TOP/talk")"
berth run "$id" -- sh -c 'echo >fifo'
equal "the talker goes on" "$(berth attach "$id" talker | tail -n 1)" there

# Time that was spent paused does not count.
berth run "$id" --detach --id limited --timeout 3s -- sh -c 'while :; do date +%s%N >alive; done' >/dev/null
wait_for 20 "the limited one" test -s "$MNT/$id/alive"
berth pause "$id"
python3 -c 'import time; time.sleep(3.5)' # the limit itself is what passes here
was=$(cat "$MNT/$id/alive") # what is left of its time may be over when a busy machine has come back from the resume
berth resume "$id"
goes_on() { [ "$(cat "$MNT/$id/alive")" != "$was" ]; }
wait_for 20 "the limited one to go on" goes_on
limited_ended() { berth attach "$id" limited >/dev/null 2>&1 || [ $? = 124 ]; }
wait_for 20 "its limit" limited_ended

# A timeout that pauses, a resume with a new time.
berth timeout "$id" 1s
is_paused() { [ "$(berth info "$id" --json | field state)" = paused ]; }
wait_for 20 "the timeout to pause" is_paused
berth resume "$id" --timeout 1h

# The daemon dies: a paused one stays paused, one in the middle of a pause is one or the other, and both can go on.
berth pause "$id"
before=$(cat "$MNT/$id/count")
stop_daemon KILL
start_daemon
equal "after the daemon's death" "$(berth info "$id" --json | field state)" paused
equal "it still stands still" "$(cat "$MNT/$id/count")" "$before"
must_fail sh -c "echo x >'$MNT/$id/new'"
berth resume "$id"
wait_for 20 "the counter to go on" later
for n in 1 2 3 4 5 6; do
	berth pause "$id" 2>/dev/null &
	pauser=$!
	read -rt "$(printf 0.%03d $((n * 3)))" <> <(:) || : # different moments of a pause
	stop_daemon KILL
	wait "$pauser" || :
	start_daemon
	state=$(berth info "$id" --json | field state)
	say "killed in a pause, attempt $n: $state"
	case $state in
	paused) berth resume "$id" ;;
	running) ;;
	*) fail "state $state" ;;
	esac
	before=$(cat "$MNT/$id/count")
	wait_for 20 "the counter to go on" later
done

# Who comes while another works on it, for want of an agent that answers, does not wait for ever.
agent=$(berth info "$id" --json | field pid)
kill -STOP "$agent"
berth pause "$id" >/dev/null 2>"$TOP/slow" &
pauser=$!
is_pausing() { [ "$(berth info "$id" --json | field state)" = pausing ]; }
wait_for 20 "the pause to begin" is_pausing
refused 1 "somebody else works on" timeout 60 berth timeout "$id" 1h
equal "it is still being paused" "$(berth info "$id" --json | field state)" pausing
kill -CONT "$agent"
wait "$pauser" && berth resume "$id"

# Without memory: by hand, on the way back, and when its time is over. What is outside of /workspace stays, processes do not.
berth run --user root "$id" -- sh -c 'echo out >/root/out'
berth pause --no-memory "$id"
equal "state" "$(berth info "$id" --json | field state) $(berth info "$id" --json | field memory)" "paused false"
must_fail berth pause --no-memory "$id"
berth resume "$id"
equal "what is outside" "$(berth run --user root "$id" -- cat /root/out)" out
equal "nothing of before runs" "$(berth run "$id" -- sh -c 'ps -eo args | grep -c "[n] += 1" || :')" 0
berth run "$id" --detach -- sleep 4711 >/dev/null
berth pause "$id"
equal "with its memory" "$(berth info "$id" --json | field memory)" true
berth resume --no-memory "$id"
equal "begun anew" "$(berth run "$id" -- sh -c 'ps -eo args | grep -c "[s]leep 4711" || :')" 0
id4=$(berth create --on-timeout pause-no-memory)
equal "what comes at its end" "$(berth info "$id4" --json | field on_timeout)" pause-no-memory
berth timeout "$id4" 1ms
rests() { [ "$(berth info "$id4" --json | field state) $(berth info "$id4" --json | field memory)" = "paused false" ]; }
wait_for 20 "its time to be over" rests
berth kill "$id4"

# An end from the paused state keeps everything.
berth run "$id" -- sh -c 'echo last >last'
berth pause "$id"
berth kill "$id"
equal "state" "$(berth info "$id" --json | field state)" stopped
equal "kept" "$(cat "$MNT/$id/last")" last
equal "metadata is kept" "$(berth info "$id" --json | field metadata)" '{"colour": "red", "odd": "a \"b\" \\ c"}'

# The agent dies while it is paused: failed, and everything is there.
berth run "$id2" -- sh -c 'echo here >here'
berth pause "$id2"
kill -9 "$(berth info "$id2" --json | field pid)"
is_failed() { [ "$(berth info "$id2" --json | field state)" = failed ]; }
wait_for 20 "the death to be noticed" is_failed
equal "kept" "$(cat "$MNT/$id2/here")" here

# A fork bomb can be paused, too.
id3=$(berth create --pids 200)
berth run "$id3" --detach --id bomb -- python3 -c '
import os, time
while True:
    try:
        if os.fork() == 0: continue
        time.sleep(0.001)
        os.waitpid(-1, os.WNOHANG)
    except OSError: time.sleep(0.001)' >/dev/null
# One attempt has three seconds, in which a busy machine may not get round to stopping two hundred that make others.
pause_bomb() { berth pause "$id3" 2>"$TOP/err" || { grep -q 'cannot be stopped at the moment' "$TOP/err" || cat "$TOP/err"; return 1; }; }
wait_for 60 "the fork bomb to be paused" pause_bomb
berth resume "$id3"
wait_for 60 "the fork bomb to be paused again" pause_bomb
berth kill "$id3"
berth fsck
