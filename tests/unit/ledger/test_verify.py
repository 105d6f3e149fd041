"""A ledger tells of every change made to it, and where; a proof tells of one entry and of no other."""

from __future__ import annotations

import msgspec
import pytest

from buckler.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint
from buckler.ledger.entry import BadEntry, Leaf, entry_of, leaf_of, read_entry
from buckler.ledger.export import Line
from buckler.ledger.tree import BadProof, Edge, folded, grown, leaf_hash, plan_inclusion
from buckler.ledger.trust import trust_root
from buckler.ledger.verify import Fault, Verification, verify_entry, verify_ledger
from buckler.trust.statement import Untrusted, key_text
from tests.ledgerkit import HOST, ISSUER, ORIGIN, ROOT, STRANGER, TRUST, book, event, issuers_by

BOOK = book(40)
LINES = BOOK.lines()
NOTE = BOOK.header().checkpoint
WITNESS = cosign(NOTE, "h1", 1_700_000_000, HOST)


def checkpoint_over(lines: list[Line], key: object = ISSUER) -> str:
    edge = Edge()
    for line in lines:
        edge, _ = grown(edge, line.leaf.hash)
    return sign_checkpoint(Checkpoint(edge.size, edge.root), ORIGIN, key)  # type: ignore[arg-type]


def check(lines: list[Line], note: str = NOTE, *witnesses: str) -> Verification:
    return verify_ledger(lines, note, TRUST, witnesses)


def faults(result: Verification) -> list[tuple[Fault, int]]:
    return [(finding.fault, finding.sequence) for finding in result.findings]


def test_an_untouched_ledger_is_intact_and_complete_up_to_its_checkpoint() -> None:
    result = check(LINES, NOTE, WITNESS)
    assert result.is_intact, result.findings
    assert (result.count, result.size) == (40, 40)
    assert [(each.size, [one.host for one in each.cosigned]) for each in result.witnesses] == [(40, ["h1"])]


def test_an_older_checkpoint_is_a_witness_too() -> None:
    older = book(17).header().checkpoint
    assert [each.size for each in check(LINES, NOTE, older).witnesses] == [17]


def test_a_removed_entry_is_named() -> None:
    assert (Fault.MISSING, 11) in faults(check(LINES[:10] + LINES[11:]))


def test_an_altered_entry_is_named() -> None:
    changed = LINES[20].leaf.text.replace('"number":21', '"number":22')
    broken = [*LINES[:20], Line(Leaf(changed, LINES[20].leaf.salt), LINES[20].told), *LINES[21:]]
    assert faults(check(broken)) == [(Fault.ALTERED, 21)]


def test_an_altered_entry_is_found_when_its_leaf_was_altered_with_it() -> None:
    leaf = Leaf(LINES[20].leaf.text.replace('"number":21', '"number":22'), LINES[20].leaf.salt)
    assert faults(check([*LINES[:20], Line(leaf, leaf.hash), *LINES[21:]])) == [(Fault.REPLACED, 40)]


def test_swapped_salts_are_named() -> None:
    one, other = LINES[4], LINES[5]
    swapped = [
        Line(Leaf(one.leaf.text, other.leaf.salt), one.told),
        Line(Leaf(other.leaf.text, one.leaf.salt), other.told),
    ]
    assert faults(check([*LINES[:4], *swapped, *LINES[6:]])) == [(Fault.ALTERED, 5), (Fault.ALTERED, 6)]


def test_a_moved_entry_is_named() -> None:
    moved = [*LINES[:5], *LINES[6:9], LINES[5], *LINES[9:]]
    assert (Fault.REORDERED, 6) in faults(check(moved))


def test_a_cut_tail_is_found_against_its_checkpoint() -> None:
    assert faults(check(LINES[:30])) == [(Fault.TRUNCATED, 31)]
    assert faults(check([])) == [(Fault.TRUNCATED, 1)]


def test_a_cut_tail_under_an_older_checkpoint_is_complete_up_to_it_and_found_by_a_witness() -> None:
    cut, older = LINES[:30], checkpoint_over(LINES[:30])
    assert check(cut, older).is_intact
    assert check(cut, older).size == 30
    assert faults(check(cut, older, WITNESS)) == [(Fault.TRUNCATED, 31)]


def test_entries_under_no_checkpoint_are_nobodys() -> None:
    assert faults(check(LINES, checkpoint_over(LINES[:30]))) == [(Fault.UNSEALED, 31)]


