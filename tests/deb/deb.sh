#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deb.sh SUITE BUILD: builds the Debian packages of BUILD's archive ("make dist") in a root of that release, and installs them
# in a clean root of it: inside.sh is what happens there. What is written into the roots during the test goes to a layer above
# that is thrown away. Ends with 0, or 77 and the reason in the last line.
. "$(dirname "$(realpath "$0")")/lib.sh"
packages
(cd "$WORK/debs" && ls -s -h -- *.deb)
# Its own overrides are in deploy/debian. Not on every machine: it needs a hundred packages.
if command -v lintian >/dev/null; then
	lintian --allow-root --fail-on error,warning --display-info --tag-display-limit 0 "$WORK"/debs/*.deb
	echo "lintian $(lintian --version | grep -o '[0-9][0-9.]*' | head -n 1) finds nothing"
else
	echo "there is no lintian here"
fi

# A clean root, and beside it the packages that ours need, not installed.
# shellcheck disable=SC2016 # mmdebstrap's
root "deb-$SUITE-clean-$needs" --skip=cleanup/apt/cache --customize-hook='mkdir -p "$1/debs"' \
	--customize-hook="cp $WORK/debs/*.deb \"\$1/debs/\"" \
	--customize-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q -y --no-install-recommends --download-only install "$1"/debs/*.deb' \
	--customize-hook='rm -rf "$1/debs"'

mkdir -p "$WORK/clean/up/debs"
cp "$WORK"/debs/*.deb "$WORK/clean/up/debs/"
cp "$HERE/inside.sh" "$WORK/clean/up/debs/"
mini_tar "$WORK/clean/up/debs/mini.tar"
within "deb-$SUITE-clean-$needs" "$WORK/clean" bash /debs/inside.sh "$SUITE"
