#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that answers EIO: writes of the store that fail, syncs that fail, some of them or all. Nothing is told durable
# that is not, what was acknowledged stays readable, and when the disk works again everything arrives; also when the
# store has to be opened anew for that.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
need_faults
start_faulty
id=$(berth create --template mini)
berth run "$id" -- sh -c 'i=0; while [ $i -lt 50 ]; do head -c 3000 /dev/urandom >f$i; i=$((i+1)); done; sha256sum f* >sums'
berth sync "$id"
sums=$(cat "$MNT/$id/sums")
n=0
for how in "sync" "write" "sync write" "sync 3" "write 5" "sync write 7"; do
	n=$((n + 1))
	echo "$how" >"$TOP/fail"
	s=0
	timeout -s KILL 3 berth run "$id" -- sh -c "head -c 100000 /dev/urandom >n$n; sha256sum n$n >nsum$n" >/dev/null 2>&1 || s=$?
	s=0
	timeout 60 berth sync "$id" 2>"$TOP/err" || s=$?
	case $how in
	*[0-9]) ;;
	*) [ "$s" != 0 ] || fail "with \"$how\" a sync was acknowledged" ;;
	esac
	say "$how: sync ends with $s: $(cat "$TOP/err")"
	if [ "$s" = 0 ]; then # it said durable: then it is, whatever comes
		stop_daemon KILL
		rm "$TOP/fail"
		start_faulty
		equal "acknowledged with \"$how\"" "$(cd "$MNT/$id" && sha256sum "n$n")" "$(cat "$MNT/$id/nsum$n")"
	fi
	kill -0 "$DAEMON" 2>/dev/null && equal "reading with \"$how\"" "$(cd "$MNT/$id" && sha256sum f*)" "$sums"
	rm -f "$TOP/fail"
	# A daemon whose store cannot go on has ended, for its supervisor to start it anew.
	if ! kill -0 "$DAEMON" 2>/dev/null; then
		wait "$DAEMON" || :
		DAEMON=
		say "$how: the daemon ended; started anew"
		start_faulty
	fi
	wait_for 60 "a sync after \"$how\"" berth sync "$id"
	equal "after \"$how\"" "$(cd "$MNT/$id" && sha256sum f*)" "$sums"
	equal "after \"$how\"" "$(cd "$MNT/$id" && sha256sum "n$n")" "$(cat "$MNT/$id/nsum$n")"
	berth fsck
done
berth kill "$id"
equal "state" "$(berth info "$id" --json | field state)" stopped
equal "after the end" "$(cd "$MNT/$id" && sha256sum f*)" "$sums"
