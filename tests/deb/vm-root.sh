#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# vm-root.sh ROOT: makes a new root one that can be booted as vm.sh does. What a server has beside and nobody here looks at is
# switched off.
set -eu
root=$1
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
echo berth-vm >"$root/etc/hostname"
echo '127.0.0.1 localhost berth-vm' >"$root/etc/hosts"
systemd-machine-id-setup --root="$root" 2>/dev/null || tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
	getty@tty1.service serial-getty@ttyS0.service systemd-timesyncd.service systemd-networkd.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
cat >"$root/etc/systemd/system/berth-test.service" <<'UNIT'
[Unit]
Description=test of berth
After=basic.target
[Service]
Type=simple
ExecStart=/bin/sh -c 'mount -o ro /dev/vdb /mnt && exec bash /mnt/vm-inside.sh /mnt'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../berth-test.service "$root/etc/systemd/system/multi-user.target.wants/berth-test.service"
