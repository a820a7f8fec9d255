#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the daemon in the middle of an untar: the store is clean, what was synced is there, the sandbox goes on and
# what it wrote meanwhile comes when the next daemon has adopted it. Then daemon and sandbox die together: what was synced
# is there, the sandbox is failed with a reason.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create --template base)
export id
python3 - "$TOP/tree" <<'PY'
import os, random, sys
rnd = random.Random(3)
for i in range(3000):
    d = f"{sys.argv[1]}/d{i % 60}"
    os.makedirs(d, exist_ok=True)
    with open(f"{d}/f{i}", "wb") as f:
        f.write(rnd.randbytes(rnd.randrange(30000)))
PY
tar -C "$TOP/tree" -cf "$TOP/tree.tar" .
berth cp "$TOP/tree.tar" "$id:tree.tar"
berth run "$id" -- sh -c 'mkdir first && tar -C first -xf tree.tar'
berth sync "$id"
for turn in 1 2 3 4 5; do
	berth run "$id" --detach -- sh -c "mkdir t$turn && tar -C t$turn -xf tree.tar && touch done$turn" >/dev/null
	# in the middle: some files of it are there, not all
	python3 - "$MNT/$id/t$turn" "$turn" <<'PY'
import os, sys
from berthtest import until
until(lambda: os.path.isdir(sys.argv[1]) and len(os.listdir(sys.argv[1])) >= 3 * int(sys.argv[2]), 30, "the untar did not begin")
PY
	stop_daemon KILL
	start_daemon
	berth fsck
	berth run "$id" -- sh -c "n=0; while [ ! -e done$turn ]; do n=\$((n+1)); [ \$n -lt 600 ] || exit 1; sleep 0.1; done"
	berth sync "$id"
	diff -r "$TOP/tree" "$MNT/$id/t$turn"
	diff -r "$TOP/tree" "$MNT/$id/first"
	echo "turn $turn: equal after kill -9 in the middle"
done
berth run "$id" --detach -- sh -c 'mkdir last && tar -C last -xf tree.tar' >/dev/null
pid=$(berth info "$id" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["pid"])')
stop_daemon KILL
[ "$pid" = 0 ] || kill -9 "$pid"
start_daemon
berth fsck
state=$(berth info "$id" --json | python3 -c 'import json,sys; i=json.load(sys.stdin); print(i["state"], i["why"] != "")')
[ "$state" = "failed True" ] || { echo "FAILED: the state is $state"; exit 1; }
diff -r "$TOP/tree" "$MNT/$id/first"
for turn in 1 2 3 4 5; do diff -r "$TOP/tree" "$MNT/$id/t$turn"; done
echo "daemon and sandbox died together: everything that was synced is there"
berth rm "$id"
