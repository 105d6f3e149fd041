"""An export of NSX's policy API → its objects by kind, wherever they stand. Owns the tree, not what objects say."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, flag, mapping, root, text
from buckler.policy.problem import Problem
from buckler.policy.source import Source, read_source

READ = {"SecurityPolicy", "Rule", "Group", "Service", "VirtualMachine", "VirtualNetworkInterface"}
NO_VERDICT = {"Segment", "Tier0", "Tier1", "Tag", "LocaleServices", "SegmentPort", "TransportZone", "Site"}
_MAY_DENY = re.compile(r"Polic(y|ies)\Z|(Map|Entry|Rule)\Z|Firewall|Ids|Tls|Inspect|Redirect|Intrusion|Malware")
"""In the kinds of what else filters: gateways' policies, intrusion detection, redirection, policies of older releases."""
_MAY_DENY_LIST = re.compile(r"polic|rule|firewall|ids\b|ids_|inspect|redirect")
_SHUTS = "it may deny anything: everything is denied; leave it out of the input if it denies nothing"
_RULE_FIELDS = {"action", "category", "source_groups", "destination_groups"}
_WRAPPERS = {"Infra", "Domain", "OrgRoot", "Org", "Project"}
_LISTS = {
    "security_policies": "SecurityPolicy",
    "groups": "Group",
    "services": "Service",
    "virtual_machines": "VirtualMachine",
    "vms": "VirtualMachine",
    "vifs": "VirtualNetworkInterface",
    "rules": "Rule",
}
"""Lists of a plain export, whose items may leave out what they are."""


class Item(msgspec.Struct, frozen=True):
    """One object. ``parent`` is the path of the policy that a rule stands in, or its id where it has no path."""

    kind: str
    id: str
    path: str
    name: str
    place: Place
    fields: dict[str, Place]
    parent: str = ""


class Objects(msgspec.Struct, frozen=True):
    """Objects by kind. ``shutting``: what is not read and may deny whatever it likes; ``strategies``: of domains."""

    known: dict[str, list[Item]]
    shutting: list[Place] = []
    strategies: list[Place] = []

    def all(self, kind: str) -> list[Item]:
        """List those of one kind."""
        return self.known.get(kind, [])

    def rules_of(self, policy: Item) -> list[Item]:
        """List the rules of one policy, wherever they stand."""
        return [each for each in self.all("Rule") if each.parent == policy.path]


def read_objects(sources: Iterable[Source], book: LossBook) -> tuple[Objects, list[Problem]]:
    """Read all files."""
    found = Objects({})
    problems: list[Problem] = []
    for source in sources:
        raws, noted = read_source(source)
        problems += noted
        for raw in raws:
            try:
                _walk(root(raw, source.name), "", "", found, Teller(book, "input"))
            except Unclear as unclear:
                problems.append(_problem(unclear))
    try:
        _bring_home(found)
    except Unclear as unclear:
        problems.append(_problem(unclear))
    return found, problems


def by_path(every: Iterable[Item], prefix: str) -> dict[str, Item]:
    """Find objects by their path. Raises Unclear where two have the same."""
    found: dict[str, Item] = {}
    for item in every:
        path = item.path if item.path != item.id else f"{prefix}{item.id}"
        if found.setdefault(path, item) is not item:
            raise Unclear(item.place, f"{path} is given twice")
    return found


def _problem(unclear: Unclear) -> Problem:
    return Problem(unclear.place.file, unclear.place.line, unclear.place.path, unclear.what)


def _bring_home(found: Objects) -> None:
    """Give each rule that stands by itself its policy; without it nobody knows what the rule binds. Raises Unclear."""
    policies = by_path(found.all("SecurityPolicy"), "")
    rules = found.all("Rule")
    for index, rule in enumerate(rules):
        if not rule.parent:
            path = text(rule.fields.get("parent_path"), "") or rule.path.rpartition("/rules/")[0]
            home = next((each for each in (path, path.rpartition("/")[2]) if each in policies), None)
            if home is None:
                raise Unclear(rule.place, f"the policy {path or 'without a path'} of this rule is not in the input")
            rules[index] = msgspec.structs.replace(rule, parent=home)


def _walk(place: Place, hint: str, parent: str, found: Objects, tell: Teller) -> None:
    if isinstance(place.raw.value, tuple):
        for index, raw in enumerate(place.raw.value):
            _walk(place.at(f"[{index}]", raw), hint, parent, found, tell)
        return
    fields = mapping(place)
    if (
        hint
        and "resource_type" not in fields
        and isinstance(fields["results"].raw.value if "results" in fields else None, tuple)
    ):
        _walk(fields["results"], hint, parent, found, tell)  # a page of the API
        return
    kind = text(fields.get("resource_type"), hint)
    if flag(fields.get("marked_for_delete")):
        tell.tell(place, f"a {kind or 'thing'} marked for deletion", "not carried over", Effect.OMITTED)
        return
    if kind.startswith("Child") and kind[5:] in fields:
        _walk(fields[kind[5:]], kind[5:], parent, found, tell)
        return
    if kind in READ:
        item = _item(kind, place, fields, parent)
        found.known.setdefault(kind, []).append(item)
        for key in ("rules", "children") if kind == "SecurityPolicy" else ():
            if key in fields and fields[key].raw.value is not None:
                _walk(fields[key], "Rule", item.path, found, tell)
    elif kind and kind not in _WRAPPERS:
        if _MAY_DENY.search(kind) and not kind.endswith("BindingMap"):
            tell.tell(place, f"a {kind} is not read", _SHUTS)
            found.shutting.append(place)
        else:
            effect = Effect.NOTE if kind in NO_VERDICT else Effect.OMITTED
            tell.tell(place, f"a {kind} is not read", "not carried over", effect)
    else:
        if not kind and fields.keys() & _RULE_FIELDS:
            raise Unclear(place, "a policy or rule that does not say what it is")
        if not kind and "id" in fields:
            tell.tell(place, "an object of no kind is not read", "not carried over", Effect.OMITTED)
        for key, inner in fields.items():
            if key.endswith("connectivity_strategy") and inner.raw.value not in (None, "NONE"):
                allows = str(inner.raw.value).startswith("BLACKLIST")
                means = "the default policy in the input decides" if allows else "what no rule matches is denied"
                tell.tell(inner, f"the field {key!r}", means, Effect.NOTE if allows else Effect.TIGHTENED)
                found.strategies.extend([] if allows else [inner])
            if key not in _LISTS and inner.raw.value and _MAY_DENY_LIST.search(key):
                tell.tell(inner, f"the list {key!r} is not known", _SHUTS)
                found.shutting.append(inner)
            elif isinstance(inner.raw.value, tuple | dict):
                _walk(inner, _LISTS.get(key, hint if key in {"children", "results"} else ""), parent, found, tell)


def _item(kind: str, place: Place, fields: dict[str, Place], parent: str) -> Item:
    number = text(fields.get("id"), "") or text(fields.get("external_id"), "")
    name = text(fields.get("display_name"), "") or number
    if not number and kind != "VirtualNetworkInterface":
        raise Unclear(place, f"a {kind} without id")
    path = text(fields.get("path"), "") or number
    return Item(kind, number, path, name, place, fields, parent)
