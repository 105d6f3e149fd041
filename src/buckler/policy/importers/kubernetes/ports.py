"""Ports of rules, by number and by name. Owns how a name becomes numbers, workload by workload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.field import Place
from buckler.policy.importers.kubernetes.selectors import both, port_key
from buckler.policy.importers.kubernetes.workloads import PROTOCOLS
from buckler.policy.importers.unclear import Unclear, fields, mapping, need, number, one_of, text
from buckler.policy.language import Port

VmLabels = Sequence[Mapping[str, str]]


class NamedPort(msgspec.Struct, frozen=True):
    """A port by its name; without a protocol it may be of any."""

    name: str
    protocol: str = ""

    def label_keys(self) -> list[tuple[str, str]]:
        """List the label keys under which VMs say its number, each with the protocol."""
        return [(port_key(self.name, each), each) for each in PROTOCOLS if self.protocol in {"", each}]


AnyPort = Port | NamedPort


def read_policy_port(place: Place) -> AnyPort:
    """Take a NetworkPolicyPort (networking.k8s.io/v1)."""
    taken = fields(place, ("protocol", "port", "endPort"))
    protocol = _protocol(taken.get("protocol"))
    if "port" not in taken:
        if "endPort" in taken:
            raise Unclear(taken["endPort"], "endPort without port")
        return Port(protocol=protocol)
    port = taken["port"]
    if isinstance(port.raw.value, str):
        if "endPort" in taken:
            raise Unclear(taken["endPort"], "endPort with a named port")
        return NamedPort(_port_name(port), protocol)
    first = number(port, 1, 65535)
    last = number(taken["endPort"], first, 65535) if "endPort" in taken else None
    return Port(protocol=protocol, port=first, end_port=last)


def read_admin_port(place: Place) -> AnyPort:
    """Take an AdminNetworkPolicyPort (policy.networking.k8s.io/v1alpha1)."""
    taken = fields(place, ("portNumber", "portRange", "namedPort"))
    kind = one_of(taken, ("portNumber", "portRange", "namedPort"), place)
    if kind == "namedPort":
        return NamedPort(_port_name(taken[kind]))
    if kind == "portNumber":
        inner = fields(taken[kind], ("protocol", "port"))
        value = number(need(inner, "port", place), 1, 65535)
        return Port(protocol=_protocol(inner.get("protocol")), port=value)
    inner = fields(taken[kind], ("protocol", "start", "end"))
    return _range(inner, place, _protocol(inner.get("protocol")))


def read_cluster_protocol(place: Place) -> AnyPort:
    """Take a ClusterNetworkPolicyProtocol (policy.networking.k8s.io/v1alpha2)."""
    kinds = ("tcp", "udp", "sctp", "destinationNamedPort")
    kind = one_of(fields(place, kinds), kinds, place)
    inner = fields(place, kinds)[kind]
    if kind == "destinationNamedPort":
        return NamedPort(_port_name(inner))
    protocol = kind.upper()
    port = need(fields(inner, ("destinationPort",)), "destinationPort", inner)
    shape = one_of(fields(port, ("number", "range")), ("number", "range"), port)
    if shape == "number":
        return Port(protocol=protocol, port=number(mapping(port)["number"], 1, 65535))
    return _range(fields(mapping(port)["range"], ("start", "end")), port, protocol)


def named(ports: Iterable[AnyPort] | None) -> list[NamedPort]:
    """List the ports that are named."""
    return [each for each in ports or () if isinstance(each, NamedPort)]


def numbered(ports: Iterable[AnyPort]) -> tuple[Port, ...]:
    """List the ports that are not."""
    return tuple(each for each in ports if isinstance(each, Port))


def numbers_label(numbers: Iterable[int]) -> str:
    """Write the numbers of a name as a label's value; more than one are for the careful only."""
    return "_".join(str(each) for each in sorted(numbers))


def label_numbers(value: str) -> list[int]:
    """Read what ``numbers_label`` wrote."""
    return [int(each) for each in value.split("_")]


def resolutions(port: NamedPort, vms: VmLabels) -> list[tuple[str, str, str]]:
    """List what a name means in this inventory: (label key, its value, protocol)."""
    return [
        (key, value, protocol)
        for key, protocol in port.label_keys()
        for value in sorted({labels[key] for labels in vms if key in labels}, key=label_numbers)
    ]


def split_subject(
    subject: Selector, ports: Iterable[NamedPort], vms: VmLabels
) -> list[tuple[Selector, Mapping[str, str]]]:
    """Split a subject so that in each part every one of ``ports`` has one number or none: (selector, key → number)."""
    keys = sorted({key for port in ports for key, _protocol in port.label_keys()})
    chosen = [labels for labels in vms if subject.matches(labels)]
    vectors = sorted({tuple(labels.get(key, "") for key in keys) for labels in chosen})
    parts: list[tuple[Selector, Mapping[str, str]]] = []
    for vector in vectors:
        numbers = {key: value for key, value in zip(keys, vector, strict=True) if value}
        expressions = [
            Expression(key, Operator.IN, (value,)) if value else Expression(key, Operator.DOES_NOT_EXIST)
            for key, value in zip(keys, vector, strict=True)
        ]
        parts.append((both(subject, Selector(match_expressions=tuple(expressions))), numbers))
    return parts


def _range(taken: dict[str, Place], place: Place, protocol: str) -> Port:
    first = number(need(taken, "start", place), 1, 65535)
    return Port(protocol=protocol, port=first, end_port=number(need(taken, "end", place), first, 65535))


def _protocol(place: Place | None) -> str:
    word = text(place, "TCP")
    if word not in PROTOCOLS and place is not None:
        raise Unclear(place, f"the protocol {word!r} is not known")
    return word


def _port_name(place: Place) -> str:
    """Take a name as ports have it (RFC 6335, 5.1): with a letter, so that a number in quotes is none."""
    word = text(place)
    if not 1 <= len(word) <= 15 or not any(each.isalpha() for each in word):
        raise Unclear(place, f"{word!r} is no port name")
    return word
