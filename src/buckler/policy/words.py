"""Read what policies are made of: peers, selectors, ports. Owns their syntax; documents own where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.field import Place, each
from buckler.policy.language import Action, InstanceSpec, Peer, Port
from buckler.policy.learned import refuse_pattern
from buckler.policy.prefix import is_within

LATER = "this version of Buckler refuses what it does not enforce"
_LATER_PEER = {
    **dict.fromkeys(("user", "users", "device"), LATER),
    "fqdn": "write dns: a name, or *. and a name",
    "service": "write service: NAME in the rule or flow itself, in place of its peers and ports",
    "edge": "write {world: true}, {cidr: …} or {addresses: …}: edge is a subject of policies",
}


class _Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    ICMP = "ICMP"
    ICMPV6 = "ICMPv6"
    ANY = "any"


def read_peer(place: Place) -> Peer:
    kinds = ("vm", "cidr", "addresses", "dns", "world", "host", "group", "any")
    fields = place.fields((*kinds, "except"), (), _LATER_PEER)
    given = [kind for kind in kinds if kind in fields]
    if not given and isinstance(place.raw.value, dict) and place.raw.value.keys() & _LATER_PEER.keys():
        return Peer()  # told already
    if len(given) != 1 and isinstance(place.raw.value, dict):
        place.note("a peer has exactly one kind", f"one of {', '.join(kinds)}")
        return Peer()
    if "except" in fields and given != ["cidr"]:
        fields["except"].note("except belongs to cidr")
    if given == ["vm"]:
        return Peer(vm=read_selector(fields["vm"]))
    if given == ["cidr"]:
        return _cidr_peer(fields)
    if given == ["addresses"]:
        return Peer(addresses=fields["addresses"].name())
    if given == ["dns"]:
        return Peer(dns=_pattern(fields["dns"]))
    for kind in given:
        if not fields[kind].flag():
            fields[kind].note(f"{kind} can only be true", "leave the peer out instead")
        return Peer(world=kind == "world", host=kind == "host", group=kind == "group", any=kind == "any")
    return Peer()


def _pattern(place: Place) -> str:
    text = place.text()
    why = refuse_pattern(text) if text.strip() else ""
    if why:
        place.note(f"{text!r} is no name that can be learned", why)
    return "" if why else text


def check_names(place: Place, peers: Sequence[Peer], *, is_source: bool, action: Action, overridable: bool) -> None:
    """Note where names cannot stand: an answer that nobody saw may open nothing, so a name may neither refuse nor yield."""
    if not any(peer.dns for peer in peers):
        return
    if is_source:
        place.note("a name cannot be a sender", "answers say where a VM sends to; write {cidr: …}")
    elif action is not Action.ALLOW:
        hint = "it would hold only for answers that were seen: refuse {world: true}, and allow the names before it"
        place.note(f"a name cannot be what a rule is to {action}", hint)
    elif overridable:
        place.note("a rule with names cannot be overridable", "what a name opens must not hide what else is allowed")


def _cidr_peer(fields: dict[str, Place]) -> Peer:
    cidr = fields["cidr"].cidr()
    excluded = each(fields.get("except"), Place.cidr)
    if cidr and "except" in fields:
        for place, part in zip(fields["except"].items(), excluded, strict=True):
            if part and not is_within(part, cidr):
                place.note(f"{part} does not lie in {cidr}")
    return Peer(cidr=cidr, excluded=excluded)


def read_selector(place: Place) -> Selector:
    fields = place.fields(("matchLabels", "matchExpressions"))
    return Selector(
        match_labels=fields["matchLabels"].labels(users=False) if "matchLabels" in fields else {},
        match_expressions=each(fields.get("matchExpressions"), _expression),
    )


def _expression(place: Place) -> Expression:
    fields = place.fields(("key", "operator", "values"), ("key", "operator"))
    key = fields["key"].text() if "key" in fields else ""
    if key:
        fields["key"].check_label_key(key, users=False)
    operator = fields["operator"].choice(Operator, Operator.EXISTS) if "operator" in fields else Operator.EXISTS
    values = each(fields.get("values"), Place.label_value)
    needs_values = operator in {Operator.IN, Operator.NOT_IN}
    if needs_values and not values:
        place.note(f"{operator} needs values")
    if values and not needs_values:
        place.note(f"{operator} takes no values")
    return Expression(key, operator, values)


def read_instance(place: Place | None) -> InstanceSpec | None:
    """Read of which shipped policy a document is one. Whether it still is one, ``check_instances`` says."""
    if place is None:
        return None
    fields = place.fields(("library", "parameters"), ("library",))
    given = fields["parameters"].raw.value if "parameters" in fields else {}
    if not isinstance(given, dict):
        fields["parameters"].expected(dict)
        given = {}
    parameters = {name: fields["parameters"].at(name, raw).text() for name, raw in given.items()}
    return InstanceSpec(fields["library"].name() if "library" in fields else "", parameters)


def read_port(place: Place) -> Port:
    fields = place.fields(("protocol", "port", "endPort", "type", "code"), ("protocol",))
    before = len(place.problems)
    protocol = fields["protocol"].choice(_Protocol, _Protocol.ANY).value if "protocol" in fields else "any"
    understood = "protocol" in fields and len(place.problems) == before
    port = fields["port"].integer(0, 65535) if "port" in fields else None
    end = fields["endPort"].integer(0, 65535) if "endPort" in fields else None
    kind = fields["type"].integer(0, 255) if "type" in fields else None
    code = fields["code"].integer(0, 255) if "code" in fields else None
    if understood:
        _check_port_fields(fields, protocol)
    if "endPort" in fields and "port" not in fields:
        fields["endPort"].note("endPort needs port", "port is the first of the range")
    if port is not None and end is not None and end < port:
        fields["endPort"].note(f"the range {port} to {end} is empty", "endPort is the last port")
    if "code" in fields and "type" not in fields:
        fields["code"].note("code needs type")
    return Port(protocol=protocol, port=port, end_port=end, type=kind, code=code)


def _check_port_fields(fields: dict[str, Place], protocol: str) -> None:
    icmp = protocol in {"ICMP", "ICMPv6"}
    for key in ("port", "endPort"):
        if key in fields and (icmp or protocol == "any"):
            fields[key].note(f"{protocol} has no ports", "say type and code" if icmp else "name the protocol")
    for key in ("type", "code"):
        if key in fields and not icmp:
            fields[key].note(f"{protocol} has no {key}", "types and codes are ICMP's and ICMPv6's")
