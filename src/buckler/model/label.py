"""Labels and selectors, with the meaning that Kubernetes gives them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

Labels = Mapping[str, str]

RESERVED_PREFIX = "buckler.io/"
LABEL_TENANT = "buckler.io/tenant"
LABEL_NETWORK = "buckler.io/network"
LABEL_NAME = "buckler.io/name"
LABEL_ID = "buckler.io/id"
LABEL_ENDPOINT = "buckler.io/endpoint"
LABEL_QUARANTINE = "buckler.io/quarantine"
CLOSED = "true"
REMEDIATION = "remediation"
"""The values of the label of quarantine: nothing at all, or what the remediation tier opens."""


class Operator(StrEnum):
    """How a selector expression compares (Kubernetes LabelSelectorRequirement)."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Expression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One requirement on one key. ``NotIn`` also matches when the key is absent."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Say whether ``labels`` meet this requirement."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


class Selector(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """All of ``matchLabels`` and all of ``matchExpressions``; the empty selector matches everything."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[Expression, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """Say whether ``labels`` meet every requirement."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.matches(labels) for expression in self.match_expressions
        )
