"""Is the passport that a domain shows its own? Verifies claims; decides nothing about policy."""

from __future__ import annotations

import msgspec

from buckler.model.bundle import Passport
from buckler.model.domain import DomainFacts
from buckler.trust.statement import KeySet, Kind, Untrusted, verify


class Forged(ValueError):
    """The passport is not this domain's; the message says why."""


def read_passport(text: str, pool: str, keys: KeySet) -> Passport:
    """Verify the statement and its pool. Raises Forged."""
    try:
        passport = msgspec.json.decode(verify(Kind.PASSPORT, text, keys), type=Passport)
    except (Untrusted, msgspec.DecodeError) as error:
        raise Forged(f"its passport does not verify: {error}") from error
    if passport.pool != pool:
        raise Forged(f"its passport is of another pool ({passport.pool[:64]})")
    return passport


def check_uuid(passport: Passport, facts: DomainFacts) -> None:
    """Compare the claimed uuid with the domain's. Raises Forged."""
    if passport.uuid.lower() != facts.uuid:
        raise Forged(f"its passport was issued to the domain {passport.uuid[:64]}, not to {facts.uuid}")


def check_macs(passport: Passport, facts: DomainFacts, known_macs: frozenset[str]) -> None:
    """Compare the claimed MACs with the domain's. Raises Forged.

    A card that was unplugged may be missing. A card that is too many must be one that the signed manifest has given
    to this very VM since (``known_macs``).
    """
    claimed = frozenset(mac.lower() for mac in passport.macs) | known_macs
    foreign = sorted({interface.mac for interface in facts.interfaces} - claimed)
    if foreign:
        raise Forged(f"its passport does not name the MAC {', '.join(foreign)}")
