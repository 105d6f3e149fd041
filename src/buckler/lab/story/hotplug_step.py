"""The step about a network card that is plugged into a running VM, first unknown, then registered."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from buckler.lab.domain import interface_xml
from buckler.lab.host import virsh
from buckler.lab.story.cast import TENANT, Cast, wait_until
from buckler.lab.story.figures import HotplugClosed
from buckler.lab.story.probing import Job, arrived, hammer, is_reached, scan, watch
from buckler.model.operatorapi import SourceFile

VM = "web2"
MAC = "52:54:00:50:00:99"
IPV4 = "10.50.0.99"
IPV6 = "fd50::99"
OBSERVERS = ("web1", "app", "db", "attacker", "rogue")


def hotplug_closed(cast: Cast) -> HotplugClosed:
    """Plug a card that nobody registered into ``web2`` and let it send; then register it and try again."""
    host = cast.centre.host_of(VM)
    xml = "/run/lab/plugged.xml"
    (cast.centre.root(host) / xml.lstrip("/")).write_text(interface_xml(MAC))
    watches = [watch(cast.centre, name, "plugged", [MAC]) for name in OBSERVERS]
    virsh(cast.centre.pid(host), "attach-device", VM, xml, "--live")
    _use_only_the_new_card(cast)
    sent = int(_send_for_a_while(cast).stop()["sent"])
    leaked = sum(arrived(job.stop()) for job in watches)
    cast.tell(f"the unregistered card sent {sent} packets; {leaked} frames of it arrived anywhere")
    document = _register(cast)
    admitted = _works(cast)
    cast.tell(f"once registered it reaches what web servers may reach: {admitted}")
    virsh(cast.centre.pid(host), "detach-interface", VM, "bridge", "--mac", MAC, "--live")
    cast.pool.apply(_file(document))
    _use_the_old_card_again(cast)
    return HotplugClosed(sent, leaked, admitted)


def _use_only_the_new_card(cast: Cast) -> None:
    """Make eth1 the only way out, with the neighbours' addresses known: a missing ARP answer must not protect them."""
    arp = "; ".join(f"arp -i eth1 -s {cast.guest(name).ipv4} {cast.guest(name).mac}" for name in OBSERVERS)
    _in_guest(
        cast,
        "n=0; while [ ! -e /sys/class/net/eth1 ] && [ $n -lt 100 ]; do usleep 50000; n=$((n+1)); done; "
        "echo 0 >/proc/sys/net/ipv6/conf/eth1/accept_dad; ip link set eth0 down; ip link set eth1 up; "
        f"ip addr add {IPV4}/24 dev eth1; ip -6 addr add {IPV6}/64 dev eth1; {arp}",
    )


def _use_the_old_card_again(cast: Cast) -> None:
    guest = cast.guest(VM)
    _in_guest(cast, f"ip link set eth0 up; ip -6 addr add {guest.ipv6}/64 dev eth0")
    wait_until("web2 serves again", lambda: bool(cast.page(VM)))


def _send_for_a_while(cast: Cast) -> Job:
    targets = [
        *(f"tcp/{cast.guest(name).ipv4}/8080" for name in OBSERVERS),
        *(f"udp/{cast.guest(name).ipv4}/53" for name in OBSERVERS),
        "icmp/ff02::1%eth1",
    ]
    job = hammer(cast.centre, VM, "plugged", targets)
    time.sleep(3)
    return job


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
    return any(is_reached(scan(cast.centre, VM, [target])[target]) for _ in range(4))


def _file(document: dict[str, Any]) -> SourceFile:
    return SourceFile("web2.yaml", msgspec.json.encode(document).decode())


def _in_guest(cast: Cast, command: str) -> None:
    cast.centre.execute(VM, command)
