"""What every set of links does: in memory and over rtnetlink."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from buckler.drivers.inmemory.links import InMemoryLinks
from buckler.drivers.netlink.dump import attributes
from buckler.drivers.netlink.links import NetlinkLinks
from buckler.ports.links import Link, Links, LinksFailed
from tests.component.ground import add_bridge, own_network, run


@dataclass(frozen=True)
class World:
    links: Links
    port: int
    add: Callable[[], None]
    remove: Callable[[], None]


@pytest.fixture(params=["inmemory", "netlink"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "inmemory":
        port = Link(3, "tap0", "tun", "02:00:00:00:00:03", "br0", up=True)
        memory = InMemoryLinks(
            {2: Link(2, "br0", "bridge", "02:00:00:00:00:02", "", up=True), 3: port}, ("10.1.1.1", "fd00::1")
        )
        new = Link(4, "new0", "tun", "02:00:00:00:00:04", "", up=False)
        yield World(memory, 3, lambda: memory.put(new), lambda: memory.take(4))
        return
    with own_network():
        add_bridge()
        run("ip tuntap add tap0 mode tap; ip link set tap0 address 02:00:00:00:00:03 master br0 up")
        run("sysctl -qw net.ipv6.conf.br0.disable_ipv6=0; ip addr flush dev lo; ip addr flush dev br0")
        run("ip addr add 10.1.1.1/24 dev br0; ip addr add fd00::1/64 dev br0 nodad")
        add, remove = "ip tuntap add new0 mode tap", "ip link del new0"
        yield World(NetlinkLinks(), socket.if_nametoindex("tap0"), lambda: run(add), lambda: run(remove))


def test_a_bridge_port_is_described(world: World) -> None:
    link = world.links.links()[world.port]
    assert (link.name, link.kind, link.mac, link.bridge, link.up) == ("tap0", "tun", "02:00:00:00:00:03", "br0", True)


def test_the_hosts_own_addresses_are_told(world: World) -> None:
    assert {"10.1.1.1", "fd00::1"} <= set(world.links.host_addresses())


def test_learning_is_switched(world: World) -> None:
    for learning in (False, True, False):
        world.links.set_learning(world.port, learning=learning)
        assert world.links.links()[world.port].learning is learning


def test_learning_of_what_is_not_there_fails(world: World) -> None:
    with pytest.raises(LinksFailed):
        world.links.set_learning(99999, learning=False)


def test_a_watch_tells_of_coming_and_going_until_it_is_stopped(world: World) -> None:
    told = threading.Event()
    stop = world.links.watch(told.set)
    for change in (world.add, world.remove):
        told.clear()
        change()
        assert told.wait(2)
    stop()
    told.clear()
    world.add()
    assert not told.wait(0.2)


def test_a_list_is_whole_while_interfaces_come_and_go() -> None:
    """The kernel marks a list that changed while it was written: one such must neither fail nor be believed."""
    churn = "".join(f"link add x{number % 9} type bridge\nlink del x{number % 9}\n" for number in range(50))
    with own_network():
        add_bridge()
        run("for i in $(seq 60); do echo link add kept$i type bridge; done | ip -b -")
        kept, links = {f"kept{number}" for number in range(1, 61)}, NetlinkLinks()
        with subprocess.Popen(["ip", "-b", "-"], stdin=subprocess.PIPE, text=True) as changing:
            assert changing.stdin is not None
            changing.stdin.write(churn)
            changing.stdin.close()
            looked = 0
            while changing.poll() is None:
                assert kept <= {link.name for link in links.links().values()}
                looked += 1
    assert looked > 10


def test_what_is_cut_short_is_refused() -> None:
    whole = struct.pack("=HH4s", 8, 3, b"lo\0\0")
    assert attributes(whole) == {3: b"lo\0\0"}
    for cut in (whole[:6], struct.pack("=HH", 3, 3), struct.pack("=HH", 99, 3)):
        with pytest.raises(OSError, match="cut short"):
            attributes(cut)
