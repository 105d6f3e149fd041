"""Each attack of the catalogue is stopped by the control that it names, and by it alone: forgiven, the attack passes.

Only the interface that must stop the attack has a shield here, so nothing behind it can help.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from buckler.drivers.ebpf.kernel import DEFAULT_OBJECT
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.ids import IDENTITY_INFRA
from buckler.model.program import Direction
from buckler.model.shield import Address, AddressKey, BridgePort, PortRole
from buckler.ports.telemetry import FIRST_REFUSAL
from tests import packets as p
from tests.component.attacks import ATTACKS, Attack
from tests.component.catalogue import (
    ATTACKS_FROM_OUTSIDE,
    ATTACKS_OF_VM,
    ATTACKS_TOWARDS_VM,
    INFRA4,
    INFRA6,
    MARKER,
    ONE,
    STATION_MARKER,
    THIRD,
    TWO,
)
from tests.component.ground import ZONE, Host, Wire, add_bridge, both_ways, open_tap, open_veth, own_bpffs, own_network
from tests.component.switched_off import build_without

SENDS, RECEIVES, ENTERS = "a VM sends", "a VM receives", "a frame enters"
CATALOGUE: dict[tuple[str, str], Attack] = {
    **{(SENDS, name): Attack(*attack) for name, attack in ATTACKS_OF_VM.items()},
    **{(SENDS, name): attack for name, attack in ATTACKS.items()},
    **{(RECEIVES, name): Attack(*attack) for name, attack in ATTACKS_TOWARDS_VM.items()},
    **{(ENTERS, name): Attack(*attack) for name, attack in ATTACKS_FROM_OUTSIDE.items()},
}
REASONS = sorted({(judge, attack.reason) for (judge, _), attack in CATALOGUE.items()})


class Lone(NamedTuple):
    host: Host
    sender: Wire
    judge: Wire
    receiver: Wire
    direction: Direction
    marker: bytes

    def try_attack(self, attack: Attack) -> tuple[list[bytes], int]:
        """What of the attack arrives, and how often its reason was counted."""
        self.sender.send(*attack.before)
        before = self.host.reasons(self.judge.ifindex).get((self.direction, attack.reason), 0)
        self.sender.send(*attack.frames, self.marker)
        arrived = self.receiver.receive(until=self.marker)
        counted = self.host.reasons(self.judge.ifindex).get((self.direction, attack.reason), 0) - before
        return [frame for frame in arrived if frame in attack.frames], counted


@contextmanager
def lone_judge(judge: str, folder: Path, object_file: Path = DEFAULT_OBJECT) -> Iterator[Lone]:
    with own_network(), own_bpffs(folder / "bpffs") as pins:
        add_bridge()
        host = Host(pins, object_file=object_file)
        one, two, outside = open_tap("tap1"), open_tap("tap2"), open_veth("out0")
        for vm in (ONE, TWO, THIRD):
            host.know(vm)
        infra = Address(IDENTITY_INFRA)
        host.book.put_addresses({AddressKey(0, f"{INFRA4}/32"): infra, AddressKey(0, f"{INFRA6}/128"): infra})  # type: ignore[arg-type]
        opened = [
            entry for peer in (0, 3) for protocol in (17, 1, 58, 47) for entry in both_ways(peer, protocol, prefix=16)
        ]
        program = host.put_program(*opened, *both_ways(0, 6, 80, 32))
        if judge == SENDS:
            host.admit(one.ifindex, ONE, program)
            yield Lone(host, one, one, two, Direction.EGRESS, MARKER)
        elif judge == RECEIVES:
            host.admit(two.ifindex, TWO, program)
            yield Lone(host, outside, two, two, Direction.INGRESS, STATION_MARKER)
        else:
            host.ports.put_bridge_port(BridgePort(outside.ifindex, PortRole.OUTSIDE, ZONE))
            yield Lone(host, outside, outside, two, Direction.INGRESS, STATION_MARKER)
        for wire in (one, two, outside):
            wire.close()
        host.close()


@pytest.mark.parametrize("judge", [SENDS, RECEIVES, ENTERS])
def test_every_attack_is_stopped_by_the_control_that_it_names(judge: str, tmp_path: Path) -> None:
    with lone_judge(judge, tmp_path) as lone:
        for (where, name), attack in CATALOGUE.items():
            if where == judge:
                assert lone.try_attack(attack) == ([], len(attack.frames)), name


@pytest.mark.parametrize(
    ("judge", "reason"), REASONS, ids=lambda value: value.name if isinstance(value, Reason) else value
)
def test_without_its_control_an_attack_arrives(judge: str, reason: Reason, tmp_path: Path) -> None:
    with lone_judge(judge, tmp_path, build_without(reason)) as lone:
        for (where, name), attack in CATALOGUE.items():
            if where == judge and attack.reason is reason:
                assert lone.try_attack(attack) == (attack.frames, len(attack.frames)), name


def test_a_forgiving_object_forgives_nothing_else(tmp_path: Path) -> None:
    with lone_judge(SENDS, tmp_path, build_without(Reason.MARTIAN)) as lone:
        for (where, name), attack in CATALOGUE.items():
            if where == SENDS and attack.reason is not Reason.MARTIAN:
                assert lone.try_attack(attack)[0] == [], name


def test_each_refusal_is_somewhere_attacked() -> None:
    """Those that need more than frames are attacked in the files named here."""
    elsewhere = {
        Reason.CONNECTIONS_FULL,  # test_connections.py
        Reason.FOREIGN_TUNNEL,  # test_bypass.py
        Reason.RATE,  # test_terms.py
        Reason.EXPIRED,  # test_terms.py, test_agent_deadline.py
        Reason.SERVICE,  # test_services_hostile.py
        Reason.NO_MEMBER,  # test_services_hostile.py
        Reason.NO_PROGRAM,  # no hook gives it: a tap without a program denies (POLICY)
    }
    refusals = {reason for reason in Reason if reason >= FIRST_REFUSAL}
    assert refusals - {attack.reason for attack in CATALOGUE.values()} == elsewhere


def test_a_frame_of_a_few_bytes_is_malformed(tmp_path: Path) -> None:
    with lone_judge(SENDS, tmp_path) as lone:
        short = p.ether(ONE.mac, TWO.mac, 0x0800, b"\x45")
        assert lone.try_attack(Attack([short], Reason.MALFORMED)) == ([], 1)
