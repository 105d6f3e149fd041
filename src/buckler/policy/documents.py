"""Files → checked documents, with every problem at once. Owns one document's own sense; across documents is crosscheck's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from buckler.model.label import Expression, Operator, Selector
from buckler.model.pool import ShieldMode
from buckler.policy.claim import MAX_DETECTED
from buckler.policy.field import Place, each
from buckler.policy.language import (
    API_VERSION,
    DEFAULT_TENANT,
    NO_CLAIMS,
    Action,
    AddressClaimsSpec,
    Document,
    EgressRule,
    FlowSpec,
    IngressRule,
    InterfaceSpec,
    Kind,
    NetworkSpec,
    Peer,
    PolicyMode,
    PolicySpec,
    Port,
    Priority,
    Tier,
    VmSpec,
)
from buckler.policy.prefix import is_within
from buckler.policy.problem import Problem, has_errors
from buckler.policy.source import Raw, Source, read_source

_LATER = "this version of Buckler refuses what it does not enforce"
_LATER_RULE = dict.fromkeys(
    ("inspect", "inspection", "profile", "schedule", "users", "user", "expires", "expiry", "translate", "redirect"),
    _LATER,
)
_LATER_POLICY = {**_LATER_RULE, "staged": _LATER, "tests": _LATER, "applies": _LATER, "runbook": _LATER}
_LATER_PEER = dict.fromkeys(("user", "users", "dns", "fqdn", "service", "device"), _LATER)
_LATER_ACTION = dict.fromkeys(("reject", "inspect", "redirect", "tarpit", "translate", "rewrite"), _LATER)
_LATER_MODE = {"staged": _LATER}
_LATER_VM = dict.fromkeys(("expires", "quota", "image", "volumes", "placement", "profile"), _LATER)
_LATER_NETWORK = dict.fromkeys(("vni", "encryption", "uplinks"), _LATER)
_DUTY = ("description", "owner", "reason", "review")
_POLICY_HEAD = (*_DUTY, "priority", "tier", "order", "mode")


class Reading(msgspec.Struct, frozen=True):
    """``documents`` are those that are right in themselves; nothing may be applied while ``problems`` holds errors."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


class _Protocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    ICMP = "ICMP"
    ICMPV6 = "ICMPv6"
    ANY = "any"


