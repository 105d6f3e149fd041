"""What a host has flipped stays so, whoever else is told an older stage once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckler.controller.orders import take_order
from buckler.controller.rollout_state import read_rollout
from buckler.model.agentapi import Acknowledgement
from buckler.model.ids import HostId
from buckler.model.pool import Host, HostState
from buckler.model.program import Direction, Verdict
from buckler.policy.lookup import look_up
from buckler.policy.whole import join_bundle
from buckler.ports.roster import HostRecord
from tests.unit.controller.test_mirror import FLOW, VM, World


class Pool(World):
    """Two hosts, told and asked one by one."""

    def put(self, number: int, state: HostState = HostState.ACTIVE) -> None:
        host = Host(HostId(f"h{number}"), f"hv{number}", "", f"192.0.2.{number + 1}", (), state=state)
        with self.parts.store.write() as unit:
            unit.hosts.put(HostRecord(host, 1.0, 1.0))
            unit.revisions.allocate("host", "test", 0.0)

    def run(self) -> None:
        while self.engine.step():
            pass

    def take(self, number: int, *, proves: bool = True) -> None:
        with self.parts.store.write() as unit:
            record = unit.hosts.get(HostId(f"h{number}"))
            assert record is not None
            manifest = take_order(self.parts, unit, record.host)
            assert manifest is not None
            if proves:
                unit.acks.put(record.host.id, Acknowledgement(manifest.revision, self.parts.clock()))

    def lets_in(self, number: int) -> bool:
        """May the first VM's address speak to the server, by what this host is told?"""
        with self.parts.store.read() as unit:
            order = unit.manifests.order(HostId(f"h{number}"))
            assert order is not None
            said = join_bundle(order.root, {}, unit.objects.get)
        segment = next(each for each in said.segments if each.network == "net")
        server = next(each for each in segment.endpoints if each.name == "vm3")
        meant = segment.identities["10.0.0.1"]
        entry = look_up(said.programs[server.program], meant, Direction.INGRESS, 6, 80)
        return entry is not None and entry.verdict is Verdict.ALLOW


def _vm(number: int, role: str) -> str:
    uuid = f"{number:08d}-1111-4111-8111-111111111111"
    return VM.format(number=number, role=role, uuid=uuid, network="net", address=f"10.0.0.{number}")


@pytest.mark.parametrize("drained", [False, True])
def test_a_flip_is_not_undone_by_the_plan_after_a_slow_host_was_told_its_stage_again(
    tmp_path: Path, drained: bool
) -> None:
    pool = Pool(tmp_path, 1)
    pool.put(0)
    pool.put(1)
    peer = "vm: {matchLabels: {role: b}}"
    opened = FLOW.format(number=1, until="tier: tenant", role="a", peer=peer, port=80)
    pool.apply(_vm(1, "a"), _vm(2, "a"), _vm(3, "b"), opened)
    for _ in range(5):
        pool.run()
        pool.take(0)
        pool.take(1)
    pool.run()
    with pool.parts.store.read() as unit:
        assert read_rollout(unit).is_done
    assert pool.lets_in(0)
    pool.apply(_vm(1, "c"))
    pool.run()
    pool.take(0)
    pool.take(1, proves=False)  # it has the first stage, and is away
    pool.run()
    pool.take(0)
    pool.run()
    assert not pool.lets_in(0), "flipped"
    if drained:
        pool.put(1, HostState.DRAINING)  # it alone is told the first stage again
        pool.run()
    pool.apply(FLOW.format(number=2, until="tier: tenant", role="b", peer="world: true", port=443))
    pool.run()
    assert not pool.lets_in(0), "what this host had revoked is shut"
    pool.parts.store.close()