def test_a_ledger_made_anew_under_the_right_key_is_found_by_a_witness() -> None:
    forged = book(39).lines()
    leaf = leaf_of(entry_of(event(40, cause="never"), 40), b"x" * 32)
    forged.append(Line(leaf, leaf.hash))
    note = checkpoint_over(forged)
    assert check(forged, note).is_intact
    assert faults(check(forged, note, WITNESS)) == [(Fault.REPLACED, 40)]


def test_a_checkpoint_by_a_foreign_key_is_refused() -> None:
    assert faults(check(LINES, checkpoint_over(LINES, STRANGER))) == [(Fault.UNTRUSTED, 0)]


def test_a_witness_with_a_false_cosignature_is_refused_by_the_key_that_the_host_joined_with() -> None:
    assert (Fault.UNTRUSTED, 0) in faults(check(LINES, NOTE, cosign(NOTE, "h1", 5, STRANGER)))


def test_a_retired_key_signs_no_newest_checkpoint() -> None:
    newer = msgspec.structs.replace(TRUST, current={})
    result = verify_ledger(LINES, NOTE, newer)
    assert faults(result) == [(Fault.UNTRUSTED, 0)]
    assert verify_ledger(LINES, NOTE, TRUST, [NOTE]).is_intact


def test_no_other_spelling_of_an_entry_is_taken() -> None:
    text = LINES[3].leaf.text
    for other in (" " + text, text.replace('":', '": ', 1), text.replace('"actor":"",', ""), text[:-1] + ',"x":1}'):
        with pytest.raises(BadEntry):
            read_entry(other)
    doubled = text.replace('{"actor"', '{"actor":"","actor"', 1)
    with pytest.raises(BadEntry):
        read_entry(doubled)


def proof_of(number: int, size: int = 40) -> tuple[Leaf, int, tuple[bytes, ...]]:
    with BOOK.store.read() as unit:
        covers = plan_inclusion(number - 1, size)
        path = folded(covers, unit.ledger.nodes({node for each in covers for node in each}))
    return LINES[number - 1].leaf, number, path


@pytest.mark.parametrize("number", range(1, 41))
def test_every_entry_is_proven_alone(number: int) -> None:
    entry, signed = verify_entry(*proof_of(number), NOTE, TRUST)
    assert (entry.sequence, signed.size) == (number, 40)


def test_a_proof_discloses_no_other_entry_not_even_to_a_guess() -> None:
    leaf, _, path = proof_of(7)
    shown = (leaf.text.encode(), leaf.salt, *path)
    neighbour = LINES[7].leaf
    assert all(neighbour.text.encode() not in each and neighbour.salt not in each for each in shown)
    # Who guesses the neighbour right, to the letter, still cannot tell it by its hash.
    assert neighbour.hash in path
    assert leaf_hash(neighbour.text.encode()) not in path
    assert leaf_hash(bytes(32) + neighbour.text.encode()) not in path


def test_a_proof_of_something_else_proves_nothing() -> None:
    leaf, number, path = proof_of(7)
    other = proof_of(8)
    for wrong in (
        (other[0], number, path),
        (leaf, 8, path),
        (leaf, number, other[2]),
        (leaf, number, path[:-1]),
        (Leaf(leaf.text, bytes(32)), number, path),
        (Leaf(leaf.text[:-1] + " }", leaf.salt), number, path),
        # A salt of another size could shift where the entry begins.
        (Leaf(leaf.text[1:], leaf.salt + leaf.text[:1].encode()), number, path),
    ):
        with pytest.raises((BadProof, BadEntry)):
            verify_entry(*wrong, NOTE, TRUST)
    with pytest.raises(Untrusted):
        verify_entry(leaf, number, path, checkpoint_over(LINES, STRANGER), TRUST)


def test_keys_of_another_root_or_pool_are_refused() -> None:
    with pytest.raises(Untrusted):
        trust_root(key_text(ROOT.public_key()), "p", [issuers_by(STRANGER)])
    with pytest.raises(Untrusted):
        trust_root(key_text(ROOT.public_key()), "p", [issuers_by(ROOT, "other")])
    with pytest.raises(Untrusted):
        trust_root(key_text(ROOT.public_key()), "p", [])


def test_an_entry_that_stands_in_anothers_place_proves_nothing_though_the_pool_signed_it_there() -> None:
    leaf = leaf_of(entry_of(event(5), 5), b"x" * 32)
    lines = [Line(leaf, leaf.hash)]
    note = checkpoint_over(lines)
    for number in (1, 5):
        with pytest.raises(BadProof):
            verify_entry(leaf, number, (), note, TRUST)
    assert (Fault.MISSING, 1) in faults(check(lines, note))
