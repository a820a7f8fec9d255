#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a sandbox's agent tells beside streams: use, kept lines, kills for memory; masks, limits and trees of commands.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base --name box --memory 128M)
api() { curl -sf --unix-socket "$STATE/run/api.sock" "$@"; }

equal "mask" "$(berth run "$id" --umask 027 -- sh -c umask)" 0027
equal "limits" "$(berth run "$id" --limit nofile=64:128 --limit core=0 -- sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c' |
	tr '\n' ' ')" "64 128 0 "
refused 125 "is no limit" berth run "$id" --limit files=1 -- true
refused 125 "no mask" berth run "$id" --umask 999 -- true
equal "by JSON" "$(api "http://x/v1/sandboxes/$id/exec" \
	-d '{"argv":["sh","-c","umask; ulimit -n"],"umask":63,"limits":{"nofile":"99"}}' | field stdout)" "0077
99"

# A daemon that left its session and whose parents are dead goes with the tree.
exec_id=$(berth run "$id" --detach -- sh -c 'setsid sh -c "sleep 12345 & exec sleep 0"; sleep 54321')
both() { [ "$(berth run "$id" -- pgrep -c -f '^sleep (12345|54321)')" = 2 ]; }
none() { [ "$(berth run "$id" -- pgrep -c -f '^sleep (12345|54321)')" = 0 ]; }
wait_for 20 "both to sleep" both
berth signal "$id" "$exec_id" KILL --tree
wait_for 20 "both to go" none
refused 1 "could not be sent" berth signal "$id" "$exec_id" TERM --tree
refused 2 "no such signal" berth signal "$id" "$exec_id" NONSENSE

# Killed for memory: said as such, by the command, its status, and in the numbers.
s=0
berth run "$id" -- python3 -c 'x = bytearray(300 << 20)' 2>"$TOP/oom" || s=$?
equal "status of one that memory was out for" "$s" 137
grep -q "memory was out" "$TOP/oom"
equal "by JSON" "$(api "http://x/v1/sandboxes/$id/exec" -d '{"argv":["python3","-c","x = bytearray(300 << 20)"]}' |
	field how)" memory
s=0
berth run "$id" -- sh -c 'python3 -c "x = bytearray(300 << 20)"; exit 3' 2>"$TOP/oom" || s=$?
equal "of a child" "$s" 3
grep -q "processes killed for it: 1" "$TOP/oom"
equal "killed by hand" "$(api "http://x/v1/sandboxes/$id/exec" -d '{"argv":["sh","-c","kill -9 $$"]}' | field how)" signal

berth stats "$id" --json >"$TOP/stats"
python3 - "$TOP/stats" <<'PY'
import json, sys
from berthtest import fail
s = json.load(open(sys.argv[1]))
for key, low, high in [("cpu_ns", 10**6, 10**12), ("memory_b", 10**5, 128 << 20), ("memory_limit_b", 128 << 20, 128 << 20),
                       ("memory_peak_b", 100 << 20, 128 << 20), ("oom_kills", 3, 3), ("processes", 1, 50),
                       ("pids", 1, 50), ("pids_limit", 1, 10**5), ("disk_total_b", 10**8, 2**31), ("uptime_ms", 1, 10**6)]:
    if not low <= s[key] <= high: fail(f"{key} is {s[key]}")
if s["disk_free_b"] >= s["disk_total_b"] or s["pressure"]["of"] not in ("sandbox", "machine"): fail(s)
PY
berth stats "$id" | grep -q "killed .* 3 for memory"
berth logs "$id" | grep -q 'msg="ready"'
equal "in offsets" "$(api "http://x/v1/sandboxes/$id/logs?from=999999" | field text)" ""

# An agent that dies after kills for memory: what people are told.
two=$(berth create --template base --memory 64M)
berth run "$two" -- python3 -c 'x = bytearray(300 << 20)' 2>/dev/null || :
kill -9 "$(berth info "$two" --json | field pid)"
failed() { [ "$(berth info "$two" --json | field state)" = failed ]; }
wait_for 20 "the sandbox to fail" failed
berth info "$two" --json | field why | grep -q "out of memory"
berth kill box
refused 1 "stopped" berth stats "$id"
refused 1 "not run" berth logs "$id"
