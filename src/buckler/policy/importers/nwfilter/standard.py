"""libvirt's own filters (libvirt, "Network Filters", pre-existing filters): their content, and what each means beside a shield.

A shield lets no guest speak with another's MAC or address, judges ARP, neighbour discovery and DHCP by itself, and carries
nothing but IP; so most of these are what it does anyway. Owns names and content, no rule of users.
"""

from __future__ import annotations

from buckler.policy.importers.nwfilter.chains import read_chain
from buckler.policy.importers.nwfilter.tree import Node

BY_ITSELF = "every shield does this by itself"
_DHCP = "a shield takes DHCP from the network's dhcpServers only"
_CLEAN = "spoofing is what every shield prevents; IPv6 is denied"
STANDARD = {
    "no-mac-spoofing": BY_ITSELF,
    "no-mac-broadcast": "denied: groups",
    "no-ip-spoofing": BY_ITSELF,
    "no-ipv6-spoofing": BY_ITSELF,
    "no-arp-spoofing": BY_ITSELF,
    "no-arp-mac-spoofing": BY_ITSELF,
    "no-arp-ip-spoofing": BY_ITSELF,
    "no-other-rarp-traffic": BY_ITSELF,
    "qemu-announce-self": BY_ITSELF,
    "qemu-announce-self-rarp": BY_ITSELF,
    "allow-arp": BY_ITSELF,
    "allow-dhcp": _DHCP,
    "allow-dhcp-server": _DHCP,
    "allow-dhcpv6": _DHCP,
    "allow-dhcpv6-server": _DHCP,
    "allow-ipv4": "IPv4 that nothing before denies passes",
    "allow-ipv6": "IPv6 that nothing before denies passes",
    "allow-incoming-ipv4": "IPv4 that nothing before denies passes inward",
    "allow-incoming-ipv6": "IPv6 that nothing before denies passes inward",
    "no-ip-multicast": "denied: groups",
    "no-ipv6-multicast": "denied: groups",
    "no-other-l2-traffic": "what no rule on frames allows is denied",
    "clean-traffic": _CLEAN,
    "clean-traffic-gateway": _CLEAN,
}
NO_GROUPS = {"no-mac-broadcast", "no-ip-multicast", "no-ipv6-multicast"}
"""They drop some groups; here all are denied."""

_REQUEST = "accept out 100 {0} srcipaddr={1} dstipaddr={2} protocol=udp srcportstart={3} dstportstart={4}"
_ANSWER = "accept in 100 {0} {1} protocol=udp srcportstart={3} dstportstart={2}"
_FOUR = _REQUEST.format("ip", "0.0.0.0", "255.255.255.255", 68, 67)  # noqa: S104 - words of a rule
_SIX = _REQUEST.format("ipv6", "fe80:: srcipmask=10", "ff02::1:2", 546, 547)
_GUARD = ["@no-mac-spoofing", "@no-ip-spoofing"]
_REST = ["accept inout -500 mac protocolid=arp"]
_OWN_RARP = (
    "dstmacaddr=ff:ff:ff:ff:ff:ff opcode=request_reverse arpsrcmacaddr=$MAC arpdstmacaddr=$MAC"
    " arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0"
)
_CONTENT: dict[str, tuple[str, str | None, list[str]]] = {
    "no-mac-spoofing": ("mac", "-800", ["return out 500 mac srcmacaddr=$MAC", "drop out 500"]),
    "no-mac-broadcast": ("ipv4", None, ["drop out 500 mac dstmacaddr=ff:ff:ff:ff:ff:ff"]),
    "no-ip-spoofing": ("ipv4-ip", "-710", [
        "return out 100 ip srcipaddr=0.0.0.0 protocol=udp", "return out 500 ip srcipaddr=$IP", "drop out 1000",
    ]),
    "no-ipv6-spoofing": ("ipv6-ip", "-610", [
        "return out 100 ipv6 srcipaddr=fe80:: srcipmask=10 protocol=udp",
        "return out 500 ipv6 srcipaddr=$IPV6",
        "drop out 1000",
    ]),
    "no-arp-spoofing": ("root", None, ["@no-arp-mac-spoofing", "@no-arp-ip-spoofing"]),
    "no-arp-mac-spoofing": ("arp-mac", "-520", ["return out 350 arp arpsrcmacaddr=$MAC", "drop out 1000"]),
    "no-arp-ip-spoofing": ("arp-ip", "-510", ["return out 400 arp arpsrcipaddr=$IP", "drop out 1000"]),
    "no-other-rarp-traffic": ("rarp", None, ["drop inout 1000"]),
    "qemu-announce-self": ("root", None, [
        "accept out 500 mac protocolid=0x835", "@qemu-announce-self-rarp", "@no-other-rarp-traffic",
    ]),
    "qemu-announce-self-rarp": ("rarp", None, [
        f"accept out 500 rarp srcmacaddr=$MAC {_OWN_RARP}", f"accept in 500 rarp {_OWN_RARP}",
    ]),
    "allow-arp": ("arp", None, ["accept inout 500"]),
    "allow-dhcp": ("ipv4", None, [_FOUR, _ANSWER.format("ip", "", 68, 67)]),
    "allow-dhcp-server": ("ipv4", None, [_FOUR, _ANSWER.format("ip", "srcipaddr=$DHCPSERVER", 68, 67)]),
    "allow-dhcpv6": ("ipv6", None, [_SIX, _ANSWER.format("ipv6", "", 546, 547)]),
    "allow-dhcpv6-server": ("ipv6", None, [_SIX, _ANSWER.format("ipv6", "srcipaddr=$DHCPSERVER", 546, 547)]),
    "allow-ipv4": ("ipv4", None, ["accept inout 500"]),
    "allow-ipv6": ("ipv6", None, ["accept inout 500"]),
    "allow-incoming-ipv4": ("ipv4", None, ["accept in 500"]),
    "allow-incoming-ipv6": ("ipv6", None, ["accept in 500"]),
    "no-ip-multicast": ("ipv4", None, ["drop out 500 ip dstipaddr=224.0.0.0 dstipmask=4"]),
    "no-ipv6-multicast": ("ipv6", None, ["drop out 500 ipv6 dstipaddr=ff00:: dstipmask=8"]),
    "no-other-l2-traffic": ("root", None, ["drop inout 1000"]),
    "clean-traffic": ("root", None, [
        *_GUARD, "accept out -650 mac protocolid=ipv4", "@allow-incoming-ipv4", "@no-arp-spoofing", *_REST,
        "@no-other-l2-traffic", "@qemu-announce-self",
    ]),
    "clean-traffic-gateway": ("root", None, [
        *_GUARD, "@no-arp-spoofing", *_REST, "accept in 500 mac srcmacaddr=$GATEWAY_MAC",
        "accept out 500 mac dstmacaddr=$GATEWAY_MAC", "@no-other-l2-traffic", "@qemu-announce-self",
    ]),
}  # fmt: skip


