"""The step about a network card that is plugged into a running VM, first unknown, then registered."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from buckler.lab.domain import interface_xml
from buckler.lab.host import virsh
from buckler.lab.story.cast import TENANT, Cast, wait_until
from buckler.lab.story.figures import HotplugClosed
from buckler.lab.story.probing import arrived, is_reached, scan, watch
from buckler.model.operatorapi.documents import SourceFile

VM = "web2"
MAC = "52:54:00:50:00:99"
IPV4 = "10.50.0.99"
IPV6 = "fd50::99"
ATTEMPTS = 5
OBSERVERS = ("web1", "app", "db", "attacker", "rogue")


def hotplug_closed(cast: Cast) -> HotplugClosed:
    """Plug a card that nobody registered into ``web2`` and let it send; then register it and plug it in again."""
    host = cast.centre.host_of(VM)
    (cast.centre.root(host) / "run/lab/plugged.xml").write_text(interface_xml(MAC))
    watches = [watch(cast.centre, name, "plugged", [MAC]) for name in OBSERVERS]
    at_tap = cast.centre.start_on_host(host, "watch", "plugged", "0", MAC)
    for _ in range(
        ATTEMPTS
    ):  # it is unplugged within a second: a guest on a busy machine may have said nothing by then
        _use_the_new_card_once_it_is_there(cast)
        _plug(cast, host)
        time.sleep(3)
        if arrived(at_tap.read()):
            break
        wait_until("the stranger is unplugged", lambda: MAC not in virsh(cast.centre.pid(host), "dumpxml", VM))
    sent, leaked = arrived(at_tap.stop()), sum(arrived(job.stop()) for job in watches)
    is_unplugged = MAC not in virsh(cast.centre.pid(host), "dumpxml", VM)
    cast.tell(f"the unregistered card sent {sent} frames, {leaked} of them arrived anywhere; unplugged: {is_unplugged}")
    document = _register(cast)
    if is_unplugged:
        _use_the_new_card_once_it_is_there(cast)
        _plug(cast, host)
    admitted = _works(cast)
    cast.tell(f"once registered it reaches what web servers may reach: {admitted}")
    virsh(cast.centre.pid(host), "detach-interface", VM, "bridge", "--mac", MAC, "--live")
    cast.pool.apply(_file(document))
    _use_the_old_card_again(cast)
    return HotplugClosed(sent, leaked, admitted)


def _plug(cast: Cast, host: str) -> None:
    virsh(cast.centre.pid(host), "attach-device", VM, "/run/lab/plugged.xml", "--live")


def _use_the_new_card_once_it_is_there(cast: Cast) -> None:
    """Wait in the guest for eth1, make it the only way out, and send at once.

    The neighbours' addresses are known beforehand: a missing ARP answer must not be what protects them.
    """
    arp = "; ".join(f"arp -i eth1 -s {cast.guest(name).ipv4} {cast.guest(name).mac}" for name in OBSERVERS)
    targets = " ".join(
        [
            *(f"tcp/{cast.guest(name).ipv4}/8080 udp/{cast.guest(name).ipv4}/53" for name in OBSERVERS),
            "icmp/ff02::1%eth1",
        ]
    )
    _in_guest(
        cast,
        "(n=0; while [ ! -e /sys/class/net/eth1 ] && [ $n -lt 2000 ]; do usleep 5000; n=$((n+1)); done; "
        "echo 0 >/proc/sys/net/ipv6/conf/eth1/accept_dad; ip link set eth1 up; ip link set eth0 down; "
        f"ip addr add {IPV4}/24 dev eth1; ip -6 addr add {IPV6}/64 dev eth1; {arp}; "
        f"probe hammer /tmp/plugged 2 2 {targets}) >/dev/null 2>&1 &",
    )


def _use_the_old_card_again(cast: Cast) -> None:
    guest = cast.guest(VM)
    _in_guest(cast, f"ip link set eth0 up; ip -6 addr add {guest.ipv6}/64 dev eth0")
    wait_until("web2 serves again", lambda: bool(cast.page(VM)))


def _register(cast: Cast) -> dict[str, Any]:
    """Write the card into web2's document; return the document as it was."""
    with cast.operator() as client:
        before = client.document("VM", TENANT, VM).document
    card = {**before["spec"]["interfaces"][0], "mac": MAC, "addresses": [IPV4, IPV6]}
    interfaces = [*before["spec"]["interfaces"], card]
    cast.pool.apply(_file({**before, "spec": {**before["spec"], "interfaces": interfaces}}))
    return before


def _works(cast: Cast) -> bool:
    target = f"tcp/{cast.guest('app').ipv4}/8080"
    return any(is_reached(scan(cast.centre, VM, [target])[target]) for _ in range(5))


def _file(document: dict[str, Any]) -> SourceFile:
    return SourceFile("web2.yaml", msgspec.json.encode(document).decode())


def _in_guest(cast: Cast, command: str) -> None:
    cast.centre.execute(VM, command)
