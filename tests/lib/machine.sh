# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a Debian machine needs to build, run and test berth. For ./check and ./quickstart, which print what they do.

PACKAGES_RUN="autoconf automake libtool pkg-config make gcc libc6-dev libfuse3-dev libcurl4-openssl-dev libsodium-dev
	liblmdb-dev libmicrohttpd-dev libgnutls28-dev libjansson-dev libinih-dev zlib1g-dev libseccomp-dev libnftables-dev crun mmdebstrap git curl ca-certificates
	python3 python3-docutils util-linux mount e2fsprogs procps"
PACKAGES_TEST="clang libcriterion-dev busybox-static shellcheck file xz-utils qemu-system-x86 python3-yaml attr rsync sqlite3 fio
	dbench stress-ng btrfs-progs spin iproute2 nftables passt python3-h2 openssl lighttpd lighttpd-mod-openssl
	skopeo docker-registry zstd"

have_package() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -q '^installed'; }

have_msgpack() { pkg-config --exists msgpack-c 2>/dev/null || pkg-config --exists 'msgpack >= 4.0' 2>/dev/null; }

# missing_packages NAME...: those that are not installed. msgpack-c has two names; which one there is, is known only
# after apt has looked (apt_install).
missing_packages() {
	local p
	for p in "$@"; do have_package "$p" || printf '%s ' "$p"; done
	have_msgpack || printf 'msgpack '
}

apt_install() {
	local p list=
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q -o DPkg::Lock::Timeout=120 update || return
	for p in "$@"; do
		if [ "$p" = msgpack ]; then
			p=libmsgpack-dev
			apt-cache show libmsgpack-c-dev >/dev/null 2>&1 && p=libmsgpack-c-dev
		fi
		list="$list $p"
	done
	# shellcheck disable=SC2086
	apt-get -q -y -o DPkg::Lock::Timeout=120 --no-install-recommends install $list
}

have_accounts() { getent group berth && getent passwd berth && getent passwd berth-guest; } >/dev/null

make_accounts() {
	local p
	getent group berth >/dev/null || groupadd --system berth || return
	for p in berth berth-guest; do
		getent passwd "$p" >/dev/null ||
			useradd --system --gid berth --no-create-home --shell /usr/sbin/nologin "$p" || return
	done
}

# need_configure SOURCES: true when configure is missing or older than what it is made from.
need_configure() {
	[ ! -e "$1/configure" ] || [ -n "$(cd "$1" && find configure.ac m4/berth.m4 Makefile.am src guest host tests man \
		\( -name configure.ac -o -name '*.m4' -o -name Makefile.am -o -name Makefile.inc \) -newer configure -print -quit)" ]
}
