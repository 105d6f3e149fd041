"""Exported rules, read again by a small evaluator of the other system, say what the reference says."""

from __future__ import annotations

import ipaddress
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.__main__ import main
from buckler.model.label import Selector
from buckler.model.pool import ShieldMode
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.exporters.asa import asa_configuration
from buckler.policy.exporters.nftables import nftables_ruleset
from buckler.policy.exporters.permits import list_permits
from buckler.policy.language import PROTOCOLS, AddressClaimsSpec, Document, Kind, NetworkSpec, Port, ServiceSpec
from buckler.policy.packet import Packet
from buckler.policy.reference import judge
from buckler.policy.source import Source
from tests.randompolicy import (
    ENDPOINTS,
    OUTSIDE,
    Chooser,
    Drawn,
    Seeded,
    endpoint,
    flag,
    labels,
    network,
    policies,
    unrated,
    vm,
)

pytestmark = pytest.mark.proof

LOOSE = Document(Kind.NETWORK, "other", NetworkSpec(bridge="br1"))
SHARED = "10.7.0.1"
ASKED = [("TCP", 22), ("TCP", 80), ("TCP", 65535), ("UDP", 80), ("UDP", 443), ("SCTP", 80)]


def world(choose: Chooser) -> tuple[Document, ...]:
    """VMs and endpoints in two networks; sometimes the last two VMs share an address, or one endpoint is a VM's twin."""
    vms = [vm(index, labels(choose)) for index in range(choose.number(2, 4))]
    for index, each in enumerate(vms):
        if index % 2:
            card = msgspec.structs.replace(
                each.spec.interfaces[0], network="other", addresses=(f"10.8.0.{index + 10}", f"fd08::{index + 10:x}")
            )
            vms[index] = msgspec.structs.replace(each, spec=msgspec.structs.replace(each.spec, interfaces=(card,)))
    if flag(choose, 3):
        vms[-2:] = [with_addresses(each, *each.spec.interfaces[0].addresses, SHARED) for each in vms[-2:]]
    things = [endpoint("printer", labels(choose)), endpoint("scanner", labels(choose), "other")]
    return (network(), LOOSE, *vms, *things, *unrated(policies(choose)))


def with_addresses(document: Document, *addresses: str) -> Document:
    card = msgspec.structs.replace(document.spec.interfaces[0], addresses=addresses)
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(document.spec, interfaces=(card,)))


def expected(draft: Draft, documents: tuple[Document, ...], source: str, target: str, protocol: str, port: int) -> bool:
    """Each VM judges in its own network; another network's VM is an outside address there, a shared one is nobody's."""
    if SHARED in {source, target}:
        return False
    homes = {address: card.network for each in draft.pool.vms for card in each.interfaces for address in card.addresses}
    sides = []
    for end, way in ((source, "egress"), (target, "ingress")):
        if end in homes:
            judged = judge(draft.pool, documents, Packet(homes[end], source, target, PROTOCOLS[protocol], port))
            sides.append(getattr(judged, way).allowed)
    return all(sides)


