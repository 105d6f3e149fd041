"""What a draft would have done to recorded connections, over the operator API. Owns the form of the answer."""

from __future__ import annotations

import msgspec

from buckler.model.operatorapi.body import Answer, Issue, Request
from buckler.model.operatorapi.documents import Reference, SourceFile


class ImpactRequest(Request, frozen=True):
    """A draft, as apply would take it. ``since``: only what was recorded from then on (Unix seconds).

    ``staged``: all that is staged is enforced in the draft.
    """

    files: tuple[SourceFile, ...] = ()
    delete: tuple[Reference, ...] = ()
    since: float = 0
    staged: bool = False


class ImpactItem(Answer, frozen=True):
    """Connections of one pair that get another verdict. ``ruleBefore``, ``ruleAfter``: what decides, empty: default deny.

    ``connections`` are different ones (addresses, ports, protocol); ``records`` what shields told of them.
    """

    origin: str = msgspec.field(name="from")
    to: str
    protocol: str
    port: int
    before: str
    after: str
    rule_before: str
    rule_after: str
    connections: int
    records: int
    last: float


class Impact(Answer, frozen=True):
    """``records`` of the ring were looked at, from ``first`` to ``last``; ``shed`` are known to be missing among them.

    ``outdated``: recorded with another verdict than the pool gives now. ``otherwise``: refused or let pass for reasons
    that are no policy's (spoofed, malformed). ``unplaced``: by reason, records that cannot be judged again.
    """

    records: int
    first: float
    last: float
    shed: int
    connections: int
    items: tuple[ImpactItem, ...]
    changed: int = 0
    outdated: int = 0
    otherwise: int = 0
    unplaced: dict[str, int] = msgspec.field(default_factory=dict)
    warnings: tuple[Issue, ...] = ()
