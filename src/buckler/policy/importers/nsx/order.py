"""In which order NSX asks policies and rules. Owns ties: NSX does not say what comes first, so here denials do."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.policy.importers.nsx.objects import Item, Objects
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, flag, text
from buckler.policy.language import Action

CATEGORIES = ("Ethernet", "Emergency", "Infrastructure", "Environment", "Application")
ACTIONS = {"DROP": Action.DENY, "REJECT": Action.REJECT, "JUMP_TO_APPLICATION": Action.PASS, "ALLOW": Action.ALLOW}
"""The stricter first."""
_MEANS = "here what denies comes first"


def category_of(policy: Item) -> str:
    """Give a policy's category."""
    return text(policy.fields.get("category"), "Application")


def in_order(objects: Objects, book: LossBook) -> list[tuple[Item, Item]]:
    """List the rules with their policies, as they are asked; behind its rules a policy itself, for what it says beyond them."""
    policies = sorted(objects.all("SecurityPolicy"), key=lambda each: (_place(each), each.id))
    tied = _tell_tied(policies, objects, book)
    found, named = [], set()
    for policy in policies:
        place, apart = _place(policy), _place(policy) not in tied
        rules = objects.rules_of(policy)
        _tell_equals(policy, rules, book)
        for rule in rules:
            if (policy.id, rule.id) in named:
                raise Unclear(rule.place, f"a rule {rule.id} of a policy {policy.id} is given twice")
            named.add((policy.id, rule.id))
            strict = _strictness(rule)
            found.append(((place, 0 if apart else strict, policy.path, _sequence(rule), strict), policy, rule))
        found.append(((place, 0 if apart else -1, policy.path, 1 << 70, 0), policy, policy))
    return [(policy, rule) for _key, policy, rule in sorted(found, key=lambda each: each[0])]


def _place(policy: Item) -> tuple[int, int, int]:
    """Order policies; the one with the default rule is the last of its category."""
    category = category_of(policy)
    if category not in CATEGORIES:
        raise Unclear(policy.place, f"the category {category!r} is not known")
    return CATEGORIES.index(category), int(flag(policy.fields.get("is_default"))), _sequence(policy)


def _sequence(item: Item) -> int:
    value = item.fields["sequence_number"].raw.value if "sequence_number" in item.fields else 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unclear(item.place, "sequence_number is no number")
    return value


def _strictness(rule: Item) -> int:
    """Rank actions; one that is not known denies, so it ranks with denials."""
    word = text(rule.fields.get("action"), "")
    return list(ACTIONS).index(word) if word in ACTIONS else 0


def _tell_tied(policies: Sequence[Item], objects: Objects, book: LossBook) -> set[tuple[int, int, int]]:
    """Find places that several policies have."""
    seen: dict[tuple[int, int, int], Item] = {}
    tied = set()
    for each in policies:
        first = seen.setdefault(_place(each), each)
        if first is not each:
            tied.add(_place(each))
            what = f"{first.name} has the same category and sequence number"
            same = len({_strictness(rule) for one in (first, each) for rule in objects.rules_of(one)}) < 2
            Teller(book, each.name).tell(each.place, what, _MEANS, Effect.NOTE if same else Effect.TIGHTENED)
    return tied


def _tell_equals(policy: Item, rules: Sequence[Item], book: LossBook) -> None:
    seen: dict[int, Item] = {}
    for each in rules:
        first = seen.setdefault(_sequence(each), each)
        if _strictness(first) != _strictness(each):
            what = f"{first.name} has the same sequence number"
            Teller(book, f"{policy.name}: {each.name}").tell(each.place, what, _MEANS)
