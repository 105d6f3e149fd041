"""Files → checked documents, with every problem at once. Owns one document's own sense; across documents is crosscheck's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from buckler.model.label import LABEL_QUARANTINE, REMEDIATION
from buckler.model.pool import ShieldMode
from buckler.model.shield import MOST_CONNECTIONS
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
    PolicyMode,
    PolicySpec,
    Priority,
    ResponseSpec,
    Subject,
    Tier,
    VmSpec,
)
from buckler.policy.learned import MOST_RESOLVERS
from buckler.policy.problem import Problem, has_errors
from buckler.policy.quarantine import opens_quarantine_only
from buckler.policy.responses import read_response
from buckler.policy.source import Raw, Source, name_in, read_source
from buckler.policy.subjects import check_subject, read_subject
from buckler.policy.termwords import read_exception, read_rate_limit, read_schedule, read_until
from buckler.policy.things import read_address_group, read_endpoint, read_service
from buckler.policy.words import LATER, check_names, read_instance, read_peer, read_port

_TIMED = "say until (a time with its offset) or schedule (hours of days of the week)"
_LATER_RULE = {
    **dict.fromkeys(("inspect", "inspection", "profile", "translate", "redirect"), LATER),
    **dict.fromkeys(("window", "windows", "expires", "expiry"), _TIMED),
    **dict.fromkeys(("user", "users"), "rules by user need accounts, which do not exist yet"),
    **dict.fromkeys(
        ("application", "appProtocol", "l7"), "the shield judges first packets, not what an application says"
    ),
    "connections": "the quota of connections is the VM's or its network's: spec.connections there",
}
_LATER_POLICY = {**_LATER_RULE, "staged": "say mode: staged", "tests": LATER, "applies": LATER, "runbook": LATER}
_LATER_ACTION = dict.fromkeys(("inspect", "redirect", "tarpit", "translate", "rewrite"), LATER)
_LATER_VM = dict.fromkeys(("expires", "quota", "image", "volumes", "placement", "profile"), LATER)
_LATER_NETWORK = dict.fromkeys(("vni", "encryption", "uplinks"), LATER)
_DUTY = ("description", "owner", "reason", "review")
_POLICY_HEAD = (*_DUTY, "priority", "tier", "order", "mode", "until", "schedule")
_LATER_RULE_ALONE = {**_LATER_RULE, "schedule": "a schedule is a whole policy's or flow's; a rule has until"}


class Reading(msgspec.Struct, frozen=True):
    """``documents`` are those that are right in themselves; nothing may be applied while ``problems`` holds errors.

    ``broken``: what could be read of the others. ``lost``: the names of those of no known kind; empty: something has no name.
    """

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    broken: tuple[Document, ...] = ()
    lost: frozenset[str] = frozenset()


def read_documents(sources: Iterable[Source]) -> Reading:
    """Read and check every document of every file by itself."""
    documents: list[Document] = []
    broken: list[Document] = []
    problems: list[Problem] = []
    lost: set[str] = set()
    for source in sources:
        raws, found = read_source(source)
        problems += found
        lost |= {""} if found and not raws else set()
        for place in [item for raw in raws for item in _unlisted(Place(raw, "", source.name, problems))]:
            noted: list[Problem] = []
            document = _document(Place(place.raw, place.path, source.name, noted))
            if document is None or not document.name or not document.tenant:
                lost.add(name_in(place.raw))
            elif has_errors(noted):
                broken.append(document)
            else:
                documents.append(document)
            problems += noted
    ordered = tuple(sorted(problems, key=lambda each: (each.file, each.line)))
    return Reading(tuple(documents), ordered, tuple(broken), frozenset(lost))


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
    if isinstance(spec, PolicySpec | FlowSpec) and not opens_quarantine_only(spec):
        fields["spec"].note(
            "the quarantine tier is for VMs in quarantine with remediation only",
            f"one end must be {{vm: {{matchLabels: {{{LABEL_QUARANTINE}: {REMEDIATION}}}}}}}",
        )
    if isinstance(spec, ResponseSpec) and tenant != DEFAULT_TENANT:
        fields["metadata"].note("a response belongs to the pool, not to a tenant", "leave metadata.tenant out")
    if isinstance(spec, PolicySpec | FlowSpec) and spec.tier is not Tier.TENANT and tenant != DEFAULT_TENANT:
        fields["metadata"].note(
            f"a policy of the {spec.tier} tier belongs to the pool, not to a tenant", "leave metadata.tenant out"
        )
    return Document(kind, name, spec, tenant, labels, place.file, place.line, dict(_lines("spec", fields["spec"].raw)))


def _metadata(place: Place) -> tuple[str, str, dict[str, str]]:
    fields = place.fields(("name", "tenant", "labels"), ("name",), {"annotations": LATER, "namespace": "say tenant"})
    name = fields["name"].name() if "name" in fields else ""
    tenant = fields["tenant"].name() if "tenant" in fields else DEFAULT_TENANT
    labels = fields["labels"].labels() if "labels" in fields else {}
    return name, tenant, labels


def _network(place: Place) -> NetworkSpec:
    known = ("bridge", "vlan", "cidrs", "dhcpServers", "routers", "gateway", "resolvers")
    fields = place.fields((*known, "addressClaims", "connections", "linkLocal"), ("bridge",), _LATER_NETWORK)
    bridge = fields["bridge"].device() if "bridge" in fields else ""
    vlan = fields["vlan"].integer(0, 4094) if "vlan" in fields else 0
    return NetworkSpec(
        bridge=bridge,
        vlan=vlan or 0,
        cidrs=each(fields.get("cidrs"), Place.cidr),
        dhcp_servers=each(fields.get("dhcpServers"), Place.address),
        routers=each(fields.get("routers"), Place.address),
        gateway=each(fields.get("gateway"), Place.address),
        resolvers=_resolvers(fields.get("resolvers")),
        address_claims=_address_claims(fields.get("addressClaims"), fields.get("cidrs")),
        connections=_connections(fields),
        link_local=fields["linkLocal"].flag() if "linkLocal" in fields else True,
    )


def _resolvers(place: Place | None) -> tuple[str, ...]:
    found = each(place, Place.address)
    if place is not None and len(found) > MOST_RESOLVERS:
        place.note(f"names more than {MOST_RESOLVERS} resolvers")
    return found


def _address_claims(place: Place | None, cidrs: Place | None) -> AddressClaimsSpec:
    fields = place.fields(("limit",), ("limit",)) if place else {}
    limit = fields["limit"].integer(0, MAX_DETECTED) if "limit" in fields else 0
    if limit and (cidrs is None or not cidrs.raw.value):
        fields["limit"].note("a claim is granted within the network's prefixes only, and there is none", "state cidrs")
    return AddressClaimsSpec(limit) if limit else NO_CLAIMS


def _vm(place: Place) -> VmSpec:
    known = ("uuid", "interfaces", "mode", "owner", "purpose", "connections")
    fields = place.fields(known, ("uuid",), _LATER_VM)
    return VmSpec(
        uuid=fields["uuid"].uuid() if "uuid" in fields else "",
        interfaces=each(fields.get("interfaces"), _interface),
        mode=fields["mode"].choice(ShieldMode, ShieldMode.ENFORCE) if "mode" in fields else ShieldMode.ENFORCE,
        owner=fields["owner"].text() if "owner" in fields else "",
        purpose=fields["purpose"].text() if "purpose" in fields else "",
        connections=_connections(fields),
    )


def _connections(fields: dict[str, Place]) -> int | None:
    return fields["connections"].integer(1, MOST_CONNECTIONS) if "connections" in fields else None


def _interface(place: Place) -> InterfaceSpec:
    fields = place.fields(("mac", "network", "addresses", "labels"), ("mac", "network"), {"name": LATER})
    return InterfaceSpec(
        mac=fields["mac"].mac() if "mac" in fields else "",
        network=fields["network"].name() if "network" in fields else "",
        addresses=each(fields.get("addresses"), Place.address),
        labels=fields["labels"].labels() if "labels" in fields else {},
    )


def _policy(place: Place) -> PolicySpec:
    known = (*_POLICY_HEAD, "subject", "ingress", "egress", "instance")
    fields = place.fields(known, (*_DUTY, "subject"), _LATER_POLICY)
    head = _head(fields)
    ingress = _rules(fields.get("ingress"), "from")
    egress = _rules(fields.get("egress"), "to")
    if not ingress and not egress:
        place.note("neither ingress nor egress has a rule", "a policy without rules does nothing")
    _check_tier(head["tier"], fields.get("ingress"), [rule.action for rule in ingress])
    _check_tier(head["tier"], fields.get("egress"), [rule.action for rule in egress])
    subject = read_subject(fields["subject"]) if "subject" in fields else Subject()
    check_subject(fields, subject, head["tier"], {"ingress": ingress, "egress": egress})
    return PolicySpec(
        **head,
        **_terms(fields),
        subject=subject,
        instance=read_instance(fields.get("instance")),
        ingress=ingress,
        egress=egress,
    )


def _flow(place: Place) -> FlowSpec:
    known = (*_POLICY_HEAD, "action", "overridable", "from", "to", "ports", "service", "log", "rateLimit", "instance")
    has_service = isinstance(place.raw.value, dict) and "service" in place.raw.value
    fields = place.fields(known, (*_DUTY, "from") if has_service else (*_DUTY, "from", "to"), _LATER_POLICY)
    _check_service(fields, ("to", "ports"))
    head = _head(fields)
    action = fields["action"].choice(Action, Action.DENY, _LATER_ACTION) if "action" in fields else Action.ALLOW
    _check_tier(head["tier"], fields.get("action"), [action])
    if head["tier"] is Tier.PLATFORM and "action" not in fields:
        place.note("the platform tier may deny, reject or pass, never allow", "state action: deny or action: pass")
    sources, destinations = each(fields.get("from"), read_peer), each(fields.get("to"), read_peer)
    overridable = _flag(fields)
    for side, peers in (("from", sources), ("to", destinations)):
        if side in fields and not peers:
            fields[side].note("names no peer", "write {any: true} for everyone")
        elif side in fields:
            check_names(fields[side], peers, is_source=side == "from", action=action, overridable=overridable)
    if sources and destinations and not any(peer.vm or peer.any for peer in (*sources, *destinations)):
        place.note("neither end is a VM", "a flow is enforced at the VMs of its ends; one of them must be {vm: …}")
    return FlowSpec(
        **head,
        **_terms(fields),
        log=fields["log"].flag() if "log" in fields else False,
        rate_limit=read_rate_limit(fields.get("rateLimit"), action),
        sources=sources,
        destinations=destinations,
        service=fields["service"].name() if "service" in fields else "",
        action=action,
        overridable=overridable,
        ports=each(fields.get("ports"), read_port),
        instance=read_instance(fields.get("instance")),
    )


def _flag(fields: dict[str, Place]) -> bool:
    return fields["overridable"].flag() if "overridable" in fields else False


def _terms(fields: dict[str, Place]) -> dict[str, Any]:
    """Take when a policy or flow holds."""
    return {"until": read_until(fields.get("until")), "schedule": read_schedule(fields.get("schedule"))}


def _check_service(fields: dict[str, Place], others: Sequence[str]) -> None:
    for other in others:
        if "service" in fields and other in fields:
            fields[other].note(f"service and {other} say the same twice", "a service is VMs and ports")


def _head(fields: dict[str, Place]) -> dict[str, Any]:
    """Take what policies and flows share."""
    order = fields["order"].integer(0, 1_000_000) if "order" in fields else 1000
    mode = fields["mode"].choice(PolicyMode, PolicyMode.ENFORCE) if "mode" in fields else None
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
    refused = {
        (Tier.PLATFORM, Action.ALLOW): (
            "the platform tier may deny, reject or pass, never allow",
            "allow in the security or tenant tier",
        ),
        (Tier.QUARANTINE, Action.REJECT): (
            "the quarantine tier answers nobody",
            "write deny: what it does not allow is dropped anyway",
        ),
    }
    for index, action in enumerate(actions if place is not None else ()):
        if place is not None and (tier, action) in refused:
            items = place.raw.value
            at = place.at(f"[{index}]", items[index]) if isinstance(items, tuple) else place
            at.note(*refused[tier, action])


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
    known = ("name", "action", "overridable", "until", "log", "rateLimit", peers_field, "ports", "service")
    fields = place.fields(known, ("action",), _LATER_RULE_ALONE)
    _check_service(fields, (peers_field, "ports"))
    if "service" in fields and peers_field == "from":
        fields["service"].note("a service stands at the far end", "write a Flow to it, or an egress rule")
    kind = IngressRule if peers_field == "from" else EgressRule
    peers = each(fields.get(peers_field), read_peer)
    if peers_field in fields and not peers:
        fields[peers_field].note("names no peer", f"leave {peers_field} out for everyone")
    ports = each(fields.get("ports"), read_port)
    if "ports" in fields and not ports:
        fields["ports"].note("names no port", "leave ports out for all")
    action = fields["action"].choice(Action, Action.DENY, _LATER_ACTION) if "action" in fields else Action.DENY
    overridable = _flag(fields)
    if peers:
        check_names(fields[peers_field], peers, is_source=peers_field == "from", action=action, overridable=overridable)
    return kind(
        name=fields["name"].name() if "name" in fields else f"rule-{number}",
        action=action,
        until=read_until(fields.get("until")),
        log=fields["log"].flag() if "log" in fields else False,
        rate_limit=read_rate_limit(fields.get("rateLimit"), action),
        overridable=overridable,
        service=fields["service"].name() if "service" in fields else "",
        peers=peers,
        ports=ports,
    )


def _lines(path: str, raw: Raw) -> Iterator[tuple[str, int]]:
    yield path, raw.line
    if isinstance(raw.value, dict):
        for key, inner in raw.value.items():
            yield from _lines(f"{path}.{key}", inner)
    elif isinstance(raw.value, tuple):
        for index, inner in enumerate(raw.value):
            yield from _lines(f"{path}[{index}]", inner)


_SPECS: dict[Kind, Any] = {
    Kind.NETWORK: _network,
    Kind.VM: _vm,
    Kind.POLICY: _policy,
    Kind.FLOW: _flow,
    Kind.ENDPOINT: read_endpoint,
    Kind.ADDRESS_GROUP: read_address_group,
    Kind.SERVICE: read_service,
    Kind.EXCEPTION: read_exception,
    Kind.RESPONSE: lambda place: read_response(place, _DUTY, _head),
}