def shipped(name: str, at: Node) -> Node:
    """Give the content of one of libvirt's own filters, as if it stood at ``at``."""
    chain, priority, entries = _CONTENT[name]
    attributes = {"name": name, "chain": chain} | ({"priority": priority} if priority else {})
    return Node("filter", attributes, at.file, at.line, [_entry(each, at) for each in entries])


def is_shipped(node: Node) -> bool:
    """Say whether a filter is one of libvirt's own, with libvirt's content and nothing else."""
    name = node.attributes.get("name", "")
    return name in _CONTENT and _shape(node) in {_shape(shipped(name, node)), *_older(name, node)}


def _older(name: str, at: Node) -> list[object]:
    """Libvirt's releases differ in what the gateway's filter refers to last; neither reference is on IP."""
    if name != "clean-traffic-gateway":
        return []
    node = shipped(name, at)
    node.children[-1].attributes["filter"] = "qemu-announce-self-rarp"
    return [_shape(node)]


def _entry(words: str, at: Node) -> Node:
    if words.startswith("@"):
        return Node("filterref", {"filter": words[1:]}, at.file, at.line, [])
    action, direction, priority, *rest = words.split()
    part = [Node(rest[0], dict(word.split("=", 1) for word in rest[1:]), at.file, at.line, [])] if rest else []
    return Node("rule", {"action": action, "direction": direction, "priority": priority}, at.file, at.line, part)


def _shape(node: Node) -> tuple[object, ...]:
    """Write a filter in one way: with what is left out, without what says nothing."""
    own = node.attributes
    chain = read_chain(own.get("chain", "root"), own.get("priority"))
    return (chain, own.keys() - {"name", "chain", "priority"} == set(), *map(_part, _saying(node)))


def _saying(node: Node) -> list[Node]:
    return [each for each in node.children if each.tag != "uuid"]


def _part(node: Node) -> tuple[object, ...]:
    if node.tag == "filterref":
        return ("filterref", tuple(sorted(node.attributes.items())), len(node.children))
    own = {"priority": "500", "statematch": "true"} | node.attributes
    inner = [(each.tag, _said(each), len(each.children)) for each in node.children]
    return (node.tag, tuple(sorted(own.items())), *(each for each in inner if each != ("mac", (), 0)))


def _said(node: Node) -> tuple[tuple[str, str], ...]:
    given = {key: value if value.startswith("$") else value.lower() for key, value in node.attributes.items()}
    full = {("match", "yes"), ("match", "true"), ("dstmacmask", "ff:ff:ff:ff:ff:ff")}
    return tuple(sorted(given.items() - full))
