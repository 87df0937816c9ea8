#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Unpacks a Debian package aside, without installing it, for tests that need another version than this machine's, or one
# that conflicts with what is installed.
#
#   fetch-package.sh SUITE PACKAGE     prints the directory below which its files are
#
# Packages stay in ${KUBELITE_TEST_CACHE}/packages.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/debian.sh
. "$here/debian.sh"

suite=$1 package=$2
base=${KUBELITE_TEST_CACHE:-/var/cache/kubelite-tests}/packages/$suite
target=$base/$package
new=$base/.new

mkdir -p "$base"
exec 9>"$base/.lock"
flock 9
if [ ! -d "$target" ]; then
        rm -rf "$new"
        mkdir -p "$new"
        apt_aside_init "$new/apt" deb "$suite" >&2
        (cd "$new" && apt_aside "$new/apt" download "$package/$suite" >&2 && dpkg-deb -x ./*.deb root)
        mv "$new/root" "$target"
        rm -rf "$new"
fi
echo "$target"
