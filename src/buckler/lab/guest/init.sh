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
        lab.vlan=*) vlan=${word#*=} ;;
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
card=eth0
if [ -n "$vlan" ]; then
    echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6
    # QEMU 7.2 forgets which VLANs a card asked for when its guest moves; a card that takes all needs no such list.
    ip link set eth0 promisc on up
    card=eth0.$vlan
    ip link add link eth0 name "$card" type vlan id "$vlan"
    ip link set "$card" mtu 1446
fi
[ -e "/sys/class/net/$card" ] && configure "$card" "$ipv4" "$ipv6"

probe serve "$name" "${upstream:--}" $serve &
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat "$port/name")" = io.buckler.lab ]; then probe agent "/dev/${port##*/}" & fi
done
echo "guest $name ready after $(cut -d' ' -f1 /proc/uptime) s"
exec setsid sh -c 'while :; do sh </dev/ttyS0 >/dev/ttyS0 2>&1; sleep 1; done'
