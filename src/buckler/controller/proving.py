"""The ledger's rows held against its tree and its checkpoint before anything is told of them. Signs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.controller.parts import Parts
from buckler.controller.passports import every_issuer
from buckler.controller.problems import Refused
from buckler.ledger.checkpoint import Checkpoint, read_checkpoint
from buckler.ledger.entry import BadEntry, Entry, read_entry
from buckler.ledger.tree import BadProof, Hash, folded, plan_consistency, plan_inclusion, verify_inclusion
from buckler.ports.ledger import StoredLeaf
from buckler.ports.store import Unit
from buckler.trust.statement import Untrusted

_AT_ONCE = 1000


def newest_checkpoint(parts: Parts, unit: Unit) -> tuple[str, Checkpoint]:
    """Return the newest checkpoint as text and read. Raises Refused when it is not ours."""
    note = unit.ledger.checkpoint()
    try:
        return note, read_checkpoint(note, parts.origin, every_issuer(parts, unit))
    except Untrusted as error:
        raise _altered(f"the checkpoint: {error}") from error


def inclusion(unit: Unit, index: int, size: int) -> tuple[Hash, ...]:
    """Make the proof that leaf ``index`` is under the first ``size``. Raises Refused."""
    try:
        covers = plan_inclusion(index, size)
        return folded(covers, unit.ledger.nodes({node for cover in covers for node in cover}))
    except BadProof as error:
        raise Refused(404, "no such entry", str(error)) from error
    except KeyError as error:
        raise _altered(f"node {error} is missing") from error


def consistency(unit: Unit, old: int, new: int) -> tuple[Hash, ...]:
    """Make the proof that the first ``new`` entries begin with the first ``old``. Raises Refused."""
    if new > unit.ledger.edge().size:
        raise Refused(404, "no such checkpoint", f"the ledger has {unit.ledger.edge().size} entries")
    try:
        covers = plan_consistency(old, new)
        return folded(covers, unit.ledger.nodes({node for cover in covers for node in cover}))
    except BadProof as error:
        raise Refused(400, "no such proof", str(error)) from error
    except KeyError as error:
        raise _altered(f"node {error} is missing") from error


def proven(parts: Parts, unit: Unit, leaves: Sequence[StoredLeaf]) -> list[Entry]:
    """Read entries, each proven to be in its place under the newest checkpoint. Raises Refused when one is not."""
    if not leaves:
        return []
    _, signed = newest_checkpoint(parts, unit)
    entries: list[Entry] = []
    for start in range(0, len(leaves), _AT_ONCE):
        entries += _proven(unit, leaves[start : start + _AT_ONCE], signed)
    return entries


def _proven(unit: Unit, leaves: Sequence[StoredLeaf], signed: Checkpoint) -> list[Entry]:
    entries = []
    try:
        plans = [plan_inclusion(each.sequence - 1, signed.size) for each in leaves]
        nodes = unit.ledger.nodes({node for plan in plans for cover in plan for node in cover})
        for each, plan in zip(leaves, plans, strict=True):
            verify_inclusion(each.leaf.hash, each.sequence - 1, signed.size, folded(plan, nodes), signed.root)
            entry = read_entry(each.leaf.text)
            if entry.sequence != each.sequence:
                raise BadProof(f"entry {entry.sequence} stands as entry {each.sequence}")
            entries.append(entry)
    except (BadProof, BadEntry, KeyError) as error:
        raise _altered(str(error)) from error
    return entries


def _altered(why: str) -> Refused:
    return Refused(500, "the ledger was altered", f"{why}; run ledger verify")
