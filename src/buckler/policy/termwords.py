"""Read what limits a rule beside its peers: until, schedule, rateLimit; and exceptions. Checks each by itself only."""

from __future__ import annotations

import re
from typing import Any

from buckler.policy.field import Place, each
from buckler.policy.language import (
    Action,
    ExceptionSpec,
    RateLimitSpec,
    ScheduleSpec,
    Tier,
    Yielding,
)
from buckler.policy.timing import DAYS, UnknownZone, find_zone, parse_moment
from buckler.policy.words import read_peer, read_port, read_selector

MOST_CONNECTIONS, MOST_WITHIN = 1_000_000, 3600
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z")
_WHOLE_DAY = ("00:00", "24:00")
_LATER_EXCEPTION = {
    "expires": "say until",
    "mode": "an exception holds while its policy is enforced",
    "schedule": "an exception has an end: say until",
}


def read_until(place: Place | None) -> str:
    """Take a time with its offset; empty where there is none."""
    if place is None:
        return ""
    text = place.text()
    if text:
        try:
            parse_moment(text)
        except ValueError as error:
            hint = str(error) if "offset" in str(error) or "from" in str(error) else "a day and time that exist"
            place.note(f"{text!r} is no time", hint)
            return ""
    return text


def read_schedule(place: Place | None) -> ScheduleSpec | None:
    """Take hours of days of the week."""
    if place is None:
        return None
    names = ("days", "from", "to", "timezone")
    fields = place.fields(names, names)
    if len(fields) < len(names):
        return None
    days = tuple(_day(item) for item in fields["days"].items())
    start, end = _clock(fields["from"], last="23:59"), _clock(fields["to"], last="24:00")
    zone = _zone(fields["timezone"])
    if isinstance(fields["days"].raw.value, tuple) and not days:
        fields["days"].note("names no day", f"of {', '.join(DAYS)}")
    if len(set(days)) < len(days):
        fields["days"].note("names a day twice")
    if start and start == end:
        fields["to"].note("the same as from", "write 00:00 to 24:00 for whole days")
    if (start, end) == _WHOLE_DAY and set(days) == set(DAYS):
        place.note("is always", "leave schedule out")
    if not (days and all(days) and start and end and zone):
        return None
    return ScheduleSpec(tuple(day for day in DAYS if day in days), start, end, zone)


def read_rate_limit(place: Place | None, action: Action) -> RateLimitSpec | None:
    """Take how many new connections are let in; only an allowance can let any in."""
    if place is None:
        return None
    fields = place.fields(("connections", "within"), ("connections", "within"))
    connections = fields["connections"].integer(1, MOST_CONNECTIONS) if "connections" in fields else None
    within = fields["within"].integer(1, MOST_WITHIN) if "within" in fields else None
    if action is not Action.ALLOW:
        place.note(f"a rule that says {action} lets no connection in", "rateLimit belongs to allow")
    return RateLimitSpec(connections, within) if connections and within else None


def read_exception(place: Place) -> ExceptionSpec:
    """Read the spec of an Exception."""
    known = ("description", "owner", "reason", "until", "action", "policy", "rule", "flow", "tier")
    narrowing = ("subject", "from", "to", "ports", "log")
    fields = place.fields((*known, *narrowing), ("owner", "reason", "until", "action"), _LATER_EXCEPTION)
    _check_named(place, fields)
    found: Any = {}
    for name, key in (("sources", "from"), ("destinations", "to")):
        found[name] = each(fields.get(key), read_peer)
        if key in fields and not found[name]:
            fields[key].note("names no peer", f"leave {key} out for all that the rule means")
        if any(peer.dns for peer in found[name]):
            fields[key].note("a name cannot be what a rule yields for", "write {cidr: …} or {addresses: …}")
    ports = each(fields.get("ports"), read_port)
    if "ports" in fields and not ports:
        fields["ports"].note("names no port", "leave ports out for all that the rule means")
    words: Any = {key: fields[key].text() if key in fields else "" for key in ("description", "owner", "reason")}
    words |= {key: fields[key].name() if key in fields else "" for key in ("policy", "rule", "flow")}
    return ExceptionSpec(
        until=read_until(fields.get("until")),
        action=fields["action"].choice(Yielding, Yielding.DISABLE) if "action" in fields else Yielding.DISABLE,
        tier=fields["tier"].choice(Tier, Tier.TENANT) if "tier" in fields else Tier.TENANT,
        subject=read_selector(fields["subject"]) if "subject" in fields else None,
        ports=ports,
        log=fields["log"].flag() if "log" in fields else False,
        **words,
        **found,
    )


def _check_named(place: Place, fields: dict[str, Place]) -> None:
    if ("policy" in fields) is ("flow" in fields):
        place.note("names exactly one policy or flow", "say policy and rule, or flow")
    if "policy" in fields and "rule" not in fields:
        place.note("rule is missing", "an exception is one to a rule of the policy")
    if "flow" in fields:
        for key in ("rule", "subject"):
            if key in fields:
                fields[key].note(f"a flow has no {key}", "narrow it by from and to")
    if "policy" in fields and "from" in fields and "to" in fields:
        fields["to"].note("a rule has peers on one side only", "from of an ingress rule, to of an egress rule")


def _day(place: Place) -> str:
    value = place.text()
    if value and value not in DAYS:
        place.note(f"{value!r} is no day", f"one of {', '.join(DAYS)}")
        return ""
    return value


def _clock(place: Place, *, last: str) -> str:
    value = place.text()
    if value and not _CLOCK.match(value) and value != last:
        place.note(f"{value!r} is no time of day", f"write it like 09:00, up to {last}")
        return ""
    return value


def _zone(place: Place) -> str:
    value = place.text()
    try:
        return find_zone(value).key if value else ""
    except UnknownZone:
        place.note(f"{value!r} is no time zone that is known here", "a name of the tz database, like Europe/Berlin")
        return ""
