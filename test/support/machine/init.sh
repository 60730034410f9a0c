#!/bin/sh
# What makes a process tree a machine of its own. Started by machine.ts as PID 1 of fresh mount, PID and UTS namespaces:
# the programs and settings of this machine under a disk that can be written and is gone with the namespace.
set -eu
size=$1 name=$2
disk=/mnt # nothing outside sees what is mounted there

mount -t tmpfs -o "mode=755,size=$size" machine "$disk"
for layer in usr etc; do
  mkdir -p "$disk/$layer" "$disk/.layers/$layer" "$disk/.layers/$layer.work"
  mount -t overlay -o "lowerdir=/$layer,upperdir=$disk/.layers/$layer,workdir=$disk/.layers/$layer.work" \
    overlay "$disk/$layer"
done
cp -P /bin /sbin /lib* "$disk/" # links into /usr
cd "$disk"
mkdir -p dev proc sys root home opt srv mnt run/sshd var/lib var/log tmp var/tmp
chmod 700 root .layers
chmod 1777 tmp var/tmp
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
hostname "$name"
echo "127.0.0.1 localhost $name" >etc/hosts

# Not only a chroot: whatever enters a namespace made in here, as a container's engine does, comes out at the real root.
pivot_root . mnt
umount -l /mnt

# Bash takes in whatever is orphaned, as an init must. Its stdin is the power cord: when whoever holds the other end dies,
# however it dies, the machine ends, and the kernel ends everything on it.
# shellcheck disable=SC2016 # for that shell to expand
exec bash -c 'echo up; while read -r _; do :; done'
