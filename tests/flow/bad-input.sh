#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input gets a clear sentence and an exit status, and loses nothing: the daemon goes on.
. "$(dirname "$0")/../lib/flow.sh"

# A daemon that must not start: its own words on standard error.
starts_not() { refused 1 "$1" run_in_subshell "${@:2}"; }
export -f run_daemon
export BERTH_BUILD STATE BERTH_AGENT IDS_FIRST
run_in_subshell() { bash -c 'run_daemon "$@"' - "$@"; }
export -f run_in_subshell
masked() { exec unshare -m bash -c "$1; shift; run_daemon \"\$@\"" - "${@:2}"; }
export -f masked
# refused runs its command below timeout(1), which knows programs only.
berthd_refused() {
	local status=$1 words=$2
	shift 2
	refused "$status" "$words" bash -c '"$@"' - "$@"
}

need_template mini
start_daemon
id=$(berth create --template mini --name one)
berth run "$id" -- sh -c 'echo kept >file' </dev/null
dir=$(berth info "$id" --json | field mount)

# --- names and states ---
refused 1 "no sandbox" berth info nobody
refused 1 "no sandbox" berth kill nobody
refused 1 "no sandbox" berth rm nobody
refused 1 "no sandbox" berth sync nobody
refused 1 "no sandbox" berth ls nobody:
refused 125 "no sandbox" berth run nobody -- true
refused 1 "no template" berth create --template nothing
refused 1 "template|name" berth create --template ../../etc
refused 1 "name" berth create --template mini --name "not a name"
refused 1 "name|one" berth create --template mini --name one
refused 1 "memory|limit|at most" berth create --template mini --memory 900G
refused 1 "running|stopped|kill" berth rm "$id"
refused 1 "no template" berth template rm nothing
refused 1 "uses template" berth template rm mini
refused 1 "exist|there already" berth template build mini --tar "$0"
refused 1 "" berth template build broken --tar "$0"
equal "templates" "$(berth template ls | grep -c .)" 1

# --- paths ---
refused 1 "path|workspace" berth cat "$id:../../etc/passwd"
refused 1 "no-such|No such|ENOENT|not found|there is no" berth cat "$id:missing"
refused 1 "regular file" berth cat "$id:."
refused 1 "directory" berth ls "$id:file"
refused 1 "directory|file" berth cp "$0" "$id:file/below"
refused 1 "" berth cp /nonexistent "$id:x"
refused 2 "side|ID:PATH" berth cp "$0" "$TOP/elsewhere"

# --- commands ---
refused 127 "" berth run "$id" -- no-such-program
refused 126 "" berth run "$id" -- /etc/passwd
refused 125 "cannot go to" berth run "$id" --cwd /nowhere -- true
refused 125 "user" berth run "$id" --user nobody-here -- true
refused 125 "usage|command" berth run "$id"
refused 2 "no such option" berth create --frobnicate
refused 2 "no such verb" berth frobnicate
refused 2 "size" berth create --template mini --memory much
refused 125 "cannot|connect|daemon" env BERTH_URL=unix:/nonexistent/api.sock berth run "$id" -- true
refused 1 "cannot|connect|daemon" env BERTH_URL=unix:/nonexistent/api.sock berth ps

# --- the API itself ---
http() { curl -s -o "$TOP/body" -w '%{http_code}' --unix-socket "$STATE/run/api.sock" "$@"; }
equal "no such route" "$(http http://x/v1/nothing)" 404
equal "no such method" "$(http -X DELETE http://x/v1/fsck)" 405
equal "no JSON" "$(http -d '{"template":' http://x/v1/sandboxes)" 400
equal "wrong type" "$(http -d '{"template":7}' http://x/v1/sandboxes)" 400
equal "unknown field" "$(http -d '{"colour":"red"}' http://x/v1/sandboxes)" 400
field error <"$TOP/body" >/dev/null || field slug <"$TOP/body" >/dev/null || fail "no error object: $(cat "$TOP/body")"

# --- a workspace that is full ---
small=$(berth create --template mini --workspace 32M)
r=0; berth run "$small" -- dd if=/dev/zero of=big bs=1M count=200 </dev/null >"$TOP/dd" 2>&1 || r=$?
[ "$r" != 0 ] || fail "200 MB went into a workspace of 32"
grep -qi "no space" "$TOP/dd" || fail "dd said: $(cat "$TOP/dd")"
berth run "$small" -- rm big </dev/null
equal "after that" "$(berth run "$small" -- echo fine </dev/null)" fine
berth kill "$small"
refused 125 "run|stopped" berth run "$small" -- true
refused 1 "run|stopped" berth kill "$small"

# --- other daemons ---
berthd_refused 1 "state-in-use.*another berthd" run_in_subshell
taken=$STATE/run/api.sock
STATE=$TOP/other
berthd_refused 1 "socket.*use|in use|another" run_in_subshell --set "daemon.socket=$taken"
STATE=$TOP/s
equal "the first goes on" "$(cat "$dir/file")" kept

# --- configurations ---
berthd_refused 2 "mount.*no key|no key" run_in_subshell --set mount.colour=red
berthd_refused 2 "no section" run_in_subshell --set colour.red=1
berthd_refused 2 "number|from 1" run_in_subshell --set mount.threads=many
berthd_refused 2 "absolute" run_in_subshell --set daemon.socket=relative
berthd_refused 2 "oci|fake" run_in_subshell --set sandbox.box=vm
printf '[daemon]\nlog-level = info\n\n[mount]\nthread = 8\n' >"$TOP/bad.conf"
berthd_refused 2 "bad.conf line 5.*thread" "$BERTH_BUILD/berthd" --config "$TOP/bad.conf" --check
berthd_refused 2 "nothere" "$BERTH_BUILD/berthd" --config "$TOP/nothere.conf" --check
printf '[mount]\nthreads = 4\n' >"$TOP/good.conf"
"$BERTH_BUILD/berthd" --config "$TOP/good.conf" --check >/dev/null
berthd_refused 2 "BERTHD_MOUNT_COLOUR|no key" env BERTHD_MOUNT_COLOUR=red "$BERTH_BUILD/berthd" --check
export STATE=$TOP/third
berthd_refused 1 "no account" run_in_subshell --set daemon.user=nobody-here
berthd_refused 1 "agent" run_in_subshell --set daemon.agent=/nonexistent
berthd_refused 1 "started as root|not-root" setpriv --reuid=65534 --clear-groups "$BERTH_BUILD/berthd" \
	--set "daemon.state-dir=$STATE"

# --- a host that lacks something ---
berthd_refused 1 "/dev/fuse" masked 'mount -t tmpfs none /dev'
STATE=$TOP/s
berth kill "$id"
stop_daemon
# Its own view of the mounts, so the files are looked at through the API.
start_masked() {
	mkdir -p "$TOP/upper" "$TOP/work"
	masked "mount -t overlay -o lowerdir=/usr/bin,upperdir=$TOP/upper,workdir=$TOP/work none /usr/bin
		rm /usr/bin/crun" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	wait_for 30 "berthd to answer" daemon_is_up
}
start_masked
refused 1 "crun is not installed" berth create --template mini
equal "the files of before" "$(berth cat "$id:file")" kept
stop_daemon
start_daemon
equal "the files of before" "$(cat "$dir/file")" kept
berth fsck >/dev/null
say "done"
