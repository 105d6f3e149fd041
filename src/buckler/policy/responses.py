"""Read Response documents: what is done by itself when a VM is refused too much. Checks each by itself only."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from buckler.model.label import Selector
from buckler.policy.field import Place
from buckler.policy.language import (
    Countermeasure,
    LimitSpec,
    PolicyMode,
    QuarantineAllowance,
    ResponseSpec,
    TriggerSpec,
)
from buckler.policy.words import LATER, read_selector

MOST_WITHIN = 600
_KNOWN = ("trigger", "subject", "exempt", "action", "allow", "limit")
_LATER_RESPONSE = dict.fromkeys(("playbook", "approval", "notify", "until"), LATER)
_LATER_ACTION = dict.fromkeys(("tarpit", "redirect", "suspend", "stop"), LATER)


class _Only(StrEnum):
    REMEDIATION = "remediation"


def read_response(
    place: Place, duty: tuple[str, ...], read_head: Callable[[dict[str, Place]], dict[str, Any]]
) -> ResponseSpec:
    """Read the spec of a Response. ``duty`` and ``read_head`` are what all policies share."""
    required = (*duty, "trigger", "action", "limit")
    fields = place.fields((*duty, "priority", "mode", *_KNOWN), required, _LATER_RESPONSE)
    head = {key: value for key, value in read_head(fields).items() if key not in ("tier", "order")}
    if "action" in fields:
        fields["action"].choice(Countermeasure, Countermeasure.QUARANTINE, _LATER_ACTION)
    if "allow" in fields:
        fields["allow"].choice(_Only, _Only.REMEDIATION)
    if "mode" not in fields:
        head["mode"] = PolicyMode.OBSERVE  # nothing is cut off by itself unless somebody wrote so
    if head["mode"] is PolicyMode.STAGED:
        fields["mode"].note("a response is in no draft", "mode: observe records and does nothing")
    exempt = read_selector(fields["exempt"]) if "exempt" in fields else None
    return ResponseSpec(
        **head,
        trigger=_trigger(fields["trigger"]) if "trigger" in fields else TriggerSpec(within=1),
        subject=read_selector(fields["subject"]) if "subject" in fields else Selector(),
        exempt=exempt,
        allow=QuarantineAllowance.REMEDIATION if "allow" in fields else QuarantineAllowance.NOTHING,
        limit=_limit(fields["limit"]) if "limit" in fields else LimitSpec(1, 1),
    )


def _trigger(place: Place) -> TriggerSpec:
    fields = place.fields(("refusals", "peers", "ports", "within"), ("within",))
    counts = {name: fields[name].integer(0, 1_000_000) for name in ("refusals", "peers", "ports") if name in fields}
    if not counts:
        place.note("counts nothing", "say refusals, peers or ports: each given one must be exceeded")
    within = fields["within"].integer(1, MOST_WITHIN) if "within" in fields else 1
    return TriggerSpec(within=within or 1, **counts)


def _limit(place: Place) -> LimitSpec:
    fields = place.fields(("vms", "within"), ("vms", "within"))
    vms = fields["vms"].integer(0, 100_000) if "vms" in fields else 0
    within = fields["within"].integer(1, 86_400 * 30) if "within" in fields else 1
    return LimitSpec(vms or 0, within or 1)
