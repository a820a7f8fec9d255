#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# In a clean root of a release: install the packages, use them, remove them, purge them. See deb.sh.
set -eu -o pipefail
export DEBIAN_FRONTEND=noninteractive
fail() { echo "FAILED: $*"; tail -n 15 /tmp/log 2>/dev/null || :; exit 1; }
say() { echo "$1: ${*:2}"; }
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

if getent passwd berth >/dev/null; then fail "this root is not clean"; fi
apt-get -q -y --no-install-recommends install /debs/*.deb >/tmp/apt 2>&1 || { tail -n 20 /tmp/apt; fail "apt-get install"; }
say installed "$(dpkg-query -W -f '${Package} ${Version} ' berth libberth0 libberth-dev)"
for name in berth berth-guest; do getent passwd $name >/dev/null || fail "no account $name"; done
getent group berth >/dev/null || fail "no group berth"
for f in /etc/berth/berthd.conf /usr/lib/sysctl.d/50-berth.conf /usr/share/bash-completion/completions/berth \
	/usr/share/berth/templates/base.list /usr/share/berth/interpreter/interpreter.py /usr/libexec/berth/berth-agent; do
	[ -e "$f" ] || fail "not there: $f"
done
dpkg-query -L berth libberth0 | grep -vE '^$|^/(etc|usr)(/|$)|^/\.$|^/lib(/systemd|$)' && fail "files in strange places"
dpkg --verify berth || fail "files are not as packed"
berthd --check --config /etc/berth/berthd.conf
berth version
systemd-analyze verify --man=no /usr/lib/systemd/system/berthd.service >/tmp/verify 2>&1 ||
	systemd-analyze verify --man=no /lib/systemd/system/berthd.service >/tmp/verify 2>&1 || { cat /tmp/verify; fail "systemd-analyze verify"; }
if grep -E 'berthd?\.(service|slice)' /tmp/verify; then fail "systemd-analyze finds fault with the units"; fi
systemd-tmpfiles --create berth.conf || fail "tmpfiles"

# The state directory is not in the layered file system.
mkdir -p /srv/berth
mount --bind /srv/berth /var/lib/berth
berthd --config /etc/berth/berthd.conf --set network.mode=none --set "sandbox.ids-first=$((65536 * 60000))" --set sandbox.max=16 --set sandbox.workspace=256M \
	--set mount.takeover=0 --set sandbox.cgroup-parent=berth-deb-test >/tmp/log 2>&1 &
daemon=$!
for ((i = 0; i < 600; i++)); do
	kill -0 $daemon 2>/dev/null || fail "berthd ended"
	berth info >/tmp/info 2>/dev/null && break
	sleep 0.1
done
[ "$i" -lt 600 ] || fail "berthd does not answer"
berth info | head -n 4
berth template build mini --tar /debs/mini.tar >/tmp/template 2>&1 || { cat /tmp/template; fail "template"; }
id=$(berth create --template mini)
[ "$(berth run "$id" -- sh -c 'echo from inside >f; echo hello')" = hello ] || fail "run"
[ "$(cat "/var/lib/berth/mnt/$id/f")" = "from inside" ] || fail "the mount"
say works "a command in a sandbox, its file on the mount"

# Removal ends what runs and keeps what is kept.
apt-get -q -y remove berth >/tmp/apt 2>&1 || { tail -n 20 /tmp/apt; fail "apt-get remove"; }
find /sys/fs/cgroup -type d -name "$id" | grep -q . && fail "a sandbox runs on after the removal"
kill $daemon # no service manager here that would have
wait $daemon || fail "berthd ended with status $?"
[ -d /var/lib/berth/store/ws/"$id" ] || fail "the workspace is gone after remove"
[ -e /etc/berth/berthd.conf ] || fail "the configuration is gone after remove"
hash -r
if command -v berth berthd; then fail "programs left"; fi
say removed "workspaces and configuration stay"
umount /var/lib/berth
cp -a /srv/berth/. /var/lib/berth/
apt-get -q -y purge berth >/tmp/apt 2>&1 || { tail -n 20 /tmp/apt; fail "apt-get purge"; }
[ ! -e /var/lib/berth ] || fail "/var/lib/berth is left after purge: $(find /var/lib/berth | head -n 3)"
[ ! -e /etc/berth ] || fail "/etc/berth is left after purge"
getent passwd berth >/dev/null || fail "the account went"
say purged "nothing is left but the accounts"
find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name 'berth-deb-test' -exec rmdir {} + 2>/dev/null || :
