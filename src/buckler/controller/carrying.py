"""Carries a rollout over from before states were trees of small objects. Publishes nothing: the engine goes on from there."""

from __future__ import annotations

from typing import Any

import msgspec

from buckler.controller.rollout_state import StateName, store_bundle
from buckler.model.bundle import RuleName, Segment
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest
from buckler.model.program import Program
from buckler.policy.bundle import Bundle
from buckler.ports.store import StoreFailed, Unit


class _Listing(msgspec.Struct, frozen=True):
    """A state as it was named then."""

    segments: tuple[Digest, ...] = ()
    programs: tuple[Digest, ...] = ()
    rules: tuple[RuleName, ...] = ()


def carry_rollout(unit: Unit) -> bool:
    """Name every state that hosts may enforce by its root; say whether there was anything to carry.

    The target is named anew, so that all is published again, by the change order. Raises StoreFailed.
    """
    text = unit.revisions.rollout()
    rollout: dict[str, Any] = msgspec.json.decode(text) if text else {}
    listed = [*(stage["bundle"] for stage in rollout.get("stages", ()) if "bundle" in stage)]
    listed += [each for each in rollout.get("in_force", ()) if "segments" in each]
    if not listed:
        return False
    names: dict[Digest, StateName] = {}
    for each in listed:
        listing = msgspec.convert(each, _Listing)
        names[_state(listing)] = store_bundle(unit, _read(unit, listing))
    for stage in rollout["stages"]:
        stage["wanted"] = names[_state(msgspec.convert(stage.pop("bundle"), _Listing))]
    rollout["in_force"] = [names[_state(msgspec.convert(each, _Listing))] for each in rollout["in_force"]]
    rollout["holdings"] = {
        host: [[at, names[state].state, is_taken] for at, state, is_taken in every if state in names]
        for host, every in rollout["holdings"].items()
    }
    rollout["target"] = ""
    unit.revisions.set_rollout(msgspec.json.encode(rollout).decode())
    return True


def _state(listing: _Listing) -> Digest:
    return digest_of(canonical_bytes((listing.segments, listing.programs)))


def _read(unit: Unit, listing: _Listing) -> Bundle:
    contents = unit.objects.get((*listing.segments, *listing.programs))
    try:
        segments = tuple(msgspec.json.decode(contents[each], type=Segment) for each in listing.segments)
        programs = {each: msgspec.json.decode(contents[each], type=Program) for each in listing.programs}
    except (KeyError, msgspec.DecodeError) as error:
        raise StoreFailed(f"a state that hosts may enforce cannot be read: {error}") from error
    return Bundle(segments, programs, listing.rules)
