"""The bypass catalogue as data: what a VM sends, what a station sends, what comes towards a VM. Owns no ground to try it on."""

from __future__ import annotations

from buckler.drivers.ebpf.reasons import Reason
from tests import packets as p
from tests.component.ground import APP, WEB, Vm

ONE, TWO, THIRD = Vm(1, WEB), Vm(2, APP), Vm(3, WEB)
STATION = ("52:54:00:00:00:77", "10.9.0.77")
STATION6 = ("52:54:00:00:00:77", "fd00:9::77")
INFRA4, INFRA6 = "10.9.0.250", "fd00:9::fa"
NOBODY_MAC = "00:00:00:00:00:00"
MARKER = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(777, 777, b"the frame that ends the wait"))
STATION_MARKER = p.ip_frame(STATION, TWO.v4, 17, p.udp(777, 777, b"the frame that ends the wait"))


def udp4(source: tuple[str, str], destination: tuple[str, str], **header: object) -> bytes:
    return p.ether(source[0], destination[0], 0x0800, p.ipv4(source[1], destination[1], 17, p.udp(5, 6), **header))  # type: ignore[arg-type]


def udp6(source: tuple[str, str], destination: tuple[str, str], extension: bytes = b"", first: int = 17) -> bytes:
    return p.ether(source[0], destination[0], 0x86DD, p.ipv6(source[1], destination[1], first, extension + p.udp(5, 6)))


def fragments4(cuts: list[tuple[int, bytes, bool]], protocol: int = 17, identification: int = 99) -> list[bytes]:
    return [
        p.ether(
            ONE.mac,
            TWO.mac,
            0x0800,
            p.ipv4(ONE.ipv4, TWO.ipv4, protocol, data, identification=identification, fragment=offset, more=more),
        )
        for offset, data, more in cuts
    ]


def fragment6(offset: int, more: bool, data: bytes, identification: bytes = b"\0\0\0\7") -> bytes:
    header = bytes([17, 0]) + (offset | more).to_bytes(2, "big") + identification
    return p.ether(ONE.mac, TWO.mac, 0x86DD, p.ipv6(ONE.ipv6, TWO.ipv6, 44, header + data))


def chain(kinds: list[int], last: int = 17) -> tuple[int, bytes]:
    """An extension header chain of 8-byte headers: first next-header number and bytes."""
    following = [*kinds[1:], last]
    return kinds[0], b"".join(bytes([nxt, 0, 1, 4, 0, 0, 0, 0]) for nxt in following)


def routed() -> bytes:
    return udp6(ONE.v6, TWO.v6, bytes([17, 0, 0, 0, 0, 0, 0, 0]), 43)


