#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ways out of a sandbox that others have found, each tried from inside: none may work. Then each again with a daemon (or an
# agent) that was built without the one fence it is about: there it must work, or the test would prove nothing.
# timeout: 420
. "$(dirname "$0")/../lib/flow.sh"
need_template base
[ -x "$BERTH_BUILD/berthd-weak" ] || skip "needs berthd-weak (make everything)"
for product in berthd berth-agent; do
	! grep -aq BERTH_WEAK "$BERTH_BUILD/$product" || fail "$product can be weakened"
done
grep -aq BERTH_WEAK "$BERTH_BUILD/berthd-weak" || fail "berthd-weak is not what it should be"

# A device node in the template, as an image may bring one.
mknod -m 666 "$STATE/templates/base/root/zero-node" c 1 5
MARKER=$TOP/marker
echo marker >"$MARKER"
NAME=berth-escape-$$
python3 - "$NAME" "$TOP/port" <<'PY' &
import socket, sys
a = socket.socket(socket.AF_UNIX)
a.bind(b"\0" + sys.argv[1].encode())
a.listen(8)
t = socket.socket()
t.bind(("127.0.0.1", 0))
t.listen(8)
with open(sys.argv[2] + ".tmp", "w") as f:
    f.write(str(t.getsockname()[1]))
import os
os.rename(sys.argv[2] + ".tmp", sys.argv[2])
os.read(os.open(sys.argv[2] + ".end", os.O_RDONLY), 1) # a FIFO that is opened for writing at the end
PY
LISTENER=$!
mkfifo "$TOP/port.end"
wait_for 10 "the services of the host" test -e "$TOP/port"
PORT=$(cat "$TOP/port")
end_all() { kill "$LISTENER" 2>/dev/null; cleanup; }
trap end_all EXIT

make_sandbox() {
	id=$(berth create --template base --pids 64 --memory 128M)
	berth cp "$SRC/tests/lib/escape.py" "$id:escape.py"
}

# try WHAT: what was achieved is in $TOP/tried.
try() {
	local user=root
	local -a more=()
	case $1 in
	leak) more=("$MARKER") ;;
	net) more=("$NAME" "$PORT") ;;
	devices) more=(/zero-node) ;;
	limits) more=(64 128 8192 "$SCORE") user=user ;;
	setuid)
		more=({/workspace,/tmp,/run/open,/dev/shm}/id) user=user
		berth run "$id" --user root -- sh -c 'mkdir -m 777 -p /run/open; for d in /workspace /tmp /run/open /dev/shm; do
			cp /usr/bin/id $d/id; chown 0:0 $d/id; chmod 6755 $d/id; done' </dev/null
		;;
	esac
	timeout 60 berth run "$id" --user "$user" -- python3 /workspace/escape.py "$1" "${more[@]}" </dev/null \
		>"$TOP/tried" 2>"$TOP/tried.err" || :
	[ "$(tail -n 1 "$TOP/tried")" = "done" ] || fail "$1 did not come to its end: $(tail -n 3 "$TOP/tried" "$TOP/tried.err")"
}

# Users as somebody may write them who hopes to be taken for root: neither run nor taken for a number.
try_users() {
	local who got
	: >"$TOP/tried"
	for who in 0x0 00x +0 -0 ' 0' '0 ' '0,1000' 0:0 4294967296 18446744073709551616 4294967295 -1 $'0\n' '0;' root: ../0; do
		got=$(timeout 20 berth run "$id" --user "$who" -- id -u </dev/null 2>/dev/null) || continue
		echo "achieved: to be user $got by \"$who\"" >>"$TOP/tried"
	done
}

# A directory that is a link at every other moment, while the host writes and reads through it.
try_races() {
	local i pid
	: >"$TOP/tried"
	berth run "$id" --user root -- sh -c 'mkdir -m 777 /srv/secret; echo secret >/srv/secret/f
		rm -rf race; mkdir -p -m 777 race/d; echo plain >race/d/f; ln -s /srv/secret race/l' </dev/null
	berth run "$id" --user root --detach --id swapper -- python3 /workspace/escape.py swap /workspace/race/d /workspace/race/l >/dev/null
	echo mine >"$TOP/mine"
	for i in $(seq 40); do
		timeout 30 berth cp "$TOP/mine" "$id:race/d/w$i" >/dev/null 2>&1 || :
		timeout 30 sh -c 'echo mine >"$1"' sh "$MNT/$id/race/d/m$i" 2>/dev/null || :
		if timeout 30 berth cat "$id:race/d/f" 2>/dev/null | grep -q secret ||
			timeout 30 cat "$MNT/$id/race/d/f" 2>/dev/null | grep -q secret; then
			echo "achieved: to read outside of the workspace" >>"$TOP/tried"
		fi
	done
	berth signal "$id" swapper KILL >/dev/null
	berth run "$id" --user root -- sh -c 'ls /srv/secret' </dev/null | grep -v '^f$' |
		sed 's/^/achieved: to write outside of the workspace: /' >>"$TOP/tried" || :
}

