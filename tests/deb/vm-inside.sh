#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# In a whole system with systemd as its first process and control groups of version 2 alone: see vm.sh. A service runs this,
# with its output on the console. $1 is a directory with packages (old/, new/), a template (mini.tar) and the name of the release.
set -u -o pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
GIVEN=$1 STATE=/var/lib/berth MNT=/var/lib/berth/mnt
CURSOR=/run/berth-test.cursor
say() { echo "vm: [$(cut -d' ' -f1 /proc/uptime)] $*"; }
fail() {
	say "FAILED: $*"
	journalctl -b --no-pager -o short-monotonic -u berthd | tail -n 40 | sed 's/^/vm:   | /'
	[ ! -s /tmp/out ] || tail -n 20 /tmp/out | sed 's/^/vm:   > /'
	say "end with 1"
	systemctl poweroff --force --force
	exit 1
}
equal() { [ "$2" = "$3" ] || fail "$1: got \"$2\", wanted \"$3\""; }
# wait_for SECONDS WHAT COMMAND...
wait_for() {
	local until=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || fail "waited in vain for: $what"
		sleep 0.1
	done
}
must() { "$@" >/tmp/out 2>&1 </dev/null || fail "status $?: $*"; }
# number KEY: of the JSON on standard input.
number() { grep -o "\"$1\": *[0-9]*" | head -n 1 | grep -o '[0-9]*$'; }
word() { grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | sed 's/.*: *"//; s/"$//'; }
state() { systemctl show -p ActiveState --value berthd; }
main_pid() { systemctl show -p MainPID --value berthd; }
restarts() { systemctl show -p NRestarts --value berthd; }
# What the daemon's unit said since the last time this was called, but for what is expected of it.
journal_new() { journalctl -q --no-pager -o cat -u berthd --cursor-file="$CURSOR"; }
group() { echo /sys/fs/cgroup/berth.slice/berth-*/"$1"; }
as_olga() { su -l olga -c "$*"; }
is_frozen() { grep -q 'frozen 1' "$1/cgroup.events"; }

say "$(. /etc/os-release; echo "$PRETTY_NAME"), Linux $(uname -r), $(systemctl --version | head -n 1), $(cat /proc/1/comm) is the first process"
equal "the first process" "$(cat /proc/1/comm)" systemd
equal "control groups" "$(stat -f -c %T /sys/fs/cgroup)" cgroup2fs
# Linux 6.9 delivers unanswered requests again.
if [ "$(printf '6.9\n%s\n' "$(uname -r)" | sort -V | head -n 1)" = 6.9 ]; then SURVIVES=yes; else SURVIVES=no; fi
say "a mount should survive its daemon here: $SURVIVES"

# --- installed ---
useradd -m -s /bin/bash olga
began=$SECONDS
apt-get -q -y --no-install-recommends install "$GIVEN"/old/*.deb >/tmp/out 2>&1 || fail "apt-get install"
say "installed in $((SECONDS - began)) s"
equal "the unit is switched on" "$(systemctl is-enabled berthd)" enabled
wait_for 60 "berthd to be active" test "$(state)" = active
equal "the unit" "$(state)" active
usermod -a -G berth olga
equal "the limit of the sysctl file" "$(sysctl -n fs.inotify.max_user_instances)" 1024
berth template build mini --tar "$GIVEN/mini.tar" >/tmp/out 2>&1 || fail "template"
sed -i 's/^; workspace = .*/workspace = 256M/; s/^; memory = .*/memory = 128M/' /etc/berth/berthd.conf
must systemctl restart berthd
equal "the unit" "$(state)" active