def quote(source: tuple[str, str], destination: tuple[str, str]) -> bytes:
    """An ICMP error from ``source`` about a packet that ``destination`` never sent."""
    inner = p.ipv4(destination[1], source[1], 17, p.udp(4000, 4001))
    return p.ip_frame(source, destination, 1, p.icmp(3, 3, data=inner[:28]))


ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
BIG = p.udp(5, 6, bytes(120))
TCP_HEAD = p.tcp(5, 6, p.SYN)
ATTACKS_OF_VM: dict[str, tuple[list[bytes], Reason]] = {
    "another VM's MAC": ([udp4((THIRD.mac, ONE.ipv4), TWO.v4)], Reason.SPOOFED_MAC),
    "a free MAC": ([udp4(("52:54:00:00:00:99", ONE.ipv4), TWO.v4)], Reason.SPOOFED_MAC),
    "another VM's IPv4 address": ([udp4((ONE.mac, THIRD.ipv4), TWO.v4)], Reason.SPOOFED_ADDRESS),
    "another VM's IPv6 address": ([udp6((ONE.mac, THIRD.ipv6), TWO.v6)], Reason.SPOOFED_ADDRESS),
    "another VM's link-local address": ([udp6((ONE.mac, THIRD.link_local), TWO.ll)], Reason.SPOOFED_ADDRESS),
    "a free address": ([udp4((ONE.mac, "10.9.0.200"), TWO.v4)], Reason.SPOOFED_ADDRESS),
    "no address": ([udp4((ONE.mac, "0.0.0.0"), TWO.v4)], Reason.SPOOFED_ADDRESS),
    "a multicast source": ([udp4((ONE.mac, "224.0.0.9"), TWO.v4)], Reason.MARTIAN),
    "a loopback source": ([udp4((ONE.mac, "127.0.0.1"), TWO.v4)], Reason.MARTIAN),
    "a mapped address": ([udp6((ONE.mac, "::ffff:10.9.0.3"), TWO.v6)], Reason.MARTIAN),
    "a mapped destination": ([udp6(ONE.v6, (TWO.mac, "::ffff:10.9.0.2"))], Reason.MARTIAN),
    "a host's address": ([udp4(ONE.v4, (TWO.mac, INFRA4))], Reason.INFRA),
    "a host's IPv6 address": ([udp6(ONE.v6, (TWO.mac, INFRA6))], Reason.INFRA),
    "ARP reply for another VM": ([p.ether(ONE.mac, TWO.mac, 0x0806, p.arp(2, (ONE.mac, THIRD.ipv4), TWO.v4))], Reason.SPOOFED_ARP),
    "gratuitous ARP for another VM": (
        [p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, (ONE.mac, THIRD.ipv4), (NOBODY_MAC, THIRD.ipv4)))], Reason.SPOOFED_ARP),
    "ARP that names another MAC": ([p.ether(ONE.mac, TWO.mac, 0x0806, p.arp(2, (THIRD.mac, ONE.ipv4), TWO.v4))], Reason.SPOOFED_ARP),
    "ARP probe for another's address": (
        [p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, (ONE.mac, "0.0.0.0"), (NOBODY_MAC, TWO.ipv4)))], Reason.SPOOFED_ARP),
    "ARP for a host's address": (
        [p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, ONE.v4, (NOBODY_MAC, INFRA4)))], Reason.INFRA),
    "RARP with another's MAC": (
        [p.ether(ONE.mac, p.BROADCAST, 0x8035, p.arp(3, (THIRD.mac, "0.0.0.0"), (THIRD.mac, "0.0.0.0")))], Reason.SPOOFED_ARP),
    "advertisement for another VM": (
        [p.nd(ONE.v6, TWO.v6, 136, THIRD.ipv6, p.nd_option(2, ONE.mac), flags=0x20000000)], Reason.SPOOFED_ND),
    "advertisement with another's MAC": ([p.nd(ONE.v6, TWO.v6, 136, ONE.ipv6, p.nd_option(2, THIRD.mac))], Reason.SPOOFED_ND),
    "solicitation with another's MAC": ([p.nd(ONE.v6, TWO.v6, 135, TWO.ipv6, p.nd_option(1, THIRD.mac))], Reason.SPOOFED_ND),
    "DAD for another's address": ([p.nd((ONE.mac, "::"), (ALL_NODES_MAC, ALL_NODES), 135, TWO.ipv6)], Reason.SPOOFED_ND),
    "discovery that was routed": ([p.nd(ONE.v6, TWO.v6, 135, TWO.ipv6, hop_limit=254)], Reason.SPOOFED_ND),
    "router advertisement": ([p.nd(ONE.ll, (ALL_NODES_MAC, ALL_NODES), 134)], Reason.ROGUE_ROUTER),
    "IPv6 redirect": ([p.nd(ONE.ll, TWO.v6, 137, ONE.link_local)], Reason.ROGUE_ROUTER),
    "IPv4 redirect": ([p.ip_frame(ONE.v4, TWO.v4, 1, p.icmp(5, 1, p.address(ONE.ipv4), p.ipv4(TWO.ipv4, "8.8.8.8", 17, b"x" * 8)))], Reason.ROGUE_ROUTER),
    "DHCP server": ([p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(67, 68))], Reason.ROGUE_DHCP),
    "DHCPv6 server": ([p.ip_frame(ONE.ll, TWO.ll, 17, p.udp(547, 546))], Reason.ROGUE_DHCP),
    "MLD query": ([p.ether(ONE.mac, ALL_NODES_MAC, 0x86DD, p.ipv6(ONE.link_local, ALL_NODES, 58, p.icmpv6(ONE.link_local, ALL_NODES, 130, 0, data=bytes(20)), hop_limit=1))], Reason.ROGUE_MEMBERSHIP),
    "MLD report from afar": ([p.ether(ONE.mac, ALL_NODES_MAC, 0x86DD, p.ipv6(ONE.link_local, ALL_NODES, 58, p.icmpv6(ONE.link_local, ALL_NODES, 131, 0, data=bytes(16)), hop_limit=64))], Reason.ROGUE_MEMBERSHIP),
    "a VLAN tag": ([p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6)), (7,))], Reason.VLAN),
    "Q-in-Q": ([p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6)), (0, 7))], Reason.VLAN),
    "an unknown ethertype": ([p.ether(ONE.mac, TWO.mac, 0x88B5, bytes(46))], Reason.ETHERTYPE),
    "a length instead of an ethertype": ([p.ether(ONE.mac, TWO.mac, 46, b"\xaa\xaa\3" + bytes(43))], Reason.ETHERTYPE),
    "MPLS": ([p.ether(ONE.mac, TWO.mac, 0x8847, b"\0\0\1\x40" + p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6)))], Reason.ETHERTYPE),
    "loose source route": ([udp4(ONE.v4, TWO.v4, options=bytes([131, 7, 4, 10, 9, 0, 3, 0]))], Reason.SOURCE_ROUTE),
    "strict source route": ([udp4(ONE.v4, TWO.v4, options=bytes([1, 137, 7, 4, 10, 9, 0, 3]))], Reason.SOURCE_ROUTE),
    "a broken option": ([udp4(ONE.v4, TWO.v4, options=bytes([7, 1, 0, 0]))], Reason.MALFORMED),
    "a length beyond the frame": ([udp4(ONE.v4, TWO.v4, total=1000)], Reason.MALFORMED),
    "TCP with SYN and FIN": ([p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(5, 6, p.SYN | p.FIN))], Reason.MALFORMED),
    "TCP that policy denies": ([p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(5, 6, p.SYN))], Reason.POLICY),
    "TCP out of the blue": ([p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(5, 6, p.ACK))], Reason.NO_CONNECTION),
    "an echo reply without request": ([p.ip_frame(ONE.v4, TWO.v4, 1, p.echo(9, reply=True))], Reason.NO_CONNECTION),
    "an ICMP error about nothing": ([quote(ONE.v4, TWO.v4)], Reason.ICMP_ERROR),
    "routing header 0": ([routed()], Reason.EXTENSION),
    "a late hop-by-hop header": ([udp6(ONE.v6, TWO.v6, chain([60, 0])[1], 60)], Reason.EXTENSION),
    "nine extension headers": ([udp6(ONE.v6, TWO.v6, chain([60] * 9)[1], 60)], Reason.EXTENSION),
    "TCP behind extension headers": (
        [p.ether(ONE.mac, TWO.mac, 0x86DD, p.ipv6(ONE.ipv6, TWO.ipv6, 60, chain([60, 60], 6)[1] + TCP_HEAD))], Reason.POLICY),
    "a tiny first fragment": (fragments4([(0, TCP_HEAD[:8], True), (8, TCP_HEAD[8:], False)], 6), Reason.FRAGMENT),
    "a later fragment first": (fragments4([(64, BIG[64:], False)], identification=100), Reason.FRAGMENT),
    "a fragment beyond 64 KiB": (fragments4([(65528, bytes(64), False)], identification=102), Reason.FRAGMENT),
    "a later IPv6 fragment first": ([fragment6(64, False, BIG[64:])], Reason.FRAGMENT),
    "a fragment within a fragment": ([p.ether(ONE.mac, TWO.mac, 0x86DD, p.ipv6(ONE.ipv6, TWO.ipv6, 44, bytes([44, 0, 0, 1, 0, 0, 0, 1, 17, 0, 0, 0, 0, 0, 0, 2]) + p.udp(5, 6)))], Reason.FRAGMENT),
}  # fmt: skip

