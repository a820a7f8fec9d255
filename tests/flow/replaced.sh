#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A file that is replaced by rename a hundred and a thousand times a second is always there: by the mount, by the API, for
# a daemon that has just come back.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon
id=$(berth create)
export id
berth run "$id" --detach --id counter -- python3 -c '
import os, time
n = 0
while True:
    n += 1
    with open("next", "w") as f: f.write(str(n))
    os.rename("next", "count")
    time.sleep(0.0095 * (n // 1000 % 2) + 0.0005)' >/dev/null
wait_for 20 "the counter to begin" test -s "$MNT/$id/count"

# look SECONDS: what a reader that never rests meets; what it reads by one door never goes
# back (a change is committed a moment before the kernel is told).
look() {
	python3 - "$1" <<'PY'
import os, sys, time
from berthtest import Api
api, box = Api(), os.environ["id"]
path, end, turns = f"{os.environ['MNT']}/{box}/count", time.monotonic() + float(sys.argv[1]), 0
last, kinds = {"mount": 0, "api": 0}, {}
def met(what): kinds[what] = kinds.get(what, 0) + 1
def read(door, text):
    if not text: met(f"{door} empty")
    elif int(text) < last[door]: met(f"{door} older")
    else: last[door] = int(text)
while time.monotonic() < end or turns < 300:
    turns += 1
    try:
        os.stat(path)
        with open(path) as f: read("mount", f.read())
    except OSError as e:
        met(str(e.strerror))
    if turns % 10 == 0:
        status, body = api.call("GET", f"/v1/sandboxes/{box}/files?path=count")
        if status != 200: met(f"api {status}")
        else: read("api", str(body))
print(turns, kinds)
sys.exit(bool(kinds))
PY
}
look 4 || fail "it was not always there"
for how in KILL TERM; do
	stop_daemon $how
	start_daemon
	look 1 || fail "it was not always there after another daemon ($how)"
done
berth kill "$id"
grep -qE '^[0-9]+$' "$MNT/$id/count" || fail "not there at the end"
say ok