achieved() { grep -c '^achieved' "$TOP/tried" || :; }

# Only a root with CAP_SYS_RESOURCE can say how low others may go.
SCORE=100
if [ $((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status) >> 24 & 1)) = 0 ]; then
	SCORE=-1 # which nobody inside may ever
	say "not tried: a lower score for the out-of-memory killer; root here has no CAP_SYS_RESOURCE"
fi
start_daemon
make_sandbox
before=$(sha256sum <"$STATE/agent")$(stat -c %Y "$STATE/agent")
for what in exe leak mask net setuid devices ids calls limits; do
	try "$what"
	[ "$(achieved)" = 0 ] || fail "$what: $(cat "$TOP/tried")"
	say "$what holds"
done
equal "the agent's program" "$(sha256sum <"$STATE/agent")$(stat -c %Y "$STATE/agent")" "$before"
try_users
[ "$(achieved)" = 0 ] || fail "users: $(cat "$TOP/tried")"
try_races
[ "$(achieved)" = 0 ] || fail "races: $(cat "$TOP/tried")"
berth run "$id" -- test -e race/d/f </dev/null || berth run "$id" -- test -e race/l/f </dev/null || fail "the race was none"
say "users and races hold"
berth kill "$id" --grace 0

# Images whose /dev, /proc, /sys lead elsewhere: either no sandbox, or one that is fenced in like any other.
root=$TOP/image
mkdir -p "$root"/{bin,etc,tmp,host}
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh cat ls id; do ln -s busybox "$root/bin/$name"; done
# image COMMAND...: an image that the command made evil; what was achieved is in $TOP/tried.
image() {
	rm -rf "${root:?}/dev" "$root/proc" "$root/sys" "$root/workspace" "$root/.berth"
	"$@"
	: >"$TOP/tried"
	tar -C "$root" -cf "$TOP/image.tar" .
	berth template build evil --replace --tar "$TOP/image.tar" >"$TOP/build" 2>&1 || { say "no such template: $*"; return 0; }
	if evil=$(timeout 60 berth create --template evil 2>"$TOP/err"); then
		timeout 60 berth run "$evil" --user root -- sh -c '
			[ -c /dev/null ] && [ "$(stat -L -c %t:%T /dev/null)" = 1:3 ] || echo "achieved: /dev/null is something else"
			[ ! -L /dev/console ] || echo "achieved: /dev/console is a link"
			[ "$(stat -f -c %t /dev/.)" = 1021994 ] || echo "achieved: the /dev of the image"
			[ "$(stat -f -c %t /proc/self/status)" = 9fa0 ] || echo "achieved: the /proc of the image"
			[ "$(stat -f -c %t /workspace/.)" = ef53 ] || echo "achieved: another /workspace"
			for f in /proc/keys /proc/interrupts; do [ ! -s $f ] && [ -z "$(head -c 9 $f 2>/dev/null)" ] || echo "achieved: read $f"; done
			for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /dev/kmsg /dev/mem; do
				(: >>$f) 2>/dev/null && case $(ls -ld $f) in -*) ;; *) echo "achieved: write to $f";; esac
			done' </dev/null >"$TOP/tried" 2>/dev/null || :
		berth kill "$evil" --grace 0
		[ "$(achieved)" != 0 ] || say "fenced in all the same: $*"
	else
		say "no sandbox: $* ($(tail -n 1 "$TOP/err" | cut -c1-90))"
	fi
	berth template rm evil >/dev/null
}
links_in_dev() { image sh -c "mkdir '$root/dev'; ln -s /proc/sys/kernel/core_pattern '$root/dev/null'; ln -s /proc/sysrq-trigger '$root/dev/console'"; }
links_in_proc() { image sh -c "mkdir '$root/proc' '$root/proc/self'; touch '$root/proc/self/status'; ln -s /proc/sysrq-trigger '$root/proc/keys'; ln -s .. '$root/proc/sys'"; }
fenced() { "$@"; [ "$(achieved)" = 0 ] || fail "$*: $(cat "$TOP/tried")"; }
pattern=$(cat /proc/sys/kernel/core_pattern)
fenced image ln -s /etc "$root/dev"
fenced image ln -s /tmp "$root/proc"
fenced image ln -s /proc "$root/sys"
fenced image ln -s ../../../../.. "$root/workspace"
fenced image ln -s /proc/self/root "$root/.berth"
fenced links_in_dev
fenced links_in_proc
equal "core_pattern" "$(cat /proc/sys/kernel/core_pattern)" "$pattern"
[ -c /dev/null ] || fail "the host's /dev/null"
stop_daemon

