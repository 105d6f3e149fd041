"""Say exactly what is wrong with a ledger, or with the proof of one entry. Believes nothing but the keys it is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.ledger.checkpoint import Checkpoint, Cosignature, read_checkpoint, read_cosignatures
from buckler.ledger.entry import SALT_SIZE, BadEntry, Entry, Leaf, read_entry
from buckler.ledger.export import Line
from buckler.ledger.tree import BadProof, Edge, Hash, grown, verify_inclusion
from buckler.ledger.trust import Trust
from buckler.model.event import EventKind
from buckler.trust.statement import Untrusted, key_from_text


class Fault(StrEnum):
    """What can be wrong."""

    ALTERED = "altered"
    MISSING = "missing"
    REPEATED = "repeated"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    UNSEALED = "unsealed"
    REPLACED = "replaced"
    UNTRUSTED = "untrusted"


class Finding(msgspec.Struct, frozen=True):
    """``sequence`` is the entry's number (0: the whole); ``position`` where it stands as given (-1: nowhere)."""

    fault: Fault
    sequence: int
    position: int
    message: str


class Witness(msgspec.Struct, frozen=True):
    """A checkpoint that was kept elsewhere; ``cosigned`` by hosts whose keys are known, and fit."""

    size: int
    cosigned: tuple[Cosignature, ...] = ()


class Verification(msgspec.Struct, frozen=True):
    """``size`` is what the pool's checkpoint covers: complete up to there, and without a witness no promise beyond."""

    count: int
    size: int
    witnesses: tuple[Witness, ...]
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing at all was found."""
        return not self.findings


class _Walk(msgspec.Struct):
    """What one walk over the entries brings: the roots at the sizes that matter, the numbers, keys of hosts."""

    edge: Edge = Edge()
    roots: dict[int, Hash] = {}
    numbers: list[int] = []
    hosts: dict[str, Ed25519PublicKey] = {}
    findings: list[Finding] = []


def verify_ledger(
    lines: Iterable[Line], checkpoint: str, trust: Trust, witnesses: Sequence[str] = (), own: Sequence[str] = ()
) -> Verification:
    """Check every entry's form, number and place under the signed checkpoint, and that against what witnesses saw.

    ``witnesses`` are notes that somebody kept elsewhere, ``own`` those that came with the ledger: all must fit.
    """
    findings: list[Finding] = []
    newest = _believed(checkpoint, "the checkpoint", msgspec.structs.replace(trust, ever=trust.current), findings)
    seen = [(note, _believed(note, "a witness's checkpoint", trust, findings)) for note in (*witnesses, *own)]
    held = [(note, each) for note, each in seen if each is not None]
    walk = _walked(lines, {each.size for _, each in held} | ({newest.size} if newest else set()))
    findings += [*walk.findings, *_misnumbered(walk.numbers)]
    told = []
    for number, (note, each) in enumerate(held):
        findings += _beyond(each, walk, f"a witness saw {each.size} entries")
        cosigned = _cosigned(note, {**trust.hosts, **walk.hosts}, findings)
        told += [Witness(each.size, cosigned)] if number < len(witnesses) else []
    if newest is not None:
        findings += _beyond(newest, walk, f"the checkpoint covers {newest.size} entries", is_silent=bool(findings))
        findings += _unsealed(newest, walk)
    order = sorted(findings, key=lambda finding: (finding.sequence, finding.position, finding.fault))
    return Verification(walk.edge.size, newest.size if newest else 0, tuple(told), tuple(order))


def verify_entry(
    leaf: Leaf, number: int, path: Sequence[Hash], checkpoint: str, trust: Trust
) -> tuple[Entry, Checkpoint]:
    """Check that a checkpoint of the pool's covers this entry as ``number``. Raises Untrusted, BadProof, BadEntry."""
    signed = read_checkpoint(checkpoint, trust.origin, trust.ever)
    if len(leaf.salt) != SALT_SIZE:
        raise BadProof("a salt of another size")
    entry = read_entry(leaf.text)
    if entry.sequence != number:
        raise BadProof(f"entry {entry.sequence} was given as entry {number}")
    verify_inclusion(leaf.hash, number - 1, signed.size, path, signed.root)
    return entry, signed


