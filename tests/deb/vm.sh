#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vm.sh SUITE BUILD: a whole system of that release in a virtual machine, with its own kernel and systemd as the first process,
# where the packages of deb.sh are installed and used as an operator would: vm-inside.sh is what happens there. The machine is
# emulated (no KVM needed), has a disk, a console and no network. Ends with 0, or 77 and the reason in the last line.
. "$(dirname "$(realpath "$0")")/lib.sh"
VM=
over() {
	local status=$?
	[ -z "$VM" ] || kill -9 "$VM" 2>/dev/null || :
	if [ "$status" != 0 ] && [ "$status" != 77 ] && [ -s "$WORK/console" ]; then
		echo "the end of the console:"
		tail -n 40 "$WORK/console"
	fi
	[ "${KEEP:-}" != 1 ] || { echo "kept: $WORK"; exit "$status"; }
	rm -rf --one-file-system "$WORK"
}
trap over EXIT
command -v qemu-system-x86_64 >/dev/null || no "needs qemu-system-x86"
[ "$(dpkg --print-architecture)" = amd64 ] || no "needs an amd64 machine"

packages
# The same again as a later version: only the number differs.
newer() {
	local deb dir
	mkdir -p "$WORK/disk/new"
	for deb in "$WORK"/debs/*.deb; do
		dir=$WORK/newer/$(basename "$deb" .deb)
		mkdir -p "$dir"
		dpkg-deb -R "$deb" "$dir"
		sed -i "s/^Version: .*/&+later/; s/(= \([^)]*\))/(= \1+later)/" "$dir/DEBIAN/control"
		dpkg-deb --root-owner-group -Zgzip -z1 -b "$dir" "$WORK/disk/new" >/dev/null
	done
}
mkdir -p "$WORK/disk/old"
cp "$WORK"/debs/*.deb "$WORK/disk/old/"
newer
mini_tar "$WORK/disk/mini.tar"
cp "$HERE/vm-inside.sh" "$WORK/disk/"

# The system: what ours needs is there already, since unpacking is slow in such a machine.
depends=$(for deb in "$WORK"/debs/berth_*.deb "$WORK"/debs/libberth0_*.deb; do dpkg-deb -f "$deb" Depends; done |
	tr ',' '\n' | sed 's/|.*//; s/(.*//; s/ //g' | grep -v '^libberth' | sort -u | paste -sd,)
name=vm-$SUITE-$(echo "$depends 1" | sha256sum | cut -c1-8)
find "$CACHE" -mindepth 1 -maxdepth 1 -name "vm-$SUITE-*" ! -name "$name*" -exec rm -rf --one-file-system {} + 2>/dev/null || :
# shellcheck disable=SC2016 # mmdebstrap's
root "$name" --include="systemd-sysv,udev,dbus,kmod,procps,linux-image-cloud-amd64,zstd,$depends" \
	--customize-hook="$HERE/vm-root.sh \"\$1\""
[ -e "$CACHE/$name/boot.img" ] || {
	rm -f "$CACHE/$name.img"
	truncate -s 6G "$CACHE/$name.img.new"
	mke2fs -q -F -t ext4 -E lazy_itable_init=1 -d "$CACHE/$name" "$CACHE/$name.img.new"
	mv "$CACHE/$name.img.new" "$CACHE/$name.img"
	: >"$CACHE/$name/boot.img"
}
cp --sparse=always "$CACHE/$name.img" "$WORK/root.img"
truncate -s 200M "$WORK/disk.img"
mke2fs -q -F -t ext4 -d "$WORK/disk" "$WORK/disk.img"
kernel=$(find "$CACHE/$name/boot" -name 'vmlinuz-*' | sort -V | tail -n 1)
began=$SECONDS
qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -m 1536 -smp 2 -nodefaults -no-user-config -display none -no-reboot \
	-serial "file:$WORK/console" -kernel "$kernel" -initrd "${kernel/vmlinuz/initrd.img}" \
	-append "console=ttyS0 root=/dev/vda rw quiet panic=1 systemd.show_status=0 mitigations=off" \
	-drive "if=none,id=root,format=raw,file=$WORK/root.img,cache=unsafe" -device virtio-blk-pci,drive=root \
	-drive "if=none,id=disk,format=raw,file=$WORK/disk.img,cache=unsafe,readonly=on" -device virtio-blk-pci,drive=disk \
	-object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng >"$WORK/qemu.log" 2>&1 &
VM=$!
shown=0
limit=${BERTH_VM_LIMIT:-900}
while kill -0 "$VM" 2>/dev/null; do
	[ $((SECONDS - began)) -lt "$limit" ] || { echo "FAILED: not through after $limit s"; exit 1; }
	lines=$(grep -ac "^vm: " "$WORK/console" 2>/dev/null || :)
	if [ "${lines:-0}" -gt "$shown" ]; then
		grep -a '^vm: ' "$WORK/console" | tail -n +$((shown + 1)) | tr -d '\r'
		shown=$lines
	fi
	sleep 0.5
done
grep -a '^vm: ' "$WORK/console" | tail -n +$((shown + 1)) | tr -d '\r'
VM=
grep -aq '^vm: .*end with 0' "$WORK/console" || { cat "$WORK/qemu.log"; echo "FAILED"; exit 1; }
echo "passed in $((SECONDS - began)) s"
