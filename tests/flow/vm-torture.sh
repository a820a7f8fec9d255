#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1500
# The wire under torture where it is a real virtio-vsock device: the sandbox is a virtual machine (vm-agent.py), the daemon is
# the real one. While a command writes and another reads and writes, connections between daemon and agent are cut at random bytes,
# those of the client too, and the daemon is killed and started anew. Bytes must be identical, the exit status known, input
# delivered once, and nothing may stand still for five seconds.
# BERTH_LONG=1: 1,000 cuts of vsock connections and ten kills in 100 MB. BERTH_SEED: another run.
. "$(dirname "$0")/../lib/flow.sh"
need_root
command -v qemu-system-x86_64 >/dev/null || skip "needs qemu-system-x86"
command -v mke2fs >/dev/null || skip "needs mke2fs"
busybox=$(command -v busybox) || skip "needs busybox"
file -L "$busybox" | grep -q 'statically' || skip "needs a static busybox"
why=$("$SRC/tests/lib/vm-fetch.sh" "$BERTH_CACHE") || skip "${why:-vm-fetch.sh failed}"
if [ "${BERTH_LONG:-}" = 1 ]; then cuts=1000 kills=10 size=100; else cuts=60 kills=2 size=12; fi

# What the daemon's account may read and write.
VM=$TOP/vm
mkdir -p "$VM"
mkdir "$VM/parts"
cp -r "$BERTH_CACHE/vm-1/." "$VM/parts/"
chmod -R a+rX "$VM/parts"
root=$TOP/root
mkdir -p "$root"/{bin,sbin,etc,dev,proc,sys,run,tmp,root,workspace,modules}
cp "$busybox" "$root/bin/busybox"
for name in $("$busybox" --list); do
	[ -e "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"
done
cp "$VM"/parts/modules/*.ko "$root/modules/"
cp "$BERTH_AGENT" "$root/sbin/berth-agent"
printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/workspace:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
chmod 1777 "$root/tmp"
cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin:/sbin
mount -t devtmpfs devtmpfs /dev
for m in /modules/*.ko; do insmod "$m" || echo "init: $m failed"; done
mount -t ext4 /dev/vda /workspace || echo "init: no workspace"
chmod 1777 /tmp
exec 3</token
id=$(cat /id)
rm /token
exec /sbin/berth-agent --vm-init --console --listen vsock:any:1024 --token-fd 3 --id "$id" --workspace /workspace
INIT
chmod 755 "$root/init"
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$VM/initramfs"
rm -rf "$root"
truncate -s 256M "$VM/disk"
mke2fs -q -F -t ext4 -E lazy_itable_init=1,root_owner=1000:1000 "$VM/disk"
chown -R berth: "$VM"
{
	head -n 1 "$SRC/tests/lib/vm-agent.py"
	echo "TOP, PARTS, SEED = \"$VM\", \"$VM/parts\", ${BERTH_SEED:-1}"
	tail -n +2 "$SRC/tests/lib/vm-agent.py"
} >"$TOP/agent"
chmod 755 "$TOP/agent"

tell_console() {
	[ $? = 0 ] || { say "the guest:"; tail -n 15 "$VM/console" "$VM/vm.log" 2>/dev/null; }
}
trap 'tell_console; cleanup' EXIT
BERTH_AGENT=$TOP/agent
start_daemon --set sandbox.box=fake
began=$SECONDS
id=$(berth create --name box) || fail "create"
say "a sandbox in a virtual machine after $((SECONDS - began)) s"
equal "where it is" "$(berth run box -- uname -n)" "$(berth run box -- hostname)"
grep -aq 'msg="ready"' "$VM/console" || fail "the agent did not start in the guest"
berth run box -- sh -c 'echo from the machine >f'
equal "on the mount" "$(cat "$MNT/$id/f")" "from the machine"
cat >"$TOP/daemon" <<SH
#!/bin/sh
exec "$BERTH_BUILD/berthd" --set "daemon.state-dir=$STATE" --set "daemon.agent=$BERTH_AGENT" --set sandbox.max=16 \
	--set "sandbox.ids-first=$IDS_FIRST" --set sandbox.workspace=1G --set mount.takeover=0 --set sandbox.box=fake >>"$LOG" 2>&1 </dev/null
SH
chmod 755 "$TOP/daemon"
export LOG TORTURE_SHELL=1
# What goes through: the output, and a quarter of it in and out again; short commands bring the rest.
echo "$cuts $((size * 1048576 * 3 / 2 / cuts / 2))" >"$VM/cuts"
status=0
python3 "$SRC/tests/lib/torture.py" box "$DAEMON" "$TOP" $((cuts / 10)) "$kills" "$size" "${BERTH_SEED:-1}" || status=$?
DAEMON=$(cat "$TOP/daemon.pid")
[ "$status" = 0 ] || fail "torture.py: $status"
say "$(cat "$VM/cut") connections over vsock were cut"
[ "$(cat "$VM/cut")" -ge "$cuts" ] || fail "only $(cat "$VM/cut") cuts"
berth run box -- true
equal "its file" "$(cat "$MNT/$id/f")" "from the machine"
berth kill box --grace 0
if grep -aE 'init: |WARNING|BUG:|Kernel panic' "$VM/console"; then fail "the guest complains"; fi
say "passed"
