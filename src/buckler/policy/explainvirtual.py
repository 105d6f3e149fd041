"""What happens to a packet to a virtual address, in words: whose it is, whom a shield may choose, and each of them explained."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.operatorapi.answers import ExplainedMember, ExplainedPath, ExplainedService, Explanation
from buckler.policy.explain import explain, protocol_number
from buckler.policy.language import PROTOCOL_NAMES, Document, Kind
from buckler.policy.party import UnknownEnd
from buckler.policy.pool import Pool
from buckler.policy.virtual import Choices, find_services, list_choices

_SHOWN = 8


def explain_connection(
    pool: Pool, documents: Iterable[Document], origin: str, to: str, protocol: str, port: int, tenant: str = ""
) -> Explanation:
    """Do what ``explain`` does; where an end is a virtual address in a network, what is said there is of its members.

    Raises what ``explain`` raises.
    """
    documents = tuple(documents)
    plain = explain(pool, documents, origin, to, protocol, port, tenant)
    meant = [list_choices(pool, documents, each) for each in find_services(pool, to)]
    sending = find_services(pool, origin)
    if not meant and not sending:
        return plain
    theirs = {each.service.network for each in meant} | {each.network for each in sending}
    paths = [each for each in plain.paths if each.network not in theirs]
    said = []
    for service in sending:
        whose = f"{service.address} is the virtual address of service {service.name} in network {service.network}"
        said.append(f"{whose}: no VM sends from it, and a frame that claims to is dropped as a spoof.")
    for choices in meant:
        through = _through(pool, documents, plain, choices, tenant) if not sending else ()
        paths += through
        said.append(_told(plain, choices, through))
    verdict = "allow" if any(each.verdict == "allow" for each in paths) else "deny"
    services = tuple(_service(each) for each in meant)
    text = " ".join(said)
    return msgspec.structs.replace(plain, verdict=verdict, text=text, paths=tuple(paths), services=services)


def _through(
    pool: Pool, documents: tuple[Document, ...], plain: Explanation, choices: Choices, tenant: str
) -> tuple[ExplainedPath, ...]:
    """Explain a packet to each member, as the sender's shield would have it judged."""
    if not choices.has_port(protocol_number(plain.protocol), plain.port):
        return ()
    here, rest = _around(pool, choices.service.network), tuple(each for each in documents if each.kind is not Kind.VM)
    found: list[ExplainedPath] = []
    for choice in choices.found:
        try:
            said = explain(here, rest, plain.origin, choice.member.address, plain.protocol, plain.port, tenant)
        except UnknownEnd:
            return ()  # it is somebody, but nobody in that network
        found += [
            each
            for each in said.paths
            if each.origin != choice.station.vm.name and any(side.direction == "egress" for side in each.sides)
        ]
    return tuple(found)


def _around(pool: Pool, network: str) -> Pool:
    """Leave out what is in other networks alone: it is asked once for each member."""
    return msgspec.structs.replace(
        pool,
        networks=tuple(each for each in pool.networks if each.name == network),
        vms=tuple(vm for vm in pool.vms if any(card.network == network for card in vm.interfaces)),
        outsiders=tuple(each for each in pool.outsiders if each.network == network),
    )


def _told(plain: Explanation, choices: Choices, paths: tuple[ExplainedPath, ...]) -> str:
    service = choices.service
    head = f"{service.address} is the virtual address of service {service.name} in network {service.network}"
    what = plain.protocol if plain.protocol.startswith("ICMP") else f"{plain.protocol} {plain.port}"
    if not choices.has_port(protocol_number(plain.protocol), plain.port):
        return f"{head}, which serves {_ports(choices)} there: {what} is refused."
    if not choices.found:
        return f"{head}, where no VM serves: {what} is refused."
    if not paths:
        return f"{head}: the other VMs of that network alone reach it, by their own shields; nothing answers {plain.origin}."
    told = f"{head}: the shield of {plain.origin} sends to one of {_names(paths)}, and decides as if it were asked for that one."
    if choices.left_out:
        told += f" {choices.left_out} more serve than it can choose among: they get nothing through this address."
    passing = tuple(each for each in paths if each.verdict == "allow")
    refused = tuple(each for each in paths if each.verdict != "allow")
    if passing and refused:
        return f"{told} {what} passes to {_names(passing)} and is refused to {_names(refused)}: it depends on which it chooses."
    return f"{told} {what} {'passes to all of them' if passing else 'is refused to all of them'}."


def _names(paths: tuple[ExplainedPath, ...]) -> str:
    names = list(dict.fromkeys(each.to for each in paths))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _ports(choices: Choices) -> str:
    spans = (
        f"{PROTOCOL_NAMES[number]} {first if first == last else f'{first}-{last}'}"
        for number, first, last in choices.service.ports
    )
    return ", ".join(spans)


def _service(choices: Choices) -> ExplainedService:
    service = choices.service
    members = tuple(ExplainedMember(each.station.vm.name, each.member.address) for each in choices.found)
    return ExplainedService(service.name, service.tenant, service.network, service.address, members, choices.left_out)
