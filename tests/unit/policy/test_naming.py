"""How long answers hold, whose they are, and when they must end."""

from __future__ import annotations

import pytest

from buckler.model.ids import VmId, Zone
from buckler.model.label import LABEL_TENANT, Selector
from buckler.model.pool import Host, Interface, Network, Outsider, ServiceAddress, Vm
from buckler.policy.claim import ground_of, owners_of
from buckler.policy.documents import read_documents
from buckler.policy.language import Document
from buckler.policy.learned import Learned
from buckler.policy.naming import (
    GRAIN,
    LONGEST,
    SHORTEST,
    end_of,
    list_over,
    patterns_at,
    patterns_in,
    refuse_answer,
    unfit_address,
)
from buckler.policy.pool import Pool
from buckler.policy.source import Source

NETWORK = Network(
    "front", Zone(1), "default", "br0", cidrs=("10.0.0.0/24",), gateway=("192.168.9.1",), resolvers=("10.0.0.53",)
)
RIVAL = Network("back", Zone(2), "rival", "br1", cidrs=("172.20.0.0/16",))
WEB = Vm(VmId("v"), 1, "web", "default", "u", {}, (Interface("52:54:00:00:00:01", "front", ("198.18.0.9",)),))  # type: ignore[arg-type]
POOL = Pool(
    (NETWORK, RIVAL),
    (WEB,),
    (Host("h", "host-a", "k", "192.0.2.1", ("198.51.100.1",)),),  # type: ignore[arg-type]
    (Outsider("printer", "default", "front", ("198.18.0.10",)),),
    (ServiceAddress("shop", "default", "front", "198.18.0.11", Selector(), ((6, 80, 80),)),),
)
GROUND, OWNERS = ground_of(POOL, ("203.0.113.99",)), owners_of(POOL.vms)


def policy(tier: str = "tenant", tenant: str = "default", dns: str = "*.example.org") -> Document:
    where = f"tenant: {tenant}" if tier == "tenant" else ""
    text = (
        f"apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{name: p, {where}}}\n"
        f"spec: {{description: d, owner: o, reason: r, review: 2030-01-01, tier: {tier}, subject: {{matchLabels: {{role: app}}}},"
        f" egress: [{{action: allow, to: [{{dns: '{dns}'}}]}}]}}\n"
    )
    reading = read_documents([Source("f", text)])
    assert not reading.problems
    return reading.documents[0]


@pytest.mark.parametrize(
    ("seconds", "held"), [(0, SHORTEST), (60, SHORTEST), (7200, 7200), (2**31 - 1, LONGEST), (-5, SHORTEST)]
)
def test_an_answer_holds_between_an_hour_and_a_day_and_ends_on_a_quarter(seconds: int, held: int) -> None:
    for at in (1_000_000_000.0, 1_000_000_123.4, 1_000_000_899.9):
        end = end_of(at, seconds, at)
        assert at + held <= end < at + held + GRAIN
        assert end % GRAIN == 0


def test_a_hosts_wrong_clock_does_not_lengthen_it() -> None:
    assert end_of(9_999_999_999.0, 60, 1000.0) == end_of(1000.0, 60, 1000.0)
    assert end_of(0.0, 60, 1_000_000.0) < 1_000_000, "what is long over opens nothing"


@pytest.mark.parametrize(("address", "word"), [
    ("192.0.2.1", "host"), ("198.51.100.1", "host"), ("192.168.9.1", "serves"), ("10.0.0.77", "lies in"), ("172.20.3.3", "lies in"),
    ("198.18.0.9", "somebody's"), ("198.18.0.10", "somebody's"), ("198.18.0.11", "somebody's"), ("127.0.0.1", "nobody's"), ("0.0.0.0", "nobody's"),
    ("203.0.113.99", "a controller's"), ("2002:cb00:7163::1", "203.0.113.99 is a controller's"), ("255.255.255.255", "nobody's"), ("240.0.0.1", "nobody's"), ("169.254.1.1", "nobody's"), ("::", "nobody's"),
    ("::ffff:203.0.113.7", "not written"), ("::ffff:cb00:7107", "nobody's"), ("2002:c000:201::", "192.0.2.1 is a hypervisor"), ("64:ff9b::c000:201", "192.0.2.1 is a hypervisor"),
    ("64:ff9b::a00:4d", "10.0.0.77 lies in"), ("FD00::1", "not written"), ("fe80::1%eth0", "not written"), ("10.0.0.0/8", "no address"),
])  # fmt: skip
def test_no_answer_opens_what_is_the_pools_own(address: str, word: str) -> None:
    assert word in unfit_address(GROUND, OWNERS, address)


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7", "192.168.1.1", "fd12::1", "64:ff9b::cb00:7107"])
def test_the_world_may_be_opened(address: str) -> None:
    assert unfit_address(GROUND, OWNERS, address) == ""


def test_a_tenants_policy_means_names_at_its_own_vms_alone() -> None:
    mine, other = ({LABEL_TENANT: tenant, "role": "app"} for tenant in ("default", "rival"))
    assert patterns_at([policy()], mine) == {"*.example.org"}
    assert patterns_at([policy()], other) == set()
    assert patterns_at([policy()], {**mine, "role": "dark"}) == set()
    assert patterns_at([policy("baseline")], other) == {"*.example.org"}
    assert patterns_in([policy()], "rival") == ()
    assert patterns_in([policy("baseline"), policy(dns="a.example")], "default") == ("*.example.org", "a.example")


def learned(**changes: object) -> Learned:
    given = {
        "name": "www.example.org",
        "network": "front",
        "address": "203.0.113.7",
        "until": 2000,
        "vm": "v",
        "resolver": "10.0.0.53",
    }
    return Learned(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "word"), [
    (learned(until=1000), "asked again"), (learned(network="gone"), "network is gone"), (learned(name="a.example"), "no policy"),
    (learned(resolver="10.0.0.54"), "resolver"), (learned(address="10.0.0.9"), "lies in"), (learned(network="back"), "resolver"),
])  # fmt: skip
def test_what_must_end_and_why(one: Learned, word: str) -> None:
    ((gone, why),) = list_over(GROUND, OWNERS, [policy()], [learned(), one], 1000.0)
    assert gone is one
    assert word in why


@pytest.mark.parametrize(
    "name",
    [
        "\x1b[2J.example.org",
        "a b.example.org",
        "*.example.org",
        "WWW.example.org",
        ".example.org",
        f"{'a' * 99999}.example.org",
    ],
)
def test_a_host_cannot_tell_of_what_is_no_name(name: str) -> None:
    card = (WEB.id, "52:54:00:00:00:01")
    assert refuse_answer(GROUND, OWNERS, ["*.example.org"], (), learned(), card) == ""
    assert refuse_answer(GROUND, OWNERS, ["*.example.org"], (), learned(name=name), card) == "it is no name of a host"
