#!/bin/bash
# The first process of a lab host: gives it folders of its own, then waits until it is killed, reaping orphans.
# All below /etc and /var that the host changes stays in its own memory: the machine's files are only read.
set -eu
hostname "$1"
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 lab /run
mkdir -p /run/lock /run/libvirt /run/buckler /run/lab/channel /run/lab/console /run/lab/boot
for top in etc var; do
    mkdir -p "/run/lab/overlay/$top/upper" "/run/lab/overlay/$top/work"
    mount -t overlay lab -o "lowerdir=/$top,upperdir=/run/lab/overlay/$top/upper,workdir=/run/lab/overlay/$top/work" "/$top"
done
rm -rf /etc/libvirt/qemu/networks/autostart /etc/libvirt/hooks /var/lib/buckler /etc/buckler
mkdir -p /etc/libvirt/hooks /etc/libvirt/qemu /var/lib/libvirt/images /var/log/libvirt/qemu /var/lib/buckler /etc/buckler
touch /run/lab/ready
while :; do
    sleep 3600 &
    wait $! || true
done
