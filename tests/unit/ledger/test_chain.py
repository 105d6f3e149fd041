"""A ledger chain tells of every change made to it, and where."""

from __future__ import annotations

import random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.ledger.entry import Head, Signed, chain_event, head_after
from buckler.ledger.verify import Fault, verify_chain
from buckler.model.event import Event, EventKind
from buckler.trust.statement import key_id

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
KEYS = {key_id(KEY.public_key()): KEY.public_key()}


def chain(count: int, key: Ed25519PrivateKey = KEY, flavour: str = "a") -> list[Signed]:
    entries, head = [], Head()
    for number in range(count):
        event = Event(kind=EventKind.DOMAIN_STARTED, at=1e9 + number, vm=f"vm{number % 3}", detail={"flavour": flavour})
        entries.append(chain_event(event, head, key))
        head = head_after(entries[-1])
    return entries


CHAIN = chain(40)
STATEMENTS = [signed.statement for signed in CHAIN]
FORK = [signed.statement for signed in chain(40, flavour="b")]
FOREIGN = [signed.statement for signed in chain(40, key=STRANGER)]
WITNESS = head_after(CHAIN[-1])


def test_an_untouched_chain_is_intact() -> None:
    result = verify_chain(STATEMENTS, KEYS, WITNESS)
    assert result.is_intact
    assert result.head == WITNESS
    assert result.count == 40


def test_a_removed_entry_is_named() -> None:
    result = verify_chain(STATEMENTS[:10] + STATEMENTS[11:], KEYS)
    assert [(f.fault, f.sequence) for f in result.findings] == [(Fault.MISSING, 11)]


def test_a_changed_entry_is_named() -> None:
    broken = [*STATEMENTS]
    broken[20] = broken[20][:-4] + ("AAAA" if broken[20][-4:] != "AAAA" else "BBBB")
    result = verify_chain(broken, KEYS)
    assert [(f.fault, f.sequence, f.position) for f in result.findings] == [(Fault.ALTERED, 21, 20)]


def test_a_moved_entry_is_named() -> None:
    moved = [*STATEMENTS[:5], *STATEMENTS[6:9], STATEMENTS[5], *STATEMENTS[9:]]
    result = verify_chain(moved, KEYS)
    assert [(f.fault, f.sequence) for f in result.findings] == [(Fault.REORDERED, 6)]


def test_a_fork_under_the_right_key_is_found() -> None:
    result = verify_chain([*STATEMENTS[:7], FORK[7], *STATEMENTS[8:]], KEYS)
    assert {(f.fault, f.sequence) for f in result.findings} == {(Fault.DETACHED, 8), (Fault.DETACHED, 9)}


def test_a_cut_tail_is_found_with_a_witness_and_only_bounded_without() -> None:
    assert verify_chain(STATEMENTS[:30], KEYS).head.sequence == 30
    cut = verify_chain(STATEMENTS[:38], KEYS, WITNESS)
    assert [(f.fault, f.sequence) for f in cut.findings] == [(Fault.MISSING, 39), (Fault.MISSING, 40)]


def test_an_emptied_chain_is_found_with_a_witness() -> None:
    assert len(verify_chain([], KEYS, WITNESS).findings) == 40


def mutate(statements: list[str], chance: random.Random) -> list[str]:
    result = [*statements]
    where = chance.randrange(len(result))
    match chance.randrange(6):
        case 0:
            text = result[where]
            at = chance.randrange(len(text))
            letter = chance.choice([c for c in "ABCXYZabcxyz019-_." if c != text[at]])
            result[where] = text[:at] + letter + text[at + 1 :]
        case 1:
            del result[where]
        case 2:
            other = (where + 1 + chance.randrange(len(result) - 1)) % len(result)
            result[where], result[other] = result[other], result[where]
        case 3:
            result.insert(chance.randrange(len(result) + 1), result[where])
        case 4:
            result[where] = FORK[where]
        case 5:
            result[where] = FOREIGN[where]
    return result


def test_a_thousand_random_mutations_are_all_found() -> None:
    chance = random.Random(20240611)
    for _ in range(1000):
        mutated = mutate(STATEMENTS, chance)
        assert mutated != STATEMENTS or len(mutated) != len(STATEMENTS)
        assert not verify_chain(mutated, KEYS, WITNESS).is_intact