def holds(word: str, groups: dict[str, list[Any]], address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    if word in {"any", "any4", "any6"}:
        return word == "any" or parsed.version == int(word[3])
    return any(parsed in each for each in groups[word])


@lru_cache(maxsize=1)
def read_list(text: str) -> tuple[dict[str, list[Any]], list[list[str]]]:
    groups: dict[str, list[Any]] = {}
    rules = []
    for line in text.splitlines():
        words = line.split()
        if words[0] == "object-group":
            current = groups.setdefault(words[2], [])
        elif words[0] == "network-object":
            spelt = words[2] if words[1] == "host" else "/".join(words[1:])
            current.append(ipaddress.ip_network(spelt))
        elif words[0] == "access-list" and words[2] == "extended":
            rules.append([word for word in words[3:] if word != "object-group"])
    return groups, rules


def asa_allows(text: str, source: str, target: str, protocol: str, port: int) -> bool:
    """Read an access list as the ASA does: from the top, the first match decides, at the end all is denied."""
    groups, rules = read_list(text)
    for action, kind, one, other, *rest in rules:
        named = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP", "icmp6": "ICMPv6"}
        if kind != "ip" and named[kind] != protocol:
            continue
        if not (holds(one, groups, source) and holds(other, groups, target)):
            continue
        if rest and protocol.startswith("ICMP"):
            if int(rest[0]) != port >> 8 or (len(rest) > 1 and int(rest[1]) != port & 255):
                continue
        elif rest and not int(rest[1]) <= port <= int(rest[-1]):
            continue
        return action == "permit"
    return False


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_an_access_list_says_what_the_reference_says(data):
    compare(Drawn(data.draw))


def test_thousands_of_verdicts_of_access_lists():
    assert sum(compare(Seeded(seed)) for seed in range(12)) > 1_500


def compare(choose: Chooser) -> int:
    documents = world(choose)
    draft = draft_pool(documents)
    text, _losses = asa_configuration(list_permits(draft))
    mine = sorted({address for each in draft.pool.vms for address in each.interfaces[0].addresses})
    asked = 0
    for source in (*mine, *OUTSIDE, *ENDPOINTS):
        for target in (*mine, *OUTSIDE, *ENDPOINTS):
            if source == target or not {source, target} & set(mine) or (":" in source) != (":" in target):
                continue
            for protocol, port in (*ASKED, ("ICMPv6", 128 << 8) if ":" in source else ("ICMP", 8 << 8 | 1)):
                if same_vm(draft, source, target):
                    continue
                said = asa_allows(text, source, target, protocol, port)
                assert said == expected(draft, documents, source, target, protocol, port), (
                    source,
                    target,
                    protocol,
                    port,
                )
                asked += 1
    return asked


def same_vm(draft: Draft, one: str, other: str) -> bool:
    return any({one, other} <= set(card.addresses) for each in draft.pool.vms for card in each.interfaces)


def with_cidrs(*cidrs: str) -> Document:
    return placed(Document(Kind.NETWORK, "net", NetworkSpec(bridge="br0", cidrs=cidrs)), "net.yaml", 1)


@pytest.mark.parametrize("cidrs", [("10.9.0.0/16", "fd09::/64"), ()])
def test_a_vm_without_an_address_can_pass_nowhere_it_may_be(cidrs: tuple[str, ...]):
    """Wherever the firewall meets it: whatever it is allowed is not more than its shield and the others' allow it."""
    hidden, far = ("10.9.77.7", "fd09::77"), ("203.0.113.7", "2001:db8:1::7")
    asked = refused = 0
    for seed in range(12):
        choose = Seeded(seed)
        bare = placed(with_addresses(vm(0, labels(choose))), "vms.yaml", 7)
        others = [vm(1, labels(choose)), vm(2, labels(choose)), *unrated(policies(choose))]
        text, _losses = asa_configuration(list_permits(draft_pool((with_cidrs(*cidrs), bare, *others))))
        known = (with_cidrs(*cidrs), with_addresses(bare, *hidden), *others)
        draft = draft_pool(known)
        for here in hidden:
            for there in (*draft.pool.vms[1].interfaces[0].addresses, *far):
                if (":" in here) == (":" in there):
                    for protocol, port in ASKED:
                        for source, target in ((here, there), (there, here)):
                            said = asa_allows(text, source, target, protocol, port)
                            truth = expected(draft, known, source, target, protocol, port)
                            assert not said or truth, (seed, source, target, protocol, port)
                            asked, refused = asked + 1, refused + (not truth)
    assert asked > refused > 100


def test_what_is_closed_beside_the_members_leaves_them_as_they_were():
    open_ = bounded_documents(OPEN)
    head, bare = with_cidrs("10.9.0.0/16", "fd09::/64"), with_addresses(vm(0, {}))
    text, _losses = asa_configuration(list_permits(draft_pool((head, bare, vm(1, {}), vm(2, {}), *open_))))
    assert asa_allows(text, "10.9.0.11", "10.9.0.12", "TCP", 80)
    assert asa_allows(text, "203.0.113.1", "10.9.0.11", "TCP", 80)
    assert asa_allows(text, "198.51.100.1", "203.0.113.1", "TCP", 80)
    assert not asa_allows(text, "10.9.0.13", "203.0.113.1", "TCP", 80)
    text, _losses = asa_configuration(list_permits(draft_pool((with_cidrs(), bare, vm(1, {}), vm(2, {}), *open_))))
    assert asa_allows(text, "10.9.0.11", "10.9.0.12", "TCP", 80)
    assert not asa_allows(text, "198.51.100.1", "203.0.113.1", "TCP", 80)


def test_a_vm_without_an_address_is_told():
    head = with_cidrs("10.9.0.0/16")
    bare = placed(with_addresses(vm(0, {})), "vms.yaml", 7)
    permits = list_permits(draft_pool((head, bare, vm(1, {}), *policies(Seeded(3)))))
    told = [each for each in permits.losses if each.effect not in {"note", "omitted"}]
    assert [(each.file, each.line, each.subject, each.effect) for each in told] == [
        ("vms.yaml", 7, "VM default/vm0", "tightened")
    ]
    assert permits.members == ("10.9.0.11", "fd09::b")


def placed(document: Document, file: str, line: int) -> Document:
    return msgspec.structs.replace(document, file=file, line=line)


def test_an_address_of_two_networks_is_denied_and_told():
    twin = vm(1, {})
    card = msgspec.structs.replace(twin.spec.interfaces[0], network="other", addresses=("10.9.0.10",))
    twin = msgspec.structs.replace(
        twin, spec=msgspec.structs.replace(twin.spec, interfaces=(card,), mode=ShieldMode.OBSERVE)
    )
    documents = (network(), LOOSE, placed(vm(0, {}), "a.yaml", 3), placed(twin, "b.yaml", 4))
    permits = list_permits(draft_pool((*documents, *bounded_documents(OPEN))))
    assert "10.9.0.10" in permits.members
    named = {block for each in (*permits.between, *permits.outside) for block in (*each.sources, *each.destinations)}
    assert "10.9.0.10" not in named
    told = [(each.file, each.line) for each in permits.losses if each.effect == "tightened"]
    assert told == [("a.yaml", 3), ("b.yaml", 4)]
    text, _losses = asa_configuration(permits)
    assert not asa_allows(text, "10.9.0.10", "203.0.113.1", "TCP", 80)
    assert not asa_allows(text, "203.0.113.1", "10.9.0.10", "TCP", 80)


def test_an_endpoint_is_not_outside():
    world_only = "ingress: [{action: allow, from: [{world: true}], ports: [{protocol: TCP, port: 80}]}]"
    documents = (network(), vm(0, {}), endpoint("printer", {}), *bounded_documents(world_only))
    text, _losses = asa_configuration(list_permits(draft_pool(documents)))
    assert asa_allows(text, "203.0.113.1", "10.9.0.10", "TCP", 80)
    assert not asa_allows(text, "10.9.0.201", "10.9.0.10", "TCP", 80)
    assert asa_allows(text, "10.9.0.201", "203.0.113.1", "TCP", 80)


def test_claims_and_names_are_told_with_their_place():
    claims = Document(
        Kind.NETWORK, "net", NetworkSpec(bridge="br0", address_claims=AddressClaimsSpec(2)), file="n.yaml", line=2
    )
    rule = "egress: [{action: allow, to: [{dns: a.example.org}]}]"
    permits = list_permits(draft_pool((claims, vm(0, {}), *bounded_documents(rule))))
    told = [(each.file, each.line, each.effect) for each in permits.losses if each.effect != "note"]
    assert told == [("n.yaml", 2, "tightened"), ("p.yaml", 1, "tightened")]


def test_a_virtual_address_is_told_as_not_translated():
    spec = ServiceSpec(Selector(), (Port("TCP", 80),), network="net", virtual_address="10.9.0.200")
    permits = list_permits(
        draft_pool((network(), vm(0, {}), Document(Kind.SERVICE, "shop", spec, file="s.yaml", line=3)))
    )
    told = [(each.file, each.line, each.effect) for each in permits.losses if "virtual" in each.what]
    assert told == [("s.yaml", 3, "tightened")]


def test_the_commands(tmp_path: Path):
    shop = Path(__file__).parents[3] / "examples" / "shop"
    for system, word in (("nftables", "table inet buckler"), ("cisco-asa", "access-list BUCKLER")):
        out, loss = tmp_path / system, tmp_path / f"{system}.json"
        done = CliRunner().invoke(
            main, ["policy", "export", system, "-f", str(shop), "--out", str(out), "--loss", str(loss)]
        )
        losses = json.loads(loss.read_text())
        assert done.exit_code == (0 if losses["exact"] else 3), done.output
        assert word in out.read_text()
        assert all(each["file"].endswith(".yaml") and each["line"] for each in losses["losses"] + losses["notes"])
    assert CliRunner().invoke(main, ["policy", "export", "nftables"]).exit_code == 2


def test_the_same_documents_give_the_same_rules():
    documents = world(Seeded(5))
    texts = {nftables_ruleset(list_permits(draft_pool(order))) for order in (documents, documents[::-1])}
    assert len(texts) == 1


OPEN = "ingress: [{action: allow}], egress: [{action: allow}]"


def bounded(spec: str) -> Draft:
    return draft_pool((network(), vm(0, {}), vm(1, {}), *bounded_documents(spec)), 0.0)


def bounded_documents(spec: str) -> tuple[Document, ...]:
    head = "description: d, owner: o, reason: r, review: 2030-01-01"
    text = f"apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{name: p}}\nspec: {{{head}, subject: {{}}, {spec}}}\n"
    reading = read_documents([Source("p.yaml", text)])
    assert not reading.problems, reading.problems
    return reading.documents


def test_what_is_rejected_is_answered_by_the_router_and_dropped_by_the_asa():
    egress = (
        "egress: [{action: reject, ports: [{protocol: TCP, port: 25}, {protocol: UDP, port: 53}]}, {action: allow}]"
    )
    permits = list_permits(bounded(f"ingress: [{{action: allow}}], {egress}"))
    text = nftables_ruleset(permits)
    assert "tcp dport { 25 } reject with tcp reset" in text
    assert "udp dport { 53 } reject with icmpx type admin-prohibited" in text
    _text, losses = asa_configuration(permits)
    assert any("reject answers" in each.what for each in losses)
    plain = list_permits(bounded("ingress: [{action: allow}], egress: [{action: deny}]"))
    assert "reject" not in nftables_ruleset(plain)


@pytest.mark.parametrize("term", ["until: '2199-01-01T00:00:00Z'", "rateLimit: {connections: 5, within: 60}"])
def test_what_ends_or_is_rated_is_not_permitted_for_good(term: str):
    both = "ingress: [{action: allow}], egress: [{action: allow, ports: [{protocol: TCP, port: 80}]%s}]"
    lasting = list_permits(bounded(both % ""))
    assert lasting.between
    assert not [each for each in lasting.losses if "until a time" in each.what]
    permits = list_permits(bounded(both % f", {term}"))
    assert not permits.between
    assert [each for each in permits.losses if "until a time" in each.what and each.effect == "tightened"]
