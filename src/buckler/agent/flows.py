"""What shields saw, named by identity. Pure: numbers and bytes in, flow records out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from buckler.agent.names import Names
from buckler.model.flow import FlowRecord
from buckler.model.ids import IDENTITY_GROUP, IDENTITY_HOST, IDENTITY_INFRA
from buckler.model.program import Direction, Verdict
from buckler.ports.telemetry import ShieldEvent

_PEERS = {IDENTITY_HOST: "host", IDENTITY_GROUP: "group", IDENTITY_INFRA: "infra"}
_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_ETHERTYPES = {0x0806: "arp", 0x8035: "rarp"}


def record_of(event: ShieldEvent, names: Names, reasons: Mapping[int, str], host: str, booted_at: float) -> FlowRecord:
    """One event in words. ``booted_at`` is the Unix time at which CLOCK_BOOTTIME was zero."""
    local = names.by_number.get(event.vm)
    rule, staged_rule = names.rules.get(event.rule), names.rules.get(event.staged_rule)
    return FlowRecord(
        at=booted_at + event.at / 1e9,
        host=host,
        local=f"vm-{event.vm}" if local is None else local.name,
        peer=peer_name(event.peer_vm, event.peer_identity, names),
        direction="egress" if event.direction == Direction.EGRESS else "ingress",
        verdict="allow" if event.allowed else "deny",
        reason=reasons.get(event.reason, str(event.reason)),
        protocol=_protocol(event),
        source=_address(event.source),
        destination=_address(event.destination),
        source_port=event.source_port,
        destination_port=event.destination_port,
        policy="" if rule is None else rule.policy,
        rule="" if rule is None else rule.rule,
        bytes=event.length,
        logged=event.logged,
        answered=event.answered,
        staged=verdict_word(event.staged),
        staged_policy="" if staged_rule is None else staged_rule.policy,
        staged_rule="" if staged_rule is None else staged_rule.rule,
        service=names.services.get(event.service, f"service-{event.service}") if event.service else "",
    )


def verdict_word(number: int) -> str:
    """A verdict of a program as people say it; one that this version does not know is a denial. 0: there is none."""
    if not number:
        return ""
    return Verdict(number).name.lower() if number in set(Verdict) else "deny"


def peer_name(vm: int, identity: int, names: Names) -> str:
    """A VM by its name, everybody else by what they are."""
    if vm:
        peer = names.by_number.get(vm)
        return f"vm-{vm}" if peer is None else peer.name
    return next((word for number, word in _PEERS.items() if number == identity), "world")


def _protocol(event: ShieldEvent) -> str:
    if event.ethertype in _ETHERTYPES:
        return _ETHERTYPES[event.ethertype]
    return _PROTOCOLS.get(event.protocol, f"{event.protocol}")


def _address(raw: bytes) -> str:
    try:
        address = ipaddress.IPv6Address(raw)
    except ValueError:
        return ""
    return str(address.ipv4_mapped or address)
