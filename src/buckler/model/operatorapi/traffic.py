"""What was sent between whom over the operator API: flows and counters. Counts nothing."""

from __future__ import annotations

from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.body import Answer


class FlowItem(Answer, frozen=True):
    """``cursor`` goes into ``after`` to read on. ``shed`` counts events known to be missing just before this one."""

    cursor: int
    flow: FlowRecord
    shed: int = 0


class CounterItem(Answer, frozen=True):
    """Packets between two ends that one rule decided, as ``local``'s shields counted, over all hosts it was on.

    The verdict ``shed`` counts events that a host's shields did not tell as flows; it has no ends, and its packets are
    in the other counters.
    """

    local: str
    peer: str
    direction: str
    verdict: str
    policy: str
    rule: str
    packets: int
    bytes: int
    hosts: tuple[str, ...] = ()
