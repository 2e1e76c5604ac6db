#!/bin/sh
# The first program of the machine: loads modules, puts a memory overlay over the host's root, and starts what the
# control directory asks for.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done < /modules/order

fail() { echo "init: $1"; poweroff -f; }
SHARE=trans=virtio,version=9p2000.L,msize=512000
mount -t 9p -o "$SHARE,ro,cache=loose" root /host || fail "cannot mount the host's root"
mount -t tmpfs -o size=60% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work,xino=off root /root \
    || fail "cannot mount the overlay"
for dir in proc sys dev; do mount --move "/$dir" "/root/$dir"; done
mount -t tmpfs run /root/run
mkdir -p /root/run/control /root/run/lock /root/dev/shm /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t devpts -o ptmxmode=666 pts /root/dev/pts
[ -e /root/dev/fd ] || ln -s /proc/self/fd /root/dev/fd
mount -t 9p -o "$SHARE,rw,cache=none" control /root/run/control || fail "cannot mount the control directory"
exec switch_root /root /bin/busybox sh /run/control/start
