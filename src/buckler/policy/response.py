"""What a VM's own refusals lead to under a Response. Pure: refusals and labels in, a decision out. Quarantines nobody."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from buckler.model.label import Labels
from buckler.policy.language import PolicyMode, ResponseSpec, TriggerSpec


class Refusal(msgspec.Struct, frozen=True):
    """Packets of a VM that its own shield refused on their way out. ``at`` is its host's time in Unix seconds."""

    at: float
    address: str
    protocol: str
    port: int
    packets: int = 1


class Figures(msgspec.Struct, frozen=True):
    """Refused packets, and how many different addresses and how many different ports of one protocol they were for."""

    refusals: int = 0
    peers: int = 0
    ports: int = 0


class Verdict(StrEnum):
    """What becomes of a VM that may have triggered a Response."""

    NOTHING = "nothing"
    QUARANTINE = "quarantine"
    OBSERVED = "observed"
    EXEMPT = "exempt"
    LIMITED = "limited"


class Suspect(msgspec.Struct, frozen=True):
    """What is known of the VM. ``recent`` counts those that this Response quarantined within its limit's time."""

    labels: Labels
    is_quarantined: bool = False
    recent: int = 0


def figures_of(refusals: Iterable[Refusal], within: float) -> Figures:
    """Count the refusals of the last ``within`` seconds, up to the newest of them."""
    known = tuple(refusals)
    newest = max((each.at for each in known), default=0.0)
    counted = [each for each in known if each.at > newest - within]
    return Figures(
        refusals=sum(each.packets for each in counted),
        peers=len({each.address for each in counted}),
        ports=len({(each.protocol, each.port) for each in counted}),
    )


def is_triggered(trigger: TriggerSpec, figures: Figures) -> bool:
    """Say whether more was refused than the trigger bears, in everything that it counts."""
    asked = [
        (most, found)
        for most, found in (
            (trigger.refusals, figures.refusals),
            (trigger.peers, figures.peers),
            (trigger.ports, figures.ports),
        )
        if most is not None
    ]
    return bool(asked) and all(found > most for most, found in asked)


def decide(spec: ResponseSpec, figures: Figures, suspect: Suspect) -> Verdict:
    """Decide about one VM. One that is exempt, or in quarantine already, is never quarantined by a Response."""
    if suspect.is_quarantined or not spec.subject.matches(suspect.labels) or not is_triggered(spec.trigger, figures):
        return Verdict.NOTHING
    if spec.exempt is not None and spec.exempt.matches(suspect.labels):
        return Verdict.EXEMPT
    if spec.mode is not PolicyMode.ENFORCE:
        return Verdict.OBSERVED
    return Verdict.LIMITED if suspect.recent >= spec.limit.vms else Verdict.QUARANTINE


def sentence_of(figures: Figures, within: int) -> str:
    """Say on what a decision rests."""
    return f"{figures.refusals} packets to {figures.peers} addresses at {figures.ports} ports refused within {within} s"
