"""More of the bypass catalogue: control traffic as a vehicle, odd Ethernet, tunnels, and connections turned round.

Each attack names the reason that stops it and what the attacker sends lawfully before. Data only.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from buckler.drivers.ebpf.reasons import Reason
from tests import packets as p
from tests.component.ground import APP, WEB, Vm

ONE, TWO, THIRD = Vm(1, WEB), Vm(2, APP), Vm(3, WEB)
FREE = ("52:54:00:00:00:99", "10.9.0.99")
ALL_NODES = ("33:33:00:00:00:01", "ff02::1")
ALL_ROUTERS4 = ("01:00:5e:00:00:16", "224.0.0.22")
REPORTS6 = ("33:33:00:00:00:16", "ff02::16")
ROUTER = "fe80::1"
SECRET = b"what must not leave " * 20


class Attack(NamedTuple):
    frames: list[bytes]
    reason: Reason
    before: tuple[bytes, ...] = ()


def raw(ethertype: int, destination: str = TWO.mac, data: bytes = bytes(46)) -> Attack:
    return Attack([p.ether(ONE.mac, destination, ethertype, data)], Reason.ETHERTYPE)


def v4(source: str, destination: str, protocol: int = 17, payload: bytes = p.udp(5, 6), **header: object) -> bytes:
    return p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(source, destination, protocol, payload, **header))  # type: ignore[arg-type]


def v6(source: str, destination: str, protocol: int, payload: bytes, hop_limit: int = 64) -> bytes:
    return p.ether(ONE.mac, TWO.mac, 0x86DD, p.ipv6(source, destination, protocol, payload, hop_limit=hop_limit))


def arp(
    operation: int, sender: tuple[str, str], target: tuple[str, str], *, head: bytes = b"", tail: bytes = b""
) -> bytes:
    body = p.arp(operation, sender, target)
    return p.ether(ONE.mac, TWO.mac, 0x0806, (head or body[:8]) + body[8:] + tail)


def nd(kind: int, target: str, options: bytes, **more: object) -> bytes:
    return p.nd(ONE.v6, TWO.v6, kind, target, options, **more)  # type: ignore[arg-type]


def extended(header: bytes, first: int, kind: int = 135) -> bytes:
    """Discovery behind an extension header (RFC 6980)."""
    message = p.icmpv6(ONE.ipv6, TWO.ipv6, kind, 0, data=p.address(TWO.ipv6))
    return v6(ONE.ipv6, TWO.ipv6, first, header + message, hop_limit=255)


def dhcp(message: bytes, to: tuple[str, str] = (p.BROADCAST, "255.255.255.255")) -> bytes:
    return p.ip_frame((ONE.mac, "0.0.0.0"), to, 17, p.udp(68, 67, message))


def igmp(kind: int, data: bytes, records: int = 0, to: tuple[str, str] = ALL_ROUTERS4) -> bytes:
    return p.ether(
        ONE.mac, to[0], 0x0800, p.ipv4(ONE.ipv4, to[1], 2, p.icmp(kind, 0, records.to_bytes(4, "big"), data), ttl=1)
    )


def mld(data: bytes) -> bytes:
    message = p.icmpv6(ONE.link_local, REPORTS6[1], 143, 0, b"\0\0\0\1", data)
    return p.ether(ONE.mac, REPORTS6[0], 0x86DD, p.ipv6(ONE.link_local, REPORTS6[1], 58, message, hop_limit=1))


def tcp(port: int, flags: int, **more: object) -> bytes:
    return p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(5, port, flags, **more))  # type: ignore[arg-type]


def quoting(inner: bytes, to: tuple[str, str] = TWO.v4) -> bytes:
    return p.ip_frame(ONE.v4, to, 1, p.icmp(3, 1, data=inner))


def piece(offset: int, data: bytes, more: bool, source: str = ONE.ipv4, number: int = 501, protocol: int = 17) -> bytes:
    return v4(source, TWO.ipv4, protocol, data, identification=number, fragment=offset, more=more)


BIG = p.udp(5, 6, bytes(120))
NONCE = bytes([14, 1]) + bytes(6)
SRH = bytes([17, 2, 4, 0, 0, 0, 0, 0]) + p.address(THIRD.ipv6)
UDP6 = p.udp(5, 6, ends=(ONE.ipv6, TWO.ipv6))
ATTACKS: dict[str, Attack] = {
    # Ethernet
    "a spanning tree message": Attack([p.ether(ONE.mac, TWO.mac, 38, b"\x42\x42\3" + bytes(43))], Reason.ETHERTYPE),
    "IPX in LLC": raw(46, data=b"\xe0\xe0\3" + bytes(43)),
    "LLDP": raw(0x88CC), "PTP": raw(0x88F7), "MACsec": raw(0x88E5), "a pause frame": raw(0x8808), "LACP": raw(0x8809),
    "EAPOL": raw(0x888E), "PPPoE discovery": raw(0x8863), "a PPPoE session": raw(0x8864), "FCoE": raw(0x8906),
    "batman": raw(0x4305), "RoCE": raw(0x8915), "Wake-on-LAN": raw(0x0842, p.BROADCAST),
    "802.1ad": Attack([p.mac(TWO.mac) + p.mac(ONE.mac) + struct.pack(">HHH", 0x88A8, 7, 0x0800) + p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6))], Reason.VLAN),
    "a priority tag": Attack([p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6)), (0xE000,))], Reason.VLAN),
    "a VLAN 0 tag": Attack([p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6)), (0,))], Reason.VLAN),
    # addresses
    "0.0.0.0/8": Attack([v4("0.0.0.7", TWO.ipv4)], Reason.SPOOFED_ADDRESS),
    "169.254/16": Attack([v4("169.254.1.1", TWO.ipv4)], Reason.SPOOFED_ADDRESS),
    "the broadcast address as source": Attack([v4("255.255.255.255", TWO.ipv4)], Reason.MARTIAN),
    "127/8 as destination": Attack([v4(ONE.ipv4, "127.0.0.1")], Reason.MARTIAN),
    "::1 as source": Attack([v6("::1", TWO.ipv6, 17, UDP6)], Reason.MARTIAN),
    "a multicast source, IPv6": Attack([v6("ff02::9", TWO.ipv6, 17, UDP6)], Reason.MARTIAN),
    "somebody's link-local address": Attack([v6("fe80::1", TWO.ipv6, 17, UDP6)], Reason.SPOOFED_ADDRESS),
    "no IPv6 address": Attack([v6("::", TWO.ipv6, 17, UDP6)], Reason.SPOOFED_ADDRESS),
    "land": Attack([v4(ONE.ipv4, ONE.ipv4)], Reason.MARTIAN),
    "land, IPv6": Attack([v6(ONE.ipv6, ONE.ipv6, 17, UDP6)], Reason.MARTIAN),
    "a VM's address behind a broadcast MAC": Attack([p.ip_frame(ONE.v4, (p.BROADCAST, TWO.ipv4), 17, p.udp(5, 6))], Reason.MARTIAN),
    # ARP
    "ARP of another hardware": Attack([arp(2, ONE.v4, TWO.v4, head=struct.pack(">HHBBH", 6, 0x0800, 6, 4, 2))], Reason.MALFORMED),
    "ARP of another protocol": Attack([arp(2, ONE.v4, TWO.v4, head=struct.pack(">HHBBH", 1, 0x86DD, 6, 4, 2))], Reason.MALFORMED),
    "ARP with long addresses": Attack([arp(2, ONE.v4, TWO.v4, head=struct.pack(">HHBBH", 1, 0x0800, 8, 4, 2))], Reason.MALFORMED),
    "an inverse ARP": Attack([arp(8, ONE.v4, TWO.v4)], Reason.MALFORMED),
    "data behind ARP": Attack([arp(1, ONE.v4, TWO.v4, tail=SECRET)], Reason.MALFORMED),
    "ARP for the router": Attack([p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(2, (ONE.mac, "10.9.0.254"), TWO.v4))], Reason.SPOOFED_ARP),
    # neighbour discovery
    "data in a discovery option": Attack([nd(135, TWO.ipv6, bytes([200, 50]) + SECRET[:398])], Reason.SPOOFED_ND),
    "many discovery options": Attack([nd(135, TWO.ipv6, NONCE * 8)], Reason.SPOOFED_ND),
    "an option without length": Attack([nd(135, TWO.ipv6, bytes(8))], Reason.MALFORMED),
    "data behind discovery": Attack([nd(135, TWO.ipv6, b"") + SECRET], Reason.SPOOFED_ND),
    "an empty fragment header": Attack([extended(bytes([58, 0, 0, 0, 0, 0, 0, 7]), 44)], Reason.SPOOFED_ND),
    "a fragmented advertisement": Attack([extended(bytes([58, 0, 0, 1, 0, 0, 0, 8]), 44, 136)], Reason.SPOOFED_ND),
    "options before discovery": Attack([extended(bytes([58, 0, 1, 4, 0, 0, 0, 0]), 60)], Reason.SPOOFED_ND),
    "the router's address, overriding": Attack([nd(136, ROUTER, p.nd_option(2, ONE.mac), flags=0x20000000)], Reason.SPOOFED_ND),
    "an advertisement that stops another's DAD": Attack([p.nd(ONE.ll, ALL_NODES, 136, THIRD.ipv6, p.nd_option(2, ONE.mac))], Reason.SPOOFED_ND),
    "discovery in IPv4": Attack([v4(ONE.ipv4, TWO.ipv4, 58, p.icmp(135, 0, data=p.address(TWO.ipv6)), ttl=255)], Reason.MALFORMED),
    "ICMP in IPv6": Attack([v6(ONE.ipv6, TWO.ipv6, 1, p.echo(1))], Reason.MALFORMED),
    "IGMP in IPv6": Attack([v6(ONE.ipv6, "ff02::1", 2, p.icmp(0x16, 0), 1)], Reason.MALFORMED),
    # DHCP
    "a DHCP request for another": Attack([dhcp(p.dhcp_request(THIRD.mac))], Reason.ROGUE_DHCP),
    "a DHCP request for nobody known": Attack([dhcp(p.dhcp_request(FREE[0]))], Reason.ROGUE_DHCP),
    "a DHCP answer at the server's port": Attack([dhcp(p.dhcp_request(ONE.mac, op=2))], Reason.ROGUE_DHCP),
    "a DHCP relay": Attack([dhcp(p.dhcp_request(ONE.mac, hops=1, relay=ONE.ipv4))], Reason.ROGUE_DHCP),
    "data instead of DHCP": Attack([dhcp(SECRET)], Reason.ROGUE_DHCP),
    "DHCP to another group": Attack([dhcp(p.dhcp_request(ONE.mac), ("01:00:5e:00:00:fb", "224.0.0.251"))], Reason.ROGUE_DHCP),
    "DHCPv6 to another group": Attack([p.ip_frame(ONE.ll, ALL_NODES, 17, p.udp(546, 547))], Reason.ROGUE_DHCP),
    # membership
    "data in an IGMP report": Attack([igmp(0x16, SECRET)], Reason.ROGUE_MEMBERSHIP),
    "data in an IGMPv3 report": Attack([igmp(0x22, b"\4\0\0\0\xe0\0\0\xfb" + SECRET, 1)], Reason.ROGUE_MEMBERSHIP),
    "an IGMP query": Attack([igmp(0x11, b"")], Reason.ROGUE_MEMBERSHIP),
    "an unknown IGMP message": Attack([igmp(0x30, b"")], Reason.ROGUE_MEMBERSHIP),
    "an IGMPv3 report of fewer records": Attack([igmp(0x22, b"\4\0\0\0\xe0\0\0\xfb", 17)], Reason.ROGUE_MEMBERSHIP),
    "data in an MLD report": Attack([mld(bytes([4, 200, 0, 0]) + p.address("ff02::fb") + SECRET)], Reason.ROGUE_MEMBERSHIP),
    # IP
    "a packet of length 0": Attack([v4(ONE.ipv4, TWO.ipv4, total=0)], Reason.MALFORMED),
    "a jumbogram": Attack([p.ether(ONE.mac, TWO.mac, 0x86DD, p.ipv6(ONE.ipv6, TWO.ipv6, 0, bytes([17, 0, 0xC2, 4, 0, 1, 0, 0]) + UDP6, length=0))], Reason.MALFORMED),
    "an option that ends outside": Attack([v4(ONE.ipv4, TWO.ipv4, options=bytes([7, 40, 4, 0]))], Reason.MALFORMED),
    "a segment routing header": Attack([v6(ONE.ipv6, TWO.ipv6, 43, SRH + UDP6)], Reason.EXTENSION),
    "mobility before UDP": Attack([v6(ONE.ipv6, TWO.ipv6, 135, bytes([17, 0, 0, 0, 0, 0, 0, 0]) + UDP6)], Reason.POLICY),
    "6in4": Attack([v4(ONE.ipv4, TWO.ipv4, 41, p.ipv6(ONE.ipv6, TWO.ipv6, 17, UDP6))], Reason.POLICY),
    "IP in IP": Attack([v4(ONE.ipv4, TWO.ipv4, 4, p.ipv4(THIRD.ipv4, TWO.ipv4, 17, p.udp(5, 6)))], Reason.POLICY),
    "ESP": Attack([v4(ONE.ipv4, TWO.ipv4, 50, bytes(32))], Reason.POLICY),
    "DHCPv6 to almost the right group": Attack([p.ip_frame(ONE.ll, ("33:33:00:01:00:02", "ff02:2::1:2"), 17, p.udp(546, 547))], Reason.ROGUE_DHCP),
    "SCTP": Attack([v4(ONE.ipv4, TWO.ipv4, 132, p.udp(5, 6)[:4] + bytes(8) + b"\1\0\0\x14" + bytes(16))], Reason.POLICY),
    "a later fragment of somebody else": Attack([piece(64, BIG[64:], False, source=THIRD.ipv4)], Reason.SPOOFED_ADDRESS, (piece(0, BIG[:64], True),)),
    "a later fragment of another datagram": Attack([piece(64, BIG[64:], False, number=503)], Reason.FRAGMENT, (piece(0, BIG[:64], True, number=502),)),
    "a later fragment of another protocol": Attack([piece(64, BIG[64:], False, number=504, protocol=6)], Reason.FRAGMENT, (piece(0, BIG[:64], True, number=504),)),
    # connections
    "data after nothing but a SYN": Attack([tcp(80, p.ACK, data=SECRET)], Reason.NO_CONNECTION, (tcp(80, p.SYN),)),
    "a SYN-ACK without a SYN": Attack([tcp(81, p.SYN | p.ACK)], Reason.NO_CONNECTION),
    "SCTP data without an association": Attack([v4(ONE.ipv4, TWO.ipv4, 132, p.udp(5, 7)[:4] + bytes(28))], Reason.NO_CONNECTION),
    "a reset before anything": Attack([tcp(80, p.RST, sequence=7)], Reason.TCP_RESET, (tcp(80, p.SYN),)),
    "an error about somebody else's packet": Attack([quoting(p.ipv4(TWO.ipv4, THIRD.ipv4, 17, p.udp(7, 7)))], Reason.ICMP_ERROR),
    "an error of one's own making to a third": Attack([quoting(p.ipv4(THIRD.ipv4, ONE.ipv4, 17, p.udp(7, 7)), (TWO.mac, THIRD.ipv4))], Reason.ICMP_ERROR),
    "an error about an error": Attack([quoting(p.ipv4(TWO.ipv4, ONE.ipv4, 1, p.icmp(3, 1)))], Reason.ICMP_ERROR),
}  # fmt: skip
