#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The agent in a QEMU guest over a real virtio-vsock device (emulated, so no KVM is needed): what the wire must hold
# when it is not a Unix socket. The host's end is a Unix socket of vhost-device-vsock, the workspace an ext4 disk.
#
# From outside: VM_MACHINE=q35 (default) or microvm; BERTH_LONG=1: 1,000 lost connections in 100 MB of output.
. "$(dirname "$0")/../lib/flow.sh"
VM=
VHOST=
mkdir -p "$STATE"
MACHINE=${VM_MACHINE:-q35}
end_vm() {
	local status=$? pid
	set +e
	for pid in $VM $VHOST; do
		kill -9 "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	if [ "$status" != 0 ] && [ -s "$TOP/console" ]; then
		say "the end of the guest's console:"
		tail -n 30 "$TOP/console"
	fi
	if [ "$status" != 0 ]; then
		cat "$TOP/qemu.log" "$TOP/vhost.log" 2>/dev/null | tail -n 10
	fi
	(exit "$status")
	cleanup
}
trap end_vm EXIT

command -v qemu-system-x86_64 >/dev/null || skip "needs qemu-system-x86"
command -v mke2fs >/dev/null || skip "needs mke2fs"
busybox=$(command -v busybox) || skip "needs busybox"
file -L "$busybox" | grep -q 'statically' || skip "needs a static busybox"
drive=$BERTH_BUILD/tests/flow/vm-drive
[ -x "$drive" ] || fail "make check-programs first: no $drive"
file -L "$BERTH_AGENT" | grep -q 'static' || skip "needs a static agent"
why=$("$SRC/tests/lib/vm-fetch.sh" "$BERTH_CACHE") || skip "${why:-vm-fetch.sh failed}"
parts=$BERTH_CACHE/vm-1

# The guest: busybox, the modules, the agent, an init of a few lines that becomes the agent.
make_initramfs() {
	local root=$TOP/root name
	mkdir -p "$root"/{bin,sbin,etc,dev,proc,sys,run,tmp,root,workspace,modules}
	cp "$busybox" "$root/bin/busybox"
	for name in $("$busybox" --list); do
		[ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"
	done
	cp "$parts"/modules/*.ko "$root/modules/"
	cp "$BERTH_AGENT" "$root/sbin/berth-agent"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
	echo 'root:x:0:' >"$root/etc/group"
	head -c 32 /dev/urandom >"$root/token"
	cp "$root/token" "$TOP/token"
	cat >"$root/init" <<-'INIT'
		#!/bin/sh
		export PATH=/bin:/sbin
		mount -t devtmpfs devtmpfs /dev
		for m in /modules/*.ko; do insmod "$m" || echo "init: $m failed"; done
		mount -t ext4 /dev/vda /workspace || echo "init: no workspace"
		exec 3</token
		rm /token
		exec /sbin/berth-agent --vm-init --console --listen vsock:any:1024 --token-fd 3 --id vm \
			--workspace /workspace
	INIT
	chmod 755 "$root/init"
	(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$TOP/initramfs"
}

start_vm() {
	local board device tsc=
	truncate -s 256M "$TOP/disk"
	mke2fs -q -F -t ext4 -E lazy_itable_init=1 "$TOP/disk" 2>"$TOP/qemu.log" || fail "mke2fs"
	case $MACHINE in
	q35)
		board=q35,memory-backend=mem,smm=off,vmport=off
		device=pci
		;;
	microvm)
		# This board hides the timer that the kernel measures its clock with.
		board=microvm,memory-backend=mem
		device=device
		tsc=tsc_early_khz=$(dmesg | sed -n 's/.*tsc: Detected \([0-9]*\)\.\([0-9]*\) MHz.*/\1\2/p' | head -n 1)
		[ "$tsc" != tsc_early_khz= ] || skip "microvm: the kernel's log does not say the speed of the TSC"
		;;
	*) fail "VM_MACHINE is q35 or microvm" ;;
	esac
	"$parts/vhost-device-vsock" --guest-cid 3 --socket "$TOP/vhu.sock" --uds-path "$TOP/vm.sock" \
		>"$TOP/vhost.log" 2>&1 &
	VHOST=$!
	wait_for 10 "vhost-device-vsock" test -S "$TOP/vhu.sock"
	qemu-system-x86_64 -M "$board" -accel tcg -cpu max -m 256 -smp 1 -nodefaults -no-user-config \
		-display none -no-reboot -object memory-backend-memfd,id=mem,size=256M,share=on -serial "file:$TOP/console" \
		-kernel "$parts/vmlinuz" -initrd "$TOP/initramfs" -append "console=ttyS0 panic=1 quiet $tsc" \
		-drive "if=none,id=disk,format=raw,file=$TOP/disk,cache=unsafe" \
		-device "virtio-blk-$device,drive=disk" \
		-chardev "socket,id=vs,path=$TOP/vhu.sock" -device "vhost-user-vsock-$device,chardev=vs" \
		-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny >"$TOP/qemu.log" 2>&1 &
	VM=$!
}

is_ready() { grep -aq 'msg="ready"' "$TOP/console" || ! kill -0 "$VM"; }

make_initramfs
started=$(date +%s%N)
start_vm
wait_for 60 "the agent in the guest" is_ready
kill -0 "$VM" 2>/dev/null || fail "qemu ended before the agent was there"
say "$MACHINE with $(cat "$parts/complete"): agent ready after $((($(date +%s%N) - started) / 1000000)) ms"
timeout -k 5 "$([ "${BERTH_LONG:-}" = 1 ] && echo 800 || echo 150)" "$drive" "hybrid:$TOP/vm.sock:1024" "$TOP/token"
if grep -aE 'init: |WARNING|BUG:|Kernel panic' "$TOP/console"; then fail "the guest complains"; fi
say "passed"