def _believed(note: str, what: str, trust: Trust, findings: list[Finding]) -> Checkpoint | None:
    try:
        return read_checkpoint(note, trust.origin, trust.ever)
    except Untrusted as error:
        findings.append(Finding(Fault.UNTRUSTED, 0, -1, f"{what} is not to be believed: {error}"))
        return None


def _cosigned(note: str, hosts: dict[str, Ed25519PublicKey], findings: list[Finding]) -> tuple[Cosignature, ...]:
    try:
        return read_cosignatures(note, hosts)
    except Untrusted as error:
        findings.append(Finding(Fault.UNTRUSTED, 0, -1, str(error)))
        return ()


def _walked(lines: Iterable[Line], sizes: set[int]) -> _Walk:
    walk = _Walk(roots={0: Edge().root})
    for position, line in enumerate(lines):
        try:
            entry = read_entry(line.leaf.text)
            _note_host(entry, walk)
        except (BadEntry, Untrusted) as error:
            entry = None
            message = f"entry {position + 1} is none of ours: {error}"
            walk.findings.append(Finding(Fault.ALTERED, position + 1, position, message))
        number = position + 1 if entry is None else entry.sequence
        walk.numbers.append(number)
        computed = line.leaf.hash
        if entry is not None and (computed != line.told or len(line.leaf.salt) != SALT_SIZE):
            message = f"entry {number} or its salt was altered: the tree has another hash"
            walk.findings.append(Finding(Fault.ALTERED, number, position, message))
        walk.edge, _ = grown(walk.edge, computed)
        if walk.edge.size in sizes:
            walk.roots[walk.edge.size] = walk.edge.root
    return walk


def _note_host(entry: Entry, walk: _Walk) -> None:
    """A host's key is what the ledger says it joined with."""
    key = entry.detail.get("public_key")
    if entry.kind == EventKind.HOST_JOINED and isinstance(key, str):
        walk.hosts[entry.host] = key_from_text(key)


def _misnumbered(numbers: Sequence[int]) -> list[Finding]:
    findings: list[Finding] = []
    seen: set[int] = set()
    highest = 0
    for position, number in enumerate(numbers):
        if number in seen:
            findings.append(Finding(Fault.REPEATED, number, position, f"entry {number} stands here a second time"))
        elif number < highest:
            message = f"entry {number} stands after entry {highest}"
            findings.append(Finding(Fault.REORDERED, number, position, message))
        seen.add(number)
        highest = max(highest, number)
    last = 0
    for number in sorted(each for each in seen if each > 0):
        if number > last + 1:
            which = f"entry {last + 1} is" if number == last + 2 else f"entries {last + 1} to {number - 1} are"
            findings.append(Finding(Fault.MISSING, last + 1, -1, f"{which} missing"))
        last = number
    return findings


def _beyond(seen: Checkpoint, walk: _Walk, what: str, *, is_silent: bool = False) -> list[Finding]:
    """Hold the entries against a checkpoint. ``is_silent``: that roots differ needs no word, the cause was told."""
    count = walk.edge.size
    if count < seen.size:
        return [Finding(Fault.TRUNCATED, count + 1, -1, f"the ledger ends with entry {count}, but {what}")]
    if walk.roots[seen.size] == seen.root or is_silent:
        return []
    return [Finding(Fault.REPLACED, seen.size, -1, f"{what}, and not these ones")]


def _unsealed(newest: Checkpoint, walk: _Walk) -> list[Finding]:
    count = walk.edge.size
    if count <= newest.size:
        return []
    message = f"entries {newest.size + 1} to {count} are under no checkpoint: nobody signed them"
    return [Finding(Fault.UNSEALED, newest.size + 1, newest.size, message)]
