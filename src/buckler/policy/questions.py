"""What is odd about a set of policies: rules that never decide, that mean nobody, that contradict each other. Judges no packet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.model.label import LABEL_TENANT, Selector
from buckler.model.operatorapi.answers import PolicyFinding
from buckler.model.pool import ShieldMode
from buckler.policy.compile import fill_rows
from buckler.policy.compose import compose_documents
from buckler.policy.language import DENIALS, Action, Document, Kind, PolicyMode, PolicySpec, Stand, Tier
from buckler.policy.learned import PatternPeer
from buckler.policy.nearmiss import near_miss, selector_words
from buckler.policy.pool import Numbers, Pool, selectors_of
from buckler.policy.posting import Mask
from buckler.policy.problem import Problem, Severity
from buckler.policy.rows import Rows
from buckler.policy.rules import Rule, Span, list_rules
from buckler.policy.times import holds_at


class Oddity(StrEnum):
    """What may be odd. ``shadowed`` leaves out what decides nothing anyway (``pass``), or not now (hours, unanswered names)."""

    SHADOWED = "shadowed"
    UNMATCHED = "unmatched"
    CONFLICT = "conflict"
    REVIEW = "review"
    OVER = "over"
    TENANT = "tenant"
    OBSERVED = "observed"
    UNPROTECTED = "unprotected"


class _Seen(msgspec.Struct):
    """What became of the rules: which stand anywhere, mean anybody there, wait for names alone, decide anything."""

    standing: set[str] = msgspec.field(default_factory=set)
    meaning: set[str] = msgspec.field(default_factory=set)
    waiting: set[str] = msgspec.field(default_factory=set)
    deciding: set[int] = msgspec.field(default_factory=set)
    drafted: set[int] = msgspec.field(default_factory=set)


def find_oddities(
    pool: Pool, documents: Iterable[Document], numbers: Numbers, today: str, over: Iterable[Document] = ()
) -> tuple[PolicyFinding, ...]:
    """Find everything at once, ordered by kind and place. ``today`` as in ``review``; ``over``: documents that ended."""
    documents = tuple(documents)
    rows = fill_rows(pool, documents, numbers)
    rules = [rule for rule in list_rules(documents) if not rule.policy.startswith("buckler:")]
    found = [
        *_idle_rules(rows, rules, numbers),
        *_conflicts(rows),
        *_reviews(documents, today),
        *_over(over),
        *_tenants(pool, documents),
        *_unselected(rows, documents),
        *_unprotected(pool, documents),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda each: (each.kind, each.file, each.line, each.subject)))


def list_warnings(
    pool: Pool, documents: Iterable[Document], numbers: Numbers, today: str, over: Iterable[Document] = ()
) -> tuple[Problem, ...]:
    """Give what a person who writes policies should be warned of: what means nobody, and reviews that are past."""
    documents = tuple(documents)
    return warnings_in(fill_rows(pool, documents, numbers), pool, documents, today, over)


def warnings_in(
    rows: Rows, pool: Pool, documents: Sequence[Document], today: str, over: Iterable[Document] = ()
) -> tuple[Problem, ...]:
    """``list_warnings`` of these documents, which were put into the rows of this pool."""
    rules = [rule for rule in list_rules(documents) if not rule.policy.startswith("buckler:")]
    found = [
        *_meaning_nobody(rules, _look(rows)),
        *_reviews(documents, today),
        *_over(over),
        *_tenants(pool, documents),
        *_unselected(rows, documents),
    ]
    ordered = sorted(dict.fromkeys(found), key=lambda each: (each.kind, each.file, each.line, each.subject))
    return tuple(
        Problem(each.file, each.line, "", f"{each.subject}: {each.text}", severity=Severity.WARNING) for each in ordered
    )


def _meaning_nobody(rules: Sequence[Rule], seen: _Seen) -> Iterator[PolicyFinding]:
    for rule in {each.key: each for each in rules}.values():
        if rule.stand is not Stand.VM and not rule.is_opinion:
            continue  # a flow at an end without a shield, beside its rule at the VM
        if rule.key not in seen.standing:
            yield _rule_finding(Oddity.UNMATCHED, rule, "its subject is nobody: no VM of the pool has these labels")
        elif rule.key not in seen.meaning:
            yield _rule_finding(Oddity.UNMATCHED, rule, "its peers are nobody in the networks where it stands")


def _idle_rules(rows: Rows, rules: Sequence[Rule], numbers: Numbers) -> Iterator[PolicyFinding]:
    seen = _look(rows)
    yield from _meaning_nobody(rules, seen)
    holding = {each.key for each in rules if holds_at(each.times, 0)}
    is_timed = any(each.times is not None for each in rules)
    for rule in {each.key: each for each in rules}.values():
        if rule.stand is not Stand.VM and not rule.is_opinion:
            continue
        is_met = rule.key in seen.standing and rule.key in seen.meaning
        if is_met and _is_judged(rule, seen, holding) and numbers.rules[rule.key] not in _deciders(rule, seen):
            yield _rule_finding(Oddity.SHADOWED, rule, _shadowed(rule, is_timed=is_timed))


def _shadowed(rule: Rule, *, is_timed: bool) -> str:
    """Where rules begin and end, what is so now may be otherwise later."""
    taken = "other rules take every packet that it means"
    if is_timed:
        verb = "is not recorded" if rule.mode is PolicyMode.OBSERVE else "does not decide"
        return f"{verb} at this time: {taken}; some rules begin or end, `--at` asks of another time"
    return f"{'is never recorded' if rule.mode is PolicyMode.OBSERVE else 'never decides'}: {taken}"


def _is_judged(rule: Rule, seen: _Seen, holding: set[str]) -> bool:
    """Say whether deciding nothing now tells anything: not outside a rule's hours, and not before its names are answered."""
    holds = rule.key in holding and (not rule.yielding or rule.yielding in holding)
    return rule.action is not Action.PASS and holds and rule.key not in seen.waiting


