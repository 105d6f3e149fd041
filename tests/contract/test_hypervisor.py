"""One contract for ports/hypervisor.py, on memory and on a libvirtd started for it."""

from __future__ import annotations

import queue
import uuid as uuids
from collections.abc import Iterator

import libvirt
import pytest

from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.drivers.libvirt.hypervisor import LibvirtHypervisor
from buckler.gate.domain import parse_domain
from buckler.ports.hypervisor import Domain, DomainEvent, Hypervisor, HypervisorFailed
from tests.privatehost import PrivateHost, private_host, wait_until

NIC = "<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><model type='virtio'/></interface>"
XML = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='usb' model='none'/><memballoon model='none'/>{nic}</devices></domain>"""
FIRST, SECOND = "52:54:00:aa:00:01", "52:54:00:aa:00:02"


class MemoryBench:
    def __init__(self) -> None:
        self.hypervisor = InMemoryHypervisor()

    def start(self, uuid: str) -> None:
        self.hypervisor.start(XML.format(name=f"vm-{uuid[:4]}", uuid=uuid, nic=NIC.format(mac=FIRST)))

    def stop(self, uuid: str) -> None:
        self.hypervisor.stop(uuid)

    def plug(self, uuid: str) -> None:
        self.hypervisor.plug_interface(uuid, NIC.format(mac=SECOND))

    def is_cut(self, uuid: str) -> bool:
        return SECOND not in self.hypervisor.domains()[0].xml

    def restart(self) -> None:
        self.hypervisor.go_away()
        self.hypervisor.come_back()


class LibvirtBench:
    def __init__(self, host: PrivateHost) -> None:
        self.host = host
        self.hypervisor = LibvirtHypervisor(host.uri)

    def _domain(self, uuid: str) -> libvirt.virDomain:
        self._connection = libvirt.open(self.host.uri)
        return self._connection.lookupByUUIDString(uuid)

    def start(self, uuid: str) -> None:
        connection = libvirt.open(self.host.uri)
        connection.defineXML(XML.format(name=f"vm-{uuid[:4]}", uuid=uuid, nic=NIC.format(mac=FIRST))).create()
        connection.close()

    def stop(self, uuid: str) -> None:
        self._domain(uuid).destroy()

    def plug(self, uuid: str) -> None:
        self._domain(uuid).attachDevice(NIC.format(mac=SECOND))

    def is_cut(self, uuid: str) -> bool:
        """No guest system runs here to consent to unplugging: the link must be cut without it."""
        xml = self._domain(uuid).XMLDesc()
        return SECOND not in xml or "<link state='down'/>" in xml

    def restart(self) -> None:
        self.host.restart_libvirtd()


@pytest.fixture(scope="module")
def host() -> Iterator[PrivateHost]:
    with private_host("ag") as started:
        started.run("ip", "link", "add", "br0", "type", "bridge")
        started.run("ip", "link", "set", "br0", "up")
        yield started


@pytest.fixture(params=["memory", "libvirt"])
def bench(request: pytest.FixtureRequest) -> MemoryBench | LibvirtBench:
    return MemoryBench() if request.param == "memory" else LibvirtBench(request.getfixturevalue("host"))


@pytest.fixture
def uuid(bench: MemoryBench | LibvirtBench) -> Iterator[str]:
    value = str(uuids.uuid4())
    bench.start(value)
    yield value
    bench.stop(value)


def found(hypervisor: Hypervisor, uuid: str) -> Domain:
    return next(domain for domain in hypervisor.domains() if domain.uuid == uuid)


def test_a_running_domain_is_seen_with_its_interfaces(bench, uuid):
    domain = found(bench.hypervisor, uuid)
    facts = parse_domain(domain.xml)
    assert (domain.state, domain.name, facts.uuid) == ("running", f"vm-{uuid[:4]}", uuid)
    assert [(card.kind, card.mac, card.bridge) for card in facts.interfaces] == [("bridge", FIRST, "br0")]


def test_a_passport_is_written_and_replaced(bench, uuid):
    for text in ("a.b.c", "d.e.f"):
        bench.hypervisor.write_passport(uuid, text)
        assert parse_domain(found(bench.hypervisor, uuid).xml).passport == text


def test_a_residence_stands_beside_the_passport(bench, uuid):
    bench.hypervisor.write_passport(uuid, "a.b.c")
    for text in ("g.h.i", "j.k.l"):
        bench.hypervisor.write_residence(uuid, text)
    facts = parse_domain(found(bench.hypervisor, uuid).xml)
    assert (facts.passport, facts.residence) == ("a.b.c", "j.k.l")


def test_events_arrive_in_order_until_stopped(bench):
    events: queue.Queue[DomainEvent] = queue.Queue()
    stop = bench.hypervisor.watch(events.put, lambda: None)
    value = str(uuids.uuid4())
    bench.start(value)
    bench.plug(value)
    bench.stop(value)
    seen = []
    while not seen or seen[-1][0] != "stopped":
        event = events.get(timeout=10)
        if event.uuid == value and event.what in ("started", "device-added", "stopped"):
            seen.append((event.what, event.detail))
    assert [what for what, _ in seen] == ["started", "device-added", "stopped"]
    assert (seen[0][1], seen[-1][1]) == ("booted", "destroyed")
    stop()
    while not events.empty():
        events.get()
    bench.start(value)
    bench.stop(value)
    assert events.empty()


def test_a_plugged_interface_is_cut_without_the_guests_consent(bench, uuid):
    bench.plug(uuid)
    assert not bench.is_cut(uuid)
    bench.hypervisor.detach_interface(uuid, SECOND.upper())
    wait_until(lambda: bench.is_cut(uuid), 2)
    assert FIRST in found(bench.hypervisor, uuid).xml


def test_a_restart_is_told_once_and_a_new_watch_works(bench, uuid):
    losses: queue.Queue[str] = queue.Queue()
    bench.hypervisor.watch(lambda _event: None, lambda: losses.put("lost"))
    bench.restart()
    assert losses.get(timeout=15) == "lost"
    assert found(bench.hypervisor, uuid).state == "running"
    events: queue.Queue[DomainEvent] = queue.Queue()
    stop = bench.hypervisor.watch(events.put, lambda: None)
    bench.plug(uuid)
    assert events.get(timeout=10).what in ("device-added", "metadata-change")
    stop()
    assert losses.empty()


def test_a_domain_that_stays_is_not_leaving(bench, uuid):
    assert not bench.hypervisor.is_leaving(uuid)


def test_what_cannot_be_done_raises_one_exception(bench, uuid):
    nobody = str(uuids.uuid4())
    with pytest.raises(HypervisorFailed):
        bench.hypervisor.is_leaving(nobody)
    with pytest.raises(HypervisorFailed):
        bench.hypervisor.write_passport(nobody, "a.b.c")
    with pytest.raises(HypervisorFailed):
        bench.hypervisor.detach_interface(nobody, FIRST)
    with pytest.raises(HypervisorFailed):
        bench.hypervisor.migrate(uuid, "qemu+unix:///system?socket=/nonexistent")
