"""libvirt's own filters by name (libvirt, "Network Filters", pre-existing filters): what each means beside a shield.

A shield lets no guest speak with another's MAC or address, judges ARP, neighbour discovery and DHCP by itself, and carries
nothing but IP; so most of these are what it does anyway. Owns names, no rule of users.
"""

from __future__ import annotations

BY_ITSELF = "every shield does this by itself"
STANDARD = {
    "no-mac-spoofing": BY_ITSELF,
    "no-mac-broadcast": BY_ITSELF,
    "no-ip-spoofing": BY_ITSELF,
    "no-ipv6-spoofing": BY_ITSELF,
    "no-arp-spoofing": BY_ITSELF,
    "no-arp-mac-spoofing": BY_ITSELF,
    "no-arp-ip-spoofing": BY_ITSELF,
    "no-other-rarp-traffic": BY_ITSELF,
    "qemu-announce-self": BY_ITSELF,
    "qemu-announce-self-rarp": BY_ITSELF,
    "allow-arp": BY_ITSELF,
    "allow-dhcp": "a shield takes DHCP from the network's dhcpServers only",
    "allow-dhcp-server": "a shield takes DHCP from the network's dhcpServers only",
    "allow-dhcpv6": "a shield takes DHCP from the network's dhcpServers only",
    "allow-dhcpv6-server": "a shield takes DHCP from the network's dhcpServers only",
    "allow-ipv4": "what no rule denies passes",
    "allow-ipv6": "what no rule denies passes",
    "allow-incoming-ipv4": "what no rule denies passes",
    "allow-incoming-ipv6": "what no rule denies passes",
    "no-ip-multicast": "denied: groups",
    "no-ipv6-multicast": "denied: groups",
    "no-other-l2-traffic": "a shield carries IP only; IPv6 too unless nothing allows it",
    "clean-traffic": "spoofing is what every shield prevents; IPv6 is denied",
    "clean-traffic-gateway": "spoofing is what every shield prevents; IPv6 is denied",
}
NO_GROUPS = {"no-ip-multicast", "no-ipv6-multicast"}
NO_IPV6 = {"no-other-l2-traffic", "clean-traffic", "clean-traffic-gateway"}
"""These drop every frame that nothing before allowed, IPv6 too."""
ALLOWS_IPV6 = {"allow-ipv6", "allow-incoming-ipv6"}
GATEWAY_ONLY = {"clean-traffic-gateway"}
"""Frames from the gateway's MAC only: what comes from a neighbour is dropped."""
