"""Say exactly what is wrong with a chain of ledger entries. Believes nothing but the keys it is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from buckler.ledger.entry import GENESIS, Entry, Head
from buckler.model.canonical import digest_of
from buckler.model.ids import Digest
from buckler.trust.statement import KeySet, Kind, Untrusted, verify


class Fault(StrEnum):
    """What can be wrong with one entry."""

    ALTERED = "altered"
    MISSING = "missing"
    REPEATED = "repeated"
    REORDERED = "reordered"
    DETACHED = "detached"


class Finding(msgspec.Struct, frozen=True):
    """``sequence`` is the entry's number; ``position`` where it stands in the chain as given (-1: nowhere)."""

    fault: Fault
    sequence: int
    position: int
    message: str


class Verification(msgspec.Struct, frozen=True):
    """``head`` is the last entry that verified: without a witness the chain is complete up to there, and no promise beyond."""

    count: int
    head: Head
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing at all was found."""
        return not self.findings


class _Read(msgspec.Struct, frozen=True):
    position: int
    entry: Entry | None
    digest: Digest
    error: str = ""


def verify_chain(statements: Iterable[str], keys: KeySet, witness: Head | None = None) -> Verification:
    """Check every entry's signature, number and link to the one before, and the end against ``witness`` if given."""
    reads = [_read(position, statement, keys) for position, statement in enumerate(statements)]
    good = [read for read in reads if read.entry is not None]
    by_number = {_number(read): read for read in reversed(good)}
    findings = [*_altered(reads), *_misplaced(good), *_detached(by_number)]
    known = {finding.sequence for finding in findings} | set(by_number)
    last = max([0, *known, *([witness.sequence] if witness else [])])
    findings += [
        Finding(Fault.MISSING, number, -1, f"entry {number} is missing")
        for number in range(1, last + 1)
        if number not in known
    ]
    head = _head(by_number)
    findings += _against_witness(by_number, witness)
    ordered = tuple(sorted(findings, key=lambda finding: (finding.sequence, finding.position, finding.fault)))
    return Verification(count=len(reads), head=head, findings=ordered)


def _read(position: int, statement: str, keys: KeySet) -> _Read:
    try:
        payload = verify(Kind.LEDGER, statement, keys)
        return _Read(position, msgspec.json.decode(payload, type=Entry), digest_of(payload))
    except (Untrusted, msgspec.MsgspecError, UnicodeError) as error:
        return _Read(position, None, GENESIS, str(error))


def _number(read: _Read) -> int:
    return read.entry.sequence if read.entry is not None else 0


def _altered(reads: Sequence[_Read]) -> list[Finding]:
    """Name each unreadable entry by the number that its place in the chain gives it."""
    findings, number = [], 0
    for read in reads:
        number = _number(read) if read.entry is not None else number + 1
        if read.entry is None:
            message = f"entry {number} was altered: {read.error}"
            findings.append(Finding(Fault.ALTERED, number, read.position, message))
    return findings


def _misplaced(good: Sequence[_Read]) -> list[Finding]:
    findings: list[Finding] = []
    seen: set[int] = set()
    highest = 0
    for read in good:
        number = _number(read)
        if number in seen:
            findings.append(Finding(Fault.REPEATED, number, read.position, f"entry {number} stands here a second time"))
        elif number < highest:
            message = f"entry {number} stands after entry {highest}"
            findings.append(Finding(Fault.REORDERED, number, read.position, message))
        seen.add(number)
        highest = max(highest, number)
    return findings


def _detached(by_number: dict[int, _Read]) -> list[Finding]:
    """Find entries that are signed but do not continue the chain: one before them was replaced or forked."""
    findings = []
    for number, read in by_number.items():
        before = by_number.get(number - 1)
        expected = GENESIS if number == 1 else before.digest if before else None
        if number < 1 or (expected is not None and read.entry is not None and read.entry.previous != expected):
            message = f"entry {number} does not continue entry {number - 1}: one of the two was replaced"
            findings.append(Finding(Fault.DETACHED, number, read.position, message))
    return findings


def _head(by_number: dict[int, _Read]) -> Head:
    if not by_number:
        return Head()
    last = max(by_number)
    return Head(sequence=last, digest=by_number[last].digest)


def _against_witness(by_number: dict[int, _Read], witness: Head | None) -> list[Finding]:
    if witness is None or witness.sequence not in by_number:
        return []
    read = by_number[witness.sequence]
    if read.digest == witness.digest:
        return []
    message = f"entry {witness.sequence} is not the one that the witness saw"
    return [Finding(Fault.ALTERED, witness.sequence, read.position, message)]
