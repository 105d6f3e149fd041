"""What the fleet's stations may say to each other, and everything else that is fired all the time. Opens and fires nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from buckler.lab.fleet import UNSERVED
from buckler.lab.plan import OUTSIDE_IPV4, OUTSIDE_IPV6, GuestPlan
from buckler.lab.story.crossfire import OUTSIDE

ECHO_ID = 77
"""All pings carry one identifier, the allowed ones and the forbidden: only their direction tells them apart."""
Shots = Mapping[str, Sequence[str]]


def speaking(server: GuestPlan) -> list[str]:
    """Flows from a client that its policy allows: TCP, UDP, ICMP and an ICMP error (related), in both families."""
    return [
        spec
        for address in (server.ipv4, server.ipv6)
        for spec in (
            f"tcp/{address}/8080",
            f"udp/{address}/53",
            f"udp/{address}/{UNSERVED}",
            f"icmp/{address}/{ECHO_ID}",
        )
    ]


def idle(server: GuestPlan, count: int = 3) -> list[str]:
    """TCP connections from a client that say nothing for long."""
    return [f"tcp/{address}/8080" for address in (server.ipv4, server.ipv6)] * count


def from_outside(server: GuestPlan) -> list[str]:
    """Connections from the station outside that the policy allows."""
    return [f"tcp/{address}/80" for address in (server.ipv4, server.ipv6)]


def forbidden(pairs: Iterable[tuple[GuestPlan, GuestPlan]]) -> tuple[Shots, Shots]:
    """Return (shots, eyes) of a crossfire: what each station fires, and whose eyes look for what of it.

    To the server: services that no rule names, and segments in mid-stream on the port that one does. To the client
    everything: nothing may begin in that direction, least of all from the port that answers on the allowed flow.
    """
    shots: dict[str, list[str]] = defaultdict(list)
    eyes: dict[str, list[str]] = defaultdict(list)
    for client, server in pairs:
        outside = [OUTSIDE_IPV4, OUTSIDE_IPV6]
        for six in (False, True):
            ends = {guest.name: guest.ipv6 if six else guest.ipv4 for guest in (client, server)}
            ends[OUTSIDE] = outside[six]
            for sender, receiver, specs in (
                (client.name, server.name, ("tcp/{}/22", "udp/{}/514", "ack/{}/8080/61001", "synack/{}/8080/61002")),
                (
                    server.name,
                    client.name,
                    ("tcp/{}/22", "udp/{}/53", "icmp/{}", "ack/{}/61003/8080", "synack/{}/61004/8080"),
                ),
                (OUTSIDE, server.name, ("tcp/{}/22", "udp/{}/53", "icmp/{}", "ack/{}/80/61005")),
                (server.name, OUTSIDE, ("udp/{}/53", "ack/{}/61006/80")),
                (OUTSIDE, client.name, ("tcp/{}/8080", "udp/{}/53", "ack/{}/8080/61007")),
            ):
                for spec in specs:
                    shot = spec.format(ends[receiver])
                    shots[sender].append(f"{shot}/{ECHO_ID}" if spec.startswith("icmp") else shot)
                    eyes[receiver].append(spec.format(ends[sender]))
    return shots, eyes
