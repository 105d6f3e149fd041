"""Check exceptions against the policies that they name. Owns no check of an exception by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from buckler.policy.compose import key_of_excepted
from buckler.policy.language import (
    DENIALS,
    Action,
    Document,
    ExceptionSpec,
    FlowSpec,
    PolicyMode,
    PolicySpec,
    RuleSpec,
    Stand,
    Tier,
    Yielding,
)
from buckler.policy.problem import Problem, Severity, guess

Found = tuple[str, str, str]
"""Path, message, hint."""


def check_exceptions(documents: Sequence[Document]) -> Iterator[Problem]:
    """Note every exception that names what is not there, or asks what cannot be."""
    by_key = {each.key: each for each in documents}
    for document in documents:
        if isinstance(document.spec, ExceptionSpec):
            for path, message, hint in _check(document, document.spec, by_key.get(key_of_excepted(document)), by_key):
                yield _problem(document, path, message, hint)
            named = by_key.get(key_of_excepted(document))
            if named is not None and getattr(named.spec, "mode", None) is PolicyMode.OBSERVE:
                text = f"{named.kind} {named.name} only observes, so the exception changes nothing"
                yield _problem(document, "spec", text, severity=Severity.WARNING)


def _check(document: Document, spec: ExceptionSpec, named: Document | None, known: Iterable[str]) -> Iterator[Found]:
    kind, name = ("policy", spec.policy) if spec.policy else ("flow", spec.flow)
    if named is None:
        keys = [key.split("/") for key in known if key.lower().startswith(f"{kind}/")]
        mine = [other for _, tenant, other in keys if tenant == document.tenant]
        owners = sorted(tenant for _, tenant, other in keys if other == name)
        hint = guess(name, mine) if mine else ""
        if owners:
            hint = f"tenant {owners[0]} has one: an exception is of the tenant of what it names (metadata.tenant)"
        yield f"spec.{kind}", f"tenant {document.tenant} has no {kind} {name!r}", hint
        return
    policy = named.spec
    if not isinstance(policy, PolicySpec | FlowSpec):
        return
    if policy.tier is Tier.QUARANTINE:
        yield f"spec.{kind}", "a policy of the quarantine tier has no exceptions", "release the VM"
    elif policy.tier is not spec.tier:
        yield "spec.tier", f"{kind} {name} is of the {policy.tier} tier", f"state tier: {policy.tier}"
    if isinstance(policy, FlowSpec):
        yield from _action(spec, policy.tier, [policy.action])
        return
    if policy.subject.stand is not Stand.VM:
        yield "spec.policy", f"the subject of {name} is {policy.subject.stand}", "exceptions are for rules at VMs"
    yield from _rules(spec, policy)


def _rules(spec: ExceptionSpec, policy: PolicySpec) -> Iterator[Found]:
    sides = {side: [rule for rule in rules if rule.name == spec.rule] for side, rules in _sides(policy).items()}
    hits = [side for side, rules in sides.items() if rules]
    if not hits:
        names = [rule.name for rules in _sides(policy).values() for rule in rules]
        yield "spec.rule", f"policy {spec.policy} has no rule {spec.rule!r}", guess(spec.rule, names)
    if len(hits) > 1:
        yield "spec.rule", f"an ingress and an egress rule are called {spec.rule!r}", "give them names of their own"
    for side, wrong in (("ingress", "to"), ("egress", "from")):
        given = spec.destinations if wrong == "to" else spec.sources
        if side in hits and given:
            yield f"spec.{wrong}", f"{spec.rule!r} is an {side} rule", "narrow whom it stands at by subject"
    yield from _action(spec, policy.tier, [rule.action for rules in sides.values() for rule in rules])


def _action(spec: ExceptionSpec, tier: Tier, actions: Sequence[Action]) -> Iterator[Found]:
    if spec.action is not Yielding.ALLOW:
        return
    if tier is Tier.PLATFORM:
        yield "spec.action", "the platform tier never allows", "disable the rule: the next tiers decide"
    if any(action not in DENIALS for action in actions):
        yield "spec.action", "the rule refuses nothing", "allow stands in place of deny and reject only"


def _sides(policy: PolicySpec) -> dict[str, Sequence[RuleSpec]]:
    return {"ingress": policy.ingress, "egress": policy.egress}


def _problem(
    document: Document, path: str, message: str, hint: str = "", severity: Severity = Severity.ERROR
) -> Problem:
    line = document.lines.get(path, document.line)
    return Problem(document.file, line, path, f"Exception {document.name}: {message}", hint, severity)