def read_documents(sources: Iterable[Source]) -> Reading:
    """Read and check every document of every file by itself."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for source in sources:
        raws, found = read_source(source)
        problems += found
        for place in [item for raw in raws for item in _unlisted(Place(raw, "", source.name, problems))]:
            noted: list[Problem] = []
            document = _document(Place(place.raw, place.path, source.name, noted))
            if document is not None and not has_errors(noted):
                documents.append(document)
            problems += noted
    return Reading(tuple(documents), tuple(sorted(problems, key=lambda each: (each.file, each.line))))


def _unlisted(place: Place) -> list[Place]:
    """Take a List, as ``get -o json`` writes several documents, apart."""
    value = place.raw.value
    if not isinstance(value, dict) or "kind" not in value or value["kind"].value != "List":
        return [place]
    fields = place.fields(("apiVersion", "kind", "items"), ("apiVersion", "items"))
    _check_version(fields.get("apiVersion"))
    return fields["items"].items() if "items" in fields else []


def _check_version(version: Place | None) -> None:
    if version is not None and version.raw.value != API_VERSION:
        version.note(f"{version.raw.value!r} is not known", f"write {API_VERSION}")


def _document(place: Place) -> Document | None:
    fields = place.fields(("apiVersion", "kind", "metadata", "spec"), ("apiVersion", "kind", "metadata", "spec"))
    _check_version(fields.get("apiVersion"))
    if not {"kind", "metadata", "spec"} <= fields.keys():
        return None
    before = len(place.problems)
    kind = fields["kind"].choice(Kind, Kind.VM)
    if len(place.problems) > before:
        return None
    name, tenant, labels = _metadata(fields["metadata"])
    spec = _SPECS[kind](fields["spec"])
    if isinstance(spec, PolicySpec | FlowSpec) and spec.tier is not Tier.TENANT and tenant != DEFAULT_TENANT:
        fields["metadata"].note(
            f"a policy of the {spec.tier} tier belongs to the pool, not to a tenant", "leave metadata.tenant out"
        )
    return Document(kind, name, spec, tenant, labels, place.file, place.line, dict(_lines("spec", fields["spec"].raw)))


def _metadata(place: Place) -> tuple[str, str, dict[str, str]]:
    fields = place.fields(("name", "tenant", "labels"), ("name",), {"annotations": _LATER, "namespace": "say tenant"})
    name = fields["name"].name() if "name" in fields else ""
    tenant = fields["tenant"].name() if "tenant" in fields else DEFAULT_TENANT
    labels = fields["labels"].labels() if "labels" in fields else {}
    return name, tenant, labels


def _network(place: Place) -> NetworkSpec:
    known = ("bridge", "vlan", "cidrs", "dhcpServers", "routers", "gateway", "addressClaims")
    fields = place.fields(known, ("bridge",), _LATER_NETWORK)
    bridge = fields["bridge"].device() if "bridge" in fields else ""
    vlan = fields["vlan"].integer(0, 4094) if "vlan" in fields else 0
    return NetworkSpec(
        bridge=bridge,
        vlan=vlan or 0,
        cidrs=each(fields.get("cidrs"), Place.cidr),
        dhcp_servers=each(fields.get("dhcpServers"), Place.address),
        routers=each(fields.get("routers"), Place.address),
        gateway=each(fields.get("gateway"), Place.address),
        address_claims=_address_claims(fields.get("addressClaims"), fields.get("cidrs")),
    )


def _address_claims(place: Place | None, cidrs: Place | None) -> AddressClaimsSpec:
    fields = place.fields(("limit",), ("limit",)) if place else {}
    limit = fields["limit"].integer(0, MAX_DETECTED) if "limit" in fields else 0
    if limit and (cidrs is None or not cidrs.raw.value):
        fields["limit"].note("a claim is granted within the network's prefixes only, and there is none", "state cidrs")
    return AddressClaimsSpec(limit) if limit else NO_CLAIMS


def _vm(place: Place) -> VmSpec:
    fields = place.fields(("uuid", "interfaces", "mode", "owner", "purpose"), ("uuid",), _LATER_VM)
    return VmSpec(
        uuid=fields["uuid"].uuid() if "uuid" in fields else "",
        interfaces=each(fields.get("interfaces"), _interface),
        mode=fields["mode"].choice(ShieldMode, ShieldMode.ENFORCE) if "mode" in fields else ShieldMode.ENFORCE,
        owner=fields["owner"].text() if "owner" in fields else "",
        purpose=fields["purpose"].text() if "purpose" in fields else "",
    )


def _interface(place: Place) -> InterfaceSpec:
    fields = place.fields(("mac", "network", "addresses", "labels"), ("mac", "network"), {"name": _LATER})
    return InterfaceSpec(
        mac=fields["mac"].mac() if "mac" in fields else "",
        network=fields["network"].name() if "network" in fields else "",
        addresses=each(fields.get("addresses"), Place.address),
        labels=fields["labels"].labels() if "labels" in fields else {},
    )


def _policy(place: Place) -> PolicySpec:
    known = (*_POLICY_HEAD, "subject", "ingress", "egress")
    fields = place.fields(known, (*_DUTY, "subject"), _LATER_POLICY)
    head = _head(fields)
    ingress = _rules(fields.get("ingress"), "from")
    egress = _rules(fields.get("egress"), "to")
    if not ingress and not egress:
        place.note("neither ingress nor egress has a rule", "a policy without rules does nothing")
    _check_tier(head["tier"], fields.get("ingress"), [rule.action for rule in ingress])
    _check_tier(head["tier"], fields.get("egress"), [rule.action for rule in egress])
    return PolicySpec(
        **head,
        subject=_selector(fields["subject"]) if "subject" in fields else Selector(),
        ingress=ingress,
        egress=egress,
    )


def _flow(place: Place) -> FlowSpec:
    known = (*_POLICY_HEAD, "action", "overridable", "from", "to", "ports")
    fields = place.fields(known, (*_DUTY, "from", "to"), _LATER_POLICY)
    head = _head(fields)
    action = fields["action"].choice(Action, Action.DENY, _LATER_ACTION) if "action" in fields else Action.ALLOW
    _check_tier(head["tier"], fields.get("action"), [action])
    if head["tier"] is Tier.PLATFORM and "action" not in fields:
        place.note("the platform tier may deny or pass, never allow", "state action: deny or action: pass")
    sources, destinations = each(fields.get("from"), _peer), each(fields.get("to"), _peer)
    for side, peers in (("from", sources), ("to", destinations)):
        if side in fields and not peers:
            fields[side].note("names no peer", "write {any: true} for everyone")
    if sources and destinations and not any(peer.vm or peer.any for peer in (*sources, *destinations)):
        place.note("neither end is a VM", "a flow is enforced at the VMs of its ends; one of them must be {vm: …}")
    return FlowSpec(
        **head,
        sources=sources,
        destinations=destinations,
        action=action,
        overridable=fields["overridable"].flag() if "overridable" in fields else False,
        ports=each(fields.get("ports"), _port),
    )


def _head(fields: dict[str, Place]) -> dict[str, Any]:
    """Take what policies and flows share."""
    order = fields["order"].integer(0, 1_000_000) if "order" in fields else 1000
    mode = fields["mode"].choice(PolicyMode, PolicyMode.ENFORCE, _LATER_MODE) if "mode" in fields else None
    return {
        **{key: fields[key].text() if key in fields else "" for key in ("description", "owner", "reason")},
        "review": _review(fields["review"]) if "review" in fields else "",
        "priority": fields["priority"].choice(Priority, Priority.MEDIUM) if "priority" in fields else Priority.MEDIUM,
        "tier": fields["tier"].choice(Tier, Tier.TENANT) if "tier" in fields else Tier.TENANT,
        "order": 1000 if order is None else order,
        "mode": mode or PolicyMode.ENFORCE,
    }


def _review(place: Place) -> str:
    text = place.text()
    try:
        parsed = dt.date.fromisoformat(text)
    except ValueError:
        if text:
            place.note(f"{text!r} is no date", "write it like 2027-01-31")
        return ""
    if parsed.isoformat() != text:
        place.note(f"{text!r} has not the right form", f"write {parsed.isoformat()}")
    return text


def _check_tier(tier: Tier, place: Place | None, actions: Sequence[Action]) -> None:
    if place is None or tier is not Tier.PLATFORM:
        return
    for index, action in enumerate(actions):
        if action is Action.ALLOW:
            items = place.raw.value
            at = place.at(f"[{index}]", items[index]) if isinstance(items, tuple) else place
            at.note("the platform tier may deny or pass, never allow", "allow in the security or tenant tier")


def _rules(place: Place | None, peers_field: str) -> tuple[Any, ...]:
    rules: list[IngressRule | EgressRule] = []
    names: dict[str, int] = {}
    for item in place.items() if place else []:
        rule = _rule(item, peers_field, len(rules) + 1)
        if rule.name in names:
            item.note(f"the name {rule.name!r} is taken", f"by the rule on line {names[rule.name]}")
        names.setdefault(rule.name, item.line)
        rules.append(rule)
    return tuple(rules)


def _rule(place: Place, peers_field: str, number: int) -> IngressRule | EgressRule:
    known = ("name", "action", "overridable", peers_field, "ports")
    fields = place.fields(known, ("action",), _LATER_RULE)
    kind = IngressRule if peers_field == "from" else EgressRule
    peers = each(fields.get(peers_field), _peer)
    if peers_field in fields and not peers:
        fields[peers_field].note("names no peer", f"leave {peers_field} out for everyone")
    ports = each(fields.get("ports"), _port)
    if "ports" in fields and not ports:
        fields["ports"].note("names no port", "leave ports out for all")
    return kind(
        name=fields["name"].name() if "name" in fields else f"rule-{number}",
        action=fields["action"].choice(Action, Action.DENY, _LATER_ACTION) if "action" in fields else Action.DENY,
        overridable=fields["overridable"].flag() if "overridable" in fields else False,
        peers=peers,
        ports=ports,
    )


def _peer(place: Place) -> Peer:
    kinds = ("vm", "cidr", "world", "host", "group", "any")
    fields = place.fields((*kinds, "except"), (), _LATER_PEER)
    given = [kind for kind in kinds if kind in fields]
    if len(given) != 1 and isinstance(place.raw.value, dict):
        place.note("a peer has exactly one kind", f"one of {', '.join(kinds)}")
        return Peer()
    if "except" in fields and given != ["cidr"]:
        fields["except"].note("except belongs to cidr")
    if given == ["vm"]:
        return Peer(vm=_selector(fields["vm"]))
    if given == ["cidr"]:
        return _cidr_peer(fields)
    for kind in given:
        if not fields[kind].flag():
            fields[kind].note(f"{kind} can only be true", "leave the peer out instead")
        return Peer(world=kind == "world", host=kind == "host", group=kind == "group", any=kind == "any")
    return Peer()


def _cidr_peer(fields: dict[str, Place]) -> Peer:
    cidr = fields["cidr"].cidr()
    excluded = each(fields.get("except"), Place.cidr)
    if cidr and "except" in fields:
        for place, part in zip(fields["except"].items(), excluded, strict=True):
            if part and not is_within(part, cidr):
                place.note(f"{part} does not lie in {cidr}")
    return Peer(cidr=cidr, excluded=excluded)


def _selector(place: Place) -> Selector:
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


def _port(place: Place) -> Port:
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


def _lines(path: str, raw: Raw) -> Iterator[tuple[str, int]]:
    yield path, raw.line
    if isinstance(raw.value, dict):
        for key, inner in raw.value.items():
            yield from _lines(f"{path}.{key}", inner)
    elif isinstance(raw.value, tuple):
        for index, inner in enumerate(raw.value):
            yield from _lines(f"{path}[{index}]", inner)


_SPECS: dict[Kind, Any] = {Kind.NETWORK: _network, Kind.VM: _vm, Kind.POLICY: _policy, Kind.FLOW: _flow}
