"""May this VM start, resume, arrive, and which of its taps open? Pure: the caller asks, parses and acts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from buckler.gate.decision import Decision, InterfacePlan, Operation, Reason, Standing
from buckler.gate.passport import Forged, check_macs, check_uuid, read_passport
from buckler.model.bundle import Endpoint, Segment
from buckler.model.domain import DomainFacts, InterfaceFacts
from buckler.model.ids import VmId
from buckler.trust.statement import KeySet

_COVERED = frozenset({"bridge", "network"})
_PORT_HINT = "use <interface type='bridge'> on a bridge of the pool"


class PoolView(msgspec.Struct, frozen=True, dict=True):
    """What this host believes of the pool: ``has_policy`` is False until its first manifest came."""

    pool: str
    keys: KeySet
    segments: tuple[Segment, ...] = ()
    has_policy: bool = False
    draining: bool = False
    twins: frozenset[str] = frozenset()

    def endpoints(self, uuid: str) -> Mapping[str, tuple[Segment, Endpoint]]:
        """All registered interfaces of the domain with this uuid, by MAC."""
        return self._by_uuid.get(uuid, {})

    @cached_property
    def _by_uuid(self) -> dict[str, dict[str, tuple[Segment, Endpoint]]]:
        """Looked through once, not once for each domain: a host knows thousands and has hundreds."""
        found: dict[str, dict[str, tuple[Segment, Endpoint]]] = {}
        for segment in self.segments:
            for endpoint in segment.endpoints:
                found.setdefault(endpoint.uuid.lower(), {})[endpoint.mac.lower()] = segment, endpoint
        return found


def decide(operation: Operation, facts: DomainFacts, view: PoolView) -> Decision:
    """Judge one domain. Everything that speaks against it is said at once."""
    known = view.endpoints(facts.uuid)
    standing, vm, notes = _standing(operation, facts, view, known)
    plans = tuple(_plan(operation, interface, standing, known) for interface in facts.interfaces)
    refusals = [Reason(f"it asks for {hazard.what}", hazard.hint) for hazard in facts.hazards]
    refusals += [Reason(plan.reason, _PORT_HINT) for plan in plans if not plan.is_covered]
    refusals += _repeated_macs(facts)
    if view.draining and operation is not Operation.PLUG:
        refusals.append(Reason("this host is being drained", "start it on another host, or undrain this one"))
    if standing is Standing.TWIN:
        refusals += notes
    closed = [
        Reason(f"{plan.mac or plan.device} stays closed: {plan.reason}")
        for plan in plans
        if plan.is_covered and plan.reason
    ]
    allowed = not refusals
    reasons = tuple(refusals) if refusals else (*notes, *closed)
    if refusals:
        why = "; ".join(reason.what for reason in refusals)
        plans = tuple(
            msgspec.structs.replace(plan, endpoint=None, reason=plan.reason or f"its VM may not run like this: {why}")
            for plan in plans
        )
    return Decision(allowed, standing, vm, reasons, plans)


def _standing(
    operation: Operation, facts: DomainFacts, view: PoolView, known: Mapping[str, tuple[Segment, Endpoint]]
) -> tuple[Standing, VmId, list[Reason]]:
    owners = sorted({endpoint.vm for _, endpoint in known.values()})
    owner = owners[0] if owners else VmId("")
    if facts.passport is None:
        if owner:
            return Standing.PENDING, owner, [Reason("its passport is not written yet", "it opens once adopted")]
        return Standing.ROGUE, VmId(""), [Reason("nobody registered it", "buckler vm adopt makes it a VM of the pool")]
    try:
        passport = read_passport(facts.passport, view.pool, view.keys)
        check_uuid(passport, facts)
        if operation is not Operation.PLUG:  # a card added to what runs is judged alone, not the VM with it
            check_macs(passport, facts, frozenset(known))
    except Forged as error:
        return Standing.TWIN, owner, [Reason(str(error), "a clone needs an identity of its own: remove the passport")]
    if not owner:
        why = "the pool has no such VM any more, or its policy has not come yet"
        return Standing.PENDING, passport.vm, [Reason(why, "it opens when this host's manifest names it")]
    if facts.uuid in view.twins:
        why = "the VM runs on another host, and did not come here by migration"
        return Standing.TWIN, owner, [Reason(why, "stop this copy; a clone needs an identity of its own")]
    if owners != [passport.vm]:
        return Standing.TWIN, owner, [Reason("the pool knows this domain as another VM", "ask who registered it")]
    return Standing.REGISTERED, passport.vm, []


def _plan(
    operation: Operation,
    interface: InterfaceFacts,
    standing: Standing,
    known: Mapping[str, tuple[Segment, Endpoint]],
) -> InterfacePlan:
    plan = InterfacePlan(interface.mac, interface.device, interface.bridge)
    uncovered = _why_uncovered(operation, interface)
    if uncovered:
        return msgspec.structs.replace(plan, reason=uncovered, is_covered=False)
    closed = _why_closed(interface, standing, known)
    if closed:
        return msgspec.structs.replace(plan, reason=closed)
    segment, endpoint = known[interface.mac]
    return msgspec.structs.replace(plan, endpoint=endpoint, zone=segment.zone, vlan=segment.vlan)


def _why_uncovered(operation: Operation, interface: InterfaceFacts) -> str:
    if interface.kind not in _COVERED:
        return f"no shield covers an interface of type {interface.kind[:40]!r}"
    if interface.virtualport:
        return f"no shield covers a port of type {interface.virtualport[:40]!r}"
    # Before ``start`` libvirt has not yet chosen the bridge of a network: it is judged there.
    if not interface.bridge and not (
        interface.kind == "network" and operation is not Operation.START and not interface.device
    ):
        return f"its interface {interface.mac} stands on no Linux bridge"
    return ""


def _why_closed(interface: InterfaceFacts, standing: Standing, known: Mapping[str, tuple[Segment, Endpoint]]) -> str:
    if standing is not Standing.REGISTERED:
        return {
            Standing.ROGUE: "nobody registered the VM",
            Standing.TWIN: "the VM shows an identity that is not its own",
        }.get(standing, "the VM's passport or policy has not come yet")
    found = known.get(interface.mac)
    if found is None:
        return "this interface is not registered for the VM"
    segment, endpoint = found
    if segment.tenant != endpoint.tenant:
        return f"the network {segment.network} belongs to another tenant"
    if interface.bridge and interface.bridge != segment.bridge:
        return f"it is registered on the network {segment.network} (bridge {segment.bridge}), not on {interface.bridge[:40]}"
    return ""


def _repeated_macs(facts: DomainFacts) -> list[Reason]:
    macs = [interface.mac for interface in facts.interfaces]
    return [
        Reason(f"the MAC {mac} appears twice", "give each interface its own")
        for mac in sorted(set(macs))
        if macs.count(mac) > 1
    ]
