"""Imported firewalls of Proxmox VE let through what its chains let through, by brute force; what is unclear is denied."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from buckler.policy.importers.outcome import Import
from buckler.policy.importers.proxmox.macros import PORTS
from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.importers.written import import_files
from buckler.policy.source import Source
from tests.randompolicy import Chooser, Seeded, flag, pick, several
from tests.unit.importers.imported import Imported, unlike

pytestmark = pytest.mark.proof

GUESTS = {"100": "10.1.0.10", "101": "10.1.0.11", "102": "10.1.0.130", "103": "10.2.0.7"}
OUTSIDE = ("203.0.113.9", "10.1.0.77", "198.51.100.3")
ALIASES = {"lan": "10.1.0.0/24", "one": "10.1.0.11", "local_network": "10.1.0.128/25"}
SETS: dict[str, list[str]] = {
    "half": ["10.1.0.0/24", "!10.1.0.128/25"],
    "deep": ["10.0.0.0/8", "!10.1.0.0/24", "10.1.0.11"],
    "management": ["203.0.113.9", "!10.1.0.130"],
}
WORDS = (
    "lan",
    "dc/one",
    "+half",
    "+dc/deep",
    "+management",
    "10.1.0.10,10.1.0.130",
    "10.1.0.8-10.1.0.20",
    "203.0.113.0/24",
    "0.0.0.0/0",
)
ASKED = [("TCP", port) for port in (21, 22, 53, 80, 443, 8080)] + [("UDP", port) for port in (53, 123, 443)]
Rule = dict[str, Any]


def within(address: str, word: str) -> bool:
    """Say what pve-firewall says of an address; the longest entry of a set decides."""
    parsed = ipaddress.ip_address(address)
    if word.startswith("+"):
        best, found = -1, False
        name = word[1:].removeprefix("dc/")
        added = [ALIASES["local_network"]] if name == "management" else []  # by every host
        for entry in (*SETS[name], *added):
            network = ipaddress.ip_network(entry.lstrip("!"))
            if parsed in network and network.prefixlen > best:
                best, found = network.prefixlen, not entry.startswith("!")
        return found
    word = ALIASES.get(word.removeprefix("dc/"), word)
    for part in word.split(","):
        first, dash, last = part.partition("-")
        low, high = (ipaddress.ip_address(each) if dash else parsed for each in (first, last))
        if dash and low.version == high.version == parsed.version and int(low) <= int(parsed) <= int(high):
            return True
        if not dash and parsed in ipaddress.ip_network(part):
            return True
    return False


def covers(rule: Rule, protocol: str, port: int) -> bool:
    if rule["macro"]:
        for word in PORTS[rule["macro"]].split():
            proto, _slash, ports = word.partition("/")
            low, _colon, high = ports.partition(":")
            if proto.upper() == protocol and int(low) <= port <= int(high or low):
                return True
        return False
    if not rule["proto"]:
        return True
    if rule["proto"].upper() != protocol:
        return False
    spans = [each.partition(":") for each in rule["dport"].split(",")] if rule["dport"] else [("0", "", "65535")]
    return any(int(low) <= port <= int(high or low) for low, _colon, high in spans)


class Truth:
    def __init__(self, guests: dict[str, Rule], groups: dict[str, list[Rule]], on: bool) -> None:
        self.guests, self.groups, self.on = guests, groups, on

    def allows(self, source: str, target: str, protocol: str, port: int) -> bool:
        addresses = [GUESTS.get(each, each) for each in (source, target)]
        return self.refusal(source, target, protocol, port, addresses) == ""

    def refusal(self, source: str, target: str, protocol: str, port: int, addresses: list[str]) -> str:
        """How it is refused, by whoever refuses it first."""
        said = [
            self.side(each, way, *addresses, protocol, port)
            for each, way in ((source, "OUT"), (target, "IN"))
            if each in self.guests
        ]
        return next((each for each in said if each != "ACCEPT"), "")

    def side(self, number: str, way: str, source: str, target: str, protocol: str, port: int) -> str:
        guest = self.guests[number]
        if not (self.on and guest["enable"] and guest["card"]):
            return "ACCEPT"
        for rule in guest["rules"]:
            for each in self.groups[rule["group"]] if rule["group"] else [rule]:
                if each["off"] or rule["off"] or each["way"] != way or not covers(each, protocol, port):
                    continue
                if all(not each[key] or within(end, each[key]) for key, end in (("source", source), ("dest", target))):
                    return str(each["action"])
        return str(guest["policy_in"] or "DROP") if way == "IN" else str(guest["policy_out"] or "ACCEPT")


def rule(choose: Chooser) -> Rule:
    made: Rule = {"way": pick(choose, ("IN", "OUT")), "action": pick(choose, ("ACCEPT", "DROP", "REJECT", "ACCEPT"))}
    made |= {"group": "", "macro": "", "proto": "", "dport": "", "source": "", "dest": "", "off": flag(choose, 6)}
    kind = choose.number(0, 3)
    if kind == 0:
        made["macro"] = pick(choose, ("SSH", "DNS", "Web", "HTTP/3"))
    elif kind <= 2:
        made["proto"] = pick(choose, ("tcp", "udp"))
        made["dport"] = pick(choose, ("", "22", "80,443", "20:100", "53,8000:9000"))
    for key in ("source", "dest"):
        if flag(choose, 3):
            made[key] = pick(choose, WORDS)
    return made


def text(made: Rule) -> str:
    if made["group"]:
        return f"{'|' if made['off'] else ''}GROUP {made['group']} -i net0"
    action = f"{made['macro']}({made['action']})" if made["macro"] else made["action"]
    options = [
        f"-{key} {made[name]}"
        for key, name in (("p", "proto"), ("dport", "dport"), ("source", "source"), ("dest", "dest"))
        if made[name]
    ]
    return f"{'|' if made['off'] else ''}{made['way']} {action} {' '.join(options)} -log nolog # words"


def world(choose: Chooser) -> tuple[list[Source], Truth]:
    groups = {name: list(several(choose, 1, 2, rule)) for name in ("web", "base")}
    guests: dict[str, Rule] = {}
    cluster = [
        "[OPTIONS]",
        f"enable: {0 if flag(choose, 12) else 1}",
        "[ALIASES]",
        *(f"{key} {value} # x" for key, value in ALIASES.items()),
    ]
    for name, entries in SETS.items():
        cluster += [f"[IPSET {name}]", *entries]
    for name, rules in groups.items():
        cluster += [f"[group {name}]", *map(text, rules)]
    sources = [Source("firewall/cluster.fw", "\n".join(cluster))]
    for number, address in GUESTS.items():
        rules = [
            {**rule(choose), "group": pick(choose, ("web", "base"))} if flag(choose, 4) else rule(choose)
            for _ in range(choose.number(0, 4))
        ]
        made = {"rules": rules, "enable": not flag(choose, 6), "card": not flag(choose, 8)}
        made |= {key: pick(choose, ("", "ACCEPT", "DROP", "REJECT")) for key in ("policy_in", "policy_out")}
        lines = [
            "[OPTIONS]",
            f"enable: {int(made['enable'])}",
            *(f"{key}: {made[key]}" for key in ("policy_in", "policy_out") if made[key]),
        ]
        lines += ["[IPSET ipfilter-net0]", address, "[RULES]", *map(text, rules)]
        sources.append(Source(f"firewall/{number}.fw", "\n".join(lines)))
        card = f"net0: virtio=52:54:00:00:00:{number[1:]},bridge=vmbr0{',firewall=1' if made['card'] else ''}"
        sources.append(
            Source(f"qemu-server/{number}.conf", f"memory: 512\n{card}\n[snap]\nnet1: virtio=52:54:00:00:00:ff\n")
        )
        guests[number] = made
    return sources, Truth(guests, groups, "enable: 1" in cluster)


def test_every_verdict_of_generated_pools():
    asked, answers = 0, []
    for seed in range(60):
        sources, truth = world(Seeded(seed))
        result = import_proxmox(sources, "2030-01-01")
        assert not unlike(result), result.losses
        imported = Imported(result)
        ends = [*GUESTS, *OUTSIDE]
        for source in ends:
            for target in ends:
                if source == target or not {source, target} & set(GUESTS):
                    continue
                for protocol, port in ASKED:
                    said = imported.reaches(
                        *(f"default/{each}" if each in GUESTS else each for each in (source, target)), protocol, port
                    )
                    assert said == truth.allows(source, target, protocol, port), (seed, source, target, protocol, port)
                    asked += 1
                    if not said and asked % 5 == 0:
                        ends_ = [f"default/{each}" if each in GUESTS else each for each in (source, target)]
                        addresses = [GUESTS.get(each, each) for each in (source, target)]
                        answered = truth.refusal(source, target, protocol, port, addresses) == "REJECT"
                        assert imported.answers(*ends_, protocol, port) == answered, (seed, source, target, port)
                        answers.append(answered)
    assert asked == 60 * 36 * len(ASKED)
    assert min(answers.count(each) for each in (True, False)) > 100


def carried(rules: str, cluster: str = "", more: str = "", address: bool = True) -> tuple[Import, Imported]:
    known = "[IPSET ipfilter-net0]\n%s\n" if address else ""
    guests = [
        Source(
            f"{number}.fw",
            f"[OPTIONS]\nenable: 1\n{'policy_in: ACCEPT' if number != '100' else more}\n{known % GUESTS[number] if known else ''}[RULES]\n{rules if number == '100' else ''}\n",
        )
        for number in ("100", "101")
    ]
    result = import_proxmox([Source("cluster.fw", f"[OPTIONS]\nenable: 1\n{cluster}\n"), *guests], "2030-01-01")
    return result, Imported(result)


@pytest.mark.parametrize(
    "line",
    [
        "IN ACCEPT -source +missing",
        "IN ACCEPT -source nobody",
        "IN ACCEPT -p tcp -dport nosuchservice",
        "IN ACCEPT -p tcp -sport 1000",
        "IN ACCEPT -p gre",
        "IN ACCEPT -source fe80::%eth0",
        "IN ACCEPT -p tcp -dport 9:1",
        "IN Nonsense(ACCEPT)",
        "IN SSH(ACCEPT) -p udp",
        "IN ACCEPT -mood good",
        "IN ACCEPT -dport 80",
        "IN",
        "IN MAYBE",
        "IN ACCEPT -p tcp -dport " + "9" * 5000,
        "IN ACCEPT -p icmp -icmp-type " + "9" * 5000,
        "IN ACCEPT -p icmp -icmp-type 3/²",
        "IN ACCEPT -source ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
        "IN ACCEPT -source +management",
        "GROUP web -source 10.1.0.11",
        "GROUP web -log nolog",
        "GROUP missing",
        "SIDEWAYS ACCEPT",
        " IN ACCEPT",
        "\tIN ACCEPT",
        "IN ACCEPT -p  tcp",
        "IN ACCEPT -p\ttcp",
        "IN ACCEPT ---p tcp",
        "IN ACCEPT -p tcp -dport 80-90",
        "IN ACCEPT -source 10.1.0.11,fd00::1",
        "GROUP WEB",
        "IN ACCEPT -i NET0 -what x",
    ],
)
def test_a_line_that_is_not_understood_allows_nothing(line):
    result, imported = carried(line, cluster="[group web]\nIN ACCEPT")
    assert not result.is_exact
    assert [each.line for each in result.losses if each.file == "100.fw" and each.effect != "note"] == [7], (
        result.losses
    )
    assert ("default/101", "default/100") not in imported.talks
    assert "default/100" not in imported.inward


@pytest.mark.parametrize(
    "line",
    [
        "IN DROP -source +missing",
        "IN DROP -p tcp -sport 7",
        "IN DROP -p gre",
        "IN DROP -what x",
        "IN DROP -source +management",
        "IN DROP -source 203.0.113.0-239.255.255.255",
        "GROUP missing",
        "GROUP missing -source 10.9.0.1",
    ],
)
def test_a_line_that_may_deny_denies(line):
    _result, imported = carried(line, more="policy_in: ACCEPT")
    assert not imported.reaches("default/101", "default/100", "TCP", 80)


def test_guests_without_known_addresses_are_not_allowed_and_are_denied():
    result, imported = carried("IN ACCEPT -source 10.1.0.0/24", address=False)
    assert not result.is_exact
    assert not imported.reaches("default/101", "default/100", "TCP", 80)
    assert imported.reaches("10.1.0.77", "default/100", "TCP", 80)
    _result, imported = carried("IN DROP -source 10.9.0.0/24", more="policy_in: ACCEPT", address=False)
    assert not imported.reaches("default/101", "default/100", "TCP", 80)
    assert imported.reaches("203.0.113.1", "default/100", "TCP", 80)


def test_the_blacklist_comes_first():
    _result, imported = carried("IN ACCEPT", cluster="[IPSET blacklist]\n10.1.0.11\n203.0.113.0/24")
    assert not imported.reaches("default/101", "default/100", "TCP", 80)
    assert not imported.reaches("203.0.113.1", "default/100", "TCP", 80)
    assert imported.reaches("203.0.114.1", "default/100", "TCP", 80)


def test_hosts_add_their_own_network_to_the_set_that_manages():
    cluster = "[ALIASES]\nlocal_network 10.1.0.0/25\n%s"
    for line in ("", "[IPSET management]\n203.0.113.1"):
        result, imported = carried("IN DROP -source +management", cluster=cluster % line, more="policy_in: ACCEPT")
        assert not unlike(result)
        assert not imported.reaches("default/101", "default/100", "TCP", 80)
        assert not imported.reaches("10.1.0.77", "default/100", "TCP", 80)
        assert imported.reaches("203.0.113.9", "default/100", "TCP", 80)
        assert imported.reaches("203.0.113.1", "default/100", "TCP", 80) == (line == "")


@pytest.mark.parametrize(
    ("rules", "closes"),
    [
        ("FORWARD DROP -source 10.1.0.11\nIN ACCEPT -p tcp -dport 8006", True),
        ("FORWARD DROP -source 10.1.0.11 # was accepted", True),
        ("FORWARD REJECT -dest +dc/accept", True),
        ("FORWARD SSH(DROP)", True),
        ("FORWARD", True),
        ("forward MAYBE(ACCEPT", True),
        ("GROUP closes", True),
        ("GROUP nowhere", True),
        ("GROUP opens", False),
        ("|FORWARD DROP", False),
        ("FORWARD ACCEPT", False),
        ("FORWARD SSH(ACCEPT) -source 10.1.0.11 # not to drop", False),
    ],
)
def test_what_hosts_forward_may_be_dropped(rules, closes):
    groups = "[group closes]\nFORWARD DROP\n[group opens]\nFORWARD ACCEPT\nIN DROP\n"
    result, imported = carried("IN ACCEPT", cluster=f"{groups}[RULES]\n{rules}")
    assert bool(imported.talks or imported.inward) != closes
    assert not closes or not result.is_exact


@pytest.mark.parametrize(
    ("name", "text", "closed"),
    [
        ("nodes/one/host.fw", "[OPTIONS]\npolicy_forward: DROP", {"100", "101"}),
        ("nodes/one/host.fw", "[RULES]\nFORWARD DROP -source 10.1.0.10", {"100", "101"}),
        ("nodes/one/host.fw", "[OPTIONS]\nenable: 0\npolicy_forward: DROP", set()),
        ("nodes/one/host.fw", "[OPTIONS]\nnosmurfs: 1\n[RULES]\nIN DROP -p tcp", set()),
        ("sdn/firewall/blue.fw", "[OPTIONS]\nenable: 1\npolicy_forward: DROP", {"100"}),
        ("pve/sdn/firewall/blue.fw", "[OPTIONS]\nenable: 1\n[RULES]\nFORWARD DROP # accept", {"100"}),
        ("sdn/firewall/blue.fw", "[OPTIONS]\npolicy_forward: DROP", set()),
        ("sdn/firewall/green.fw", "[OPTIONS]\nenable: 1\npolicy_forward: DROP", set()),
        ("blue.fw", "[RULES]\nFORWARD DROP", {"100", "101"}),
    ],
)
def test_what_hosts_and_virtual_networks_drop_is_closed(name, text, closed):
    sources = [Source("cluster.fw", "[OPTIONS]\nenable: 1"), Source(name, text)]
    for number, bridge in (("100", "blue"), ("101", "red")):
        sources.append(Source(f"{number}.fw", "[OPTIONS]\nenable: 1\npolicy_in: ACCEPT"))
        sources.append(Source(f"{number}.conf", f"net0: virtio=52:54:00:00:00:{number[1:]},bridge={bridge},firewall=1"))
    result = import_proxmox(sources, "2030-01-01")
    imported = Imported(result)
    assert {"default/100", "default/101"} - imported.inward.keys() == {f"default/{each}" for each in closed}
    told = [each for each in result.losses if each.file == name and each.effect == "tightened"]
    assert bool(told) == bool(closed)
    assert all(each.line for each in told)
    assert any(each.file == name for each in result.losses)


def test_without_the_clusters_file_nothing_is_known():
    assert import_proxmox([Source("100.fw", "[OPTIONS]\nenable: 1")], "2030-01-01").unreadable


def test_a_refusal_names_the_source():
    card = "net0: virtio=52:54:00:00:00:01,bridge=vmbr0"
    sources = [Source("cluster.fw", ""), Source("a/100.conf", card), Source("a/101.conf", card)]
    with pytest.raises(ValueError, match=r"a/101.conf line 1: VM 101: .* is VM 100's"):
        import_files(import_proxmox(sources, "2030-01-01"))


def test_what_is_missing_or_of_no_use_is_told():
    card = "net0: virtio=52:54:00:00:00:01,bridge=a/b;c,firewall=1,tag=²"
    sources = [Source("cluster.fw", "[OPTIONS]\nenable: 1"), Source("100.conf", card), Source("corosync.conf", "x")]
    odd = Source(
        "101.fw", "[OPTIONS]\nenable: 1\n[IPSET ipfilter-netfoo]\n1.2.3.4\n[RULES]\nIN DROP -i net" + "9" * 5000
    )
    result = import_proxmox([*sources, odd], "2030-01-01")
    Imported(result)
    told = {(each.file, each.line, each.effect) for each in result.losses if each.effect != "note"}
    assert told == {("100.conf", 1, "tightened"), ("corosync.conf", 1, "omitted")}
    assert any("100.fw is not in the input" in each.what for each in result.losses)


def test_nothing_to_read_writes_nothing():
    assert import_proxmox([Source("notes.txt", "hello")], "2030-01-01").unreadable
    assert import_proxmox([Source("a/100.fw", ""), Source("b/100.fw", "")], "2030-01-01").unreadable


def test_every_macro_is_understood():
    for name in PORTS:
        result, _imported = carried(f"IN {name}(ACCEPT)")
        assert not any("not understood" in each.what or "no macro" in each.what for each in result.losses), name
