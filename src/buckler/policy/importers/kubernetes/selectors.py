"""Label selectors over namespaces and pods → one selector over a VM's labels. Owns the two rooms of label keys."""

from __future__ import annotations

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.draft import LABEL_NAMESPACE
from buckler.policy.field import Place
from buckler.policy.importers.naming import is_label_value, label_key
from buckler.policy.importers.unclear import Unclear, fields, items, mapping, need, text

NAMESPACE_SCOPE = "namespace"
PORT_SCOPE = "port"
METADATA_NAME = "kubernetes.io/metadata.name"
"""The label that every namespace has of itself."""
_VALUED = {Operator.IN, Operator.NOT_IN}


def pod_key(key: str) -> str:
    """Give the key of a pod's label on its VM."""
    return label_key(key, reserved=(NAMESPACE_SCOPE, PORT_SCOPE))


def namespace_key(key: str) -> str:
    """Give the key of a namespace's label on its VMs."""
    return label_key(key, scope=NAMESPACE_SCOPE)


def port_key(name: str, protocol: str) -> str:
    """Give the key under which a VM says which number a port's name has."""
    return label_key(name, scope=f"{PORT_SCOPE}.{protocol.lower()}")


def read_selector(place: Place, *, of_namespaces: bool) -> Selector:
    """Take a LabelSelector (meta/v1); the empty one selects everything."""
    convert = namespace_key if of_namespaces else pod_key
    taken = fields(place, ("matchLabels", "matchExpressions"))
    labels = mapping(taken["matchLabels"]) if "matchLabels" in taken else {}
    return Selector(
        match_labels={convert(key): _value(value) for key, value in labels.items()},
        match_expressions=tuple(_expression(each, of_namespaces) for each in items(taken.get("matchExpressions"))),
    )


def in_namespace(namespace: str) -> Selector:
    """Select the VMs of one namespace."""
    return Selector(match_labels={LABEL_NAMESPACE: namespace})


def both(*selectors: Selector) -> Selector:
    """Select what all of them select."""
    labels: dict[str, str] = {}
    expressions: list[Expression] = []
    for selector in selectors:
        for key, value in selector.match_labels.items():
            if labels.setdefault(key, value) != value:
                expressions.append(Expression(key, Operator.IN, (value,)))
        expressions += selector.match_expressions
    return Selector(labels, tuple(dict.fromkeys(expressions)))


def selected_keys(selector: Selector) -> set[str]:
    """List the keys that a selector looks at."""
    return {*selector.match_labels, *(each.key for each in selector.match_expressions)}


def _expression(place: Place, of_namespaces: bool) -> Expression:
    taken = fields(place, ("key", "operator", "values"))
    key = text(need(taken, "key", place))
    word = need(taken, "operator", place)
    if text(word) not in Operator._value2member_map_:
        raise Unclear(word, f"the operator {text(word)!r} is not known")
    operator = Operator(text(word))
    values = tuple(_value(each) for each in items(taken.get("values")))
    if bool(values) != (operator in _VALUED):
        raise Unclear(place, f"{operator} {'needs' if operator in _VALUED else 'takes no'} values")
    return Expression(namespace_key(key) if of_namespaces else pod_key(key), operator, values)


def _value(place: Place) -> str:
    value = text(place)
    if not is_label_value(value):
        raise Unclear(place, f"{value!r} is no label value")
    return value