# --- sandboxes, in their slice, and the mount from outside ---
a=$(berth create --template mini --name one) || fail "create"
b=$(berth create --template mini --name two --pids 64) || fail "create"
equal "a command" "$(berth run one -- sh -c 'echo from inside >f; echo hello')" hello
[ -d "$(group "$a")" ] || fail "no group of the sandbox in berth.slice: $(find /sys/fs/cgroup -name "$a")"
equal "a process of it" "$(find /sys/fs/cgroup -path '*berthd.service*' -name "$a")" ""
equal "its file, by somebody who logged in" "$(as_olga cat "$MNT/$a/f")" "from inside"
as_olga ls "$MNT/$a" "$MNT/by-name/one/" >/tmp/out 2>&1 || fail "ls of the mount"
echo "from outside" >"$MNT/$a/g" || fail "writing to the mount"
equal "seen inside" "$(berth run one -- cat g)" "from outside"
equal "the API, by a member of the group" "$(as_olga berth run one -- echo here)" here
useradd -m stranger
if su -l stranger -c "ls $MNT" >/tmp/out 2>&1; then fail "a stranger reads the mount"; fi
grep -q "^/proc\| $MNT " /proc/self/mountinfo || fail "the mount is not in this namespace"
equal "mount namespace of the daemon" "$(readlink "/proc/$(main_pid)/ns/mnt")" "$(readlink /proc/1/ns/mnt)"
# Where the processes are: daemon and its helpers in the unit, no sandbox there.
while read -r pid; do
	printf '%s:%s ' "$(cat "/proc/$pid/comm")" "$(cat "/proc/$pid/oom_score_adj")"
done </sys/fs/cgroup/system.slice/berthd.service/cgroup.procs >/tmp/members
say "in the unit's group: $(cat /tmp/members)"
for name in berthd berth-priv berth-notify; do
	grep -q "$name" /tmp/members || fail "$name is not in the unit's group"
done
grep -qx "$(cat $STATE/keeper/pid)" /sys/fs/cgroup/berth.slice/berth-*-keeper/cgroup.procs || fail "the keeper is not in its group"
equal "the keeper's score" "$(cat "/proc/$(cat $STATE/keeper/pid)/oom_score_adj")" -500
berth info --host >/tmp/host || fail "info --host"
if [ $SURVIVES = yes ]; then wanted=on; else wanted=missing; fi
grep -qE "^  takeover +$wanted " /tmp/host || fail "takeover: $(grep takeover /tmp/host)"
for part in memory cpu processes; do grep -qE "^  $part +on +control groups v2" /tmp/host || fail "$part: $(grep "$part" /tmp/host)"; done
for part in crun user-namespaces idmapped-mounts seccomp-sandbox seccomp-daemon; do
	grep -qE "^  $part +on " /tmp/host || fail "$part: $(grep "$part" /tmp/host)"
done
grep -E 'crun|landlock|takeover|fanotify|inotify' /tmp/host | sed 's/^/vm:   /'
say "sandboxes work"

# --- the floor of the out-of-memory score ---
equal "score inside" "$(berth run one -- cat /proc/self/oom_score_adj)" 500
for how in "--user root" ""; do
	# shellcheck disable=SC2086
	if berth run one $how -- sh -c 'echo 0 >/proc/self/oom_score_adj' >/tmp/out 2>&1; then
		fail "a sandbox ($how) lowers its out-of-memory score"
	fi
	# shellcheck disable=SC2086
	equal "score after that" "$(berth run one $how -- sh -c 'echo 0 >/proc/self/oom_score_adj; cat /proc/self/oom_score_adj' 2>/dev/null)" 500
done
agent=$(head -n 1 "$(group "$a")/cgroup.procs")
equal "the agent's score" "$(cat "/proc/$agent/oom_score_adj")" 500
say "no process of a sandbox can lower its out-of-memory score, root's neither"

# --- limits ---
stats=$(berth stats one --json) || fail "stats"
equal "limit of memory" "$(echo "$stats" | number memory_limit_b)" $((128 << 20))
[ "$(echo "$stats" | number memory_b)" -gt 0 ] && [ "$(echo "$stats" | number cpu_ns)" -gt 0 ] || fail "stats: $stats"
[ "$(echo "$stats" | number pids)" -gt 0 ] || fail "stats: $stats"
equal "whose pressure" "$(echo "$stats" | word of)" sandbox
berth run two -- sh -c 'i=0; while [ $i -lt 200 ]; do sleep 300 & i=$((i+1)); done; wait' >/tmp/out 2>&1 &
bomb=$!
wait_for 60 "the limit of processes" grep -q 'max [1-9]' "$(group "$b")/pids.events"
[ "$(cat "$(group "$b")/pids.current")" -le 64 ] || fail "more processes than allowed"
equal "the other one works" "$(berth run one -- echo fine)" fine
berth kill two --grace 0 || fail "kill of a full sandbox"
wait $bomb
[ ! -d "$(group "$b")" ] || fail "its group is left"
s=0
berth run one -- sh -c 'tail /dev/zero' >/tmp/out 2>&1 || s=$?
equal "status of one that memory was out for" "$s" 137
grep -q "memory was out" /tmp/out || fail "want of memory is not said"
[ "$(berth stats one --json | number oom_kills)" -ge 1 ] || fail "oom_kills"
equal "the sandbox goes on" "$(berth run one -- echo fine)" fine
say "limits hold: processes, memory"

