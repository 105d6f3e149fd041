"""The exported nftables ruleset lets real packets through exactly where the reference allows them."""

from __future__ import annotations

import os
import re
import shutil

import msgspec
import pytest

from buckler.policy.draft import draft_pool
from buckler.policy.exporters.nftables import nftables_ruleset
from buckler.policy.exporters.permits import list_permits
from buckler.policy.language import PROTOCOLS, Document, Kind, NetworkSpec
from buckler.policy.packet import Packet
from buckler.policy.reference import judge
from tests.component.routed import ROUTER, inside, probe, router
from tests.randompolicy import ENDPOINTS, Seeded, endpoint, labels, network, policies, unrated, vm

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")
OUTSIDE = ("203.0.113.7", "203.0.113.200", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1")
VMS = 3
ASKED = [("TCP", port) for port in (1, 22, 80, 81, 5432)] + [("UDP", port) for port in (22, 80, 443)]
SETS = 5


TWIN = "10.8.0.9"
"""VMs of two networks have it: nothing may pass to or from it."""
OTHER = Document(Kind.NETWORK, "other", NetworkSpec(bridge="br1"))


def documents(seed: int) -> tuple[Document, ...]:
    choose = Seeded(seed)
    vms = [vm(index, labels(choose)) for index in range(VMS)]
    twins = [carrying(vm(VMS, labels(choose)), "net", TWIN), carrying(vm(VMS + 1, labels(choose)), "other", TWIN)]
    things = [endpoint(name, labels(choose)) for name in ("printer", "scanner")]
    return (network(), OTHER, *vms, *twins, *things, *unrated(policies(choose)))


def carrying(document: Document, network_: str, *addresses: str) -> Document:
    card = msgspec.structs.replace(document.spec.interfaces[0], network=network_, addresses=addresses)
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(document.spec, interfaces=(card,)))


def questions(own: list[str], others: list[str]) -> list[tuple[str, str, str, int]]:
    found = []
    for here in own:
        for there in others:
            if (":" in here) == (":" in there):
                found += [(here, there, protocol, port) for protocol, port in ASKED]
                found.append((here, there, "ICMPv6" if ":" in here else "ICMP", 128 if ":" in here else 8))
    return found


def test_a_ruleset_for_vms_without_addresses_is_one_that_nft_takes():
    held = documents(0)
    for cidrs in (("10.9.0.0/16", "fd09::/64"), ("10.9.0.0/16",), ()):
        head = Document(Kind.NETWORK, "net", NetworkSpec(bridge="br0", cidrs=cidrs))
        text = nftables_ruleset(list_permits(draft_pool((head, carrying(held[2], "net"), held[3]))))
        assert "saddr" in text
        with router({"0": ["10.9.0.1"]}):
            inside(ROUTER, "nft", "-c", "-f", "-", text=text)


def test_packets_pass_where_the_reference_allows_them():
    first = documents(0)
    vms = [list(each.spec.interfaces[0].addresses) for each in first[2 : 2 + VMS]]
    things = [[address for address, whose in ENDPOINTS.items() if whose == name] for name in ("printer", "scanner")]
    ends = [*vms, [*things[0], TWIN], [*things[1], *OUTSIDE]]
    mine = {address for each in vms for address in each}
    seen = {True: 0, False: 0}
    with router({str(index): each for index, each in enumerate(ends)}):
        for seed in range(SETS):
            held = documents(seed)
            draft = draft_pool(held)
            permits = list_permits(draft)
            told = {each.subject for each in permits.losses if each.effect not in {"note", "omitted"}}
            assert told == {"VM default/vm3", "VM default/vm4"}
            # A router's refusal looks like an end's answer: here it only drops. Its words are asked of elsewhere.
            silent = re.sub(r"\breject with .*", "drop", nftables_ruleset(permits))
            inside(ROUTER, "nft", "-c", "-f", "-", text=nftables_ruleset(permits))
            inside(ROUTER, "nft", "-f", "-", text=silent)
            for index, own in enumerate(ends):
                others = [address for place, each in enumerate(ends) if place != index for address in each]
                asked = questions(own, others)
                passed = probe(index, asked, 10_000 + 4_000 * (seed % 10))
                for (here, there, protocol, port), answer in zip(asked, passed, strict=True):
                    number = port << 8 if protocol.startswith("ICMP") else port
                    packet = Packet("net", here, there, PROTOCOLS[protocol], number)
                    if TWIN in {here, there}:
                        expected = False
                    else:  # between two that are no VM, nothing of ours stands
                        expected = not mine & {here, there} or judge(draft.pool, held, packet).allowed
                    assert answer == expected, (seed, here, there, protocol, port)
                    seen[expected] += 1
    assert min(seen.values()) > 500, seen
