"""What each REASON_* of bpf/abi.h is called and means to a person. A test holds the two tables equal."""

from __future__ import annotations

from enum import IntEnum

FIRST_HARD = 40


class Reason(IntEnum):
    """Why a frame passed (below FIRST_REFUSAL) or was refused; from FIRST_HARD on, observe mode refuses too."""

    NONE = 0
    ESTABLISHED = 1
    NEW = 2
    RELATED = 3
    STATELESS = 4
    ARP = 5
    ND = 6
    DHCP = 7
    MEMBERSHIP = 8
    RARP = 9
    OBSERVED = 10
    PORT = 11
    ANSWER = 12
    RESOLVED = 13
    POLICY = 32
    NO_CONNECTION = 33
    CONNECTIONS_FULL = 34
    RATE = 35
    EXPIRED = 36
    UNCONFIGURED = 40
    SPOOFED_MAC = 41
    SPOOFED_ADDRESS = 42
    SPOOFED_ARP = 43
    SPOOFED_ND = 44
    INFRA = 45
    VLAN = 46
    ETHERTYPE = 47
    MALFORMED = 48
    EXTENSION = 49
    FRAGMENT = 50
    ROGUE_ROUTER = 51
    ROGUE_DHCP = 52
    ROGUE_MEMBERSHIP = 53
    ICMP_ERROR = 54
    TCP_RESET = 55
    NOT_FOR_VM = 56
    SOURCE_ROUTE = 57
    MARTIAN = 58
    FOREIGN_TUNNEL = 59
    FOREIGN_OUTSIDE = 60
    NO_PROGRAM = 61
    SERVICE = 62
    NO_MEMBER = 63


SENTENCES: dict[Reason, str] = {
    Reason.NONE: "the shield gave no reason; the frame was dropped",
    Reason.ESTABLISHED: "part of a connection that policy allowed",
    Reason.NEW: "first packet of a connection that policy allows",
    Reason.RELATED: "an ICMP error about a living connection",
    Reason.STATELESS: "allowed by policy on its own, without a connection",
    Reason.ARP: "address resolution",
    Reason.ND: "neighbour discovery",
    Reason.DHCP: "DHCP with a declared server",
    Reason.MEMBERSHIP: "multicast membership report or query",
    Reason.RARP: "announcement of where the VM runs",
    Reason.OBSERVED: "policy denies it, but the VM is only observed",
    Reason.PORT: "let in by a bridge port; the receiver's shield judges it",
    Reason.ANSWER: "the shield's own answer to what a rule rejects",
    Reason.RESOLVED: "asked who has a virtual address; the shield itself answered",
    Reason.POLICY: "denied by policy",
    Reason.NO_CONNECTION: "belongs to no connection that the shield knows",
    Reason.CONNECTIONS_FULL: "the VM has used up its quota of connections",
    Reason.RATE: "more new connections than the rule bears in its time",
    Reason.EXPIRED: "the allowance has ended, or the host's clock is not believed",
    Reason.UNCONFIGURED: "the interface has no shield configuration yet",
    Reason.SPOOFED_MAC: "the source MAC is not the VM's own",
    Reason.SPOOFED_ADDRESS: "the source address is not the VM's own",
    Reason.SPOOFED_ARP: "ARP that claims somebody else's address or MAC",
    Reason.SPOOFED_ND: "neighbour discovery that claims somebody else's address or MAC, or came from afar",
    Reason.INFRA: "an address of the hosts themselves: no policy opens it",
    Reason.VLAN: "a VLAN tag that is not the interface's",
    Reason.ETHERTYPE: "neither IPv4, IPv6 nor ARP",
    Reason.MALFORMED: "malformed headers",
    Reason.EXTENSION: "forbidden or too many IPv6 extension headers",
    Reason.FRAGMENT: "a fragment too small, overlapping, or without its first",
    Reason.ROGUE_ROUTER: "a router advertisement or redirect from something that is no declared router",
    Reason.ROGUE_DHCP: "a DHCP answer from something that is no declared server",
    Reason.ROGUE_MEMBERSHIP: "a malformed multicast report, or a query by a VM",
    Reason.ICMP_ERROR: "an ICMP error about no living connection, or from where none can come",
    Reason.TCP_RESET: "a TCP reset outside the connection's window",
    Reason.NOT_FOR_VM: "flooded by the bridge, for somebody else",
    Reason.SOURCE_ROUTE: "IPv4 source routing",
    Reason.MARTIAN: "an address that cannot stand there",
    Reason.FOREIGN_TUNNEL: "from a tunnel, in the name of a VM that lives on this host",
    Reason.FOREIGN_OUTSIDE: "from outside, in the name of a VM of the pool",
    Reason.NO_PROGRAM: "the interface has no program",
    Reason.SERVICE: "a virtual address does not serve that: another port or protocol, a fragment, or ports in use with its member",
    Reason.NO_MEMBER: "nobody stands behind the virtual address, or its member does no more",
}


def name_of(number: int) -> str:
    """Return the name of a reason, also of one that a newer program gives."""
    try:
        return Reason(number).name
    except ValueError:
        return f"REASON_{number}"


def sentence_of(number: int) -> str:
    """Say a reason in words."""
    try:
        return SENTENCES[Reason(number)]
    except ValueError:
        return f"reason {number}, unknown to this version"
