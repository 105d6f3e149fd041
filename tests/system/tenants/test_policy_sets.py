"""Generated policy sets on a real lab: what everybody can really do is what ``reach`` and ``explain`` say, both ways."""

import json
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import pytest

from buckler.lab.story.probing import ECHO
from buckler.model.operatorapi.answers import Outside
from tests.system.tenants.allpairs import differences
from tests.system.tenants.lab import as_file, vm_documents
from tests.system.tenants.policysets import labels_of, open_policies, policies_of

pytestmark = pytest.mark.timeout(300)
SEEDS = range(1, 11)
ACTIONS = ("allow", "deny", "pass", "reject")
OUTSIDE = {"stranger", "partner"}
WIDE = {"0.0.0.0/0": 4, "::/0": 6, "fd50::/64": 6}
"""Prefixes that name the stranger too, in this family."""


def enforce(lab, policies, labels, mode="enforce"):
    lab.pool.apply(as_file("vms", vm_documents(labels, mode)), as_file("policies", policies))
    lab.pool.wait_for_hosts()


def test_without_rules_that_close_everything_within_a_network_arrives_and_nothing_between_networks(lab, pairs):
    """The control: each asking of the tests below can be seen, answered and at its target."""
    enforce(lab, open_policies(), {})
    answered, arrived = pairs.ask(pairs.neighbours)
    assert differences(answered, pairs.neighbours) == ()
    assert differences(arrived, pairs.neighbours) == ()
    assert len(pairs.neighbours) > 500
    assert pairs.everything > pairs.neighbours


@pytest.mark.parametrize("seed", SEEDS)
def test_what_everybody_can_do_is_what_reach_and_explain_say(pairs, seed):
    policies = policies_of(seed, ACTIONS)
    enforce(pairs.lab, policies, labels_of(seed))
    apart = named_apart(pairs, policies)
    expected = by_reach(pairs)
    assert by_explain(pairs, apart) == expected & apart
    print(f"set {seed}: {len(expected)} of {len(pairs.everything)} are allowed")  # noqa: T201
    assert frozenset() < expected < pairs.neighbours
    answered, arrived = pairs.ask(expected)
    assert differences(answered, expected) == ()
    assert differences(arrived, expected) == ()


def named_apart(pairs, policies):
    """What bears on outside addresses that rules name: ``explain`` is asked of these too."""
    text = json.dumps(policies)
    apart = {("partner", 4), ("partner", 6)}
    apart |= {("stranger", version) for prefix, version in WIDE.items() if f'"{prefix}"' in text}
    return {each for each in pairs.neighbours if {(end, each.service.version) for end in each[:2]} & apart}


def by_reach(pairs):
    with pairs.lab.pool.operator() as client:
        told = [pair for pair in client.reach().pairs if pair.allowed]
    places = {
        (party.name, version): [
            {at for at, pair in enumerate(told) if is_meant(end_of(pair), party, version)}
            for end_of in (origin_of, to_of)
        ]
        for party in pairs.lab.parties
        for version in (4, 6)
    }
    return frozenset(
        asking
        for asking in pairs.neighbours
        if any(
            asking.service.is_within(told[at].allowed)
            for at in places[asking.origin, asking.service.version][0] & places[asking.to, asking.service.version][1]
        )
    )


def origin_of(pair):
    return pair.origin


def to_of(pair):
    return pair.to


def is_meant(end, party, version):
    """Say whether an end of ``reach`` is somebody: by name, or outside by the address."""
    if party.name not in OUTSIDE:
        return end == party.name
    if isinstance(end, Outside):
        address = ip_address(party.address(version))
        inside, hole = (any(address in ip_network(each) for each in found) for found in (end.blocks, end.excluded))
        return inside and not hole
    return end == "world"


def by_explain(pairs, apart):
    def is_allowed(asking):
        origin, to = (pairs.lab.party(name) for name in (asking.origin, asking.to))
        version, service = asking.service.version, asking.service
        names = [end.address(version) if end.namespace else end.name for end in (origin, to)]
        protocol, port = ECHO.get(f"{service.protocol}{version}", (service.protocol.upper(), service.port))
        with pairs.lab.pool.operator() as client:
            return client.explain(*names, protocol, port, origin.network).verdict == "allow"

    with ThreadPoolExecutor(4) as pool:
        return frozenset(asking for asking, allowed in zip(apart, pool.map(is_allowed, apart), strict=True) if allowed)
