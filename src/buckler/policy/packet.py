"""A packet as policy sees it: the first one of a connection, in one network. Owns no bytes."""

from __future__ import annotations

import msgspec


class Packet(msgspec.Struct, frozen=True):
    """``protocol`` is IANA's number. ``port`` is the destination port, or type << 8 | code of ICMP, or 0.

    Addresses without prefix length, both of one family; ``network`` names the zone in which they are looked up.
    """

    network: str
    source: str
    destination: str
    protocol: int
    port: int = 0
