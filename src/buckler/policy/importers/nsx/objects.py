"""An export of NSX's policy API → its objects by kind, wherever they stand. Owns the tree, not what objects say."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, mapping, root, text
from buckler.policy.problem import Problem
from buckler.policy.source import Source, read_source

READ = {"SecurityPolicy", "Rule", "Group", "Service", "VirtualMachine", "VirtualNetworkInterface"}
NO_VERDICT = {"Segment", "Tier0", "Tier1", "Tag", "LocaleServices", "SegmentPort", "TransportZone", "Site"}
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
    """One object. ``parent`` is the id of the policy that a rule stands in."""

    kind: str
    id: str
    name: str
    place: Place
    fields: dict[str, Place]
    parent: str = ""


class Objects(msgspec.Struct, frozen=True):
    """Objects by kind."""

    known: dict[str, list[Item]]

    def all(self, kind: str) -> list[Item]:
        """List those of one kind."""
        return self.known.get(kind, [])


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
                problems.append(Problem(source.name, unclear.place.line, unclear.place.path, unclear.what))
    return found, problems


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
    if kind.startswith("Child") and kind[5:] in fields:
        _walk(fields[kind[5:]], kind[5:], parent, found, tell)
        return
    if kind in READ:
        item = _item(kind, place, fields, parent)
        found.known.setdefault(kind, []).append(item)
        for key in ("rules", "children") if kind == "SecurityPolicy" else ():
            if key in fields and fields[key].raw.value is not None:
                _walk(fields[key], "Rule", item.id, found, tell)
    elif kind and kind not in _WRAPPERS:
        effect = Effect.NOTE if kind in NO_VERDICT else Effect.OMITTED
        tell.tell(place, f"a {kind} is not read", "not carried over", effect)
    else:
        for key, inner in fields.items():
            if isinstance(inner.raw.value, tuple | dict):
                _walk(inner, _LISTS.get(key, hint if key in {"children", "results"} else ""), parent, found, tell)


def _item(kind: str, place: Place, fields: dict[str, Place], parent: str) -> Item:
    number = text(fields.get("id"), "") or text(fields.get("external_id"), "")
    name = text(fields.get("display_name"), "") or number
    if not number and kind != "VirtualNetworkInterface":
        raise Unclear(place, f"a {kind} without id")
    return Item(kind, number, name, place, fields, parent)
