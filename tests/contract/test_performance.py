"""One contract for ports/performance.py, on memory and on a libvirtd started for it."""

from __future__ import annotations

import os
import signal
import time
import uuid as uuids
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import libvirt
import pytest

from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.drivers.inmemory.performance import InMemoryPerformance
from buckler.drivers.libvirt.performance import LibvirtPerformance
from buckler.ports.hypervisor import HypervisorFailed
from buckler.ports.performance import Reading
from tests.privatehost import PrivateHost, private_host, wait_until

DISK = "<disk type='file'><driver name='qemu'/><source file='{path}'/><target dev='vda' bus='virtio'/></disk>"
XML = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='none'/>{disk}</devices></domain>"""


class MemoryBench:
    """A guest that its test lets work by hand."""

    def __init__(self) -> None:
        self.hypervisor = InMemoryHypervisor()
        self.performance = InMemoryPerformance(self.hypervisor)

    def start(self, uuid: str) -> None:
        self.hypervisor.start(XML.format(name=f"vm-{uuid[:4]}", uuid=uuid, disk=""))
        run = self.find(uuid).run
        self.performance.figures[uuid] = Reading(uuid, run, 1000, 1 << 20, 512, 1, 0, 0)

    def find(self, uuid: str) -> Reading:
        return next(each for each in self.performance.readings() if each.uuid == uuid)

    def stop(self, uuid: str) -> None:
        self.hypervisor.stop(uuid)

    def lose(self) -> None:
        self.hypervisor.go_away()

    def regain(self) -> None:
        self.hypervisor.come_back()


class LibvirtBench:
    """A guest that finds nothing to boot from its disk."""

    def __init__(self, host: PrivateHost) -> None:
        self.host = host
        self.performance = LibvirtPerformance(host.uri)

    def start(self, uuid: str) -> None:
        (self.host.root / "run" / f"{uuid}.img").write_bytes(bytes(1 << 20))
        disk = DISK.format(path=f"/run/{uuid}.img")
        connection = libvirt.open(self.host.uri)
        connection.defineXML(XML.format(name=f"vm-{uuid[:4]}", uuid=uuid, disk=disk)).create()
        connection.close()

    def find(self, uuid: str) -> Reading:
        return next(each for each in self.performance.readings() if each.uuid == uuid)

    def stop(self, uuid: str) -> None:
        connection = libvirt.open(self.host.uri)
        connection.lookupByUUIDString(uuid).destroy()
        connection.close()

    def lose(self) -> None:
        self.host.stop_libvirtd()

    def regain(self) -> None:
        self.host.start_libvirtd()

    def process(self, uuid: str) -> int:
        """The number of its QEMU, as this test's own namespace knows it."""
        for words in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if uuid.encode() in words.read_bytes() and b"qemu-system" in words.read_bytes():
                    return int(words.parent.name)
        raise AssertionError("no QEMU runs it")


@pytest.fixture(scope="module")
def host() -> Iterator[PrivateHost]:
    with private_host("sa") as started:
        yield started


@pytest.fixture(params=["memory", "libvirt"])
def bench(request: pytest.FixtureRequest) -> MemoryBench | LibvirtBench:
    return MemoryBench() if request.param == "memory" else LibvirtBench(request.getfixturevalue("host"))


def new() -> str:
    return str(uuids.uuid4())


def test_a_running_domain_tells_its_figures_and_one_that_stopped_is_not_listed(bench):
    value = new()
    bench.start(value)
    wait_until(lambda: bench.find(value).read_requests, 10)
    seen = bench.find(value)
    assert seen.cpu_ns
    assert seen.memory > 500_000
    assert (seen.read_bytes or 0) >= 512
    assert (seen.written_bytes, seen.write_requests) == (0, 0)
    bench.stop(value)
    assert value not in [each.uuid for each in bench.performance.readings()]


def test_a_run_keeps_its_name_and_the_next_has_another(bench):
    value = new()
    bench.start(value)
    first = bench.find(value)
    again = bench.find(value)
    assert again.run == first.run
    assert again.cpu_ns >= first.cpu_ns
    bench.stop(value)
    bench.start(value)
    assert bench.find(value).run != first.run
    bench.stop(value)


def test_a_hypervisor_that_is_away_raises_and_one_that_is_back_is_asked_again(bench):
    value = new()
    bench.start(value)
    run = bench.find(value).run
    bench.lose()
    with pytest.raises(HypervisorFailed):
        bench.performance.readings()
    bench.regain()
    assert bench.find(value).run == run
    bench.stop(value)


def test_a_stuck_qemu_keeps_nobody_waiting(host):
    bench, stuck, well = LibvirtBench(host), new(), new()
    bench.start(stuck)
    bench.start(well)
    process = bench.process(stuck)
    os.kill(process, signal.SIGSTOP)
    try:
        for _ in range(3):
            began = time.monotonic()
            told = {each.uuid: each for each in bench.performance.readings()}
            assert time.monotonic() - began < 20  # a QEMU that stands still would be waited for without end
            assert told[stuck].cpu_ns is not None
            assert told[well].cpu_ns is not None
            assert told[stuck].read_bytes is None
    finally:
        os.kill(process, signal.SIGCONT)
    wait_until(lambda: bench.find(well).read_bytes is not None and bench.find(stuck).read_bytes is not None, 60)
    bench.stop(stuck)
    bench.stop(well)
