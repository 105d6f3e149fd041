"""Generated policy sets on a real lab: what everybody can really do is what ``reach`` and ``explain`` say, both ways."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from buckler.lab.story.probing import ECHO
from tests.system.tenants.lab import as_file, vm_documents
from tests.system.tenants.policysets import labels_of, open_policies, policies_of

pytestmark = pytest.mark.timeout(300)
SEEDS = range(1, 11)
ACTIONS = ("allow", "deny", "pass")
AS_IN_REACH = {"stranger": "world"}
PARTNER = "partner"
"""Its prefixes are named by rules: ``reach`` speaks of pool and world only, ``explain`` of every address."""


def enforce(lab, policies, labels, mode="enforce"):
    lab.pool.apply(as_file("vms", vm_documents(labels, mode)), as_file("policies", policies))
    lab.pool.wait_for_hosts()


def test_without_rules_that_close_everything_within_a_network_arrives_and_nothing_between_networks(pairs):
    """The control: each asking of the tests below can be seen, answered and at its target."""
    enforce(pairs.lab, open_policies(), {})
    answered, arrived = pairs.ask(pairs.neighbours)
    assert differences(answered, pairs.neighbours) == ()
    assert differences(arrived, pairs.neighbours) == ()
    assert len(pairs.neighbours) > 500
    assert pairs.everything > pairs.neighbours


@pytest.mark.parametrize("seed", SEEDS)
def test_what_everybody_can_do_is_what_reach_and_explain_say(pairs, seed):
    enforce(pairs.lab, policies_of(seed, ACTIONS), labels_of(seed))
    expected = by_reach(pairs) | by_explain(pairs)
    print(f"set {seed}: {len(expected)} of {len(pairs.everything)} are allowed")  # noqa: T201
    assert frozenset() < expected < pairs.neighbours
    answered, arrived = pairs.ask(expected)
    assert differences(answered, expected) == ()
    assert differences(arrived, expected) == ()


def by_reach(pairs):
    with pairs.lab.pool.operator() as client:
        allowed = {(pair.origin, pair.to): pair.allowed for pair in client.reach().pairs}
    ends = {each: AS_IN_REACH.get(each, each) for each in (party.name for party in pairs.lab.parties)}
    return frozenset(
        asking
        for asking in pairs.neighbours
        if PARTNER not in (asking.origin, asking.to)
        and asking.service.is_within(allowed[ends[asking.origin], ends[asking.to]])
    )


def by_explain(pairs):
    def is_allowed(asking):
        origin, to = (pairs.lab.party(name) for name in (asking.origin, asking.to))
        version, service = asking.service.version, asking.service
        names = [end.address(version) if end.name == PARTNER else end.name for end in (origin, to)]
        protocol, port = ECHO.get(f"{service.protocol}{version}", (service.protocol.upper(), service.port))
        with pairs.lab.pool.operator() as client:
            return client.explain(*names, protocol, port, origin.network).verdict == "allow"

    asked = [each for each in pairs.neighbours if PARTNER in (each.origin, each.to)]
    with ThreadPoolExecutor(4) as pool:
        return frozenset(asking for asking, allowed in zip(asked, pool.map(is_allowed, asked), strict=True) if allowed)


def differences(found, expected):
    """At most thirty, in words."""
    closed = [f"closed, should be open: {each}" for each in expected - found]
    return tuple(sorted(closed + [f"open, should be closed: {each}" for each in found - expected]))[:30]