def _deciders(rule: Rule, seen: _Seen) -> set[int]:
    return seen.drafted if rule.mode is PolicyMode.STAGED else seen.deciding


def _look(rows: Rows) -> _Seen:
    seen = _Seen()
    reached: set[str] = set()
    for _, _, meant in rows.standing():
        for rule, mask in meant:
            seen.standing.add(rule.key)
            if mask or any(
                peer.group or isinstance(peer, PatternPeer) for peer in rule.peers
            ):  # a name waits for its answers
                seen.meaning.add(rule.key)
                (reached if mask or any(peer.group for peer in rule.peers) else seen.waiting).add(rule.key)
    seen.waiting -= reached
    for _, row in rows.rows():
        for side in (*row.sides, *row.far):
            for sheet in (side.everyone, side.group, *(sheet for _, sheet in side.classes)):
                for each in sheet.table:
                    seen.deciding |= {each.rule, each.observed}
                    if each.terms is not None:
                        seen.drafted.add(each.terms.staged_rule)
    return seen


def _conflicts(rows: Rows) -> Iterator[PolicyFinding]:
    """Documents of one tier and order of which one allows what the other denies: the denial wins (ADR 3)."""
    for _, _, meant in rows.standing():
        levels: dict[tuple[Stand, tuple[int, int]], list[tuple[Rule, Mask]]] = {}
        for rule, mask in meant:
            if rule.mode is PolicyMode.ENFORCE and mask and rule.action is not Action.PASS:
                levels.setdefault((rule.stand, rule.place), []).append((rule, mask))
        for level in levels.values():
            denials = [each for each in level if each[0].action in DENIALS]
            for denial, closed in denials:
                for rule, opened in level:
                    apart = rule.action is not Action.ALLOW or rule.document == denial.document
                    if not apart and closed & opened and _ports_meet(rule.spans, denial.spans):
                        other = f"{denial.policy}/{denial.name} ({denial.file}:{denial.line})"
                        text = f"allows what {other} of the same tier and order {denial.action.value if denial.action is Action.REJECT else 'denie'}s; it is denied"
                        yield _rule_finding(Oddity.CONFLICT, rule, text)