# --- systemd keeps away from groups that it did not make ---
must systemctl set-property --runtime berth.slice MemoryMax=700M
equal "a limit for all" "$(cat /sys/fs/cgroup/berth.slice/memory.max)" $((700 << 20))
for order in daemon-reload daemon-reexec "stop berth.slice"; do
	# shellcheck disable=SC2086
	must systemctl $order
	equal "a command after $order" "$(berth run one -- echo fine)" fine
	c=$(berth create --template mini) || fail "create after $order"
	equal "its limit after $order" "$(cat "$(group "$c")/memory.max" "$(group "$c")/pids.max")" "$((128 << 20))
1024"
	must berth kill "$c" --grace 0
	must berth rm "$c"
done
equal "berthd after that" "$(state)" active
say "reload, reexec, stop of the slice: nothing ends, limits hold"

# --- pause ---
berth run one --detach --id counter -- sh -c 'n=0; while :; do n=$((n+1)); echo $n >next; mv next count; sleep 0.1; done' >/dev/null || fail "run"
wait_for 30 "the counter" test -s "$MNT/$a/count"
for _ in 1 2 3; do
	must berth pause one
	must berth resume one
done
must berth pause one
journalctl -q --no-pager -o cat -u berthd | grep -o 'status=200 us=.*/\(pause\|resume\)' | sed 's/^/vm:   /'
is_frozen "$(group "$a")" || fail "the group is not frozen"
count=$(cat "$MNT/$a/count")
if echo x 2>/dev/null >"$MNT/$a/x"; then fail "a paused sandbox is written to"; fi
must systemctl restart berthd
is_frozen "$(group "$a")" || fail "not frozen after a restart"
equal "still" "$(cat "$MNT/$a/count")" "$count"
must berth resume one
later() { [ "$(cat "$MNT/$a/count" 2>/dev/null || echo 0)" -gt $((count + $1)) ]; }
wait_for 30 "the counter to go on" later 0
say "paused, restarted, resumed"

# --- the daemon goes, sandboxes and the mount stay ---
# A reader that opened a file and a shell that stands in the mount, asked after each death of the daemon.
berth run one -- sh -c 'echo held >held; echo more >more' || fail "run"
stand() {
	mkfifo /tmp/ask /tmp/tell
	su -l olga -c "cd $MNT/$a && exec 7<held && while read -r what; do \$what; done" </tmp/ask >/tmp/tell 2>&1 &
	standing=$!
	exec 8>/tmp/ask 9</tmp/tell
}
ask() { echo "$1" >&8; IFS= read -r -t 60 -u 9 answer || answer="(no answer)"; }
leave() { exec 8>&- 9<&-; wait $standing; rm -f /tmp/ask /tmp/tell; }
# after WHAT GOES-ON: everything that has to hold once the daemon is back.
after() {
	wait_for 60 "the unit to be active after $1" test_active
	wait_for 60 "berthd to answer" berth info
	equal "the agent after $1" "$(head -n 1 "$(group "$a")/cgroup.procs")" "$agent"
	count=$(cat "$MNT/$a/count") || fail "the mount after $1"
	wait_for 30 "the counter to go on after $1" later 0
	equal "a command after $1" "$(berth run one -- echo again)" again
	equal "the mount, anew, after $1" "$(as_olga cat "$MNT/$a/held")" held
	equal "mounts after $1" "$(grep -c " $MNT " /proc/self/mountinfo)" 1
	ask "cat more"
	if [ "$2" = yes ]; then
		equal "who stands in the mount after $1" "$answer" more
	else
		case $answer in *"not connected"*) ;; *) fail "who stood in the mount after $1: $answer" ;; esac
	fi
	leave
}
test_more_restarts() { [ "$(restarts)" -gt "$n" ] && test_active; }
test_active() { [ "$(state)" = active ] && [ "$(systemctl show -p SubState --value berthd)" = running ]; }
[ -z "$(journal_new >/tmp/journal)" ]
for how in restart KILL; do
	stand
	ask "cat more"
	equal "who stands in the mount" "$answer" more
	began=$(date +%s%N) n=$(restarts)
	if [ $how = restart ]; then must systemctl restart berthd; else
		must systemctl kill -s KILL --kill-who=main berthd
		wait_for 60 "another start" test_more_restarts
	fi
	wait_for 60 "the mount" as_olga "cat $MNT/$a/more"
	say "$how: the mount answers after $((($(date +%s%N) - began) / 1000000)) ms"
	after "$how" $SURVIVES
