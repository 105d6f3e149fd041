"""Why a selector matches nothing, in words: which key or value nothing has, and which one it may have meant. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterable

from buckler.model.label import LABEL_ENDPOINT, LABEL_NETWORK, LABEL_TENANT, Expression, Labels, Operator, Selector
from buckler.policy.problem import guess

_SHOWN = 8
_OURS = frozenset({LABEL_TENANT, LABEL_NETWORK, LABEL_ENDPOINT})


def selector_words(selector: Selector) -> str:
    """Write a selector as people type it: ``tier=web,env in (a,b),!old``. Leaves out the tenant, which composing adds."""
    terms = [f"{key}={value}" for key, value in selector.match_labels.items() if key != LABEL_TENANT]
    return ",".join([*terms, *map(_term, selector.match_expressions)]) or "everything of the tenant"


def near_miss(selector: Selector, things: Iterable[Labels]) -> str:
    """Say what of a selector nothing has, with a hint. ``things``: the labels of whatever there is."""
    tenant = selector.match_labels.get(LABEL_TENANT)
    mine = [each for each in things if tenant in {None, each.get(LABEL_TENANT)}]
    if not mine and tenant is not None:
        return f"tenant {tenant} has no VM and no endpoint (metadata.tenant of the document says whose it is)"
    if not mine:
        return "there is no VM and no endpoint that it could mean"
    values: dict[str, set[str]] = {}
    for each in mine:
        for key, value in each.items():
            values.setdefault(key, set()).add(value)
    for key, wanted in _wanted(selector):
        if key not in values:
            return f"nothing has the label {key}" + _hint(key, set(values) - _OURS)
        if wanted and not values[key].intersection(wanted):
            return f"no {key} is {' or '.join(wanted)}" + _hint(wanted[0], values[key])
    return "each of its labels occurs, but never all together"


def _wanted(selector: Selector) -> list[tuple[str, tuple[str, ...]]]:
    """List the keys that must be there, with the values of which one must be."""
    labels = [(key, (value,)) for key, value in selector.match_labels.items() if key != LABEL_TENANT]
    needed = (Operator.IN, Operator.EXISTS)
    return labels + [(each.key, each.values) for each in selector.match_expressions if each.operator in needed]


def _hint(word: str, known: set[str]) -> str:
    hint = guess(word, known) if len(known) <= _SHOWN else guess(word, known).partition("known here")[0]
    return f" ({hint})" if hint and known else ""


def _term(each: Expression) -> str:
    match each.operator:
        case Operator.EXISTS:
            return each.key
        case Operator.DOES_NOT_EXIST:
            return f"!{each.key}"
        case Operator.IN:
            return f"{each.key} in ({','.join(each.values)})"
        case Operator.NOT_IN:
            return f"{each.key} not in ({','.join(each.values)})"
