#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds kubelite and runs its tests, on a bare Debian 12 as root: missing packages are installed.
#
#   sh tests/run.sh                         everything
#   sh tests/run.sh unit cluster            these groups: lint unit fuzz daemon cluster upstream vm
#   sh tests/run.sh test_lease              what has this in its name, in all groups
#   sh tests/run.sh cluster test_lease      both
#
# The last line is "N passed, N failed, N skipped"; the exit status is 0 only if nothing failed. With CI=true or
# KUBELITE_TEST_MUST_RUN=1 a skip for a missing part counts as a failure.
#
#   KUBELITE_BUILD_DIR       build directories rel/ and san/ (ASan+UBSan), default /var/tmp/kubelite-build
#   KUBELITE_TEST_CACHE      Kubernetes and virtual machines, built once, default /var/cache/kubelite-tests
#   KUBELITE_TEST_JOBS       files of daemon tests at a time, default 3: they mostly wait
#   KUBELITE_TEST_KEEP=1     leaves the directories of nodes and clusters for inspection
#   KUBELITE_TEST_SANITIZE=0 no sanitizer build
set -u

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/debian.sh
. "$here/support/debian.sh"
root=$(dirname "$here")
builds=${KUBELITE_BUILD_DIR:-/var/tmp/kubelite-build}
python=/usr/bin/python3
ALL_GROUPS="lint unit fuzz daemon cluster vm upstream"
DEFAULT_GROUPS="lint unit fuzz daemon cluster vm"

BUILD_PACKAGES="gcc libc6-dev linux-libc-dev musl-tools meson ninja-build pkg-config libuv1-dev libwebsockets-dev
        libwebsockets-evlib-uv libssl-dev libnghttp2-dev libjansson-dev libyaml-dev libseccomp-dev libcurl4-openssl-dev
        libarchive-dev libisal-dev libzstd-dev libmnl-dev libnftnl-dev libprotobuf-c-dev protobuf-c-compiler libcmocka-dev"
TEST_PACKAGES="python3 python3-pytest python3-pytest-timeout python3-pytest-xdist python3-yaml python3-cryptography
        busybox-static curl zstd iproute2 nftables iptables conntrack ca-certificates"
LINT_PACKAGES="python3 python3-pytest python3-pytest-timeout python3-yaml python3-cryptography clang-format pyflakes3"
DAEMON_PACKAGES="docker-registry containernetworking-plugins python3-grpcio prometheus e2fsprogs mount runc"
CLUSTER_PACKAGES="etcd-server"
UPSTREAM_PACKAGES="nginx-light netcat-openbsd"
VM_PACKAGES="qemu-system-x86 debootstrap cpio e2fsprogs"

heading() {
        printf '\n=== %s\n' "$*"
}

wants() {
        case " $groups " in *" $1 "*) return 0 ;; esac
        return 1
}

needs_build() {
        [ "$groups" != lint ]
}

packages() {
        p=$LINT_PACKAGES
        needs_build && p="$p $BUILD_PACKAGES $TEST_PACKAGES"
        if wants daemon || wants cluster || wants upstream; then p="$p $DAEMON_PACKAGES"; fi
        if wants cluster || wants upstream; then p="$p $CLUSTER_PACKAGES"; fi
        wants upstream && p="$p $UPSTREAM_PACKAGES"
        wants vm && p="$p $VM_PACKAGES"
        echo "$p"
}

# build DIRECTORY MESON-OPTION...
build() {
        b=$1
        shift
        heading "building in $b"
        mkdir -p "$builds"
        # A directory may be of another checkout.
        if [ ! -e "$b/build.ninja" ] || [ "$(cat "$b.source" 2>/dev/null)" != "$root" ]; then
                rm -rf "$b"
                echo "$root" >"$b.source"
                CC=${CC:-gcc} meson setup "$@" "$b" "$root" >"$b.log" 2>&1 || { cat "$b.log"; return 1; }
        fi
        ninja -C "$b" >"$b.log" 2>&1 || { grep -vE '^\[[0-9]+/[0-9]+\]' "$b.log" | tail -n 100; return 1; }
}

failed() {
        echo "FAILED: $*"
        echo "0 1 0" >>"$results"
}

# meson_group SUITE BUILD
meson_group() {
        heading "$1 ($(basename "$2"))"
        # shellcheck disable=SC2086
        $python "$here/support/summary.py" meson "$2" "$1" "$results" $patterns || failed "meson test $1"
}

# pytest_group GROUP BUILD [JOBS]: the pattern selects by name; no test at all is fine.
pytest_group() {
        heading "$1${2:+ ($(basename "$2"))}"
        [ -d "$here/$1" ] || return 0
        junit=$scratch/junit.xml
        rm -f "$junit"
        sanitized=0
        [ "$2" = "$builds/san" ] && sanitized=1
        # shellcheck disable=SC2086
        (cd "$here" && KUBELITE_BUILD=$2 KUBELITE_SANITIZED=$sanitized $python -B -m pytest -p no:cacheprovider \
                --timeout=600 --junitxml="$junit" -q ${3:+-n $3 --dist loadfile} -k "$expression" "$1")
        r=$?
        case $r in
        0 | 1 | 5) $python "$here/support/summary.py" junit "$junit" "$results" "$r" || failed "pytest $1" ;;
        *) failed "pytest $1: status $r" ;;
        esac
}

groups=
patterns=
expression=
for a in "$@"; do
        case " $ALL_GROUPS " in
        *" $a "*) groups="$groups${groups:+ }$a" ;;
        *)
                patterns="$patterns $a"
                expression="$expression${expression:+ or }$a"
                ;;
        esac
done
groups=${groups:-$DEFAULT_GROUPS}

if [ "$(id -u)" != 0 ]; then
        echo "run.sh: these tests make namespaces, mounts and cgroups: run as root" >&2
        exit 1
fi
# A leaked locale, a proxy or a Python of the user's own must not change what is tested.
unset PYTHONPATH PYTHONHOME KUBECONFIG
export LC_ALL=C.UTF-8 PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

scratch=$(mktemp -d /tmp/kubelite-run.XXXXXX)
results=$scratch/results
: >"$results"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# shellcheck disable=SC2046
install_packages $(packages) || failed "packages"
rel= san=
if needs_build; then
        if build "$builds/rel"; then rel=$builds/rel; else failed "release build"; fi
        if [ "${KUBELITE_TEST_SANITIZE:-1}" = 1 ] && { wants unit || wants fuzz || wants daemon; }; then
                if build "$builds/san" --buildtype=debug -Db_sanitize=address,undefined -Db_lundef=false; then
                        san=$builds/san
                else
                        failed "sanitizer build"
                fi
        fi
fi

wants lint && pytest_group lint ""
for b in $rel $san; do
        wants unit && meson_group unit "$b"
        wants fuzz && meson_group fuzz "$b"
        wants daemon && pytest_group daemon "$b" "${KUBELITE_TEST_JOBS:-3}"
done
if wants cluster && [ -n "$rel" ]; then
        sh "$here/support/build-kubernetes.sh" || failed "building Kubernetes"
        pytest_group cluster "$rel"
fi
if wants upstream && [ -n "$rel" ] && [ -z "$patterns" ]; then
        heading "upstream"
        sh "$here/support/build-kubernetes.sh" --e2e || failed "building Kubernetes"
        KUBELITE_BUILD=$rel $python -B "$here/cluster/upstream/run" --results "$results" || true
fi
wants vm && [ -n "$rel" ] && pytest_group vm "$rel"

echo
$python "$here/support/summary.py" total "$results" "$patterns"
