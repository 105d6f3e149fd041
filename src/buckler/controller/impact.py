"""A draft replayed over the flows that hosts told: which recorded connections would get another verdict. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from buckler.controller.changes import Wanted, check_change
from buckler.controller.parts import Parts
from buckler.controller.simulate import imagine
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.impact import Impact, ImpactItem, ImpactRequest
from buckler.model.program import Direction
from buckler.policy.draft import Draft
from buckler.policy.language import PROTOCOLS
from buckler.policy.lend import lend_numbers
from buckler.policy.replay import Answer, Attempt, Replayer, Unplaced
from buckler.policy.resolve import LAST_PORT
from buckler.policy.staging import promote_all
from buckler.ports.journal import FlowQuery, StoredFlow

LISTED = 1000
_RING = 10_000_000
_BY_POLICY = frozenset({"policy", "new", "observed", "stateless"})
"""Reasons (REASON_* of bpf/abi.h) that a policy can change."""
_NUMBERS = {name.lower(): number for name, number in PROTOCOLS.items()}

_DIGITS, _LAST_PROTOCOL = 3, 255

Connection = tuple[str, str, int, str, int, int]


class _Found(msgspec.Struct):
    """What is known of one line of the answer while flows are read."""

    connections: set[Connection] = msgspec.field(default_factory=set)
    records: int = 0
    last: float = 0


def find_impact(parts: Parts, request: ImpactRequest) -> Impact:
    """Say what a draft would change. Raises Refused with every problem of the draft."""
    with parts.store.read() as unit:
        plan = check_change(parts, unit, Wanted(files=request.files, delete=request.delete, dry_run=True))
        now, wanted = parts.clock(), promote_all(plan.after) if request.staged else plan.after
        before, after = imagine(unit, plan.before, now), imagine(unit, wanted, now)
        flows = [each for each in unit.flows.find(FlowQuery(limit=_RING)) if each.flow.at >= request.since]
    impact = replay(flows, before, after)
    return msgspec.structs.replace(impact, warnings=plan.warnings)


def replay(flows: Iterable[StoredFlow], before: Draft, after: Draft) -> Impact:
    """Judge every recorded connection by both states. What cannot be judged is counted, never guessed."""
    flows = tuple(flows)
    old, new = _Judge(before), _Judge(after)
    found: dict[tuple[str, str, str, int, Answer, Answer], _Found] = {}
    unplaced: Counter[str] = Counter()
    seen: set[Connection] = set()
    outdated = otherwise = 0
    for each in flows:
        flow = each.flow
        if flow.reason.lower() not in _BY_POLICY:
            otherwise += 1
            continue
        try:
            attempt = _attempt(flow)
            was, becomes = old.answer(attempt), new.answer(attempt)
        except Unplaced as error:
            unplaced[str(error)] += 1
            continue
        name = _connection(flow, attempt)
        seen.add(name)
        outdated += flow.verdict != _verdict(was)
        if was.allowed != becomes.allowed:
            origin, to = _ends(flow)
            line = found.setdefault((origin, to, flow.protocol, attempt.port, was, becomes), _Found())
            line.connections.add(name)
            line.records += 1
            line.last = max(line.last, flow.at)
    items = sorted(
        (_item(key, line) for key, line in found.items()),
        key=lambda item: (-item.connections, item.origin, item.to, item.protocol, item.port),
    )
    times = [each.flow.at for each in flows]
    return Impact(
        records=len(flows),
        first=min(times, default=0),
        last=max(times, default=0),
        shed=sum(each.shed for each in flows),
        connections=len(seen),
        items=tuple(items[:LISTED]),
        changed=len(items),
        outdated=outdated,
        otherwise=otherwise,
        unplaced=dict(sorted(unplaced.items())),
    )


class _Judge:
    """A replayer that is asked each question once."""

    def __init__(self, draft: Draft) -> None:
        numbers = lend_numbers(draft.numbers, draft.pool, draft.documents)
        self._replayer = Replayer(msgspec.structs.replace(draft, numbers=numbers))
        self._known: dict[Attempt, Answer] = {}

    def answer(self, attempt: Attempt) -> Answer:
        if attempt not in self._known:
            self._known[attempt] = self._replayer.answer(attempt)
        return self._known[attempt]


def _attempt(flow: FlowRecord) -> Attempt:
    text = flow.protocol.lower()
    protocol = _NUMBERS.get(text, int(text) if len(text) <= _DIGITS and text.isdecimal() else -1)
    if not 0 <= protocol <= _LAST_PROTOCOL or not 0 <= flow.destination_port <= LAST_PORT:
        raise Unplaced("its protocol or port is none that policies judge")
    direction = Direction.EGRESS if flow.direction == "egress" else Direction.INGRESS
    return Attempt(flow.local, direction, flow.source, flow.destination, protocol, flow.destination_port)


def _connection(flow: FlowRecord, attempt: Attempt) -> Connection:
    """Name a connection alike at both of its ends."""
    return (*_ends(flow), attempt.protocol, f"{flow.source} {flow.destination}", flow.source_port, attempt.port)


def _ends(flow: FlowRecord) -> tuple[str, str]:
    return (flow.local, flow.peer) if flow.direction == "egress" else (flow.peer, flow.local)


def _verdict(answer: Answer) -> str:
    return "allow" if answer.allowed else "deny"


def _item(key: tuple[str, str, str, int, Answer, Answer], line: _Found) -> ImpactItem:
    origin, to, protocol, port, was, becomes = key
    return ImpactItem(
        origin=origin,
        to=to,
        protocol=protocol,
        port=port,
        before=_verdict(was),
        after=_verdict(becomes),
        rule_before=was.rule,
        rule_after=becomes.rule,
        connections=len(line.connections),
        records=line.records,
        last=line.last,
    )
