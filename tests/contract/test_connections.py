"""What every store of connections does: in memory and in the kernel."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.shield import EbpfShield
from buckler.drivers.inmemory.connections import InMemoryConnections
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.connection import ROW_SIZE, Held, Rows, State, Written, mark, marked
from buckler.model.ids import IdentityNumber, VmNumber, Zone
from buckler.model.program import Program
from buckler.model.shield import Tap
from buckler.ports.connections import Connections
from buckler.ports.shield import ShieldFailed
from tests.component.ground import add_bridge, open_veth, own_bpffs, own_network

ROOM = 50
ABSENT = 987654
FORM = struct.Struct("<8B HHI 16s Q".replace(" ", ""))
V4, V6 = layout.pack_address("10.9.0.1"), layout.pack_address("fd00:9::1")


def row(
    protocol: int = 6,
    direction: int = 0,
    state: int = State.ESTABLISHED,
    held: int = Held.ESTABLISHED,
    local: int = 0,
    tcp: tuple[int, int] = (7, 9),
    ports: tuple[int, int] = (80, 40000),
    left: int = 20_000,
    remote: str = "10.9.0.2",
    age: int = 2_000,
    service: int = 0,
) -> bytes:
    remote_end = layout.pack_address(remote)
    return FORM.pack(protocol, direction, state, held, local, *tcp, service, *ports, left, remote_end, age)


def rows(*lines: bytes, locals_: tuple[bytes, ...] = (V4,)) -> Rows:
    return Rows(locals_, b"".join(lines))


def told(read: Rows) -> dict[tuple[str, bytes], tuple[int, ...]]:
    """What is equal wherever it is asked: times may have gone on a little."""
    found = {}
    for start in range(0, len(read.rows), ROW_SIZE):
        *head, remote_port, local_port, left, remote, age = FORM.unpack(read.rows[start : start + ROW_SIZE])
        protocol, direction, state, held, local, *tcp, service = head
        key = (
            layout.unpack_address(read.locals[local]),
            struct.pack("<BBHH16s", protocol, direction, remote_port, local_port, remote),
        )
        assert key not in found, "a connection stands once"
        number = marked(read.locals[service - 1]) if service else 0
        found[key] = (state, held, *tcp, number, round(left, -4), round(age, -4))
    return found


@dataclass(frozen=True)
class Door:
    connections: Connections
    tap: int
    judge: Callable[[Rows], None]


@pytest.fixture(params=["inmemory", "ebpf"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    if request.param == "inmemory":
        memory = InMemoryConnections({3: ROOM}.get)
        yield Door(memory, 3, lambda seen: memory.judge(3, seen))
        return
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        wire = open_veth("tap1")
        kernel = Kernel(pins)
        shield = EbpfShield(kernel)
        shield.open()
        program = Program(())
        digest = digest_of(canonical_bytes(program))
        shield.put_program(digest, program)
        mac = "52:54:00:00:00:01"
        addresses = ("10.9.0.1", "fd00:9::1")
        shield.put_tap(
            Tap(
                wire.ifindex,
                VmNumber(1),
                mac,
                Zone(2),
                0,
                IdentityNumber(0x20000001),
                addresses,
                digest,
                connections=ROOM,
            )
        )
        yield Door(EbpfConnections(kernel), wire.ifindex, lambda seen: stamp(kernel, wire.ifindex))
        kernel.close()
        wire.close()


def stamp(kernel: Kernel, ifindex: int) -> None:
    """Do what the first packet of every connection does: stamp it."""
    doors = EbpfConnections(kernel)
    with doors._table(ifindex, "established") as table:
        for key, value in table.items().items():
            fields = list(layout.CONNECTION.unpack(value))
            fields[2] = 77
            table.put(key, layout.CONNECTION.pack(*fields))


def test_what_is_written_reads_back(door: Door) -> None:
    assert door.connections.read(door.tap) == Rows()
    wanted = rows(
        row(),
        row(ports=(443, 1)),
        row(direction=1, ports=(40000, 80)),
        row(protocol=17, tcp=(0, 0), state=State.NEW, held=Held.HALF_OPEN),
        row(protocol=58, tcp=(0, 0), local=1, direction=1, ports=(7, 7), remote="fd00:9::2"),
        row(local=1, remote="fd00:9::3", state=State.CLOSING, tcp=(0x1E, 0x30), ports=(65535, 65535)),
        row(protocol=47, tcp=(0, 0), ports=(0, 0)),
        locals_=(V4, V6),
    )
    assert door.connections.write(door.tap, wanted) == Written(put=7)
    assert told(door.connections.read(door.tap)) == told(wanted)
    assert door.connections.write(door.tap, wanted) == Written(put=7)
    assert told(door.connections.read(door.tap)) == told(wanted)


def test_a_tap_that_is_not_there_is_never_an_empty_one(door: Door) -> None:
    with pytest.raises(ShieldFailed):
        door.connections.read(ABSENT)
    with pytest.raises(ShieldFailed):
        door.connections.write(ABSENT, rows(row()))


def test_what_ended_is_taken_away(door: Door) -> None:
    door.connections.write(door.tap, rows(row(), row(ports=(443, 2))))
    assert door.connections.write(door.tap, rows(row(held=Held.ENDED), row(held=Held.ENDED, ports=(9, 9)))).ended == 1
    assert told(door.connections.read(door.tap)) == told(rows(row(ports=(443, 2))))


def test_beyond_the_quota_rows_are_refused_and_counted(door: Door) -> None:
    many = [row(ports=(1 + number, 40000)) for number in range(ROOM + 7)]
    written = door.connections.write(door.tap, rows(*many))
    assert (written.put, written.full) == (ROOM, 7)
    assert len(door.connections.read(door.tap)) == ROOM


def test_what_a_packet_was_judged_by_stays(door: Door) -> None:
    door.connections.write(door.tap, rows(row(), row(held=Held.HALF_OPEN, state=State.REPLIED, ports=(8, 8))))
    door.judge(rows(row(), row(held=Held.HALF_OPEN, state=State.REPLIED, ports=(8, 8))))
    before = told(door.connections.read(door.tap))
    assert door.connections.write(door.tap, rows(row(state=State.CLOSING), row(ports=(9, 9)))) == Written(
        put=1, newer=1
    )
    assert door.connections.write(door.tap, rows(row(held=Held.ENDED))) == Written()
    assert told(door.connections.read(door.tap)) == {**before, **told(rows(row(ports=(9, 9))))}


@pytest.mark.parametrize("door", ["ebpf"], indirect=True)
def test_in_the_kernel_the_policy_port_is_what_key_and_direction_say_and_the_stamp_fits_nothing(door: Door) -> None:
    door.connections.write(
        door.tap,
        rows(
            row(direction=0, ports=(443, 40000)),
            row(direction=1, ports=(50000, 22)),
            row(protocol=1, tcp=(0, 0), ports=(7, 7)),
            row(protocol=58, tcp=(0, 0), direction=1, ports=(8, 8), local=1, remote="fd00:9::2"),
            row(protocol=47, tcp=(0, 0), ports=(0, 0)),
            locals_=(V4, V6),
        ),
    )
    with door.connections._table(door.tap, "established") as table:
        held = [
            (layout.CONNECTION_KEY.unpack(key), layout.CONNECTION.unpack(value)) for key, value in table.items().items()
        ]
    assert {(key[4], value[22], value[21], key[5]) for key, value in held} == {
        (6, 0, 443, 0), (6, 1, 22, 0), (1, 0, 0x0800, 0), (58, 1, 0x8000, 1), (47, 0, 0, 0),
    }  # fmt: skip
    for _, value in held:
        stamp_, known = value[2], (value[8], value[14])
        assert (stamp_, known) == (0, (0, 0))
        assert value[3] == 0, "no allowance of another host's"
        assert value[16:21] == (0,) * 5, "no rule and no peer of another host's"


@pytest.mark.parametrize("door", ["ebpf"], indirect=True)
def test_expired_connections_are_not_told(door: Door) -> None:
    door.connections.write(door.tap, rows(row(left=0), row(left=60_000, ports=(5, 5))))
    assert told(door.connections.read(door.tap)) == told(rows(row(left=60_000, ports=(5, 5))))


def test_which_service_a_connection_goes_through_is_told(door: Door) -> None:
    wanted = rows(
        row(ports=(80, 1), service=3),
        row(ports=(80, 2), service=2),
        row(ports=(80, 3)),
        row(ports=(80, 4), service=2, state=State.REPLIED, held=Held.HALF_OPEN),
        locals_=(V4, mark(0xFFFFFF), mark(7)),
    )
    assert door.connections.write(door.tap, wanted) == Written(put=4)
    read = door.connections.read(door.tap)
    assert told(read) == told(wanted)
    assert set(read.locals) == set(wanted.locals)
    assert read.locals[0] == V4, "the marks stand behind the addresses"
