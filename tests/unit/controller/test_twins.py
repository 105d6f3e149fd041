"""Which of two hosts that run one VM has the copy: never the one where the VM lives, never one that it moved to."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.controller.sights import Sight
from buckler.controller.twins import is_twin
from buckler.model.agentapi import ObservedDomain
from buckler.model.bundle import Residence
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import HostId, VmId
from buckler.model.pool import Host
from buckler.trust.statement import Kind, key_text, sign

VM, OTHER_VM = VmId("vm"), VmId("other")
KEYS = {name: Ed25519PrivateKey.generate() for name in ("a", "b")}


def sight(
    name: str, epoch: int, since: float, at: float, *, vm: VmId = VM, signer: str = "", said_by: str = ""
) -> Sight:
    host = Host(HostId(name), name, key_text(KEYS[name].public_key()), "192.0.2.1")
    stay = Residence(vm, HostId(said_by or name), epoch, since)
    statement = sign(Kind.RESIDENCE, canonical_bytes(stay), KEYS[signer or name]) if epoch else ""
    return Sight(host, ObservedDomain("u", "web", "running", residence=statement), at)


PLACE = sight("a", 3, 100.0, 300.0)


@pytest.mark.parametrize("newcomer", [
    sight("b", 3, 200.0, 201.0),
    sight("b", 1, 200.0, 201.0),
    sight("b", 0, 200.0, 201.0),
    sight("b", 9, 200.0, 201.0, signer="a"),
    sight("b", 9, 200.0, 201.0, vm=OTHER_VM),
    sight("b", 9, 200.0, 201.0, said_by="a"),
], ids=["copied as it was", "an older copy", "no residence", "signed by another", "of another VM", "of another host"])  # fmt: skip
def test_a_copy_started_elsewhere_is_a_twin(newcomer: Sight):
    assert is_twin(newcomer, PLACE, VM)
    assert not is_twin(PLACE, PLACE, VM)


def test_a_vm_that_came_by_migration_is_none_though_its_source_has_not_said_that_it_left():
    assert not is_twin(sight("b", 4, 200.0, 201.0), sight("a", 3, 100.0, 229.0), VM)


def test_a_vm_that_its_source_never_lets_go_did_not_come_from_there():
    assert is_twin(sight("b", 4, 200.0, 250.0), sight("a", 3, 100.0, 231.0), VM)


def test_a_vm_stopped_there_and_started_here_is_none_though_the_report_of_its_stop_is_on_its_way():
    late = sight("b", 3, 301.0, 302.0)
    assert not is_twin(late, PLACE, VM)
    assert is_twin(late, sight("a", 3, 100.0, 311.0), VM)
