"""The change order: from what hosts may still enforce to what is wanted, through states that never open early.

CLOSE: programs allow only what old and new allow; addresses stay. FLIP: addresses mean their new identities.
OPEN: what is wanted. Until every host has flipped, each end allows at most what the old state allowed there; from then
on at most what the new one does. So one end at the old and one at the new state never meet. An address that joins an
identity which others already have, with more rights than it had, is held (INFRA, dropped) from FLIP to OPEN.
Owns no waiting: the controller publishes a stage when its hosts have acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from buckler.model.bundle import CidrIdentity, Endpoint, Segment, Stage
from buckler.model.ids import IDENTITY_INFRA, Digest, HostId, IdentityNumber
from buckler.model.pool import Host, HostState, ShieldMode
from buckler.model.program import Program
from buckler.policy.bundle import Bundle
from buckler.policy.closing import Closing, Readings
from buckler.policy.prefix import host_prefix


class RolloutStage(msgspec.Struct, frozen=True):
    """One state to publish. ``waits_for_all``: only when every awaited host has acknowledged the stage before.

    Otherwise a host may take it as soon as it has itself acknowledged the stage before, so that a host that is away
    does not keep the others from closing.
    """

    stage: Stage
    bundle: Bundle
    waits_for_all: bool


def plan_rollout(
    in_force: Sequence[Bundle], target: Bundle, readings: Readings | None = None
) -> tuple[RolloutStage, ...]:
    """Plan the stages to ``target``; the last one is ``target`` itself. Nothing to do: no stage.

    ``in_force`` lists, oldest first, every state that some host may still enforce: what all acknowledged last and
    everything published since. The plan is sound for any of them on any host, also in the middle of an older rollout.
    """
    held = _distinct(in_force)
    if not held:
        return (RolloutStage(Stage.OPEN, target, waits_for_all=False),)
    closed, flipped = _intermediate(held, target, readings or Readings())
    plan: list[RolloutStage] = []
    last = held[-1] if len(held) == 1 else None
    for stage, bundle in ((Stage.CLOSE, closed), (Stage.FLIP, flipped), (Stage.OPEN, target)):
        if last is not None and bundle.is_same(last):
            continue
        waits = stage is Stage.OPEN and bool(plan)
        plan.append(RolloutStage(Stage.OPEN if bundle.is_same(target) else stage, bundle, waits_for_all=waits))
        last = bundle
    return tuple(plan)


def awaited_hosts(hosts: Iterable[Host]) -> frozenset[HostId]:
    """Name the hosts whose acknowledgement a stage waits for: every manifest lists every object, so all members."""
    return frozenset(host.id for host in hosts if host.state is not HostState.REVOKED)


def _distinct(bundles: Sequence[Bundle]) -> list[Bundle]:
    """Keep each state once, at its last place."""
    return [
        bundle for at, bundle in enumerate(bundles) if not any(bundle.is_same(later) for later in bundles[at + 1 :])
    ]


def _intermediate(held: Sequence[Bundle], target: Bundle, readings: Readings) -> tuple[Bundle, Bundle]:
    programs: dict[Digest, Program] = {}
    closed: list[Segment] = []
    flipped: list[Segment] = []
    for segment in target.segments:
        olds = [_counterpart(bundle, segment) for bundle in held]
        present = [old for old in olds if old is not None]
        if not present:
            continue
        if all(old == segment for old in olds):  # a program is known by its digest, so that is all there is to it
            programs |= {each.program: target.programs[each.program] for each in segment.endpoints}
            closed.append(segment)
            flipped.append(segment)
            continue
        pairs = [(b, old) for b, old in zip(held, olds, strict=True) if old is not None]
        closing = Closing(pairs, target, segment, readings)
        endpoints = _closed_endpoints(present, segment, closing, programs) if olds[-1] is not None else ()
        closed.append(_closed_segment(present, segment, endpoints))
        flipped.append(_flipped_segment(closed[-1], segment, closing.held_prefixes()))
    rules = {rule.number: rule for bundle in (*held, target) for rule in bundle.rules}
    names = tuple(rules[number] for number in sorted(rules))
    used = {each.program for segment in (*closed, *flipped) for each in segment.endpoints}
    kept = {digest: programs[digest] for digest in sorted(used)}
    outside = target.outside
    return Bundle(tuple(closed), kept, names, outside), Bundle(tuple(flipped), kept, names, outside)


def _counterpart(bundle: Bundle, segment: Segment) -> Segment | None:
    """Find the same network in another state; on another bridge it is another one."""
    for each in bundle.segments:
        if (each.zone, each.tenant, each.bridge, each.vlan) == (
            segment.zone,
            segment.tenant,
            segment.bridge,
            segment.vlan,
        ):
            return each
    return None


def _closed_endpoints(
    olds: Sequence[Segment], segment: Segment, closing: Closing, programs: dict[Digest, Program]
) -> tuple[Endpoint, ...]:
    """Keep the endpoints that the latest state has, each with what all states that know it allow it.

    What the latest state has, no state that is still in force forbids: new endpoints come in OPEN, when all have flipped.
    """
    by_mac = [{each.mac: each for each in old.endpoints} for old in olds]
    kept = []
    for wanted in segment.endpoints:
        found = [each.get(wanted.mac) for each in by_mac]
        before = [each if each is not None and each.vm == wanted.vm else None for each in found]
        latest = before[-1]
        if latest is None:
            continue
        digest, program = closing.program([each.program if each else None for each in before], wanted.program)
        programs[digest] = program
        if digest == wanted.program and all(each == wanted for each in before):
            kept.append(wanted)
            continue
        enforced = any(each.mode is ShieldMode.ENFORCE for each in (*before, wanted) if each)
        kept.append(
            msgspec.structs.replace(
                wanted,
                addresses=_common(wanted.addresses, [latest.addresses]),
                identity=latest.identity,
                program=digest,
                mode=ShieldMode.ENFORCE if enforced else ShieldMode.OBSERVE,
            )
        )
    return tuple(kept)


def _closed_segment(olds: Sequence[Segment], segment: Segment, endpoints: tuple[Endpoint, ...]) -> Segment:
    """Keep the addresses' meaning of the latest state; of permissions only what all have."""
    latest = olds[-1]
    return msgspec.structs.replace(
        segment,
        dhcp_servers=_common(segment.dhcp_servers, [old.dhcp_servers for old in olds]),
        routers=_common(segment.routers, [old.routers for old in olds]),
        gateway=latest.gateway,
        endpoints=endpoints,
        identities=latest.identities,
        cidr_identities=latest.cidr_identities,
        services=latest.services,
    )


