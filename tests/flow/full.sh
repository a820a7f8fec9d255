#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# No space, in each place: the workspace inside (the guest's own error), the host's store (clear words, nothing that was
# acknowledged is lost, the sandbox ends as failed with its image kept), and a store that is full at a create.
. "$(dirname "$0")/../lib/flow.sh"
need_template base
start_daemon --set store.map-size=32M --set sandbox.workspace=64M
id=$(berth create --template base)
export id

# inside: the workspace has the size that was asked for
s=0
berth run "$id" -- dd if=/dev/zero of=zeros bs=1M count=200 2>"$TOP/err" || s=$?
equal "dd in a full workspace" "$s" 1
grep -q "No space left" "$TOP/err"
berth run "$id" -- rm zeros

berth run "$id" -- sh -c 'echo kept > kept; head -c 1000000 /dev/urandom > kept2'
berth sync "$id"
sum=$(sha256sum <"$MNT/$id/kept2")

# on the host: more random bytes than the store can hold
berth run "$id" -- sh -c 'head -c 45000000 /dev/urandom > big'
s=0
timeout 200 berth sync "$id" 2>"$TOP/err" || s=$?
equal "sync with a full store" "$s" 1
say "sync says: $(cat "$TOP/err")"
python3 - <<'PY'
import os
from berthtest import Api, until
api = Api()
until(lambda: "full" in api.good("GET", "/v1/sandboxes/" + os.environ["id"])["replication"]["why"], 30, "info does not say that the store is full")
PY
equal "what was synced" "$(sha256sum <"$MNT/$id/kept2")" "$sum"
equal "a command still runs" "$(berth run "$id" -- cat kept)" kept

# room again: the sandbox goes on where it was
berth run "$id" -- rm big
berth sync "$id"
equal "after room came back" "$(cat "$MNT/$id/kept")" kept
berth kill "$id"
equal "state" "$(berth info "$id" --json | field state)" stopped
berth fsck
