#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A sandbox that takes all it can get: processes, memory, events, blocks, inodes, output. Meanwhile the daemon answers and a
# neighbour works: commands, and what they wrote seen through the mount. BERTH_LONG=1: a minute of each.
# timeout: 900
. "$(dirname "$0")/../lib/flow.sh"
need_template base
each=3
[ -z "${BERTH_LONG:-}" ] || each=60
start_daemon
neighbour=$(berth create --template base --workspace 64M)
ticks=0

resident_mb() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$DAEMON/status"; }

# An answer within ten seconds, whatever goes on next door; and it is what the mount shows.
neighbour_works() {
	ticks=$((ticks + 1))
	timeout 10 berth run "$neighbour" -- sh -c "echo $ticks >tick; cat tick" </dev/null >"$TOP/tick" 2>"$TOP/tick.err" ||
		fail "$1: the neighbour does not answer: $(cat "$TOP/tick.err")"
	equal "$1: the neighbour's answer" "$(cat "$TOP/tick")" "$ticks"
	equal "$1: the neighbour's file on the mount" "$(timeout 10 cat "$MNT/$neighbour/tick")" "$ticks"
	timeout 10 berth ls "$neighbour" >/dev/null || fail "$1: no listing of the neighbour"
	healthy >/dev/null || fail "$1: berthd is not healthy"
}

# flood NAME COMMAND...: in a sandbox of its own, that is then ended; RSS of the daemon stays in bounds.
flood() {
	local name=$1 before until n=0
	shift
	id=$(berth create --template base --memory 192M --pids 128 --workspace 64M)
	before=$(resident_mb)
	local begun=$SECONDS
	timeout 20 berth run "$id" --detach --id flood -- "$@" >/dev/null </dev/null
	until=$((SECONDS + each))
	while [ "$SECONDS" -lt "$until" ]; do
		neighbour_works "$name"
		n=$((n + 1))
	done
	counted=$(timeout 10 berth run "$id" -- cat /tmp/count </dev/null 2>/dev/null || :)
	# What is beyond its quota is not kept, and the end says so.
	timeout 60 berth kill "$id" --grace 0 >/dev/null 2>"$TOP/killed" || grep -q quota-exceeded "$TOP/killed" ||
		fail "$name: the sandbox cannot be ended: $(cat "$TOP/killed")"
	neighbour_works "$name, after it"
	say "$((SECONDS - begun)) s, $name: the neighbour worked $n times, berthd $before to $(resident_mb) MB${counted:+, $counted}"
	python3 -c 'import sys; from berthtest import has_sanitizers
sys.exit(0 if has_sanitizers() or int(sys.argv[1]) < 400 else 1)' "$(resident_mb)" || fail "$name: berthd has $(resident_mb) MB"
	berth rm "$id" >/dev/null
}

flood "fork bomb" bash -c 'bomb() { bomb | bomb & }; while :; do bomb; sleep 0.1; done'
flood "threads" python3 -c '
import threading, time
while True:
    try:
        threading.Thread(target=time.sleep, args=(100,)).start()
    except RuntimeError:
        time.sleep(0.01)'
flood "memory bomb" bash -c 'while :; do python3 -c "
x = []
while True: x.append(bytearray(1 << 20))"; done'
flood "memory in /tmp and /dev/shm" bash -c 'while :; do head -c 1G /dev/zero >/tmp/f; head -c 1G /dev/zero >/dev/shm/f; rm -f /tmp/f /dev/shm/f; done'
flood "blocks" bash -c 'while :; do head -c 200M /dev/urandom >f 2>/dev/null; head -c 100M /dev/zero >g 2>/dev/null; rm -f f g; done'
flood "inodes" python3 -c '
import os, shutil
while True:
    os.makedirs("d", exist_ok=True)
    try:
        for i in range(1000000):
            os.close(os.open(f"d/{i}", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pass
    shutil.rmtree("d")'
flood "directories in directories" python3 -c '
import os
try:
    while True:
        os.mkdir("d")
        os.chdir("d")
except OSError:
    pass
while True:
    os.utime(".")'
flood "output to nobody" bash -c 'yes & yes >&2 & yes "$(head -c 100000 /dev/zero | tr "\0" x)"'

# Output that somebody asked for and does not read.
id=$(berth create --template base --memory 192M)
readers=()
for i in 1 2 3 4; do
	mkfifo "$TOP/slow$i"
	berth run "$id" -- yes </dev/null >"$TOP/slow$i" 2>/dev/null &
	readers+=($!)
	eval "exec $((20 + i))<\"\$TOP/slow$i\""
done
berth run "$id" -- yes </dev/null >/dev/null 2>&1 &
readers+=($!)
until=$((SECONDS + each))
while [ "$SECONDS" -lt "$until" ]; do neighbour_works "output to slow readers"; done
kill -9 "${readers[@]}" 2>/dev/null || :
timeout 60 berth kill "$id" --grace 0 >/dev/null
exec 21<&- 22<&- 23<&- 24<&-
wait "${readers[@]}" 2>/dev/null || :
say "output to slow readers: berthd $(resident_mb) MB"

# Events: two processes that do nothing but make them. How many come about is said, not asserted.
flood "events" perl -e '
use Time::HiRes qw(time);
my $me = fork() ? 0 : 1;
my @names = map { "e$me-$_" } 0 .. 63;
my (@fds, $n);
for (@names) { open(my $f, "+>", $_) or die; push @fds, $f; }
my $begun = time;
while (1) {
	for my $f (@fds) {
		for (1 .. 8) { sysseek($f, 0, 0); syswrite($f, "x"); chmod(0600, $f); utime(undef, undef, $f); }
	}
	rename($names[0], "$names[0]r"); rename("$names[0]r", $names[0]);
	$n += 64 * 24 + 4;
	if ($me && $n % 61600 == 0) {
		open(my $c, ">", "/tmp/count");
		printf $c "%.1f million events a minute", $n / (time - $begun) * 60 * 2 / 1e6;
	}
}'
berth kill "$neighbour" >/dev/null
