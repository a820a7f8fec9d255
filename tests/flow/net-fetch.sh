#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What people do with it: git clone and apt-get install from servers of a made-up internet, in a sandbox that may reach
# nothing else. BERTH_LONG=1: by pasta, too.
. "$(dirname "$0")/../lib/net.sh"
. "$(dirname "$0")/../lib/flow.sh"
need_template base
make_world
web=$TOP/web
mkdir -p "$web/apt"

git -c init.defaultBranch=main init -q "$TOP/repo"
head -c 3000000 /dev/urandom >"$TOP/repo/large"
git -C "$TOP/repo" add large
git -C "$TOP/repo" -c user.name=a -c user.email=a@b commit -qm one
git clone -q --bare "$TOP/repo" "$web/repo.git"
git -C "$web/repo.git" update-server-info

mkdir -p "$TOP/deb/DEBIAN" "$TOP/deb/usr/bin"
printf '#!/bin/sh\necho fetched\n' >"$TOP/deb/usr/bin/fetched"
chmod 755 "$TOP/deb/usr/bin/fetched"
printf 'Package: fetched\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a test\n' >"$TOP/deb/DEBIAN/control"
dpkg-deb -b --root-owner-group "$TOP/deb" "$web/apt/fetched.deb" >/dev/null
(
	cat "$TOP/deb/DEBIAN/control"
	echo "Filename: ./fetched.deb"
	echo "Size: $(stat -c %s "$web/apt/fetched.deb")"
	echo "SHA256: $(sha256sum "$web/apt/fetched.deb" | cut -d' ' -f1)"
) >"$web/apt/Packages"

nsenter -t "$INTERNET" -n -- python3 -m http.server 8000 --bind 93.184.216.34 -d "$web" >>"$TOP/world.log" 2>&1 &
WORLD+=("$!")
serves() { in_net "$INTERNET" curl -sf http://93.184.216.34:8000/apt/Packages; }
wait_for 20 "the server" serves

for mode in veth ${BERTH_LONG:+pasta}; do
	NETWORK=$mode start_daemon --set network.dns=93.184.216.99
	id=$(berth create --allow example.test --allow '*.example.test')
	timeout 100 berth run "$id" -- git clone -q http://v4.example.test:8000/repo.git repo || fail "$mode: git"
	cmp "$TOP/repo/large" "$MNT/$id/repo/large" || fail "$mode: what was cloned differs on the mount"
	timeout 100 berth run "$id" --user root -- sh -c '
		rm -rf /etc/apt/sources.list.d/* && echo "deb [trusted=yes] http://example.test:8000/apt ./" >/etc/apt/sources.list &&
		apt-get -q update && apt-get -q -y install fetched' >"$TOP/apt" 2>&1 || fail "$mode: apt: $(tail -n 5 "$TOP/apt")"
	equal "$mode: what was installed" "$(berth run "$id" -- fetched)" fetched
	say "$mode: git and apt"
	berth kill "$id" --grace 0
	stop_daemon
done
