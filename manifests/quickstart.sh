#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds kubelite and runs a node of its own kind on this machine: standalone, without a cluster, with one pod. Root on a
# bare Debian 12 is all that it needs: missing packages are installed. Called again, it goes on with what is there.
#
#   sh manifests/quickstart.sh           build, start the node, show its pod
#   sh manifests/quickstart.sh --down    remove everything that this made (packages stay)
#
# Nothing of the machine's own Kubernetes, if it has one, is touched: directories, cgroups, bridge and CNI configuration are
# the node's own.
#
#   KUBELITE_BUILD_DIR            the build is in quickstart/ below this, default /var/tmp/kubelite-build
#   KUBELITE_QUICKSTART_DIR       images, volumes, logs; default /var/tmp/kubelite-quickstart
#   KUBELITE_QUICKSTART_RUN_DIR   what runs now; default /run/kubelite-quickstart
#   KUBELITE_QUICKSTART_SUBNET    addresses of pods, default 10.231.77.0/24
set -eu

here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
builds=${KUBELITE_BUILD_DIR:-/var/tmp/kubelite-build}
build=$builds/quickstart
dir=${KUBELITE_QUICKSTART_DIR:-/var/tmp/kubelite-quickstart}
run=${KUBELITE_QUICKSTART_RUN_DIR:-/run/kubelite-quickstart}
subnet=${KUBELITE_QUICKSTART_SUBNET:-10.231.77.0/24}
bridge=klquickstart
group=$(basename "$run")
node=quickstart
pod=hello-$node
image=localhost/busybox:quickstart
log=$dir/kubelite.log
pidfile=$run/kubelite.pid
kubelite=$build/kubelite/kubelite

PACKAGES="gcc libc6-dev linux-libc-dev musl-tools meson ninja-build pkg-config libuv1-dev libwebsockets-dev
        libwebsockets-evlib-uv libssl-dev libnghttp2-dev libjansson-dev libyaml-dev libseccomp-dev libcurl4-openssl-dev
        libarchive-dev libisal-dev libzstd-dev libmnl-dev libnftnl-dev libprotobuf-c-dev protobuf-c-compiler
        busybox-static curl"
TARGETS="kubelite/kubelite kubelite/shim/kubelite-shim kubelite/image/worker/kubelite-image cni/plugins/bridge
        cni/plugins/host-local cni/plugins/portmap"

export LC_ALL=C.UTF-8 PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

say() {
        printf '\n==> %s\n' "$*"
}

die() {
        printf 'quickstart: %s\n' "$*" >&2
        exit 1
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds. On time-out the end of the node's log tells why.
wait_for() {
        tries=$(($1 * 10))
        what=$2
        shift 2
        while ! "$@" >/dev/null 2>&1; do
                tries=$((tries - 1))
                if [ $tries -le 0 ]; then
                        [ ! -e "$log" ] || { echo "the node's log ($log) ends so:"; tail -n 20 "$log"; } >&2
                        die "$what: waited in vain"
                fi
                sleep 0.1
        done
}

# --- building ---

install_missing() {
        # shellcheck source=tests/support/debian.sh disable=SC1091
        . "$source/tests/support/debian.sh"
        command -v apt-get >/dev/null || die "no apt-get: install these (Debian's names) and try again: $PACKAGES"
        # shellcheck disable=SC2086
        install_packages $PACKAGES || die "packages could not be installed"
}

compile() {
        mkdir -p "$builds"
        if [ ! -e "$build/build.ninja" ]; then
                rm -rf "$build"
                meson setup --buildtype=plain -Doptimization=2 "$build" "$source" >"$build.log" 2>&1 ||
                        { tail -n 40 "$build.log" >&2; die "meson setup failed"; }
        fi
        # shellcheck disable=SC2086
        ninja -C "$build" $TARGETS >"$build.log" 2>&1 || { grep -v '^\[' "$build.log" | tail -n 40 >&2; die "the build failed"; }
        rm -f "$build.log"
}

# --- the image: what `docker save` would write, of a static busybox ---

digest() {
        sha256sum "$1" | cut -d ' ' -f 1
}

pack() {
        tar --format=ustar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$1" -cf "$2" .
}

make_image() {
        t=$dir/image
        rm -rf "$t"
        mkdir -p "$t/root/bin" "$t/root/etc" "$t/root/www" "$t/root/tmp" "$t/out"
        chmod 1777 "$t/root/tmp"
        cp /bin/busybox "$t/root/bin/busybox"
        for name in $(/bin/busybox --list); do
                [ "$name" = busybox ] || echo "$t/root/bin/$name"
        done | xargs -n 1 ln -f "$t/root/bin/busybox"
        echo 'root:x:0:0:root:/:/bin/sh' >"$t/root/etc/passwd"
        echo 'root:x:0:' >"$t/root/etc/group"
        pack "$t/root" "$t/out/layer.tar"
        case $(uname -m) in
        x86_64) machine=amd64 ;;
        aarch64) machine=arm64 ;;
        *) machine=$(uname -m) ;;
        esac
        cat >"$t/out/config.json" <<JSON
{"architecture":"$machine","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},
"rootfs":{"type":"layers","diff_ids":["sha256:$(digest "$t/out/layer.tar")"]}}
JSON
        name=$(digest "$t/out/config.json").json
        mv "$t/out/config.json" "$t/out/$name"
        echo "[{\"Config\":\"$name\",\"RepoTags\":[\"$image\"],\"Layers\":[\"layer.tar\"]}]" >"$t/out/manifest.json"
        pack "$t/out" "$dir/busybox.tar"
        rm -rf "$t"
}

