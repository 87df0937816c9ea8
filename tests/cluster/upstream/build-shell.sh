#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the shell of the upstream suite's images, from Debian's source package of busybox: what is packaged drops variables
# whose names are no identifiers, which two specs look for. The source has an option against that, used by the installer.
#
#   build-shell.sh     prints the program's path; it stays in ${KUBELITE_TEST_CACHE}/busybox
set -eu
# shellcheck source=tests/support/debian.sh
. "$(cd "$(dirname "$0")/../../support" && pwd)/debian.sh"

home=${KUBELITE_TEST_CACHE:-/var/cache/kubelite-tests}/busybox
program=$home/busybox

build() {
        install_packages gcc libc6-dev make dpkg-dev bzip2
        apt_aside_init "$home/apt" deb-src bookworm
        (cd "$home" && apt_aside "$home/apt" source --download-only busybox && dpkg-source -x ./*.dsc tree)
        cd "$home/tree"
        # Without the other option the shell would run its own applets before programs of the image.
        sed -e 's/.*CONFIG_FEATURE_DI_ENV_HACK.*/CONFIG_FEATURE_DI_ENV_HACK=y/' \
                -e 's/^CONFIG_FEATURE_PREFER_APPLETS=y/# CONFIG_FEATURE_PREFER_APPLETS is not set/' \
                -e 's/^CONFIG_FEATURE_SH_STANDALONE=y/# CONFIG_FEATURE_SH_STANDALONE is not set/' debian/config/pkg/static >.config
        yes '' | make oldconfig
        make -j2 busybox
        cp busybox "$home/.new"
        mv "$home/.new" "$program"
}

mkdir -p "$home"
exec 9>"$home/lock"
flock 9
if [ ! -x "$program" ]; then
        rm -rf "$home/apt" "$home/tree"
        set +e
        (set -e; build) >"$home/build.log" 2>&1 9>&-
        r=$?
        set -e
        rm -rf "$home/apt" "$home/tree"
        [ "$r" -eq 0 ] || { tail -n 20 "$home/build.log" >&2; exit 1; }
fi
echo "$program"
