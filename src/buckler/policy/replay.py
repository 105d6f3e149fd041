"""What a pool would say to connections that were recorded: address and port in, verdict and rule out. Records nothing."""

from __future__ import annotations

import ipaddress

import msgspec

from buckler.model.bundle import Endpoint, Segment
from buckler.model.ids import IDENTITY_GROUP, IDENTITY_HOST, IDENTITY_INFRA, IDENTITY_WORLD, IdentityNumber
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.bundle import assemble_bundle
from buckler.policy.compile import resolve_pool
from buckler.policy.draft import Draft
from buckler.policy.language import PROTOCOL_ANY, PROTOCOL_NAMES
from buckler.policy.pool import singled_out, stations, visitors
from buckler.policy.unpoliced import why_martian


class Attempt(msgspec.Struct, frozen=True):
    """A recorded connection: the VM whose shield told of it, and the first packet. ``direction`` is that shield's."""

    vm: str
    direction: Direction
    source: str
    destination: str
    protocol: int
    port: int


class Answer(msgspec.Struct, frozen=True):
    """What both ends' shields say. ``rule`` is ``policy/rule`` of what denies, or of the sender's side; empty: default."""

    allowed: bool
    rule: str


class Unplaced(Exception):
    """The connection cannot be placed in this pool; the message says why."""


class Replayer:
    """One state of a pool that answers for recorded connections as hosts' kernels would."""

    def __init__(self, draft: Draft) -> None:
        documents = draft.documents
        self._resolved = resolve_pool(draft.pool, documents, draft.numbers)
        singled = singled_out(documents)
        found = stations(draft.pool, singled), visitors(draft.pool, singled)
        bundle = assemble_bundle(draft.pool, *found, self._resolved, draft.numbers)
        self._owners: dict[tuple[str, str], list[tuple[Segment, Endpoint]]] = {}
        self._held: dict[str, dict[str, Endpoint]] = {}
        self._outside: dict[str, list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, IdentityNumber]]] = {}
        for segment in bundle.segments:
            self._add(segment)

    def answer(self, attempt: Attempt) -> Answer:
        """Judge at every shield on the way. Raises Unplaced."""
        is_out = attempt.direction is Direction.EGRESS
        here, there = (attempt.source, attempt.destination) if is_out else (attempt.destination, attempt.source)
        segment, mine = self._place(attempt.vm, here)
        peer = self._identity(segment, there)
        if why_martian(attempt.source, is_source=True) or why_martian(attempt.destination):
            return Answer(allowed=False, rule="")
        sides = [self._side(mine, peer, attempt.direction, attempt)]
        other = self._held[segment.network].get(there)
        if other is not None and peer != IDENTITY_INFRA:
            back = Direction.INGRESS if is_out else Direction.EGRESS
            sides.append(self._side(other, mine.identity, back, attempt))
        ordered = sides if is_out else sides[::-1]
        denying = [each for each in ordered if not each.allowed]
        return (denying or ordered)[0]

    def _place(self, vm: str, address: str) -> tuple[Segment, Endpoint]:
        found = self._owners.get((vm, address), [])
        if len(found) != 1:
            raise Unplaced("several VMs have this name and address" if found else "no VM has this name and address")
        return found[0]

    def _side(self, end: Endpoint, peer: IdentityNumber, direction: Direction, attempt: Attempt) -> Answer:
        if peer == IDENTITY_INFRA:
            return Answer(allowed=False, rule="")
        protocol = attempt.protocol if attempt.protocol in PROTOCOL_NAMES else PROTOCOL_ANY
        table = self._resolved.programs[end.identity].table(peer, direction)
        hit = next(each for each in table if each.protocol == protocol and each.low <= attempt.port <= each.high)
        rule = self._resolved.rules.get(hit.rule)
        allowed = hit.verdict is Verdict.ALLOW or end.mode is ShieldMode.OBSERVE
        return Answer(allowed=allowed, rule=f"{rule.policy}/{rule.name}" if rule else "")

    def _identity(self, segment: Segment, address: str) -> IdentityNumber:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            raise Unplaced("its peer has no address") from None
        if parsed.is_multicast or address == "255.255.255.255":
            return IDENTITY_GROUP
        if address in segment.identities:
            return segment.identities[address]
        if address in segment.gateway:
            return IDENTITY_HOST
        hits = [each for each in self._outside[segment.network] if parsed in each[0]]
        return max(hits, key=lambda each: each[0].prefixlen)[1] if hits else IDENTITY_WORLD

    def _add(self, segment: Segment) -> None:
        held = self._held.setdefault(segment.network, {})
        for endpoint in segment.endpoints:
            for address in endpoint.addresses:
                held[address] = endpoint
                self._owners.setdefault((endpoint.name, address), []).append((segment, endpoint))
        prefixes = ((ipaddress.ip_network(each.cidr), each.identity) for each in segment.cidr_identities)
        self._outside[segment.network] = list(prefixes)
