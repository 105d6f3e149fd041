"""What bound a VM, for people: times in, texts out. Asks nobody."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from buckler.cli.output import moment, words
from buckler.model.operatorapi.vms import BoundPolicy


def parse_moment(text: str) -> float:
    """Read a time of RFC 3339 (UTC where it names no zone) or Unix seconds."""
    try:
        moment_then = datetime.fromisoformat(text)
    except ValueError:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < 1e11:
            raise click.UsageError(f"{text!r} is no time: write 2026-03-01T12:00:00Z, or Unix seconds") from None
        return seconds
    zoned = moment_then if moment_then.tzinfo else moment_then.replace(tzinfo=UTC)
    return zoned.timestamp()


def bound_lines(found: tuple[BoundPolicy, ...]) -> list[str]:
    """Tell each time in which one policy bound a VM."""
    lines: list[str] = []
    for each in found:
        lines.append(f"{moment(each.since)} to {_until(each)} on {each.host}: {_revisions(each.revisions)}")
        lines += [f"  {each.note}"] if each.note else []
        lines += [f"  binding {each.binding}"] if each.binding else ["  closed: it was in nothing that was enforced"]
        for card in each.cards:
            lines.append(
                f"  {card.mac} on network {card.network} ({card.mode.value}), {words(card.addresses, 'no address')}"
            )
            lines += [f"    {rule}" for rule in card.rules]
        lines.append(f"  entries {words(str(number) for number in each.entries)} of the ledger")
    return lines


def _until(told: BoundPolicy) -> str:
    return moment(told.until) if told.until else "now"


def _revisions(revisions: tuple[int, ...]) -> str:
    if not revisions:
        return "no revision"
    return f"revision {revisions[0]}" if len(revisions) == 1 else f"revisions {revisions[0]} to {revisions[-1]}"
