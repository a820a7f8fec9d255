#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sandboxes that begin with the same files on a host whose file system shares blocks (btrfs, in a file, in a mount namespace of this
# test): what their disks take together. BERTH_BASES says how many (6), BERTH_BASE_FILES how many files of 8 KiB (4000).
if [ -z "${BERTH_SHARED:-}" ]; then
	[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
	command -v mkfs.btrfs >/dev/null || { echo "needs mkfs.btrfs"; exit 77; }
	at=$(mktemp -d "${BERTH_TMP:-/var/tmp}/bt-XXXXXX")
	trap 'rm -rf "$at"' EXIT
	mkdir "$at/mnt"
	truncate -s 8G "$at/img"
	mkfs.btrfs -q "$at/img" >/dev/null || exit 1
	chmod 755 "$at"
	status=0
	# shellcheck disable=SC2016 # of the inner shell
	BERTH_SHARED=$at/mnt unshare -m sh -c 'mount -o loop "$1/img" "$1/mnt" || { echo "needs btrfs"; exit 77; }
		BERTH_TMP=$1/mnt bash "$2"; r=$?; umount "$1/mnt"; exit $r' sh "$at" "$0" || status=$?
	exit "$status"
fi
. "$(dirname "$0")/../lib/flow.sh"
need_template mini
n=${BERTH_BASES:-6}
start_daemon --set sandbox.max=32
id=$(berth create --template mini --workspace 2G)
# shellcheck disable=SC2016 # $i is the guest's
berth run "$id" -- sh -c 'for i in $(seq '"${BERTH_BASE_FILES:-4000}"'); do d=$((i / 100)); [ -d $d ] || mkdir $d
	head -c 8192 /dev/urandom >$d/$i; done' </dev/null
berth sync "$id"
berth snapshot "$id" one >/dev/null
berth kill "$id"
all=()
began=$(date +%s%N)
for _ in $(seq "$n"); do all+=("$(berth create --from "$id@one")"); done
ms=$((($(date +%s%N) - began) / 1000000))
for x in "${all[@]}"; do
	equal "$x" "$(berth run "$x" -- sh -c 'sha256sum 3/3?? | sha256sum; echo written >3/300; sync' </dev/null)" \
		"$(cd "$MNT/$id" && sha256sum 3/3?? | sha256sum)"
done
# The first one has a disk of its own; the others share the base's blocks.
berth kill "${all[0]}"
sync -f "$STATE"
one=$(du -k "$STATE"/bases/[0-9a-f]* | cut -f1)
together=$(btrfs filesystem du -s --raw "$STATE"/bases/[0-9a-f]* "$STATE"/boxes/*/ws.img |
	awk 'NR > 1 { sum += $2; if ($3 + 0 > shared) shared = $3 + 0 } END { printf "%d", (sum + shared) / 1024 }')
say "disks of $((n - 1)) sandboxes and their base: $together KiB, the base alone: $one KiB; $ms ms for $n"
[ "$together" -lt $((one * 11 / 10)) ] || fail "the disks share too little: $(btrfs filesystem du -s "$STATE"/bases/* "$STATE"/boxes/*/ws.img)"
for x in "${all[@]:1}"; do berth kill "$x"; done
berth fsck >"$TOP/fsck" || fail "fsck: $(cat "$TOP/fsck")"
stop_daemon
say ok
