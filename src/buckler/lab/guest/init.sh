#!/bin/sh
# The first process of a lab guest: drivers, addresses from the kernel's command line, servers, command channel.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module" || echo "guest: cannot load $module"; done </modules/order

for word in $(cat /proc/cmdline); do
    case $word in
        lab.name=*) name=${word#*=} ;;
        lab.ipv4=*) ipv4=${word#*=} ;;
        lab.ipv6=*) ipv6=${word#*=} ;;
        lab.serve=*) serve=$(echo "${word#*=}" | tr , ' ') ;;
        lab.upstream=*) upstream=${word#*=} ;;
    esac
done
hostname "$name"
ip link set lo up

# Addresses are ready at once: nobody else in the lab may use them, so nobody is asked.
configure() {
    echo 0 >"/proc/sys/net/ipv6/conf/$1/accept_dad"
    echo 0 >"/proc/sys/net/ipv6/conf/$1/accept_ra"
    ip link set "$1" up
    [ -z "$2" ] || ip addr add "$2" dev "$1"
    [ -z "$3" ] || ip -6 addr add "$3" dev "$1"
}
for card in /sys/class/net/eth*; do
    [ "${card##*/}" = eth0 ] && configure eth0 "$ipv4" "$ipv6"
done

probe serve "$name" "${upstream:--}" $serve &
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name")" = io.buckler.lab ]; then probe agent "/dev/${port##*/}" & fi
done
echo "guest $name ready after $(cut -d' ' -f1 /proc/uptime) s"
exec setsid sh -c 'while :; do sh </dev/ttyS0 >/dev/ttyS0 2>&1; sleep 1; done'
