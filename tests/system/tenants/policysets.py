"""Seeded sets of labels and policies for the tenants' lab, as documents. Judges nothing and knows no verdict."""

import random

from tests.system.tenants.lab import BLUE, GREEN, GUESTS, RED

ROLES, ZONES = ("a", "b", "c"), ("x", "y")
SLOTS = (
    ("Policy", ""),
    ("Policy", ""),
    ("Flow", ""),
    ("Policy", RED),
    ("Policy", RED),
    ("Policy", RED),
    ("Flow", RED),
    ("Flow", RED),
    ("Policy", BLUE),
    ("Flow", BLUE),
    ("Policy", GREEN),
    ("Flow", GREEN),
)
"""Kind and tenant of each document of a set: one set replaces the other by applying it."""
PEERS = {"ingress": "from", "egress": "to"}
POOL_TIERS = ("emergency", "platform", "security", "security", "baseline", "baseline")
PORTS = (
    {"protocol": "TCP", "port": 80},
    {"protocol": "TCP", "port": 22},
    {"protocol": "TCP", "port": 1, "endPort": 1023},
    {"protocol": "TCP", "port": 5000, "endPort": 9000},
    {"protocol": "TCP"},
    {"protocol": "UDP", "port": 53},
    {"protocol": "UDP"},
    {"protocol": "ICMP", "type": 8},
    {"protocol": "ICMPv6", "type": 128, "code": 0},
    {"protocol": "ICMPv6"},
    {"protocol": "any"},
)
CIDRS = ("10.50.0.208/28", "fd50::d0/124", "10.50.0.210/32", "0.0.0.0/0", "::/0", "fd50::/64")


def labels_of(seed):
    """Who bears what in this set."""
    dice = random.Random(f"labels {seed}")
    return {name: {"role": dice.choice(ROLES), "zone": dice.choice(ZONES)} for name, *_ in GUESTS}


def policies_of(seed, actions):
    """A whole set, with the ``actions`` that rules may have."""
    dice = random.Random(f"policies {seed}")
    return [_document(dice, number, kind, tenant, actions) for number, (kind, tenant) in enumerate(SLOTS)]


def open_policies():
    """The set in which everybody allows everything: what does not arrive then is stopped by no rule."""
    return [_open(number, kind, tenant) for number, (kind, tenant) in enumerate(SLOTS)]


def _head(number, kind, tenant, **spec):
    words = {"description": "generated", "owner": "proof", "reason": "to be probed", "review": "2036-12-31"}
    metadata = {"name": f"set-{number}"} | ({"tenant": tenant} if tenant else {})
    return {"apiVersion": "buckler.io/v1", "kind": kind, "metadata": metadata, "spec": words | spec}


def _open(number, kind, tenant):
    tier, everyone = "tenant" if tenant else "baseline", [{"any": True}]
    if kind == "Flow":
        return _head(number, kind, tenant, tier=tier, **{"from": [{"vm": {}}], "to": everyone})
    rules = {"ingress": [{"action": "allow", "from": everyone}], "egress": [{"action": "allow", "to": everyone}]}
    return _head(number, kind, tenant, tier=tier, subject={}, **rules)


def _document(dice, number, kind, tenant, actions):
    tier = "tenant" if tenant else dice.choice(POOL_TIERS)
    spec = {
        "tier": tier,
        "order": dice.choice((100, 200, 300)),
        "mode": "observe" if dice.random() < 0.1 else "enforce",
    }
    if kind == "Flow":
        peers = [_vms(dice)], [_peer(dice)]
        if dice.random() < 0.3:
            peers = peers[::-1]
        rest = {"from": peers[0], "to": peers[1], "ports": _ports(dice)} | _action(dice, tier, actions)
        return _head(number, kind, tenant, **spec, **rest)
    ways = dice.choice((("ingress",), ("egress",), ("ingress", "egress"), ("ingress", "egress")))
    rules = {way: [_rule(dice, tier, PEERS[way], actions) for _ in range(dice.randrange(1, 4))] for way in ways}
    return _head(number, kind, tenant, **spec, subject=_selector(dice), **rules)


def _rule(dice, tier, peers, actions):
    rule = _action(dice, tier, actions)
    if dice.random() < 0.8:
        rule[peers] = [_peer(dice) for _ in range(dice.randrange(1, 3))]
    if ports := _ports(dice):
        rule["ports"] = ports
    return rule


def _action(dice, tier, actions):
    """Platform may not allow. Most rules allow, so that there is something to see."""
    weights = {"allow": 0 if tier == "platform" else 10, "pass": 1}
    action = dice.choices(actions, [weights.get(each, 2) for each in actions])[0]
    return {"action": action} | ({"overridable": True} if action != "pass" and dice.random() < 0.15 else {})


def _ports(dice):
    return dice.sample(PORTS, dice.choice((0, 1, 1, 2, 3)))


def _peer(dice):
    kind = dice.randrange(10)
    if kind < 6:
        return _vms(dice)
    return (
        {"world": True},
        {"addresses": "partners"},
        {"cidr": dice.choice(CIDRS)},
        {"any": True},
    )[kind - 6]


def _vms(dice):
    return {"vm": _selector(dice)}


def _selector(dice):
    kind = dice.randrange(6)
    if kind == 0:
        return {}
    if kind < 4:
        return {"matchLabels": {"role": dice.choice(ROLES)}}
    if kind == 4:
        return {"matchLabels": {"role": dice.choice(ROLES), "zone": dice.choice(ZONES)}}
    operator = dice.choice(("In", "NotIn"))
    return {"matchExpressions": [{"key": "role", "operator": operator, "values": dice.sample(ROLES, 2)}]}