# --- and without the fence it does work ---

start_weak() {
	export BERTH_WEAK=$1
	real=$BERTH_BUILD
	mkdir -p "$TOP/weak"
	ln -sf "$real/berthd-weak" "$TOP/weak/berthd"
	BERTH_BUILD=$TOP/weak start_daemon
}

# without FENCES WHAT WORDS...: each of the words (an extended regular expression) is achieved when the fences are down.
without() {
	local fences=$1 what=$2 words
	shift 2
	start_weak "$fences"
	make_sandbox
	try "$what"
	for words in "$@"; do
		grep -qE "^achieved: $words" "$TOP/tried" ||
			fail "without $fences: no \"$words\", the test proves nothing: $(cat "$TOP/tried")"
	done
	say "without $fences: $(achieved) of $what, among them all of $#"
	berth kill "$id" --grace 0
	stop_daemon
}

# What the host has at all, and lets its root do.
having() {
	local prefix=$1 how=$2 path
	shift 2
	for path in "$@"; do
		python3 -c 'import os, sys
f = os.open(sys.argv[1], os.O_WRONLY if sys.argv[2] == "w" else os.O_RDONLY)
sys.exit(sys.argv[2] == "r" and not os.read(f, 64))' "$path" "$how" 2>/dev/null && echo "$prefix$path"
	done
	return 0
}
mapfile -t readable < <(having "read " r /proc/keys /proc/interrupts /proc/timer_list /proc/slabinfo /proc/vmallocinfo /proc/kpagecount)
mapfile -t writable < <(having "write to " w /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sysrq-trigger \
	/proc/sys/vm/drop_caches /proc/sys/kernel/panic /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/power/state)
mapfile -t nodes < <(having "open " o /dev/fuse /dev/kmsg /dev/loop-control)
kinds=("mount tmpfs" "mount proc" "mount sysfs" "mount cgroup2")
[ ! -d /sys/fs/cgroup/pids ] || kinds+=("mount cgroup")

without exe exe "write to /proc/1/exe" "write to /.berth/agent" "change /proc/1/exe" "change /.berth/agent"
without leak leak ".* leads to the host"
without mask mask "read /proc/interrupts" "list /sys/kernel"
without mask,userns mask "${readable[@]}"
without net net "connect to .*$NAME" "connect to .*127.0.0.1" "interfaces "
without setuid setuid "root's "{user,group}" by "{/workspace,/tmp,/dev/shm}
without devices devices "open the device node of the template"
without nodes,userns,caps devices "${nodes[@]}"
without userns,caps,calls devices "make a device node, "{/workspace,/tmp,/dev,}"/node "{1:5,7:0,8:0}
without ids ids "an id of the host"
without userns,mask ids "${writable[@]}"
without userns,caps,calls,mask ids "${kinds[@]}"
without calls calls add_key keyctl "a user namespace" "type into a terminal" "a socket of "
without pids limits "[0-9]+ processes"
without memory limits "more memory"
without files limits "more descriptors"
[ "$SCORE" = -1 ] || without score limits "to be spared"
start_weak dev
links_in_dev
grep -q "the /dev of the image" "$TOP/tried" || fail "without dev: the image's /dev was not had: $(cat "$TOP/tried")"
say "without dev: $(achieved), first $(head -n 1 "$TOP/tried")"
stop_daemon
start_weak proc
links_in_proc
grep -q "the /proc of the image" "$TOP/tried" || fail "without proc: the image's /proc was not had: $(cat "$TOP/tried")"
say "without proc: $(achieved), first $(head -n 1 "$TOP/tried")"
stop_daemon
unset BERTH_WEAK
BERTH_AGENT=$BERTH_BUILD/berth-agent-weak start_daemon
make_sandbox
try_users
[ "$(achieved)" != 0 ] || fail "users: nothing was achieved without the fence"
say "without the fence: $(achieved) users, first $(head -n 1 "$TOP/tried")"
try_races
[ "$(achieved)" != 0 ] || fail "races: nothing was achieved without the fence"
say "without the fence: $(achieved) races, first $(head -n 1 "$TOP/tried")"
berth kill "$id" --grace 0
stop_daemon
