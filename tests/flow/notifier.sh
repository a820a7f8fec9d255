#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who writes to the kernel what changed is killed, also in the middle of much: there is another one, the mount shows what the guest did, and a
# daemon that is killed then ends at once.
TAKEOVER=20s
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
start_daemon
id=$(berth create --template mini)
notifier() { pgrep -P "$(pgrep -P "$DAEMON" -x berth-priv)" -x berth-notify; }
equal "how many there are" "$(notifier | wc -l)" 1
for i in 1 2 3 4 5; do
	was=$(notifier)
	stat "$MNT/$id/new$i" >/dev/null 2>&1 && fail "new$i is there"
	if [ "$i" -gt 2 ]; then
		berth run "$id" --detach --id "many$i" -- sh -c 'i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo $i >f$i; done' >/dev/null
		(while ls -l "$MNT/$id" >/dev/null 2>&1 && kill -0 "$was" 2>/dev/null; do :; done) & # so that the kernel has much to forget
		reader=$!
	fi
	kill -9 "$was"
	berth run "$id" -- sh -c "echo $i >new$i; echo $i >same"
	equal "a name that was absent" "$(cat "$MNT/$id/new$i")" "$i"
	equal "a file that was there" "$(cat "$MNT/$id/same")" "$i"
	[ "$(notifier)" != "$was" ] || fail "$was goes on"
	[ "$i" -le 2 ] || wait "$reader"
done
equal "how many there are in the end" "$(notifier | wc -l)" 1
kill -9 "$(notifier)"
stop_daemon KILL
start_daemon
equal "with the next daemon" "$(cat "$MNT/$id/same")" 5
berth kill "$id"
berth fsck
