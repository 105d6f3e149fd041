"""The matrix: what each VM may send to each other one, both ends considered, from the resolved form. Owns no words."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce

from buckler.model.ids import IdentityNumber, RuleNumber, Zone
from buckler.model.operatorapi.answers import PortRange
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import Resolved
from buckler.policy.language import PROTOCOL_ANY, PROTOCOL_NAMES, Document
from buckler.policy.meet import DENY_ALL, join, meet
from buckler.policy.party import endpoint_key
from buckler.policy.pool import Numbers, Pool, identity_key, singled_out, stations, visitors
from buckler.policy.resolve import LAST_PORT, PROTOCOL_ORDER, Interval, Table

PROTOCOL_OTHER = "other"
ALLOW_ALL: Table = tuple(Interval(each, 0, LAST_PORT, Verdict.ALLOW, RuleNumber(0)) for each in PROTOCOL_ORDER)


End = tuple[Zone, IdentityNumber, ShieldMode | None]
"""Of one interface of a VM, or of an endpoint, which has no shield: zone, identity, mode."""
Ends = tuple[End, ...]
"""VMs with equal ends have equal answers."""


def list_ends(pool: Pool, documents: Iterable[Document], numbers: Numbers) -> dict[str, Ends]:
    """Give the ends of every VM by its id, and of every endpoint by ``endpoint_key``."""
    ends: dict[str, list[End]] = {vm.id: [] for vm in pool.vms}
    singled = singled_out(documents)
    for station in stations(pool, singled):
        number = numbers.identities[identity_key(station.labels)]
        ends[station.vm.id].append((station.network.zone, number, station.vm.mode))
    for each in visitors(pool, singled):
        number = numbers.identities[identity_key(each.labels)]
        ends.setdefault(endpoint_key(each.outsider), []).append((each.network.zone, number, None))
    return {key: tuple(found) for key, found in ends.items()}


def shields(ends: Ends) -> bool:
    """Say whether anything of ours stands there."""
    return any(mode is not None for _, _, mode in ends)


class Judge:
    """What may be sent between ends, each pair of them worked out once."""

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved
        self.between = lru_cache(maxsize=None)(self._between)
        self.with_class = lru_cache(maxsize=None)(self._with_class)

    def _between(self, origin: Ends, to: Ends) -> tuple[PortRange, ...]:
        """Join over every pair of interfaces in one network, of which one at least has a shield."""
        tables = [
            meet(self._side(one, other[1], Direction.EGRESS), self._side(other, one[1], Direction.INGRESS))
            for one in origin
            for other in to
            if one[0] == other[0] and (one[2] is not None or other[2] is not None)
        ]
        return allowed_ranges(reduce(join, tables, DENY_ALL))

    def _with_class(self, ends: Ends, number: IdentityNumber, direction: Direction) -> tuple[PortRange, ...]:
        return allowed_by(self.sides(ends, number, direction))

    def sides(self, ends: Ends, number: IdentityNumber, direction: Direction) -> tuple[Table, ...]:
        """Give the tables that hold at each of the ends towards a class."""
        return tuple(self._side(end, number, direction) for end in ends)

    def _side(self, end: End, peer: IdentityNumber, direction: Direction) -> Table:
        _, number, mode = end
        if mode is not ShieldMode.ENFORCE:
            return ALLOW_ALL
        return self._resolved.programs[number].table(peer, direction)


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


def allowed_by(tables: Iterable[Table]) -> tuple[PortRange, ...]:
    """List what any of some tables allows."""
    return allowed_ranges(reduce(join, tables, DENY_ALL))


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
