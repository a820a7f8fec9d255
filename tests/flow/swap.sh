#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The workspace's disk is swapped for an empty one while the daemon is dead: replication halts, and nothing is deleted on the host, however
# few files there were. The box is a stand-in for a machine that begins again with another disk (the agent of a sandbox of crun ends with
# it): a program that starts an agent on one ext4, and another agent on the next one when it is told so.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
command -v mke2fs >/dev/null || skip "needs mke2fs"

cat >"$TOP/agent" <<AGENT
#!/bin/bash
# In the place of the agent: --listen fd:3 --token-fd 4 --id ID --workspace …
umask 077
cat <&4 >$TOP/disks/token
begin() {
	"$BERTH_AGENT" --listen fd:3 --token-file $TOP/disks/token --id "\$6" --workspace $TOP/disks/\$(cat $TOP/disks/which) 4<&- &
	agent=\$!
}
again=
trap again=1 USR1
trap 'kill \$agent; exit' TERM
begin "\$@"
while :; do
	wait
	[ -n "\$again" ] || exit 0
	again=
	kill -9 \$agent
	wait \$agent
	begin "\$@"
	touch $TOP/disks/done
done
AGENT
chmod 755 "$TOP/agent"
mkdir -p "$TOP/disks"
chown berth: "$TOP/disks"

unmount() { umount "$TOP/disks/$1" 2>/dev/null || :; }
ended() {
	local status=$?
	set +e
	[ -z "${id:-}" ] || timeout 60 berth kill "$id" --grace 0 >/dev/null 2>&1
	unmount one
	unmount two
	(exit "$status")
	cleanup
}
trap ended EXIT

# disk NAME: a new ext4.
disk() {
	unmount "$1"
	rm -f "$TOP/$1.img"
	truncate -s 32M "$TOP/$1.img"
	mke2fs -q -F -t ext4 -E lazy_itable_init=1 "$TOP/$1.img"
	mkdir -p "$TOP/disks/$1"
	mount -o loop "$TOP/$1.img" "$TOP/disks/$1"
	rmdir "$TOP/disks/$1/lost+found"
	chown berth: "$TOP/disks/$1"
	chmod 755 "$TOP/disks/$1"
}

shown() { python3 "$SRC/tests/lib/berthtest.py" manifest "$MNT/$id" attrs | python3 -m json.tool --sort-keys; }

# begin_with FILES: a sandbox with so many, replicated.
begin_with() {
	local i
	disk one
	disk two
	echo one >"$TOP/disks/which"
	id=$(berth create --template mini)
	mkdir "$TOP/disks/one/d"
	for ((i = 0; i < $1; i++)); do echo "$i" >"$TOP/disks/one/d/f$i"; done
	chown -R berth: "$TOP/disks/one/d"
	berth info "$id" --json | field pid >"$TOP/pid"
	berth sync "$id"
	equal "files on the host" "$(find "$MNT/$id/d" -type f | wc -l)" "$1"
	shown >"$TOP/before"
}

# begin_again DISK: the machine does.
begin_again() {
	local pid
	pid=$(cat "$TOP/pid")
	echo "$1" >"$TOP/disks/which"
	rm -f "$TOP/disks/done"
	kill -USR1 "$pid"
	wait_for 20 "another agent" test -e "$TOP/disks/done"
}

# restart_with DISK: the daemon dies, the machine begins again, there is another daemon.
restart_with() {
	stop_daemon KILL 2>/dev/null
	begin_again "$1"
	start_daemon --set sandbox.box=fake --set "daemon.agent=$TOP/agent"
}

halted() { ! berth sync "$id" 2>"$TOP/why" && grep -q "another disk" "$TOP/why"; }

unchanged() {
	shown >"$TOP/after"
	cmp "$TOP/before" "$TOP/after" || fail "$1: the host's copy is another one"
}

start_daemon --set sandbox.box=fake --set "daemon.agent=$TOP/agent"
for files in 300 3; do
	begin_with "$files"
	restart_with one
	berth sync "$id"
	unchanged "$files files, the same disk"
	echo more >"$TOP/disks/one/d/more"
	berth sync "$id"
	equal "it goes on" "$(cat "$MNT/$id/d/more")" more
	shown >"$TOP/before"

	restart_with two
	[ "$(berth info "$id" --json | field state)" != running ] || fail "a sandbox with another disk is adopted"
	unchanged "$files files, an empty disk"
	stop_daemon
	start_daemon --set sandbox.box=fake --set "daemon.agent=$TOP/agent"
	unchanged "$files files, the next daemon"

	begin_with "$files"
	begin_again two
	wait_for 20 "replication to halt" halted
	unchanged "$files files, below a daemon that lives"
	must_fail berth kill "$id" --grace 0
	unchanged "$files files, stopped"
	say "$files files: halted, and all there"
done
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
say ok
