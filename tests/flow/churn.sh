#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 5400
# Sandboxes come and go; after each slice of time the daemon, its helpers and the kernel hold what they held before, and memory
# does not grow with the number that was made. BERTH_CHURN: seconds (20; 3,600 with BERTH_LONG=1).
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
[ "${BERTH_LONG:-}" = 1 ] && BERTH_CHURN=${BERTH_CHURN:-3600}
TAKEOVER=10s
start_daemon --set sandbox.workspace=64M --set sandbox.memory=64M --set store.map-size=32G
CHURN=${BERTH_CHURN:-20} python3 "$SRC/tests/lib/churn.py"
berth fsck
