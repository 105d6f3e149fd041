"""Random beginnings, ends, schedules and exceptions for random policies."""

from __future__ import annotations

from typing import Any

import msgspec

from buckler.model.program import Terms
from buckler.policy.judgement import EndJudgement
from buckler.policy.language import (
    Document,
    ExceptionSpec,
    FlowSpec,
    Kind,
    PolicySpec,
    ScheduleSpec,
    Tier,
    Yielding,
)
from buckler.policy.timing import DAYS, write_moment
from tests.randompolicy import (
    Chooser,
    endpoints,
    flag,
    labels,
    network,
    peer,
    pick,
    policies,
    port,
    selector,
    several,
    vm,
)

START = 1_793_000_000
"""A week later Europe's clocks go back."""
HOUR = 3600
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
CLOCKS = ("00:00", "01:30", "02:30", "09:00", "17:00", "23:00")


def moment(choose: Chooser) -> int:
    """A time about the start, and before what ends soon."""
    return START + choose.number(-2, 24 * 15) * HOUR


def until(choose: Chooser, one_in: int = 4) -> str:
    return write_moment(START + choose.number(-1, 200) * HOUR) if flag(choose, one_in) else ""


def schedule(choose: Chooser) -> ScheduleSpec:
    first = choose.number(0, 6)
    days = tuple(day for place, day in enumerate(DAYS) if (place - first) % 7 <= choose.number(0, 6)) or ("mon",)
    start, end = pick(choose, CLOCKS), pick(choose, (*CLOCKS, "24:00"))
    return ScheduleSpec(
        days, start, end if end != start else "24:00" if start != "00:00" else "08:00", pick(choose, ZONES)
    )


def timed(choose: Chooser, document: Document) -> Document:
    """Give a policy or flow, or some rules of one, an end or hours."""
    spec = document.spec
    if not isinstance(spec, PolicySpec | FlowSpec):
        return document
    times: dict[str, Any] = {"until": until(choose), "schedule": schedule(choose) if flag(choose, 4) else None}
    if isinstance(spec, PolicySpec):
        for side in ("ingress", "egress"):
            rules = getattr(spec, side)
            times[side] = tuple(msgspec.structs.replace(rule, until=until(choose)) for rule in rules)
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(spec, **times))


def exception(choose: Chooser, index: int, document: Document) -> Document:
    """An exception to some rule, fitting or not."""
    spec = document.spec
    named: dict[str, Any] = {"flow": document.name}
    if isinstance(spec, PolicySpec):
        rules = (*spec.ingress, *spec.egress)
        named = {"policy": document.name, "rule": pick(choose, rules).name if rules else "none"}
        if flag(choose, 3):
            named["subject"] = selector(choose)
    sides = ("sources", "destinations")
    narrowed = {side: several(choose, 0, 2, peer) for side in sides if flag(choose, 3)}
    return Document(
        Kind.EXCEPTION,
        f"x{index}",
        ExceptionSpec(
            owner="o",
            reason="r",
            until=until(choose, 1),
            action=pick(choose, tuple(Yielding)),
            tier=spec.tier
            if isinstance(spec, PolicySpec | FlowSpec) and not flag(choose, 8)
            else pick(choose, tuple(Tier)),
            ports=several(choose, 0, 1, port),
            log=flag(choose, 4),
            **named,
            **narrowed,
        ),
    )


def timed_policies(choose: Chooser, high: int = 5) -> tuple[Document, ...]:
    """Random ones of which some begin and end, with exceptions to some."""
    made = tuple(timed(choose, each) if flag(choose) else each for each in policies(choose, high))
    excepted = [each for each in made if isinstance(each.spec, PolicySpec | FlowSpec)]
    count = choose.number(0, 3) if excepted else 0
    return (*made, *(exception(choose, index, pick(choose, excepted)) for index in range(count)))


def timed_world(choose: Chooser, vms: int = 4) -> tuple[Document, ...]:
    """One network with VMs, endpoints and policies that begin and end: as written."""
    made = tuple(vm(index, labels(choose)) for index in range(choose.number(1, vms)))
    return (network(), *made, *endpoints(choose), *timed_policies(choose))


def terms_judged(judged: EndJudgement) -> Terms:
    """What the reference says beside its verdict, in the form of the resolved; of the draft only whether there is one."""
    return Terms(until=judged.until, log=judged.log, connections=judged.connections, within=judged.within)