ATTACKS_FROM_OUTSIDE: dict[str, tuple[list[bytes], Reason]] = {
    "a pool VM's MAC": ([udp4((ONE.mac, STATION[1]), TWO.v4)], Reason.FOREIGN_OUTSIDE),
    "a pool VM's IPv4 address": ([udp4((STATION[0], ONE.ipv4), TWO.v4)], Reason.FOREIGN_OUTSIDE),
    "a pool VM's IPv6 address": ([udp6((STATION[0], THIRD.ipv6), TWO.v6)], Reason.FOREIGN_OUTSIDE),
    "ARP for a pool VM": ([p.ether(STATION[0], TWO.mac, 0x0806, p.arp(2, (STATION[0], ONE.ipv4), TWO.v4))], Reason.FOREIGN_OUTSIDE),
    "an advertisement for a pool VM": ([p.nd(STATION6, TWO.v6, 136, ONE.ipv6, p.nd_option(2, STATION[0]))], Reason.FOREIGN_OUTSIDE),
    "a host's address": ([udp4((STATION[0], INFRA4), TWO.v4)], Reason.INFRA),
    "ARP for a host": ([p.ether(STATION[0], TWO.mac, 0x0806, p.arp(2, (STATION[0], INFRA4), TWO.v4))], Reason.INFRA),
    "a VLAN tag": ([p.ether(STATION[0], TWO.mac, 0x0800, p.ipv4(STATION[1], TWO.ipv4, 17, p.udp(5, 6)), (7,))], Reason.UNCONFIGURED),
}  # fmt: skip