done

# --- an order to stop: sandboxes go on, the mount waits and is then taken away ---
keeper=$(cat $STATE/keeper/pid 2>/dev/null)
stand
ask "cat more"
must systemctl stop berthd
equal "the unit" "$(state)" inactive
is_gone() { ! grep -q " $MNT" /proc/self/mountinfo; }
no_keeper() { [ -z "$keeper" ] || [ ! -d "/proc/$keeper" ]; }
[ $SURVIVES = yes ] || is_gone || fail "the mount is there after a stop: nobody can take it over"
[ -d "/proc/$agent" ] || fail "the sandbox was ended with the daemon"
began=$SECONDS
wait_for 60 "the mount to be taken away" is_gone
wait_for 60 "the keeper to end" no_keeper
say "stopped: the mount was taken away after $((SECONDS - began)) s"
equal "left in the unit's group" "$(cat /sys/fs/cgroup/system.slice/berthd.service/cgroup.procs 2>/dev/null)" ""
must systemctl start berthd
after "a stop and a start" no

# --- a newer package over a daemon that runs ---
stand
ask "cat more"
pid=$(main_pid)
apt-get -q -y --no-install-recommends install "$GIVEN"/new/*.deb >/tmp/out 2>&1 || fail "upgrade"
[ "$(main_pid)" != "$pid" ] || fail "the old daemon runs on"
after "an upgrade" $SURVIVES
say "upgraded to $(dpkg-query -W -f '${Version}' berth)"

# --- the journal: nothing that frightens without a cause ---
journalctl -q --no-pager -o cat -b -u berthd -u berth.slice -u systemd-udevd >/tmp/journal
sed 's/^/vm:   journal: /' /tmp/journal
# (One that was killed leaves its helpers for a moment.)
if grep -E 'left-over process [0-9]+ \(berth-keeper\)' /tmp/journal; then fail "systemd finds the keeper left over"; fi

# --- removed, purged ---
apt-get -q -y remove berth >/tmp/out 2>&1 || fail "remove"
wait_for 30 "the sandbox to end" test ! -d "/proc/$agent"
wait_for 30 "the mount to go" is_gone
if pgrep -l berth; then fail "processes are left"; fi
[ -d $STATE/store/ws/"$a" ] || fail "the workspace is gone after remove"
if systemctl -q is-active berthd; then fail "the unit is active after remove"; fi
apt-get -q -y purge berth >/tmp/out 2>&1 || fail "purge"
for f in $STATE /etc/berth /sys/fs/cgroup/system.slice/berthd.service; do [ ! -e "$f" ] || fail "left after purge: $f"; done
equal "groups left" "$(find /sys/fs/cgroup -type d -path '*berth*' ! -name 'berth-test.service')" ""
equal "loop devices left" "$(losetup -a)" ""
equal "failed units" "$(systemctl --failed --no-legend --plain | grep -i berth)" ""
if dmesg | grep -E 'BUG:|WARNING:|Oops|hung task|blocked for more'; then fail "the kernel complains"; fi
say "removed and purged: nothing is left"
say "passed after $SECONDS s"
say "end with 0"
systemctl poweroff --force --force
