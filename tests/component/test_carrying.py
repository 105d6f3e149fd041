"""Connections are carried whole from kernel to kernel, in about the time that the benchmark tells of 100,000."""

from tests.component.carrying import carry


def test_every_connection_that_is_carried_stands_in_the_destinations_kernel():
    carried = carry(5_000)
    assert carried.arrived == carried.connections == 5_000
