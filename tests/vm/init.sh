#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First stage in a virtual machine: loads the disk's drivers and goes on in its file system.
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t devtmpfs dev /dev
while read -r m; do
        busybox insmod "/modules/$m"
done </modules/order
busybox mount -t ext4 /dev/vda /new || { echo "no root file system"; busybox poweroff -f; }
next=/sbin/init
for w in $(busybox cat /proc/cmdline); do
        case $w in init=*) next=${w#init=} ;; esac
done
busybox umount /proc
busybox mount --move /dev /new/dev
exec busybox switch_root /new "$next"
