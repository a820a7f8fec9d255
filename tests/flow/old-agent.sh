#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An agent of the first generation under this daemon: it is started, used, and adopted after an upgrade. What it does not
# know is refused with a word, never sent to it: it hangs up at a message that it does not know. BERTH_OLD_AGENT names
# a program to be tried instead of the stand-in.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
NEW=$BERTH_AGENT
BERTH_AGENT=${BERTH_OLD_AGENT:-$BERTH_BUILD/tests/lib/agent-1}
[ -x "$BERTH_AGENT" ] || skip "needs an old agent ($BERTH_AGENT)"

start_daemon
id=$(berth create --template mini)
equal "output" "$(berth run "$id" -- sh -c 'echo hi; echo x >f')" hi
equal "the mount" "$(cat "$MNT/$id/f")" x
berth run --detach "$id" -- sleep 1000 >"$TOP/job"
printf '[none]\nx/\n' >"$TOP/rules"
kept=$(berth create --template mini --keep "$TOP/rules" 2>"$TOP/err")
grep -q "too old for rules" "$TOP/err" || fail "nothing was said of the rules"
berth run "$kept" -- sh -c 'mkdir x; echo y >x/f'
equal "everything is replicated" "$(cat "$MNT/$kept/x/f")" y
berth info "$kept" | grep -q "everything: its agent is too old" || fail "info: $(berth info "$kept")"
berth kill "$kept"

# A service of the broker needs a newer one; secrets that it was given do not.
rm "$BERTHD_BROKER_SERVICES"/{basic,header,query}.json
berth secret key >"$TOP/host.pub"
printf x | "$BERTH_BUILD/berth-seal" seal --to "$TOP/host.pub" --name WEB --host api.example.org -o "$TOP/web.sealed"
berth secret add "$TOP/web.sealed"
refused 1 "of an older version and knows no broker" berth create --template mini --secret WEB

# usable WHAT: all that generation 1 can do.
usable() {
	equal "$1: standard input" "$(echo in | berth run "$id" -- cat)" in
	echo "$1" >"$MNT/$id/by-host"
	equal "$1: written on the mount" "$(berth run "$id" -- cat by-host)" "$1"
	berth run "$id" -- sh -c 'mkdir -p d && head -c 3000000 /dev/zero >d/big && rm -f d/gone && mv d/big d/large'
	equal "$1: a large file" "$(stat -c %s "$MNT/$id/d/large")" 3000000
	berth ps "$id" >"$TOP/ps" 2>/dev/null || berth ps --all >"$TOP/ps"
	grep -q "$id" "$TOP/ps" || fail "$1: not in the list"
	berth sync "$id"
	refused 1 "older than the daemon" berth pause "$id"
	refused 1 "older than the daemon" berth stats "$id"
	refused 1 "older than the daemon" berth logs "$id"
	equal "$1: after refusals" "$(berth run "$id" -- echo on)" on
}
usable created
agent_of() { pgrep -f "^/.berth/agent .*--id $id " | head -n 1; }
pid=$(agent_of)
[ -n "$pid" ] || fail "the agent is not found"

BERTH_AGENT=$NEW
stop_daemon
start_daemon
usable adopted
stop_daemon KILL
start_daemon
usable "adopted after a crash"
equal "the agent" "$(agent_of)" "$pid"
new=$(berth create --template mini)
equal "a new one beside it" "$(berth run "$new" -- echo new)" new
berth stats "$new" >/dev/null
berth kill "$new"
berth kill "$id"
if grep -E 'level=error|bad-message' "$LOG"; then fail "errors in the log"; fi
berth fsck
stop_daemon