# --- the node ---

cli() {
        c=$1
        shift
        "$kubelite" "$c" --state-dir="$run/state" "$@"
}

# A process id that the system has given to somebody else meanwhile is not ours.
running() {
        pid=$(cat "$pidfile" 2>/dev/null) || return 1
        [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q -- "--state-dir=$run/state "
}

stopped() {
        ! running
}

# Answers, or has ended.
started() {
        cli version || ! kill -0 "$1"
}

configure() {
        mkdir -p "$dir/manifests" "$dir/net.d" "$dir/cni" "$dir/logs" "$run"
        chmod 700 "$run"
        [ -e "$dir/ip_forward" ] || cat /proc/sys/net/ipv4/ip_forward >"$dir/ip_forward"
        sed -e "s|@DATA@|$dir/cni|" -e "s|@SUBNET@|$subnet|" "$here/quickstart.conflist" >"$dir/net.d/10-quickstart.conflist"
        cat >"$dir/config.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /$group
staticPodPath: $dir/manifests
podLogsDir: $dir/logs/pods
failSwapOn: false
enableServer: false
healthzPort: 0
YAML
}

start_daemon() {
        configure
        setsid "$kubelite" --config="$dir/config.yaml" --root-dir="$dir/kubelet" --state-dir="$run/state" \
                --image-dir="$dir/store/images" --cni-conf-dir="$dir/net.d" --cert-dir="$dir/pki" --registries="$dir/registries.yaml" \
                --hostname-override="$node" --node-ip="${KUBELITE_QUICKSTART_NODE_IP:-127.0.0.1}" </dev/null >>"$log" 2>&1 &
        echo $! >"$pidfile"
        wait_for 15 "the node's start" started $!
        running || { tail -n 5 "$log" >&2; die "the node has ended at once"; }
}

# Pods are no business of this: they go on.
stop_daemon() {
        running || return 0
        kill -TERM "$pid"
        wait_for 15 "the node's end" stopped
}

pod_ready() {
        cli pods -o json | tr -d ' \n' | grep -q "\"name\":\"$pod\"[^{}]*\"ready\":true"
}

pod_address() {
        cli pods -o json | tr -d ' \n' | sed -n "s/.*\"name\":\"$pod\"[^{}]*\"ip\":\"\([^\"]*\)\".*/\1/p"
}

sidecar_has_fetched() {
        cli logs "$pod" sidecar | grep -q Hello
}

show() {
        say "kubelite pods"
        cli pods
        say "kubelite ps"
        cli ps
        say "kubelite logs $pod sidecar"
        cli logs "$pod" sidecar --tail 1
        address=$(pod_address)
        say "a request to the pod: http://$address:8080/"
        curl --noproxy '*' -sS --max-time 5 "http://$address:8080/" || die "the pod at $address does not answer"
        say "The node runs; its log is $log. Look around with
      $kubelite pods --state-dir=$run/state
    and put more pods into $dir/manifests. End it all with
      sh $0 --down"
}

up() {
        say "Building (in $build)"
        install_missing
        compile
        say "Starting a node"
        stop_daemon
        mkdir -p "$dir"
        start_daemon
        make_image
        cli import "$dir/busybox.tar"
        rm -f "$dir/busybox.tar"
        # By rename: the node never sees half a file.
        cp "$here/hello.yaml" "$dir/manifests/.hello.new"
        mv "$dir/manifests/.hello.new" "$dir/manifests/hello.yaml"
        wait_for 30 "pod $pod Ready" pod_ready
        wait_for 10 "a page fetched by the sidecar" sidecar_has_fetched
        show
}

# --- removing ---

# Neither in the node's eyes nor on its records, those of the network included.
no_pods() {
        [ -z "$(cli pods -q)$(find "$run/state/pods" "$dir/store/cni" -mindepth 1 -maxdepth 1 -name '[0-9a-f]*')" ]
}

# A node without manifests ends its pods; one that has been killed is started again for that.
delete_pods() {
        [ -n "$(ls "$run/state/pods" 2>/dev/null)" ] || return 0
        [ -x "$kubelite" ] || return 0
        rm -f "$dir"/manifests/*
        running || (start_daemon) || return 0
        (wait_for 30 "the end of the pods" no_pods) || true
}

# What no node is left to clean: processes by their cgroup, namespaces by the pods' records, mounts by their place.
group_dirs() {
        for d in /sys/fs/cgroup/"$group" /sys/fs/cgroup/*/"$group"; do
                [ -d "$d" ] && find "$d" -depth -type d
        done
        return 0
}

kill_groups() {
        for _ in 1 2 3 4 5; do
                pids=$(group_dirs | while read -r d; do cat "$d/cgroup.procs" 2>/dev/null; done | sort -u)
                [ -n "$pids" ] || return 0
                group_dirs | while read -r d; do
                        [ ! -e "$d/freezer.state" ] || echo THAWED >"$d/freezer.state"
                done
                for p in $pids; do
                        kill -KILL "$p" 2>/dev/null || true
                done
                sleep 0.2
        done
        die "processes of the pods do not end: $pids"
}

unpin_namespaces() {
        for record in "$run"/state/pods/*/sandbox.json; do
                [ -e "$record" ] || continue
                id=$(sed -n 's/.*"id":"\([0-9a-f]\{64\}\)".*/\1/p' "$record")
                [ -e "/run/netns/${id:-none}" ] || continue
                umount -l "/run/netns/$id" 2>/dev/null || true
                rm -f "/run/netns/$id"
        done
}

unmount_below() {
        awk -v a="$dir/" -v b="$run/" 'index($5, a) == 1 || index($5, b) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
                while read -r m; do umount -l "$m" 2>/dev/null || true; done
}

down() {
        delete_pods
        stop_daemon
        kill_groups
        unpin_namespaces
        unmount_below
        group_dirs | while read -r d; do rmdir "$d" 2>/dev/null || true; done
        if grep -q "^ *$bridge:" /proc/net/dev; then
                /bin/busybox ip link del "$bridge"
        fi
        if [ -e "$dir/ip_forward" ]; then
                cat "$dir/ip_forward" >/proc/sys/net/ipv4/ip_forward
        fi
        rm -rf "$dir" "$run" "$build" "$build.log"
        rmdir "$builds" 2>/dev/null || true
        say "Removed"
}

[ "$(id -u)" = 0 ] || die "a node makes namespaces, mounts and cgroups: run as root"
[ "$(uname -s)" = Linux ] || die "kubelite runs on Linux"
case ${1:-} in
'') up ;;
--down) down ;;
-h | --help) sed -n '3,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" ;;
*) die "unknown argument '$1'; see --help" ;;
esac
