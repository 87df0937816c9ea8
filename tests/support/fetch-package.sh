#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Unpacks a Debian package aside, without installing it, for tests that need another version than this machine's, or one
# that conflicts with what is installed.
#
#   fetch-package.sh SUITE PACKAGE     prints the directory below which its files are
#
# Packages stay in ${KUBELITE_TEST_CACHE}/packages. apt is used with lists and sources of its own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/debian.sh
. "$here/debian.sh"

suite=$1 package=$2
base=${KUBELITE_TEST_CACHE:-/var/cache/kubelite-tests}/packages/$suite
target=$base/$package
apt=$base/.apt

apt_of_suite() {
        apt-get -q -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
                -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root "$@" >&2
}

mkdir -p "$base"
exec 9>"$base/.lock"
flock 9
if [ ! -d "$target" ]; then
        rm -rf "$apt" "$base/.new"
        mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$base/.new"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $suite main" >"$apt/sources.list"
        apt_of_suite update
        (cd "$base/.new" && apt_of_suite download "$package" && dpkg-deb -x ./*.deb root)
        mv "$base/.new/root" "$target"
        rm -rf "$apt" "$base/.new"
fi
echo "$target"
