#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many files at once: all of them arrive, with their contents, whatever the agent cannot note at a time (here it can note few; with
# BERTH_LONG=1 there are a million, and an agent that notes what it always does), and what agent and daemon hold is bounded meanwhile and small
# afterwards. Then all of them are removed at once.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
files=20000 dirs=2000 peak_kib=8192 agent=$BERTH_BUILD/tests/lib/agent-small
if [ -n "${BERTH_LONG:-}" ]; then files=1000000 dirs=10000 peak_kib=131072 agent=$BERTH_BUILD/berth-agent; fi
[ -x "$agent" ] || skip "needs $agent"
start_daemon --set sandbox.workspace=12G --set "daemon.agent=$agent"
id=$(berth create --template base)
pid=$(cat "$STATE/boxes/$id/pid")
held() { awk '/^'"$1"':/ { print $2 }' "/proc/${2:-$pid}/status"; }
cat >"$TOP/make.py" <<'PY'
import os, sys
files, dirs = int(sys.argv[1]), int(sys.argv[2])
for d in range(dirs):
    at = f"/workspace/t/{d % 100}/{d}"
    os.makedirs(at)
    for f in range(files // dirs):
        with open(f"{at}/{f}", "w") as o:
            o.write(f"{d:07} {f:07}\n")
PY
berth cp --quiet "$TOP/make.py" "$id:make.py"
small() { [ "$(held RssAnon)" -lt "$1" ]; }

# Directories alone first: what each of them costs. Given back is what a burst left behind some seconds later.
berth run "$id" -- python3 make.py 0 "$dirs"
berth sync "$id"
wait_for 20 "an agent of less than 2 MiB and 512 bytes for each directory" small $((2048 + dirs / 2))
say "$dirs directories: the agent holds $(held RssAnon) KiB"
berth run "$id" -- rm -rf t
berth run "$id" -- python3 make.py "$files" "$dirs"
curl -sf -X POST --max-time 3000 --unix-socket "$STATE/run/api.sock" "http://x/v1/sandboxes/$id/sync?timeout_ms=60000" >/dev/null || fail "no sync"
say "$files files: the agent held $(held VmHWM) KiB, the daemon $(held RssAnon "$DAEMON") KiB"
[ "$(held VmHWM)" -lt "$peak_kib" ] || fail "the agent held $(held VmHWM) KiB"
[ "$(held RssAnon "$DAEMON")" -lt $((262144 + files / 4)) ] || fail "the daemon holds $(held RssAnon "$DAEMON") KiB"
find "$MNT/$id/t" -type f -printf '%s\n' | sort | uniq -c >"$TOP/sizes"
equal "how many of which size" "$(awk '{ print $1, $2 }' "$TOP/sizes")" "$files 16"
last=$((dirs - 1))
equal "a content" "$(cat "$MNT/$id/t/$((last % 100))/$last/3")" "$(printf '%07d %07d' "$last" 3)"
[ -n "${BERTH_LONG:-}" ] || grep -q 'events were lost inside' "$LOG" || fail "the agent noted everything"
wait_for 20 "an agent that is small again" small $((2048 + dirs * 2)) # what lies beside a directory in its heap stays

# As many at once, and more than half of all: that is no disk that was lost.
berth run "$id" -- rm -rf t
equal "what is left" "$(ls "$MNT/$id")" make.py
berth sync "$id"
berth kill --grace 0 "$id"
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
