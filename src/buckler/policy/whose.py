"""Which documents' rules stand at which label set, for many at once. Says nothing of what they decide."""

from __future__ import annotations

from collections.abc import Iterable

from buckler.model.ids import IdentityNumber
from buckler.model.label import Labels
from buckler.policy.language import Stand
from buckler.policy.pool import identity_key
from buckler.policy.posting import Postings, bits_of
from buckler.policy.rules import Rule


def rules_by_labels(label_sets: Iterable[Labels], rules: Iterable[Rule]) -> dict[str, tuple[Rule, ...]]:
    """For each label set (by ``identity_key``): the first rule of each document that stands there, in the order of ``rules``."""
    named = {identity_key(labels): labels for labels in label_sets}
    postings = Postings()
    keys: dict[int, str] = {}
    for number, (key, labels) in enumerate(named.items(), 1_000_000):
        postings.add_labels(IdentityNumber(number), labels, 0)
        keys[postings.places[IdentityNumber(number)]] = key
    found: dict[str, dict[str, Rule]] = {key: {} for key in named}
    for rule in rules:
        if rule.stand is Stand.VM:
            for place in bits_of(postings.select(rule.subject)):
                found[keys[place]].setdefault(rule.document, rule)
    return {key: tuple(each.values()) for key, each in found.items()}
