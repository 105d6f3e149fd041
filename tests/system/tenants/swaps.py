"""Policy sets that allow nothing of what is probed, and of which any two mixed allow something. Owns no lab.

A set is three switches. ``rules``: which of two ports the asking VM may use, the other of which the asked one takes.
``lamps``: who bears the label that may be asked, and so takes nothing. ``seats``: whose an address is: the one that may
be asked there and takes nothing, or the one that may not be asked and would take it.
"""

from typing import NamedTuple

from tests.system.tenants.lab import RED, vm_documents

ASKING, FAR, LAST, NEAR = "red-1", "red-2", "red-4", "red-3"
"""Who asks, from the first host; two on the second; one beside it."""
ADDRESSES = {"10.50.0.150": (FAR, LAST), "10.50.0.151": (FAR, NEAR)}
"""Whose each may be. Frames go to the second one's MAC, which answers at it whoever has it."""
ALWAYS = ("tcp", 5432)


class Sets(NamedTuple):
    rules: bool = False
    lamps: bool = False
    seats: bool = False


def documents(sets):
    return [*_policies(sets), *_vms(sets)]


def forbidden(lab):
    """What the asking VM fires, by whose eyes look for it, by the switch that it belongs to: (guest, target, kind)."""
    party = {name: lab.party(name) for name in (ASKING, FAR, LAST, NEAR)}
    shots = []
    for name in (FAR, NEAR):
        shots += [
            (name, f"tcp/{party[name].address(version)}/{port}", "rules") for version in (4, 6) for port in (80, 22)
        ]
    for name in (FAR, LAST, NEAR):
        shots += [(name, f"tcp/{party[name].address(version)}/8080", "lamps") for version in (4, 6)]
    for address, (_, name) in ADDRESSES.items():
        shots.append((name, f"udp/{address}/514", "seats"))
    return shots


def arrival(lab, target):
    """What eyes look for when ``target`` is asked."""
    protocol, address, port = target.split("/")
    return f"{protocol}/{lab.party(ASKING).address(6 if ':' in address else 4)}/{port}"


def _vms(sets):
    lit = {FAR: sets.lamps, LAST: not sets.lamps, NEAR: sets.lamps}
    labels = {name: {"seat": name, "lamp": "on" if is_lit else "off"} for name, is_lit in lit.items()}
    made = vm_documents(labels | {ASKING: {"seat": ASKING}})
    for document in made:
        card = document["spec"]["interfaces"][0]
        for address, owners in ADDRESSES.items():
            if document["metadata"]["name"] == owners[sets.seats]:
                card["addresses"] = [*card["addresses"], address]
    return made


def _policies(sets):
    """What is always allowed; the two ports; the lamp; the seats."""
    asking = {"matchLabels": {"seat": ASKING}}
    ports = [{"protocol": "TCP", "port": port} for port in ((22, 80) if sets.rules else (80, 22))]
    lamp, seat = [{"protocol": "TCP", "port": 8080}], [{"protocol": "UDP", "port": 514}]
    always = [{"protocol": "TCP", "port": ALWAYS[1]}, {"protocol": "ICMP", "type": 8}]
    out = [
        _way("to", {}, always),
        _way("to", {}, ports[:1]),
        _way("to", {"lamp": "on"}, lamp),
        _way("to", {"seat": FAR}, seat),
    ]
    return [
        _policy("asks", asking, egress=out),
        _policy("answers", {}, ingress=[_way("from", {"seat": ASKING}, always)]),
        _policy("takes", _among(FAR, NEAR), ingress=[_way("from", {"seat": ASKING}, ports[1:])]),
        _policy("dark", {"matchLabels": {"lamp": "off"}}, ingress=[_way("from", {"seat": ASKING}, lamp)]),
        _policy("seated", _among(LAST, NEAR), ingress=[_way("from", {"seat": ASKING}, seat)]),
    ]


def _among(*seats):
    return {"matchExpressions": [{"key": "seat", "operator": "In", "values": list(seats)}]}


def _way(side, labels, ports):
    return {"action": "allow", side: [{"vm": {"matchLabels": labels} if labels else {}}], "ports": ports}


def _policy(name, subject, **rules):
    words = {"description": "swapped", "owner": "proof", "reason": "two sets", "review": "2036-12-31", "tier": "tenant"}
    metadata = {"name": name, "tenant": RED}
    spec = words | {"subject": subject} | rules
    return {"apiVersion": "buckler.io/v1", "kind": "Policy", "metadata": metadata, "spec": spec}
