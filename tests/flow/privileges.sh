#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who holds what, by /proc: the process that reads bytes from guests and clients has no capability, cannot gain any, and
# is under a system call filter; the privileged one listens nowhere and talks to nobody but the other.
. "$(dirname "$0")/../lib/flow.sh"

status_of() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

# Inodes of listening sockets, Unix and TCP.
listening() {
	awk '$4 == "00010000" && $6 == "01" { print $7 }' /proc/net/unix
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == "0A" { print $10 }'
}

sockets_of() { find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | tr -dc '0-9\n'; }

listens() { [ -n "$(comm -12 <(sockets_of "$1" | sort) <(listening | sort))" ]; }

need_template mini
chown 0:0 /dev/null
start_daemon
id=$(berth create --template mini)
equal "a command" "$(berth run "$id" -- echo hi </dev/null)" hi

# Devices are the host's own: the sandbox's root sees them and owns none.
equal "the owner of /dev/null" "$(stat -c '%u:%g %a' /dev/null)" "0:0 666"
must_fail berth run --user root "$id" -- chmod 600 /dev/null
equal "the owner of /dev/null" "$(stat -c '%u:%g %a' /dev/null)" "0:0 666"

# One of the two is the child of the other; the one that was started is the unprivileged or the privileged one.
mapfile -t ours < <({ echo "$DAEMON"; pgrep -P "$DAEMON" || :; } | sort -u)
front='' back=''
for pid in "${ours[@]}"; do
	if listens "$pid"; then front=$pid; fi
	[ "$(cat "/proc/$pid/comm")" = berth-priv ] && back=$pid
done
[ -n "$front" ] || fail "no process of ${ours[*]} holds the API's socket"
[ -n "$back" ] || fail "no privileged process among ${ours[*]}"
[ "$front" != "$back" ] || fail "one process does both"

for set in CapEff CapPrm CapInh CapAmb CapBnd; do
	equal "$set of the front" "$(status_of "$front" $set)" 0000000000000000
done
equal "NoNewPrivs of the front" "$(status_of "$front" NoNewPrivs)" 1
equal "Seccomp of the front" "$(status_of "$front" Seccomp)" 2
uid=$(id -u berth)
equal "Uid of the front" "$(status_of "$front" Uid | tr '\t' ' ')" "$uid $uid $uid $uid"
for task in /proc/"$front"/task/*; do
	equal "Seccomp of thread $(cat "$task/comm")" "$(sed -n 's/^Seccomp:[[:space:]]*//p' "$task/status")" 2
	equal "CapEff of thread $(cat "$task/comm")" "$(sed -n 's/^CapEff:[[:space:]]*//p' "$task/status")" 0000000000000000
done
say "the front: $front, $(find /proc/"$front"/task -mindepth 1 -maxdepth 1 | wc -l) threads, no capability, filtered"

[ "$(status_of "$back" CapEff)" != 0000000000000000 ] || fail "the privileged process has no capability"
listens "$back" && fail "the privileged process holds a listening socket"
say "the back: $back, $(status_of "$back" CapEff), $(sockets_of "$back" | wc -l) sockets, none listens"

# What runs in a sandbox is nobody here: an id of its range, no capability over the host.
berth run "$id" --detach -- sleep 1000 >/dev/null
inside() { pgrep -f '^sleep 1000$' | while read -r p; do stat -c %u "/proc/$p"; done | awk -v f="$IDS_FIRST" '$1 >= f && $1 < f + 16 * 65536'; }
wait_for 10 "the sleep" inside
[ -n "$(inside)" ] || fail "no process of the sandbox has an id of its range"
say "done"

# An account outside of the group does not get into the mount.
refused 2 'Permission denied' setpriv --reuid 65534 --regid 65534 --clear-groups ls "$MNT"
