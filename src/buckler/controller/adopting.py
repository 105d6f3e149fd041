"""From a rogue as its host observes it to the document that makes it a VM of the pool. Stores nothing."""

from __future__ import annotations

from buckler.controller.pool_state import State, load_state
from buckler.controller.problems import Refused
from buckler.controller.sights import sights
from buckler.model.agentapi import ObservedInterface
from buckler.model.operatorapi.vms import AdoptRequest
from buckler.model.pool import HostState
from buckler.policy.language import Document, InterfaceSpec, Kind, VmSpec
from buckler.ports.store import Unit


def document_of_rogue(unit: Unit, request: AdoptRequest) -> Document:
    """Write the VM document of a rogue. Raises Refused when it is registered, unseen, or its network is not clear."""
    state = load_state(unit)
    registered = state.by_uuid(request.uuid)
    if registered is not None:
        raise Refused(409, "this domain is registered already", f"it is VM {registered.vm.name}")
    if any((each.vm.name, each.vm.tenant) == (request.name, request.tenant) for each in state.registered):
        raise Refused(409, "the name is taken", f"VM {request.name!r} of tenant {request.tenant!r} is another domain")
    cards = tuple(
        InterfaceSpec(card.mac, card.network, card.addresses, dict(card.labels)) for card in request.interfaces
    )
    if cards:
        _refuse_other_macs(unit, request)
    else:
        cards = _observed_cards(unit, state, request)
    spec = VmSpec(request.uuid, cards, request.mode, request.owner, request.purpose)
    return Document(Kind.VM, request.name, spec, request.tenant, dict(request.labels), file="(adopted)")


def _observed_cards(unit: Unit, state: State, request: AdoptRequest) -> tuple[InterfaceSpec, ...]:
    seen = [sight for sight in sights(unit).get(request.uuid, ()) if sight.host.state is not HostState.REVOKED]
    if not seen:
        raise Refused(404, "no such rogue", f"no host observes a domain {request.uuid}")
    if len({tuple((card.mac.lower(), card.bridge) for card in sight.domain.interfaces) for sight in seen}) > 1:
        hosts = ", ".join(sight.host.name for sight in seen)
        raise Refused(409, f"{hosts} report different interfaces of it", "name the interfaces in the request")
    return tuple(
        InterfaceSpec(card.mac.lower(), _network(state, request.tenant, card)) for card in seen[0].domain.interfaces
    )


def _refuse_other_macs(unit: Unit, request: AdoptRequest) -> None:
    """A mistyped MAC would close the VM and make its passport one of another machine. Raises Refused."""
    seen = [sight.domain for sight in sights(unit).get(request.uuid, ()) if sight.host.state is not HostState.REVOKED]
    known = {card.mac.lower() for domain in seen for card in domain.interfaces}
    others = sorted({card.mac.lower() for card in request.interfaces} - known)
    if seen and others:
        hint = f"its hosts report {', '.join(sorted(known)) or 'none'}"
        raise Refused(409, f"the domain has no interface {', '.join(others)}", hint)


def _network(state: State, tenant: str, card: ObservedInterface) -> str:
    found = [each.name for each in state.pool.networks if (each.bridge, each.tenant) == (card.bridge, tenant)]
    if len(found) != 1:
        which = f"{len(found)} networks" if found else "no network"
        hint = f"{which} of tenant {tenant!r} on bridge {card.bridge!r}: name the interfaces in the request"
        raise Refused(409, f"the network of {card.mac} is not clear", hint)
    return found[0]