def _flipped_segment(closed: Segment, segment: Segment, held: frozenset[str]) -> Segment:
    """Give addresses their new meaning, those that must wait none (INFRA: dropped)."""
    now = {each.mac: each.identity for each in segment.endpoints}
    owned = {
        host_prefix(each): each for each in (*closed.identities, *closed.gateway, *segment.identities, *segment.gateway)
    }
    cidrs = segment.cidr_identities
    identities = dict(segment.identities)
    named = [prefix for prefix in held if prefix not in owned]
    for prefix in held:
        if prefix in owned:
            identities[owned[prefix]] = IDENTITY_INFRA
    if named:
        meant = {each.cidr: each.identity for each in cidrs} | dict.fromkeys(named, IDENTITY_INFRA)
        cidrs = tuple(CidrIdentity(prefix, meant[prefix]) for prefix in sorted(meant))
    return msgspec.structs.replace(
        closed,
        gateway=tuple(each for each in segment.gateway if host_prefix(each) not in held),
        endpoints=tuple(_meaning(each, now[each.mac]) for each in closed.endpoints),
        identities=identities,
        cidr_identities=cidrs,
        services=segment.services,
    )


def _meaning(endpoint: Endpoint, number: IdentityNumber) -> Endpoint:
    return endpoint if endpoint.identity == number else msgspec.structs.replace(endpoint, identity=number)


def _common(wanted: tuple[str, ...], olds: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(each for each in wanted if all(each in old for old in olds))
