#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a VM test needs beside the build: vm-fetch.sh CACHE leaves in that directory
#
#	vmlinuz			a kernel of this machine's own distribution (its "cloud" flavour: small)
#	modules/NN-name.ko	the modules for virtio-vsock and an ext4 disk, to be inserted in this order
#	vhost-device-vsock	the host half of the device
#
# Nothing is installed: packages are downloaded and unpacked. The last one is in Debian's newest suite only, so its index
# is read with a private configuration of apt, from the mirror that this machine uses anyway. A second call does
# nothing.
set -eu -o pipefail
export LC_ALL=C
cache=$1
# New name, new contents: raise it when what is kept here changes.
done=$cache/vm-1
log=$cache/vm-fetch.log
[ -e "$done/complete" ] && exit 0
no() { echo "$*"; exit 77; }
command -v apt-get >/dev/null || no "needs apt-get"
command -v busybox >/dev/null || no "needs busybox"
[ "$(dpkg --print-architecture)" = amd64 ] || no "needs an amd64 machine"
mkdir -p "$cache"
work=$(mktemp -d "$cache/vm-new.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/deb" "$work/out/modules"
: >"$log"

# The first Debian mirror of this machine's configuration.
mirror() {
	# shellcheck disable=SC2016 # the names are apt's
	apt-get indextargets --format '$(CREATED_BY) $(LABEL) $(ORIGIN) $(REPO_URI)' 2>/dev/null |
		awk '$1 == "Packages" && $2 == "Debian" && $3 == "Debian" { print $4; exit }'
}

# Indexes of two suites, in a place of our own: the machine's lists are neither read nor changed.
private_apt() {
	apt-get -q -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
		-o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=2 \
		-o Acquire::http::Timeout=20 -o APT::Update::Post-Invoke-Success::= "$@" >>"$log" 2>&1
}

private_cache() {
	apt-cache -o Dir::State::lists="$work/apt/lists" -o Dir::Cache="$work/apt/cache" \
		-o Dir::Etc::sourcelist="$work/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null "$@"
}

use_suite() {
	local uri key
	uri=$(mirror)
	[ -n "$uri" ] || no "this machine's apt knows no Debian mirror (apt-get update?)"
	key=$(find /usr/share/keyrings -name 'debian-archive-keyring.*' | sort -r | head -n 1)
	printf 'deb %s %s %s main\n' "${key:+[signed-by=$key]}" "$uri" "$1" >"$work/apt/sources.list"
	private_apt update || no "no index of $1 can be had: $(tail -n 1 "$log")"
}

# get PACKAGE: download and unpack it below $work/PACKAGE.
get() {
	rm -f "$work/deb"/*
	(cd "$work/deb" && private_apt download "$1") || no "package $1 cannot be had: $(tail -n 1 "$log")"
	mkdir "$work/$1"
	dpkg-deb -x "$work/deb"/*.deb "$work/$1"
}

. /etc/os-release
use_suite "${VERSION_CODENAME:?}"
kernel=$(private_cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\).*/\1/p')
kernel=${kernel%%$'\n'*}
[ -n "$kernel" ] || no "this distribution has no kernel for virtual machines"
get "$kernel"
root=$work/$kernel
version=${kernel#linux-image-}
cp "$root/boot/vmlinuz-$version" "$work/out/vmlinuz"
[ -d "$root/lib/modules" ] || root=$root/usr

# The order: what a module needs stands before it.
wanted=(virtio_pci virtio_mmio virtio_blk vmw_vsock_virtio_transport crc32c_generic ext4)
find "$root/lib/modules" -name '*.ko.xz' -exec unxz {} +
mkdir -p "$work/dep/lib/modules"
ln -s "$(cd "$root/lib/modules" && pwd)/$version" "$work/dep/lib/modules/$version"
(cd "$root/lib/modules/$version" && busybox depmod -b "$work/dep" "$version") >>"$log" 2>&1 ||
	no "depmod failed: $(tail -n 1 "$log")"
python3 - "$root/lib/modules/$version" "$work/out/modules" "${wanted[@]}" <<'PY' >>"$log"
import os, shutil, sys
top, to, wanted = sys.argv[1], sys.argv[2], sys.argv[3:]
needs = {}
for line in open(top + "/modules.dep"):
    name, _, rest = line.partition(":")
    needs[name] = rest.split()
by_name = {os.path.basename(p)[:-3].replace("-", "_"): p for p in needs}
order = []
def visit(p):
    for q in needs[p]:
        visit(q)
    if p not in order:
        order.append(p)
for w in wanted:
    if w in by_name:  # else it is built in
        visit(by_name[w])
for i, p in enumerate(order):
    shutil.copy(os.path.join(top, p), f"{to}/{i:02d}-{os.path.basename(p)}")
    print(p)
PY

if command -v vhost-device-vsock >/dev/null; then
	cp "$(command -v vhost-device-vsock)" "$work/out/vhost-device-vsock"
else
	use_suite sid
	get vhost-device-vsock
	cp "$work/vhost-device-vsock/usr/bin/vhost-device-vsock" "$work/out/"
fi
"$work/out/vhost-device-vsock" --version >>"$log" 2>&1 || no "vhost-device-vsock does not run here: $(tail -n 1 "$log")"
echo "$kernel" >"$work/out/complete"
rm -rf "$done"
mv "$work/out" "$done"
