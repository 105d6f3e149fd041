"""The four laws on observe → resolve → plan → apply, over random hosts: any state may follow any state."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.agent.apply import apply, observe
from buckler.agent.belief import Belief
from buckler.agent.desired import Desired, Resident, Roles
from buckler.agent.plan import (
    CloseGuard,
    OpenGuard,
    PutAddresses,
    PutBridgePort,
    PutMacs,
    PutProgram,
    PutTap,
    Rejudge,
    plan,
)
from buckler.agent.resolve import resolve
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Manifest, Member, Stage
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, IdentityNumber, Revision
from buckler.ports.links import Link
from buckler.trust.statement import key_id
from tests.memorykernel import MemoryKernel
from tests.poolkit import HOST, POOL, Pool, card, domain, program

VMS = 4
POOL_KIT = Pool(vms=VMS)
KEYS = {key_id(POOL_KIT.issuer.public_key()): POOL_KIT.issuer.public_key()}
PASSPORTS = {number: POOL_KIT.passport(number) for number in range(1, VMS + 1)}
FACTS = {
    (number, shown): parse_domain(
        domain(number, PASSPORTS[number] if shown else None, card(Pool.mac(number), f"vnet{number}"))
    )
    for number in range(1, VMS + 1)
    for shown in (True, False)
}
PROGRAMS = {digest_of(canonical_bytes(one)): one for one in (program(), program(80), program(80, 443))}
ROLES = Roles(tunnel=frozenset({"vx100"}), outside=frozenset({"cl0"}), fabric="ul0")


class Host(msgspec.Struct, frozen=True):
    """A whole state of a host: per VM (runs, has its passport, program, identity, known to the pool), and its ports."""

    vms: tuple[tuple[bool, bool, int, int, bool], ...]
    tunnel: bool
    outside: bool
    members: int


HOSTS = st.builds(
    Host,
    vms=st.tuples(
        *[
            st.tuples(st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, 1), st.booleans())
            for _ in range(VMS)
        ]
    ),
    tunnel=st.booleans(),
    outside=st.booleans(),
    members=st.integers(0, 2),
)


class Machine(MemoryKernel):
    """A kernel in memory, brought from state to state."""

    def desired(self, host: Host) -> Desired:
        self._set_links(host)
        residents = [Resident(FACTS[number, shown]) for number, (runs, shown, *_) in enumerate(host.vms, 1) if runs]
        return resolve(_belief(host), ROLES, residents, self.links.links(), ("10.99.0.1", "127.0.0.1"))

    def bring(self, host: Host) -> int:
        """Reconcile once; return how many steps it took."""
        desired = self.desired(host)
        planned = plan(observe(self.kernel(), self.links.links()), desired)
        assert apply(planned, self.kernel(), desired, PROGRAMS, self._check).problems == ()
        return len(planned)

    def _check(self, _step: str) -> None:
        """At every step: nothing is let through the guard that no shield stands at."""
        state = self.guard.observe()
        if state is not None:
            standing = {*self.shield.taps(), *self.ports.bridge_ports()}
            assert {index for index, _ in state.ports} & self.interfaces <= standing

    def _set_links(self, host: Host) -> None:
        wanted = {2: Link(2, "br0", "bridge", "02:00:00:00:00:02", "", up=True)}
        if host.tunnel:
            wanted[3] = Link(3, "vx100", "vxlan", "02:00:00:00:00:03", "br0", up=True)
        if host.outside:
            wanted[4] = Link(4, "cl0", "veth", "02:00:00:00:00:04", "br0", up=True)
        for number, (runs, *_) in enumerate(host.vms, 1):
            if runs:
                wanted[10 + number] = Link(
                    10 + number, f"vnet{number}", "tun", "fe" + Pool.mac(number)[2:], "br0", up=True
                )
        have = self.links.links()
        for index in have.keys() - wanted.keys():
            self.remove(index)
        for index in wanted.keys() - have.keys():
            self.add(wanted[index])


def _belief(host: Host) -> Belief:
    digests = list(PROGRAMS)
    endpoints = tuple(
        msgspec.structs.replace(
            POOL_KIT.endpoints[number],
            program=digests[which],
            identity=IdentityNumber(0x2000_0000 + 16 * number + identity),
        )
        for number, (_, _, which, identity, known) in enumerate(host.vms)
        if known
    )
    segment = msgspec.structs.replace(
        POOL_KIT.segment(),
        endpoints=endpoints,
        identities={address: one.identity for one in endpoints for address in one.addresses},
    )
    members = tuple(
        Member(HOST if not n else f"h{n}", f"hv{n}", "", f"10.99.0.{n + 1}", ()) for n in range(host.members)
    )
    manifest = Manifest(POOL, HOST, "hv1", Revision(1), Stage.STEADY, 0.0, Digest("r"), Digest("m"))
    return Belief(POOL, HOST, KEYS, manifest, (segment,), PROGRAMS, members=members)


@given(HOSTS, HOSTS)
@settings(max_examples=60, deadline=None)
def test_any_state_after_any_state_is_as_if_made_from_nothing(first: Host, second: Host):
    walked, fresh = Machine(), Machine()
    walked.bring(first)
    walked.bring(second)
    fresh.bring(second)
    assert walked.read() == fresh.read()


@given(HOSTS, HOSTS)
@settings(max_examples=40, deadline=None)
def test_twice_is_once(first: Host, second: Host):
    machine = Machine()
    machine.bring(first)
    machine.bring(second)
    assert machine.bring(second) == 0


@given(HOSTS, HOSTS)
@settings(max_examples=40, deadline=None)
def test_change_and_revert_leaves_nothing(first: Host, second: Host):
    machine = Machine()
    machine.bring(first)
    before = machine.read()
    machine.bring(second)
    machine.bring(first)
    assert machine.read() == before


@given(HOSTS, HOSTS, st.data())
@settings(max_examples=60, deadline=None)
def test_stopped_after_any_step_the_next_pass_ends_where_it_should(first: Host, second: Host, data: st.DataObject):
    machine, fresh = Machine(), Machine()
    machine.bring(first)
    desired = machine.desired(second)
    planned = plan(observe(machine.kernel(), machine.links.links()), desired)
    kept = planned[: data.draw(st.integers(0, len(planned)))]
    apply(kept, machine.kernel(), desired, PROGRAMS, machine._check)
    machine.bring(second)
    fresh.bring(second)
    assert machine.read() == fresh.read()


@given(HOSTS)
@settings(max_examples=60, deadline=None)
def test_only_registered_vms_with_their_passport_are_open(host: Host):
    machine = Machine()
    machine.bring(host)
    opened = {10 + number for number, (runs, shown, _, _, known) in enumerate(host.vms, 1) if runs and shown and known}
    state = machine.guard.observe()
    assert {index for index, _ in state.ports if index > 10} == opened


@given(HOSTS, HOSTS)
@settings(max_examples=40, deadline=None)
def test_the_guard_closes_first_and_opens_last(first: Host, second: Host):
    machine = Machine()
    machine.bring(first)
    desired = machine.desired(second)
    names = [type(step) for step in plan(observe(machine.kernel(), machine.links.links()), desired)]
    if CloseGuard in names:
        assert names.index(CloseGuard) == 0
    if OpenGuard in names:
        changes = {PutProgram, PutTap, PutMacs, PutAddresses, PutBridgePort, Rejudge}
        assert names.index(OpenGuard) > max((index for index, name in enumerate(names) if name in changes), default=-1)
