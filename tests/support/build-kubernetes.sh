#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds Kubernetes from Debian's own source package, so that the cluster tests have a real API server.
#
#   build-kubernetes.sh [target...]     default: kube-apiserver, kube-controller-manager, kube-scheduler
#   build-kubernetes.sh --e2e           also ginkgo, e2e.test and agnhost
#   build-kubernetes.sh --print-bin     says where the programs are, builds nothing
#
# The programs appear one by one, by rename, in ${KUBELITE_TEST_CACHE}/kubernetes-VERSION/bin. The source tree with its
# compiled packages stays beside them, so that further targets take less. The log is build.log in the same directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/debian.sh
. "$here/debian.sh"

VERSION=1.20.2
CACHE=${KUBELITE_TEST_CACHE:-/var/cache/kubelite-tests}
HOME_DIR=$CACHE/kubernetes-$VERSION
BIN=$HOME_DIR/bin
SRC=$HOME_DIR/src
LOG=$HOME_DIR/build.log
DEFAULT_TARGETS="cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler"
E2E_TARGETS="vendor/github.com/onsi/ginkgo/ginkgo test/e2e/e2e.test test/images/agnhost"
PACKAGES="golang-go jq rsync gcc libc6-dev make dpkg-dev golang-github-modern-go-reflect2-dev"

say() {
        echo "build-kubernetes: $*" >&2
}

unpack_source() {
        [ ! -e "$SRC/.unpacked" ] || return 0
        rm -rf "$HOME_DIR/apt" "$HOME_DIR/unpack" "$SRC"
        mkdir -p "$HOME_DIR/unpack"
        apt_aside_init "$HOME_DIR/apt" deb-src bookworm
        (cd "$HOME_DIR/unpack" && apt_aside "$HOME_DIR/apt" source --download-only kubernetes && dpkg-source -x ./*.dsc tree)
        repair_reflect2 "$HOME_DIR/unpack/tree"
        touch "$HOME_DIR/unpack/tree/.unpacked"
        mv "$HOME_DIR/unpack/tree" "$SRC"
        rm -rf "$HOME_DIR/apt" "$HOME_DIR/unpack"
}

# The vendored reflect2 1.0.1 reads Go's map iterator by its old layout: with Go 1.18 and later every JSON write of a
# map panics in the server. Debian's 1.0.2 is right for its own Go.
repair_reflect2() {
        good=/usr/share/gocode/src/github.com/modern-go/reflect2
        bad=$1/vendor/github.com/modern-go/reflect2
        [ -d "$good" ] && [ -d "$bad" ]
        find "$bad" -name '*.go' -delete
        find "$bad" -name '*.s' -delete
        (cd "$good" && find . -maxdepth 1 \( -name '*.go' -o -name '*.s' \) ! -name '*_test.go') | while read -r f; do
                cp "$good/$f" "$bad/$f"
        done
}

# A make that was cut off leaves empty generated files which a second one takes for good.
make_targets() {
        [ ! -e "$SRC/.making" ] || { say "an earlier build was cut off, starting again"; rm -rf "$SRC/_output"; }
        touch "$SRC/.making"
        (cd "$SRC" && GOFLAGS= nice -n 10 make WHAT="$*" KUBE_GIT_VERSION=v$VERSION \
                KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_TREE_STATE=archive KUBE_GIT_COMMIT=debian)
        rm "$SRC/.making"
        mkdir -p "$BIN"
        for t in "$@"; do
                n=$(basename "$t")
                strip -o "$BIN/.$n.new" "$SRC/_output/bin/$n" 2>/dev/null || cp "$SRC/_output/bin/$n" "$BIN/.$n.new"
                mv "$BIN/.$n.new" "$BIN/$n"
        done
}

build() {
        # shellcheck disable=SC2086
        install_packages $PACKAGES
        unpack_source
        make_targets "$@"
}

wanted=
case "${1:-}" in
--print-bin)
        echo "$BIN"
        exit 0
        ;;
--e2e)
        wanted="$DEFAULT_TARGETS $E2E_TARGETS"
        ;;
"")
        wanted=$DEFAULT_TARGETS
        ;;
*)
        wanted=$*
        ;;
esac

mkdir -p "$HOME_DIR"
exec 9>"$HOME_DIR/lock"
flock 9
missing=
for t in $wanted; do
        [ -x "$BIN/$(basename "$t")" ] || missing="$missing $t"
done
[ -n "$missing" ] || exit 0
say "building$missing (once, about ten minutes; log: $LOG)"
started=$(date +%s)
# Not "if build": set -e would be off inside of it.
set +e
# shellcheck disable=SC2086
(set -e; build $missing) >"$LOG" 2>&1 9>&-
r=$?
set -e
if [ "$r" -ne 0 ]; then
        tail -n 20 "$LOG" >&2
        say "failed, see $LOG"
        exit 1
fi
say "done after $(($(date +%s) - started)) s: $BIN"
