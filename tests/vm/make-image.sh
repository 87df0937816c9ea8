#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes what the virtual machines of the tests boot: Debian's cloud kernel, an initramfs of busybox, and a root file system
# of bookworm with systemd, the libraries that kubelite is linked with, and an agent which runs the host's commands.
#
#   make-image.sh            in ${KUBELITE_TEST_CACHE}/vm-KEY: vmlinuz, initrd.gz, root.ext4; prints that directory
#   make-image.sh --print    prints it and makes nothing
#
# KEY is a digest of this script and of the agent: a change of either makes a new image.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/debian.sh
. "$here/../support/debian.sh"

CACHE=${KUBELITE_TEST_CACHE:-/var/cache/kubelite-tests}
KEY=$(cat "$here/make-image.sh" "$here/agent.sh" "$here/init.sh" | sha256sum | cut -c 1-12)
DIR=$CACHE/vm-$KEY
SIZE=1200M
GUEST_PACKAGES="systemd,systemd-sysv,udev,kmod,dbus,iproute2,nftables,iptables,busybox-static,procps,curl,ca-certificates"
GUEST_LIBRARIES="libuv1,libwebsockets17,libwebsockets-evlib-uv,libssl3,libnghttp2-14,libjansson4,libyaml-0-2,libseccomp2"
GUEST_LIBRARIES="$GUEST_LIBRARIES,libcurl4,libarchive13,libisal2,libzstd1,libmnl0,libnftnl11,libprotobuf-c1"
# In this order the first stage can load them one by one.
BOOT_MODULES="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk crc32c_generic libcrc32c
        crc16 mbcache jbd2 ext4"

unpack_kernel() {
        mkdir "$T/kernel"
        (
                cd "$T/kernel"
                name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
                [ -n "$name" ] || { apt-get update -q; name=$(apt-cache depends linux-image-cloud-amd64 |
                        sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1); }
                apt-get -o APT::Sandbox::User=root download "$name"
                dpkg -x ./*.deb tree
        )
        cp "$T"/kernel/tree/boot/vmlinuz-* "$T/out/vmlinuz"
}

make_root() {
        debootstrap --variant=minbase --include="$GUEST_PACKAGES,$GUEST_LIBRARIES" bookworm "$T/root" "$(debian_plain_mirror)"
        cp -a "$T"/kernel/tree/lib/modules "$T/root/lib/"
        depmod -b "$T/root" "$(ls "$T/root/lib/modules")"
        echo vm >"$T/root/etc/hostname"
        printf '127.0.0.1 localhost\n127.0.1.1 vm\n' >"$T/root/etc/hosts"
        install -m 755 "$here/agent.sh" "$T/root/usr/local/sbin/test-agent"
        cat >"$T/root/etc/systemd/system/test-agent.service" <<UNIT
[Unit]
Description=Runs the host's commands

[Service]
ExecStart=/usr/local/sbin/test-agent
Restart=always
RestartSec=0
KillMode=process
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
UNIT
        chroot "$T/root" systemctl -q enable test-agent.service
        # What waits for hardware, what would write to the agent's line, and what no node needs: under emulation each of
        # these costs seconds. A test that needs logind unmasks it.
        chroot "$T/root" systemctl -q mask getty.target serial-getty@ttyS0.service serial-getty@ttyS1.service \
                apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service dpkg-db-backup.timer \
                fstrim.timer systemd-timesyncd.service systemd-logind.service systemd-udev-trigger.service \
                systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-user-sessions.service \
                systemd-journal-flush.service systemd-random-seed.service modprobe@configfs.service \
                modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service \
                modprobe@loop.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
        # The root file system is there and writable when systemd starts: no unit has to wait for its device.
        : >"$T/root/etc/fstab"
        rm -rf "$T"/root/var/cache/apt/* "$T"/root/var/lib/apt/lists/* "$T"/root/usr/share/doc/* "$T"/root/usr/share/locale/*
        rm -f "$T/root/etc/machine-id"
        : >"$T/root/etc/machine-id"
        mke2fs -q -t ext4 -d "$T/root" "$T/out/root.ext4" $SIZE
}

make_initrd() {
        mkdir -p "$T/initrd/bin" "$T/initrd/modules" "$T/initrd/proc" "$T/initrd/dev" "$T/initrd/sys" "$T/initrd/new"
        cp /bin/busybox "$T/initrd/bin/busybox"
        ln -s busybox "$T/initrd/bin/sh"
        install -m 755 "$here/init.sh" "$T/initrd/init"
        for m in $BOOT_MODULES; do
                f=$(find "$T/kernel/tree/lib/modules" -name "$m.ko*" | head -n 1)
                [ -z "$f" ] || cp "$f" "$T/initrd/modules/"
                [ -z "$f" ] || basename "$f" >>"$T/initrd/modules/order"
        done
        (cd "$T/initrd" && find . | cpio -o -H newc --quiet | gzip -1) >"$T/out/initrd.gz"
}

if [ "${1:-}" = --print ] || [ -e "$DIR/root.ext4" ]; then
        echo "$DIR"
        exit 0
fi
mkdir -p "$CACHE"
exec 9>"$CACHE/vm.lock"
flock 9
[ ! -e "$DIR/root.ext4" ] || { echo "$DIR"; exit 0; }
T=$(mktemp -d "$CACHE/vm-new.XXXXXX")
trap 'rm -rf "$T"' EXIT
chmod 755 "$T"
mkdir "$T/out"
echo "make-image: making a virtual machine's disk (once, a few minutes; log: $CACHE/vm.log)" >&2
set +e
(
        set -e
        install_packages debootstrap cpio e2fsprogs busybox-static kmod
        unpack_kernel
        make_root
        make_initrd
) >"$CACHE/vm.log" 2>&1 9>&-
r=$?
set -e
[ $r -eq 0 ] || { tail -n 20 "$CACHE/vm.log" >&2; exit 1; }
# Images of earlier versions of this script are of no use any more.
find "$CACHE" -maxdepth 1 -name 'vm-????????????' -exec rm -rf {} +
mv "$T/out" "$DIR"
echo "$DIR"
