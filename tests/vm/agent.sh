#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the host's commands inside a virtual machine, one line each on the second serial port:
#   RUN id base64(command)   ->   DONE id status base64(output)
# Also works as the machine's first process (init=/usr/local/sbin/test-agent): a machine without systemd.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8

if [ $$ = 1 ]; then
        mount -o remount,rw /
        mount -t proc proc /proc
        mount -t sysfs sys /sys
        mount -t devtmpfs dev /dev 2>/dev/null
        mkdir -p /dev/pts /dev/shm
        mount -t devpts devpts /dev/pts
        mount -t tmpfs shm /dev/shm
        mount -t tmpfs run /run
        mount -t tmpfs tmp /tmp
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mount --make-rshared /
        ip link set lo up
        hostname vm
fi

# The host's files: a tar archive, raw, on the second disk. Unpacked once per boot disk.
[ -b /dev/vdb ] || modprobe virtio_blk
if [ -b /dev/vdb ] && [ ! -e /.payload ]; then
        tar -x -f /dev/vdb -C / && touch /.payload
fi

stty -F /dev/ttyS1 raw -echo 115200
exec 3<>/dev/ttyS1
echo "HELLO $(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r verb id command <&3; do
        [ "$verb" = RUN ] || continue
        output=$(echo "$command" | base64 -d | bash 2>&1 3>&- | base64 -w 0; exit "${PIPESTATUS[2]}")
        echo "DONE $id $? $output" >&3
done