ATTACKS_TOWARDS_VM: dict[str, tuple[list[bytes], Reason]] = {
    "a flooded frame for another MAC": ([udp4(STATION, ("52:54:00:00:00:55", TWO.ipv4))], Reason.NOT_FOR_VM),
    "another address behind the VM's MAC": ([udp4(STATION, (TWO.mac, THIRD.ipv4))], Reason.NOT_FOR_VM),
    "unicast within a broadcast": ([udp4(STATION, (p.BROADCAST, TWO.ipv4))], Reason.MARTIAN),
    "ARP for somebody else": ([p.ether(STATION[0], p.BROADCAST, 0x0806, p.arp(1, STATION, (NOBODY_MAC, THIRD.ipv4)))], Reason.NOT_FOR_VM),
    "router advertisement": ([p.nd((STATION[0], "fe80::77"), (ALL_NODES_MAC, ALL_NODES), 134)], Reason.ROGUE_ROUTER),
    "redirect": ([p.nd((STATION[0], "fe80::77"), TWO.v6, 137, "fe80::77")], Reason.ROGUE_ROUTER),
    "routed discovery": ([p.nd(STATION6, TWO.v6, 135, TWO.ipv6, hop_limit=64)], Reason.SPOOFED_ND),
    "DHCP answer": ([p.ip_frame(STATION, TWO.v4, 17, p.udp(67, 68))], Reason.ROGUE_DHCP),
    "an ICMP error about nothing": ([quote(STATION, TWO.v4)], Reason.ICMP_ERROR),
    "TCP that policy denies": ([p.ip_frame(STATION, TWO.v4, 6, p.tcp(5, 6, p.SYN))], Reason.POLICY),
}  # fmt: skip
