# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the tests of the packages share; sourced with SUITE and BUILD as arguments. Roots of a release are made once, by
# mmdebstrap from the mirror that this machine's apt uses, and kept in BERTH_CACHE.
set -eu -o pipefail
export LC_ALL=C
SUITE=$1 BUILD=$(realpath "$2")
HERE=$(dirname "$(realpath "$0")")
CACHE=${BERTH_CACHE:-/var/cache/berth-test}
no() { echo "$*"; exit 77; }
[ "$(id -u)" = 0 ] || no "needs root"
command -v mmdebstrap >/dev/null || no "needs mmdebstrap"
command -v busybox >/dev/null || no "needs busybox"
# The loopback file of a workspace cannot be on a layered file system, so the state directory is a directory of this one.
WORK=$(mktemp -d "${BERTH_TMP:-/var/tmp}/bt-deb-XXXXXX")
trap 'rm -rf --one-file-system "$WORK"' EXIT

# shellcheck disable=SC2016 # the names are apt's
MIRROR=$(apt-get indextargets --format '$(CREATED_BY) $(LABEL) $(ORIGIN) $(REPO_URI)' 2>/dev/null |
	awk '$1 == "Packages" && $2 == "Debian" && $3 == "Debian" { print $4; exit }')
[ -n "$MIRROR" ] || no "this machine's apt knows no Debian mirror (apt-get update?)"
KEY=$(find /usr/share/keyrings -name 'debian-archive-keyring.*' | sort -r | head -n 1)

# root NAME OPTIONS...: the cached root NAME of SUITE, made if it is not there.
root() {
	local to=$CACHE/$1 log=$CACHE/$1.log
	shift
	[ -d "$to" ] && return 0
	mkdir -p "$CACHE"
	rm -rf --one-file-system "$to.new"
	mmdebstrap --quiet --variant=minbase --mode=root --skip=cleanup/apt/lists "$@" "$SUITE" "$to.new" \
		"deb ${KEY:+[signed-by=$KEY]} $MIRROR $SUITE main" >"$log" 2>&1 ||
		no "no root of $SUITE can be made: $(tail -n 1 "$log")"
	mv "$to.new" "$to"
}

# within NAME UPPER COMMAND...: in the cached root, with namespaces of its own and a layer for what it writes.
within() {
	local name=$1 top=$2
	shift 2
	mkdir -p "$top/up" "$top/work" "$top/m" "$top/state"
	unshare --mount --pid --fork --kill-child "$HERE/enter.sh" "$CACHE/$name" "$top" "$@"
}

key() { sed -n '/^Build-Depends/,/^Standards/p; /Depends:/p' "$1"/deploy/debian/control | sha256sum | cut -c1-8; }

# What is needed to build, and the word that the names of roots end with.
unpack() {
	local top=$HERE/../..
	archive=$(find "$BUILD" -maxdepth 1 -name 'berth-*.tar.xz' | head -n 1)
	if [ -z "$archive" ] || [ -n "$(cd "$top" && find ./*.* src guest host man deploy tests include docs templates m4 -type f \
		-newer "$archive" ! -name '*~' ! -name '*.pyc' -print -quit)" ]; then
		rm -f "$BUILD"/berth-*.tar.xz
		make -s -C "$BUILD" dist
		archive=$(find "$BUILD" -maxdepth 1 -name 'berth-*.tar.xz' | head -n 1)
	fi
	mkdir "$WORK/src"
	tar -xf "$archive" -C "$WORK/src" --strip-components=1
	needs=$(key "$WORK/src")
	# Of alternatives the first that this release has.
	deps=$(python3 - "$WORK/src/deploy/debian/control" "$SUITE" <<'PY'
import re, sys
text = re.search(r"Build-Depends:(.*?)\nStandards", open(sys.argv[1]).read(), re.S).group(1)
names = [re.sub(r"\(.*?\)", "", d).strip() for d in text.split(",")]
names = [n.split("|")[-1].strip() if sys.argv[2] == "bookworm" else n.split("|")[0].strip() for n in names]
print(",".join(["build-essential", "debhelper"] + [n for n in names if not n.startswith(("debhelper", "dh-sequence"))]))
PY
	)
	find "$CACHE" -mindepth 1 -maxdepth 1 -name "deb-$SUITE-*" ! -name "*-$needs*" -exec rm -rf --one-file-system {} + 2>/dev/null || :
}
build_packages() {
	root "deb-$SUITE-build-$needs" --include="$deps"
	local begun=$SECONDS
	mkdir -p "$WORK/build/up/src"
	cp "$archive" "$WORK/build/up/src/"
	cp "$WORK/src/deploy/make-deb" "$WORK/build/up/src/"
	within "deb-$SUITE-build-$needs" "$WORK/build" sh -ec "export DEB_BUILD_OPTIONS='noautodbgsym parallel=$(nproc)'
		sh /src/make-deb /src/$(basename "$archive") /src/out" >"$WORK/build.log" 2>&1 || {
		tail -n 30 "$WORK/build.log"
		exit 1
	}
	echo "built in $((SECONDS - begun)) s:"
	mkdir -p "$BUILD/deb/$SUITE"
	cp "$WORK"/build/up/src/out/*.deb "$BUILD/deb/$SUITE/"
}
# packages: in $WORK/debs, built or, with BERTH_DEB_REUSE=1, those of the time before.
packages() {
	unpack
	if [ -z "${BERTH_DEB_REUSE:-}" ] || [ ! -d "$BUILD/deb/$SUITE" ]; then build_packages; fi
	mkdir -p "$WORK/debs"
	cp "$BUILD/deb/$SUITE"/*.deb "$WORK/debs/"
}

# mini_tar FILE: a template of busybox alone.
mini_tar() {
	local name
	mkdir -p "$WORK/mini/bin"
	cp "$(command -v busybox)" "$WORK/mini/bin/busybox"
	for name in $("$WORK/mini/bin/busybox" --list); do
		[ -e "$WORK/mini/bin/$name" ] || ln -s busybox "$WORK/mini/bin/$name"
	done
	tar -C "$WORK/mini" -cf "$1" .
}
