# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What flow tests share. Source it first:
#
#	. "$(dirname "$0")/../lib/flow.sh"
#	need_template base
#	start_daemon
#	id=$(berth create)
#
# A test ends with 0 (passed), 77 (skipped, the last line of output says why) or anything else (failed). Everything that
# it started is ended and removed when it exits; what the daemon itself left behind after an orderly end fails the test.
#
# A daemon of a test gives its mount up when it ends (mount.takeover=0); TAKEOVER=10s before start_daemon is for tests of
# the opposite, and the keeper of the mount is ended with the test.
#
# Sandboxes have no network, and the daemon makes nothing of one on this host: NETWORK=veth and the like are for tests
# that live in a network namespace of their own (tests/lib/net.sh).
#
# From outside: BERTH_BUILD (the build directory), BERTH_AGENT (a static agent, when the build's own is not), KEEP=1
# (leave the directory for a look).
set -eu -o pipefail
export LC_ALL=C

SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BERTH_BUILD=$(cd "${BERTH_BUILD:-$SRC/build}" && pwd)
BERTH_AGENT=${BERTH_AGENT:-$BERTH_BUILD/berth-agent}
BERTH_CACHE=${BERTH_CACHE:-/var/cache/berth-test}
TOP=$(mktemp -d "${BERTH_TMP:-/var/tmp}/bt-XXXXXX")
chmod 755 "$TOP"
STATE=$TOP/s
# shellcheck disable=SC2034
MNT=$STATE/mnt
LOG=$TOP/log
DAEMON=
# Tests may run beside other daemons: ids of its own, 16 ranges; and beside another lane of ./check.
IDS_FIRST=$((65536 * (1024 + 16 * ($$ % 1500 * 2 + ${BERTH_LANE:-0} % 2))))
IDS_COUNT=16
export BERTH_URL=unix:$STATE/run/api.sock
export BERTHD_NETWORK_MODE=none
# The broker, and policies of services that its account can read wherever the sources are.
export BERTHD_BROKER_PROGRAM=$BERTH_BUILD/berth-broker BERTHD_BROKER_SERVICES=$TOP/services
mkdir -p "$TOP/services"
cp "$SRC"/templates/services/*.json "$TOP/services" 2>/dev/null || :
TESTING=$(basename "$0" .sh)

say() { printf '%s: %s\n' "$TESTING" "$*"; }
fail() { SAID=1; say "FAILED: $*" >&2; exit 1; }
skip() { trap - EXIT; rm -rf "$TOP"; echo "$*"; exit 77; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; a status of 99 says that it never will.
wait_for() {
	local until=$((SECONDS + $1)) what=$2
	shift 2
	local status=0
	while :; do
		status=0
		"$@" >/dev/null 2>&1 || status=$?
		[ "$status" != 0 ] || return 0
		[ "$status" != 99 ] || fail "no hope for: $what"
		[ "$SECONDS" -lt "$until" ] || fail "waited in vain for: $what"
		sleep 0.05
	done
}

# equal WHAT GOT WANTED
equal() { [ "$2" = "$3" ] || fail "$1: got \"$2\", wanted \"$3\""; }

# refused STATUS WORDS COMMAND...: it must fail with that status and say these words (an extended regular expression).
refused() {
	local status=$1 words=$2 r=0
	shift 2
	timeout 60 "$@" >"$TOP/refused" 2>&1 </dev/null || r=$?
	[ "$r" = "$status" ] || fail "$*: status $r instead of $status: $(tail -n 3 "$TOP/refused")"
	grep -qE -- "$words" "$TOP/refused" || fail "$*: no \"$words\" in: $(tail -n 3 "$TOP/refused")"
	say "refused as it should be: $(grep -m 1 -E -- "$words" "$TOP/refused")"
}

# must_fail COMMAND...: what it says is in $TOP/err. ("! command" would pass unnoticed below set -e.)
must_fail() {
	if "$@" 2>"$TOP/err" </dev/null; then
		fail "$*: was not refused"
	fi
}

# field JSON-KEY: of the object on standard input.
field() {
	python3 -c 'import json, sys
v = json.load(sys.stdin)[sys.argv[1]]
print(v if isinstance(v, str) else json.dumps(v))' "$1"
}

need_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
	[ -c /dev/fuse ] || skip "needs /dev/fuse"
	command -v crun >/dev/null || skip "needs crun"
}

make_wrapper() {
	mkdir -p "$TOP/bin"
	# The program itself, not libtool's script before it: that costs a few milliseconds for each call.
	if [ -x "$BERTH_BUILD/.libs/berth" ]; then
		printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=%s %s "$@"\n' "$BERTH_BUILD/.libs" "$BERTH_BUILD/.libs/berth" \
			>"$TOP/bin/berth"
	else
		printf '#!/bin/sh\nexec %s "$@"\n' "$BERTH_BUILD/berth" >"$TOP/bin/berth"
	fi
	chmod 755 "$TOP/bin/berth"
	export PATH=$TOP/bin:$PATH
}

healthy() { curl -sf --max-time 5 --unix-socket "$STATE/run/api.sock" http://x/health; }

daemon_is_up() {
	kill -0 "$DAEMON" 2>/dev/null || return 99
	healthy
}

# run_daemon ARGUMENTS...: berthd in the foreground, as every test of this file runs it.
run_daemon() {
	BERTHD_NETWORK_MODE=${NETWORK:-none} exec "$BERTH_BUILD/berthd" --set "daemon.state-dir=$STATE" --set "daemon.agent=$BERTH_AGENT" \
		--set sandbox.max=16 --set "sandbox.ids-first=$IDS_FIRST" --set sandbox.workspace=1G \
		--set "mount.takeover=${TAKEOVER:-0}" "$@"
}

# start_daemon [ARGUMENTS...]: returns when it answers.
start_daemon() {
	run_daemon "$@" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	wait_for 60 "berthd to answer" daemon_is_up
}

daemon_is_gone() { ! kill -0 "$DAEMON" 2>/dev/null; }

# stop_daemon [SIGNAL]: returns when it has ended. Sandboxes go on.
stop_daemon() {
	local status=0
	[ -n "$DAEMON" ] || return 0
	kill "-${1:-TERM}" "$DAEMON" 2>/dev/null || :
	wait_for 60 "berthd to end" daemon_is_gone
	wait "$DAEMON" 2>/dev/null || status=$?
	DAEMON=
	if [ "${1:-TERM}" = TERM ] && [ "$status" != 0 ]; then
		fail "berthd ended with status $status: $(tail -n 5 "$LOG")"
	fi
}

template_key() {
	cat "$1" "$SRC/host/priv/finish.c" /etc/os-release | sha256sum | cut -c1-12
}

# A root that builds in a second: busybox alone.
mini_tar() {
	local root=$TOP/mini
	mkdir -p "$root/bin" "$root/usr/bin"
	cp "$(command -v busybox)" "$root/bin/busybox"
	local name
	for name in $("$root/bin/busybox" --list); do
		[ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"
	done
	tar -C "$root" -cf "$1" .
	rm -rf "$root"
}

build_template() {
	local name=$1 started=$SECONDS
	say "building template $name, once for all tests"
	if [ "$name" = mini ]; then
		file -L "$(command -v busybox)" 2>/dev/null | grep -q "dynamically" && skip "needs a static busybox"
		mini_tar "$TOP/mini.tar"
		berth template build mini --tar "$TOP/mini.tar" >"$TOP/build.log" ||
			fail "template: $(tail -n 5 "$TOP/build.log")"
	else
		berth template build "$name" --packages "$2" >"$TOP/build.log" ||
			fail "template: $(tail -n 5 "$TOP/build.log")"
	fi
	say "template $name built in $((SECONDS - started)) s"
}

# need_faults: from now on $TOP/fail says which calls of the daemon's disk fail, and how (tests/lib/fail-io.c): for start_faulty.
need_faults() {
	command -v gcc >/dev/null || skip "needs gcc"
	gcc -O1 -shared -fPIC -o "$TOP/fail-io.so" "$SRC/tests/lib/fail-io.c" -ldl
	chmod 755 "$TOP/fail-io.so"
}
start_faulty() { LD_PRELOAD=$TOP/fail-io.so FAIL_IO=$TOP/fail start_daemon "$@"; }

# need_template NAME [LIST]: call it before start_daemon. Building takes minutes, so a copy is kept outside of the tree; tests
# get it by hard links, since nobody writes into a template.
need_template() {
	local name=$1 list=${2:-$SRC/templates/$1.list} key dir
	need_root
	if [ "$name" = mini ]; then
		command -v busybox >/dev/null || skip "needs busybox"
		key=$(template_key "$(command -v busybox)")
	else
		command -v mmdebstrap >/dev/null || skip "needs mmdebstrap"
		key=$(template_key "$list")
	fi
	dir=$BERTH_CACHE/$name-$key
	mkdir -p "$STATE/templates" "$BERTH_CACHE"
	chmod 755 "$STATE"
	chmod 700 "$BERTH_CACHE"
	if [ ! -d "$dir" ]; then
		start_daemon
		build_template "$name" "$list"
		stop_daemon
		# Other trees of this machine may have templates of their own: only what is old goes.
		find "$BERTH_CACHE" -mindepth 1 -maxdepth 1 -name "${name}[-.]*" -mtime +14 -exec rm -rf {} +
		cp -a "$STATE/templates/$name" "$BERTH_CACHE/$name.$$"
		mv -T "$BERTH_CACHE/$name.$$" "$dir" 2>/dev/null || rm -rf "${BERTH_CACHE:?}/$name.$$" # another was first
		return
	fi
	cp -al "$dir" "$STATE/templates/$name" 2>/dev/null || {
		rm -rf "${STATE:?}/templates/$name"
		cp -a --reflink=auto "$dir" "$STATE/templates/$name"
	}
}

# --- the end ---------------------------------------------------------------------------------------------------------

groups_of_state() {
	local name tree
	name=$(printf 'berth-%x-%x' "$(stat -c %d "$STATE")" "$(stat -c %i "$STATE")") || return 0
	for tree in /sys/fs/cgroup /sys/fs/cgroup/*; do
		[ -d "$tree/$name" ] && echo "$tree/$name"
	done
	return 0
}

processes_of_ids() {
	local dir uid
	for dir in /proc/[0-9]*; do
		uid=$(stat -c %u "$dir" 2>/dev/null) || continue
		if [ "$uid" -ge "$IDS_FIRST" ] && [ "$uid" -lt $((IDS_FIRST + IDS_COUNT * 65536)) ]; then
			grep -q '^State:.Z' "$dir/status" 2>/dev/null || echo "${dir#/proc/}"
		fi
	done
	return 0
}

# Processes of this state directory: the daemon's own, its keeper, its notifier.
processes_of_state() {
	local dir
	for dir in /proc/[0-9]*; do
		grep -aqE "^berth-broker.--state=$STATE|daemon.state-dir=$STATE" "$dir/cmdline" 2>/dev/null || continue
		grep -q '^State:.Z' "$dir/status" 2>/dev/null || echo "${dir#/proc/} $(cat "$dir/comm" 2>/dev/null)"
	done
	return 0
}

end_keeper() {
	local pid
	pid=$(cat "$STATE/keeper/pid" 2>/dev/null) && kill "$pid" 2>/dev/null
	return 0
}

# Whatever of this state directory is still in the kernel: mounts, loop devices, groups with members, processes, networks.
left_behind() {
	local g
	awk -v s="$STATE" 'index($5, s "/") == 1 || $5 == s { print "mount " $5 }' /proc/self/mountinfo
	losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v s="$STATE/" 'index($2, s) == 1 { print "loop device " $0 }'
	for g in $(groups_of_state); do
		find "$g" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sed 's/^/group /'
	done
	processes_of_ids | sed 's/^/process /'
	processes_of_state | sed 's/^/process /'
	if declare -F net_left >/dev/null; then net_left; fi
}

force_clean() {
	local g m dev pid
	for g in $(groups_of_state); do
		find "$g" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | while read -r pid; do
			kill -9 "$pid" 2>/dev/null || :
		done
	done
	for pid in $(processes_of_ids) $(processes_of_state | cut -d' ' -f1); do
		kill -9 "$pid" 2>/dev/null || :
	done
	awk -v s="$STATE" 'index($5, s "/") == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r m; do
		umount -l "$m" 2>/dev/null || :
	done
	for dev in $(losetup -n -O NAME,BACK-FILE 2>/dev/null | awk -v s="$STATE/" 'index($2, s) == 1 { print $1 }'); do
		losetup -d "$dev" 2>/dev/null || :
	done
	for g in $(groups_of_state); do
		find "$g" -depth -type d -exec rmdir {} \; 2>/dev/null || :
	done
}

end_sandboxes() {
	local id
	for id in $(timeout 20 berth ps --json 2>/dev/null | python3 -c 'import json,sys
for s in json.load(sys.stdin): print(s["id"])' 2>/dev/null); do
		timeout 60 berth kill "$id" --grace 0 >/dev/null 2>&1 || :
	done
}

nothing_left() { [ -z "$(left_behind)" ]; }

cleanup() {
	local status=$? until left=
	trap - EXIT ERR
	set +e
	[ "$status" = 0 ] || [ -n "$SAID" ] || say "FAILED: $STOPPED" >&2
	if [ -n "$DAEMON" ] && kill -0 "$DAEMON" 2>/dev/null; then
		end_sandboxes
		kill "$DAEMON" 2>/dev/null
		until=$((SECONDS + 30))
		while kill -0 "$DAEMON" 2>/dev/null && [ "$SECONDS" -lt "$until" ]; do sleep 0.05; done
		if kill -0 "$DAEMON" 2>/dev/null; then
			say "berthd does not end: killed"
			kill -9 "$DAEMON"
			[ "$status" = 0 ] && status=1
		fi
		wait "$DAEMON" 2>/dev/null
	fi
	[ "${TAKEOVER:-0}" = 0 ] || end_keeper
	# The privileged process ends just after the daemon.
	until=$((SECONDS + 5))
	while ! nothing_left && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
	left=$(left_behind)
	if [ -n "$left" ]; then
		say "left behind: $(echo "$left" | head -n 8 | tr '\n' ';')"
		[ "$status" = 0 ] && status=1
	fi
	if [ "$status" != 0 ] && [ "$status" != 77 ] && [ -s "$LOG" ]; then
		say "the end of berthd's log:"
		tail -n 25 "$LOG"
	fi
	force_clean
	if declare -F at_end >/dev/null; then at_end; fi
	[ "${KEEP:-}" = 1 ] && say "kept: $TOP" || rm -rf --one-file-system "$TOP"
	exit "$status"
}
trap cleanup EXIT
set -E
SAID='' STOPPED=''
trap 'STOPPED="line $LINENO: $BASH_COMMAND"' ERR # for an end of which nobody says why
trap 'exit 130' INT TERM HUP
make_wrapper
export BERTH_BUILD MNT TOP STATE PYTHONPATH=$SRC/tests/lib PYTHONDONTWRITEBYTECODE=1