def _ports_meet(one: Sequence[Span], other: Sequence[Span]) -> bool:
    return (
        not one
        or not other
        or any(a.protocol == b.protocol and a.low <= b.high and b.low <= a.high for a in one for b in other)
    )


def _reviews(documents: Sequence[Document], today: str) -> Iterator[PolicyFinding]:
    for document in documents:
        review = getattr(document.spec, "review", "")
        if review and review < today:
            owner = getattr(document.spec, "owner", "")
            yield _finding(Oddity.REVIEW, document, f"its review was due on {review}; its owner is {owner}")


def _over(documents: Iterable[Document]) -> Iterator[PolicyFinding]:
    for document in documents:
        end = getattr(document.spec, "until", "")
        yield _finding(
            Oddity.OVER, document, f"it ended {end} and changes nothing any more; delete it or give it a new end"
        )


def _tenants(pool: Pool, documents: Sequence[Document]) -> Iterator[PolicyFinding]:
    known = {each.tenant for each in pool.vms} | {each.tenant for each in pool.networks}
    for document in documents:
        if (
            document.kind not in {Kind.VM, Kind.NETWORK}
            and document.tenant not in known
            and document.tenant != "default"
        ):
            yield _finding(Oddity.TENANT, document, f"no VM and no network is of tenant {document.tenant}")


def _unselected(rows: Rows, documents: Sequence[Document]) -> Iterator[PolicyFinding]:
    """Selectors among several of one rule that match nothing, which the rule as a whole would not show."""
    known: dict[bytes, bool] = {}
    told: dict[bytes, str] = {}
    things = rows.postings.labels.values()
    for document in compose_documents(documents):
        within = {LABEL_TENANT: document.tenant} if getattr(document.spec, "tier", None) is Tier.TENANT else {}
        for written in selectors_of(document):
            selector = Selector({**written.match_labels, **within}, written.match_expressions)
            name = canonical_bytes(selector)
            if name not in known:
                known[name] = bool(rows.postings.select(selector))
            if not known[name]:
                told[name] = told.get(name) or near_miss(selector, things)
                text = f"a selector of it matches nothing: {selector_words(selector)}: {told[name]}"
                yield _finding(Oddity.UNMATCHED, document, text)


def _unprotected(pool: Pool, documents: Sequence[Document]) -> Iterator[PolicyFinding]:
    at = {(each.tenant, each.name): each for each in documents if each.kind is Kind.VM}
    for vm in pool.vms:
        document = at.get((vm.tenant, vm.name))
        if vm.mode is ShieldMode.OBSERVE and document is not None:
            yield _finding(Oddity.UNPROTECTED, document, "its shield only observes: whatever policies deny passes")
    for document in documents:
        if getattr(document.spec, "mode", None) is PolicyMode.OBSERVE:
            word = "policy" if isinstance(document.spec, PolicySpec) else "flow"
            yield _finding(Oddity.OBSERVED, document, f"the {word} decides nothing: it is only recorded")


def _rule_finding(kind: Oddity, rule: Rule, text: str) -> PolicyFinding:
    told = f"{rule.key.rsplit('/', 2)[1]}: {text}"  # one name may stand in both directions
    return PolicyFinding(kind.value, f"{rule.policy}/{rule.name}", told, rule.file, rule.line)


def _finding(kind: Oddity, document: Document, text: str) -> PolicyFinding:
    return PolicyFinding(kind.value, f"{document.kind} {document.name}", text, document.file, document.line)
