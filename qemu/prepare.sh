#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# In the guest: set up what selftests look for, then become the program in $@, with what variables
# precede it.
#
#   swap           256 MiB on zram
#   /home/disk     ext2 on zram, for direct I/O; the working directory of the program
set -e

zram() {
	echo "$2" >"/sys/block/zram$1/disksize"
	[ -b "/dev/zram$1" ]
}

cat /sys/class/zram-control/hot_add >/dev/null
zram 0 256M
mkswap /dev/zram0 >/dev/null
swapon /dev/zram0
zram 1 64M
mke2fs -b 4096 /dev/zram1 >/dev/null
mkdir -p /home/disk
mount -t ext2 /dev/zram1 /home/disk
cd /home/disk
while [ "${1#*=}" != "$1" ]; do
	export "${1?}"
	shift
done
exec "$@"
