"""The matrix: what each VM may send to each other one, both ends considered, from the resolved form. Owns no words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from buckler.model.ids import IDENTITY_WORLD, IdentityNumber, RuleNumber
from buckler.model.operatorapi.answers import PortRange, ReachPair
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.language import PROTOCOL_ANY, PROTOCOL_NAMES, Document
from buckler.policy.meet import DENY_ALL, join, meet
from buckler.policy.pool import Numbers, Pool, Station, identity_key, singled_out, stations
from buckler.policy.resolve import LAST_PORT, PROTOCOL_ORDER, Interval, Table

WORLD = "world"
PROTOCOL_OTHER = "other"
ALLOW_ALL: Table = tuple(Interval(each, 0, LAST_PORT, Verdict.ALLOW, RuleNumber(0)) for each in PROTOCOL_ORDER)


def reach_pairs(
    pool: Pool, documents: Iterable[Document], numbers: Numbers, *, tenant: str = ""
) -> tuple[ReachPair, ...]:
    """Give every ordered pair of different VMs (of one tenant, or of all) and of each with the world, sorted.

    VMs are named as in documents; where two tenants have one name, as ``tenant/name``. A VM whose shield observes
    lets everything pass, and so does the matrix.
    """
    documents = tuple(documents)
    resolved = resolve_pool(pool, documents, numbers)
    found = stations(pool, singled_out(documents))
    names = vm_names(pool)
    by_vm: dict[str, list[Station]] = {
        names[vm.id]: [each for each in found if each.vm.id == vm.id] for vm in pool.vms if tenant in {"", vm.tenant}
    }
    ends = [*sorted(by_vm), WORLD]
    pairs = []
    for origin in ends:
        for to in ends:
            if origin != to:
                table = _reach(by_vm.get(origin), by_vm.get(to), resolved, numbers)
                pairs.append(ReachPair(origin, to, allowed_ranges(table)))
    return tuple(pairs)


def vm_names(pool: Pool) -> dict[str, str]:
    """Name every VM by id: its name, or ``tenant/name`` where the name alone is not one VM's."""
    count: dict[str, int] = {}
    for vm in pool.vms:
        count[vm.name] = count.get(vm.name, 0) + 1
    return {vm.id: vm.name if count[vm.name] == 1 else f"{vm.tenant}/{vm.name}" for vm in pool.vms}


def allowed_ranges(table: Table) -> tuple[PortRange, ...]:
    """List what a table allows; everything of every protocol is one range ``any``."""
    joined: list[tuple[int, int, int]] = []
    for each in table:
        if each.verdict is not Verdict.ALLOW:
            continue
        if joined and joined[-1][0] == each.protocol and joined[-1][2] + 1 == each.low:
            joined[-1] = (each.protocol, joined[-1][1], each.high)
        else:
            joined.append((each.protocol, each.low, each.high))
    if joined == [(protocol, 0, LAST_PORT) for protocol in PROTOCOL_ORDER]:
        return (PortRange("any"),)
    return tuple(PortRange(protocol_name(protocol), low, high) for protocol, low, high in joined)


def words_of(ranges: tuple[PortRange, ...]) -> tuple[str, ...]:
    """Write ranges as people read them: ``TCP 443``, ``UDP 1000-2000``, ``ICMP``."""
    return tuple(_words(each) for each in ranges)


def protocol_name(protocol: int) -> str:
    """Name a protocol of a resolved table."""
    return PROTOCOL_OTHER if protocol == PROTOCOL_ANY else PROTOCOL_NAMES[protocol]


def _words(each: PortRange) -> str:
    if (each.port, each.end_port) == (0, 65535):
        return each.protocol
    if each.protocol in {"ICMP", "ICMPv6"}:
        ends = [(number >> 8, number & 255) for number in (each.port, each.end_port)]
        if (ends[0][1], ends[1][1]) == (0, 255):
            kinds = f"{ends[0][0]}" if ends[0][0] == ends[1][0] else f"{ends[0][0]}-{ends[1][0]}"
            return f"{each.protocol} type {kinds}"
        codes = " to ".join(dict.fromkeys(f"type {kind} code {code}" for kind, code in ends))
        return f"{each.protocol} {codes}"
    ports = str(each.port) if each.port == each.end_port else f"{each.port}-{each.end_port}"
    return f"{each.protocol} {ports}"


def _reach(origins: list[Station] | None, targets: list[Station] | None, resolved: Resolved, numbers: Numbers) -> Table:
    """Join over every pair of interfaces in one network. None stands for the world."""
    tables = []
    if origins is None and targets is not None:
        tables = [_side(each, IDENTITY_WORLD, Direction.INGRESS, resolved, numbers) for each in targets]
    elif origins is not None and targets is None:
        tables = [_side(each, IDENTITY_WORLD, Direction.EGRESS, resolved, numbers) for each in origins]
    else:
        tables = [
            meet(
                _side(one, _number(other, numbers), Direction.EGRESS, resolved, numbers),
                _side(other, _number(one, numbers), Direction.INGRESS, resolved, numbers),
            )
            for one in origins or ()
            for other in targets or ()
            if one.network.zone == other.network.zone
        ]
    return reduce(join, tables, DENY_ALL)


def _side(station: Station, peer: IdentityNumber, direction: Direction, resolved: Resolved, numbers: Numbers) -> Table:
    if station.vm.mode is ShieldMode.OBSERVE:
        return ALLOW_ALL
    return resolved.programs[_number(station, numbers)].table(peer, direction)


def _number(station: Station, numbers: Numbers) -> IdentityNumber:
    return numbers.identities[identity_key(station.labels)]
