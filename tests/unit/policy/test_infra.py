"""Hosts' addresses are no guest's peers: not while they are members, not when they were revoked."""

from __future__ import annotations

import msgspec
import pytest

from buckler.model.ids import IDENTITY_HOST, IDENTITY_INFRA, HostId
from buckler.model.pool import Host, HostState
from buckler.policy.bundle import Bundle, build_bundle, build_members
from buckler.policy.closing import address_map
from buckler.policy.judgement import PeerKind
from buckler.policy.language import Kind
from buckler.policy.prefix import host_prefix
from buckler.policy.reference import find_end
from buckler.policy.rollout import plan_rollout
from tests.policyworld import Store, shop_documents

HOST = Host(HostId("h1"), "h1", "", "192.0.2.1", ("192.0.2.1", "198.51.100.1", "fd01::1"))
ADDRESSES = ("192.0.2.1", "198.51.100.1", "fd01::1")


def shop(host: Host, gateway: str = "") -> tuple[Bundle, PeerKind]:
    store = Store()
    documents = tuple(
        msgspec.structs.replace(each, spec=msgspec.structs.replace(each.spec, gateway=(gateway,)))
        if each.kind is Kind.NETWORK and gateway
        else each
        for each in shop_documents()
    )
    pool = store.pool(documents, hosts=(host,))
    bundle = build_bundle(pool, documents, store.allocate(pool, documents))
    return bundle, find_end(pool, documents, pool.networks[0].name, "198.51.100.1").kind


@pytest.mark.parametrize("state", list(HostState))
def test_whatever_became_of_a_host_its_addresses_stay_closed(state: HostState) -> None:
    host = msgspec.structs.replace(HOST, state=state)
    bundle, kind = shop(host)
    assert kind is PeerKind.INFRA
    for segment in bundle.segments:
        meaning = address_map(segment)
        assert {meaning.identity(host_prefix(address)) for address in ADDRESSES} == {IDENTITY_INFRA}
    assert len(build_members((host,))) == (state is not HostState.REVOKED)


def test_revoking_a_host_leaves_no_moment_without() -> None:
    before, after = shop(HOST)[0], shop(msgspec.structs.replace(HOST, state=HostState.REVOKED))[0]
    assert plan_rollout([before], after) == ()


def test_what_a_network_declares_as_its_gateway_is_the_host_there() -> None:
    bundle, kind = shop(HOST, gateway="198.51.100.1")
    assert kind is PeerKind.HOST
    assert address_map(bundle.segments[0]).identity("198.51.100.1/32") == IDENTITY_HOST
