"""A pass in a world that changes under it: what fails at one port keeps no other closed, and is looked at anew."""

from __future__ import annotations

import time

import msgspec
import pytest

from buckler.agent.belief import Belief
from buckler.agent.desired import Roles
from buckler.agent.engine import Engine
from buckler.agent.residents import Residents
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Manifest, Stage
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, Revision
from buckler.model.shield import Tap
from buckler.ports.links import Link
from buckler.ports.shield import ShieldFailed
from buckler.trust.statement import key_id
from tests.memorykernel import MemoryKernel
from tests.poolkit import HOST, POOL, Pool, card, domain, program


class Troubled:
    """A host on which two VMs arrive, and whose shield fails where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.kit, self.memory, self.residents = Pool(vms=2), MemoryKernel(), Residents()
        self.memory.add(Link(2, "br0", "bridge", "02:00:00:00:00:02", "", up=True))
        self.engine = Engine(self.memory.kernel(), Roles(), self.residents, lambda _step: None)
        for number in (1, 2):
            self.memory.add(Link(10 + number, f"vnet{number}", "tun", "fe" + Pool.mac(number)[2:], "br0", up=True))
            shown = domain(number, self.kit.passport(number), card(Pool.mac(number), f"vnet{number}"))
            self.residents.arrive(parse_domain(shown), time.monotonic())

    def belief(self, revision: int = 1, identity: int = 0) -> Belief:
        one = program()
        digest = digest_of(canonical_bytes(one))
        endpoints = tuple(
            msgspec.structs.replace(each, program=digest, identity=type(each.identity)(each.identity + identity))
            for each in self.kit.endpoints
        )
        identities = {address: each.identity for each in endpoints for address in each.addresses}
        segment = msgspec.structs.replace(self.kit.segment(), endpoints=endpoints, identities=identities)
        manifest = Manifest(POOL, HOST, "hv1", Revision(revision), Stage.STEADY, 0.0, Digest("r"), Digest("m"))
        keys = {key_id(self.kit.issuer.public_key()): self.kit.issuer.public_key()}
        return Belief(POOL, HOST, keys, manifest, (segment,), {digest: one})

    def fail(self, name: str, times: int, ifindex: int = 0) -> list[int]:
        """Let a step of the shield fail so many times; return what it was asked."""
        asked: list[int] = []
        real = getattr(self.memory.shield, name)

        def step(*arguments: Tap) -> None:
            at = arguments[0].ifindex if arguments else 0
            if at == ifindex:
                asked.append(at)
                if len(asked) <= times:
                    raise ShieldFailed(f"{name}: no such device")
            real(*arguments)

        self._patch.setattr(self.memory.shield, name, step)
        return asked


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Troubled:
    return Troubled(monkeypatch)


def test_a_tap_that_fails_keeps_no_other_closed(host: Troubled):
    host.fail("put_tap", 1000, ifindex=11)
    outcome = host.engine.reconcile(host.belief())
    assert outcome.admitted == {12}
    assert host.memory.guard.observe().ports == {(12, "br0")}
    assert outcome.enforced == 0
    assert any("no such device" in problem for problem in outcome.problems)


def test_what_fails_once_is_done_in_the_same_pass(host: Troubled):
    host.fail("put_tap", 1, ifindex=11)
    outcome = host.engine.reconcile(host.belief())
    assert (outcome.admitted, outcome.problems) == ({11, 12}, ())


def test_what_fails_for_good_is_tried_a_bounded_number_of_times(host: Troubled):
    asked = host.fail("put_tap", 1000, ifindex=11)
    host.engine.reconcile(host.belief())
    assert 1 < len(asked) <= 3


def test_a_failure_that_bears_on_all_opens_nothing_new(host: Troubled, monkeypatch: pytest.MonkeyPatch):
    def refuse(_entries: object) -> None:
        raise ShieldFailed("no room")

    monkeypatch.setattr(host.memory.book, "put_addresses", refuse)
    outcome = host.engine.reconcile(host.belief())
    assert outcome.admitted == set()
    assert host.memory.guard.observe().ports == set()


def test_links_that_keep_changing_keep_no_arrival_out(host: Troubled, monkeypatch: pytest.MonkeyPatch):
    """Another tap comes at every look; the one that is asked about was ready long before the last of them."""
    real, looked = host.memory.links.links, []

    def links() -> dict[int, Link]:
        looked.append(1)
        for index in (50 + len(looked), 49 + len(looked)):
            (host.memory.add if index % 2 else lambda link: host.memory.remove(link.ifindex))(
                Link(index, f"tap{index}", "tun", f"fe:00:00:00:00:{index}", "br0", up=True)
            )
        return real()

    monkeypatch.setattr(host.memory.links, "links", links)
    outcome = host.engine.reconcile(host.belief())
    assert outcome.admitted == {11, 12}


def test_connections_that_could_not_be_judged_again_are_once_that_can_be_done(
    host: Troubled, monkeypatch: pytest.MonkeyPatch
):
    host.engine.reconcile(host.belief())
    asked = host.fail("rejudge", 1000)
    changed = host.belief(revision=2, identity=16)
    outcome = host.engine.reconcile(changed)
    assert outcome.enforced == 0
    assert asked
    before = len(asked)
    assert host.engine.reconcile(changed).enforced == 0, "it is still owed, though nothing differs"
    assert len(asked) > before
    monkeypatch.undo()
    assert host.engine.reconcile(changed).problems == ()
