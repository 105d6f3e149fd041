"""What a host may make the pool keep and show: times that are times, words that are known, texts of bounded length. Pure."""

from __future__ import annotations

import msgspec

from buckler.model.agentapi import Acknowledgement, Observation, ObservedDomain
from buckler.model.domain import DomainState
from buckler.model.event import Event
from buckler.model.flow import FlowRecord
from buckler.model.sample import Sample, Totals, add, highest

_AHEAD = 366 * 86400.0
"""How far a host's clock may be ahead before its times are replaced; nothing is decided by them."""
_COUNT = 2**53
_STATES = frozenset(state.value for state in DomainState)
_PROBLEMS = 100
_TEXT = 1000


def fit_time(at: float, now: float) -> float:
    """Return a time that every reader can write down."""
    return at if 0 <= at <= now + _AHEAD else now


def fit_event(event: Event, now: float) -> Event:
    """Keep an event's time and actor within a host's say: no person acts through an agent."""
    at, actor = fit_time(event.at, now), "agent" if event.actor else ""
    detail = event.detail if at == event.at else {**event.detail, "claimed_at": event.at}
    return msgspec.structs.replace(event, at=at, actor=actor, detail=detail)


def fit_acknowledgement(ack: Acknowledgement, now: float) -> Acknowledgement:
    """Keep what people are shown of an acknowledgement short."""
    return msgspec.structs.replace(ack, at=fit_time(ack.at, now), problems=_short(ack.problems))


def fit_observation(observation: Observation, now: float) -> Observation:
    """Keep states known and times no later than now, so that no host's word is the newest for ever."""
    return msgspec.structs.replace(
        observation,
        at=observation.at if 0 <= observation.at <= now else now,
        domains=tuple(_fit_domain(domain) for domain in observation.domains),
        problems=_short(observation.problems),
    )


def fit_flow(flow: FlowRecord, host: str, now: float) -> FlowRecord:
    """Say who told it, and bound what is counted."""
    return msgspec.structs.replace(
        flow,
        host=host,
        at=fit_time(flow.at, now),
        packets=fit_count(flow.packets),
        bytes=fit_count(flow.bytes),
        shed_before=fit_count(flow.shed_before),
    )


def fit_sample(sample: Sample, now: float) -> Sample:
    """Keep times no later than now, so that no host's word is the newest for ever, and figures such as can be."""
    return msgspec.structs.replace(
        sample,
        at=sample.at if 0 <= sample.at <= now else now,
        memory=fit_count(sample.memory),
        totals=highest(add(sample.totals, Totals()), Totals()),
    )


def fit_count(number: int) -> int:
    """Bound a count to what every store and reader can hold."""
    return min(max(number, 0), _COUNT)


def _fit_domain(domain: ObservedDomain) -> ObservedDomain:
    if domain.state in _STATES:
        return domain
    return msgspec.structs.replace(domain, state=DomainState.UNKNOWN.value)


def _short(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text[:_TEXT] for text in texts[:_PROBLEMS])
