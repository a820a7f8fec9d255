#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1800
# Many sandboxes on one daemon, 50 made and killed at a time: each works, each watches its workspace by itself, memory and
# descriptors of the daemon grow by a bounded amount for each and go back, nothing is left. BERTH_LONG=1: 500 of them,
# 2,000 stored workspaces; else 60 and 200.
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
if [ "${BERTH_LONG:-}" = 1 ]; then
	export RUNNING=500 STORED=2000
else
	export RUNNING=60 STORED=200
fi
IDS_FIRST=$((65536 * (49100 + 600 * ($$ % 18)))) IDS_COUNT=$((RUNNING + 16)) # beyond those of all other tests
start_daemon --set "sandbox.max=$IDS_COUNT" --set sandbox.workspace=64M --set sandbox.memory=64M --set store.map-size=4G --set mount.calm-rate=0 # the neighbour is to be loud
DAEMON_PID=$DAEMON
export DAEMON_PID
python3 "$SRC/tests/lib/many.py"
berth fsck
