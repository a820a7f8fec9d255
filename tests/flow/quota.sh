#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A workspace that is written anew again and again, more in all than eight times its size: what was replaced is collected
# meanwhile, and nothing is ever refused. Live, then through the mount when it is stopped; and its share of the quota.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon --set store.map-size=4G --set sandbox.workspace=32M
id=$(berth create --template base)
for i in $(seq 14); do
	berth run "$id" -- sh -c "head -c 20000000 /dev/urandom >big; echo $i >round"
	berth sync "$id"
done
equal "the newest round, live" "$(cat "$MNT/$id/round")" 14
equal "replication" "$(berth info "$id" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["replication"]["why"])')" ""
berth kill "$id"
for i in $(seq 14); do
	dd if=/dev/urandom of="$MNT/$id/big" bs=1M count=20 status=none
	sha256sum <"$MNT/$id/big" >"$TOP/sum"
done
equal "what was written last" "$(sha256sum <"$MNT/$id/big")" "$(cat "$TOP/sum")"
berth gc >/dev/null
curl -sf --unix-socket "$STATE/run/api.sock" http://x/v1/df | python3 -c '
import json, sys
u = json.load(sys.stdin)["workspaces"][0]
print("quota: brought", u["brought_b"] >> 20, "MiB,", u["charged_b"] >> 20, "of it count")
assert u["brought_b"] > u["brought_max_b"], u
assert u["charged_b"] < u["brought_max_b"] / 4, u' || exit 1
berth fsck
