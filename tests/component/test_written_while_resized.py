"""Connections that arrive while their tap's table gets another size: whatever was said to be put stands in the new one."""

from __future__ import annotations

import threading

from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.model.connection import Rows
from tests.component.carrying import rows_of
from tests.component.ground import WEB, Host, Vm, both_ways, open_tap

ONE = Vm(1, WEB)
PIECES, EACH, QUOTA = 10, 6_000, 61_000


def pieces(rows: Rows) -> list[Rows]:
    size = len(rows.rows) // PIECES
    return [Rows(rows.locals, rows.rows[start : start + size]) for start in range(0, len(rows.rows), size)]


def test_what_is_put_while_a_quota_changes_is_there_afterwards(host: Host) -> None:
    tap = open_tap("tap1")
    program = host.put_program(*both_ways(0))
    host.admit(tap.ifindex, ONE, program, connections=QUOTA)
    connections = EbpfConnections(host.kernel)
    put, failed = list[int](), list[BaseException]()

    def write() -> None:
        try:
            put.extend(connections.write(tap.ifindex, each).put for each in pieces(rows_of(ONE, PIECES * EACH)))
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(10_000):
        if not writer.is_alive():
            break
        host.admit(tap.ifindex, ONE, program, connections=QUOTA + number % 2 + 1)
    writer.join(60)
    assert not failed
    assert sum(put) == PIECES * EACH
    assert len(connections.read(tap.ifindex)) == PIECES * EACH
    tap.close()
