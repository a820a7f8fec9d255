#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# enter.sh ROOT TOP COMMAND...: called by deb.sh in new mount and pid namespaces. The root is really changed: programs in a
# chroot may not make user namespaces.
set -eu
root=$1 top=$2
shift 2
m=$top/m
mount -t overlay overlay -o "lowerdir=$root,upperdir=$top/up,workdir=$top/work" "$m"
mkdir -p "$m/var/lib/berth" "$m/old"
mount --rbind /dev "$m/dev"
mount --rbind /sys "$m/sys"
mount -t proc proc "$m/proc"
mount -t tmpfs tmpfs "$m/run"
mount --bind "$top/state" "$m/srv"
cd "$m"
pivot_root . old
umount -l /old
rmdir /old
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
"$@"
