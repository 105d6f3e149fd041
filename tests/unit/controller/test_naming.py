"""Whose network an answer is of, on a store of its own: names of networks come again, the answers do not."""

from __future__ import annotations

from pathlib import Path

from buckler.controller.changes import Wanted, store_change
from buckler.controller.pool_state import load_state
from buckler.controller.registry import Author
from buckler.model.ids import VmId
from buckler.model.operatorapi.documents import Reference, SourceFile
from buckler.ports.naming import NameRecord

from .test_releasing import World

RIVALS = """
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front, tenant: rival}
spec: {bridge: br9, cidrs: [10.0.0.0/24], resolvers: [10.0.0.53]}
"""


def test_a_network_of_an_old_name_has_none_of_its_answers(tmp_path: Path) -> None:
    world = World(tmp_path)
    record = NameRecord("front", "www.example.org", "203.0.113.7", VmId("v"), "10.0.0.53", world.now, 9000)
    with world.parts.store.write() as unit:
        unit.names.put(record)
        assert [each.network for each in load_state(unit).learned] == ["front"]
    gone = (Reference("VM", "web"), Reference("Network", "front"))
    store_change(world.parts, Wanted(files=(SourceFile("r.yaml", RIVALS),), delete=gone), Author("test"))
    with world.parts.store.read() as unit:
        state = load_state(unit)
    assert [each.tenant for each in state.pool.networks] == ["rival"]
    assert state.learned == ()
