"""One change of the pool through the controller itself: taken in (checked, stored), then published until it is durable.

A real store (SQLite, synchronous, in the folder of temporary files), a thousand hosts that have reported and acknowledged, ten VMs running
on each, all with their passports. Timed apart: taking in (`ours_apply_*`: every check of the whole pool, one transaction), and publishing
(`ours_*`): the engine's step from the committed documents to what every host is to be told now (new objects, the plan of all stages, an
order for each host), committed, and then the signing of one host's manifest when its stream asks. After each round, not timed, all hosts
take and acknowledge every stage until the rollout is done (their manifests are not signed here, but noted as taken).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from policypool import Made
from sqlalchemy import create_engine, update

from buckler.controller.assemble import open_parts
from buckler.controller.changes import Wanted, store_change
from buckler.controller.engine import Engine
from buckler.controller.orders import take_order
from buckler.controller.parts import Parts
from buckler.controller.passports import issuing_id
from buckler.controller.pool_state import HOST, PASSPORT, STATE, attributes_of, content_of, key_of, zone_name
from buckler.controller.registry import Author
from buckler.controller.settings import Settings
from buckler.drivers.store.tables import ORDERS
from buckler.model.agentapi import Acknowledgement, Observation, ObservedDomain
from buckler.model.domain import DomainState
from buckler.model.ids import Revision
from buckler.model.pool import Network, Vm
from buckler.policy.language import Document, InterfaceSpec, Kind, NetworkSpec, VmSpec
from buckler.ports.records import NumberSpace, StoredDocument, VmRecord
from buckler.ports.roster import HostRecord
from buckler.ports.store import Unit

ROUNDS = 7
AUTHOR = Author("bench")
Change = Callable[["Sink", int], None]


class Sink:
    """Takes a generated change as documents."""

    def __init__(self) -> None:
        self.documents: tuple[Document, ...] = ()

    def put_vm(self, vm: Vm) -> None:
        self.documents = (vm_document(vm),)

    def put_documents(self, documents: tuple[Document, ...]) -> None:
        self.documents = tuple(documents)


class Controller:
    """A controller's parts and engine without its sockets, and what hosts would say to it."""

    def __init__(self, folder: Path, made: Made) -> None:
        self.parts: Parts = open_parts(Settings(pool="bench", state_dir=str(folder)))
        self.engine = Engine(self.parts)
        self.hosts = made.pool.hosts
        self._streams = create_engine(self.parts.settings.database_url())
        with self.parts.store.write() as unit:
            fill_store(self.parts, unit, made)

    def publish(self) -> tuple[float, float]:
        """Milliseconds of one step and of one host's manifest: by the clock, and of this process."""
        began, worked = time.perf_counter(), time.process_time()
        self.engine.step()
        with self.parts.store.write() as unit:
            assert take_order(self.parts, unit, self.hosts[0]) is not None
        return (time.perf_counter() - began) * 1000, (time.process_time() - worked) * 1000

    def settle(self) -> int:
        """All hosts take what they are told and acknowledge it until nothing is left to do; how many stages there were."""
        stages = 0
        while True:
            with self.parts.store.write() as unit:
                for order in unit.manifests.orders().values():
                    unit.acks.put(order.host, Acknowledgement(order.revision, time.time()))
            with self._streams.begin() as connection:
                connection.execute(update(ORDERS).values(taken=ORDERS.c.revision))
            if not self.engine.step():
                return stages
            stages += 1

    def close(self) -> None:
        self._streams.dispose()
        self.parts.store.close()


def measure_durable(made: Made, changes: dict[str, Change]) -> dict[str, float]:
    """Give medians in milliseconds for the changes named ``address``, ``label`` and ``rule``."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="buckler-durable-") as folder:
        controller = Controller(Path(folder), made)
        found["ours_first_10k_ms"], _ = controller.publish()
        controller.settle()
        for word in ("address", "label", "rule"):
            taken, published = [], []
            for number in range(ROUNDS):
                sink = Sink()
                changes[word](sink, number)
                began = time.perf_counter()
                store_change(controller.parts, Wanted(documents=sink.documents), AUTHOR)
                taken.append((time.perf_counter() - began) * 1000)
                published.append(controller.publish())
                controller.settle()
            found[f"ours_apply_{word}_10k_ms"] = sorted(taken)[ROUNDS // 2]
            found[f"ours_{word}_10k_ms"] = sorted(wall for wall, _ in published)[ROUNDS // 2]
            found[f"ours_{word}_10k_worst_ms"] = max(wall for wall, _ in published)
            found[f"ours_{word}_10k_cpu_ms"] = sorted(work for _, work in published)[ROUNDS // 2]
        controller.close()
    return found


def fill_store(parts: Parts, unit: Unit, made: Made) -> None:
    """Put a pool where applying it would: rows of the same form, without the checks of eleven thousand documents."""
    revision = unit.revisions.allocate("apply", "bench", time.time())
    documents = [*map(network_document, made.pool.networks), *made.documents]
    for document in documents:
        _put(unit, document, revision)
    zones = {zone_name(network_document(each)): int(each.zone) for each in made.pool.networks}
    unit.numbers.add(NumberSpace.ZONE, zones)
    unit.numbers.add(NumberSpace.VM, {vm.id: int(vm.number) for vm in made.pool.vms})
    places = [host.name for host in made.pool.hosts]
    for number, vm in enumerate(made.pool.vms):
        document = vm_document(vm)
        _put(unit, document, revision)
        unit.vms.put(VmRecord(vm.id, vm.number, vm.tenant, vm.name, time.time()))
        facts = {HOST: places[number % len(places)], STATE: DomainState.RUNNING.value, PASSPORT: issuing_id(parts)}
        said = {name: value for name, value in attributes_of(document).items() if value}
        unit.vms.set_attributes(vm.id, said | facts, time.time())
    for number, host in enumerate(made.pool.hosts):
        unit.hosts.put(HostRecord(host, time.time(), time.time()))
        here = made.pool.vms[number :: len(places)]
        domains = tuple(ObservedDomain(vm.uuid, vm.name, DomainState.RUNNING.value, vm=vm.id) for vm in here)
        unit.observations.put(host.id, Observation(time.time(), Revision(0), domains))


def _put(unit: Unit, document: Document, revision: Revision) -> None:
    unit.documents.put(StoredDocument(key_of(document), content_of(document), revision), time.time())


def network_document(network: Network) -> Document:
    spec = NetworkSpec(network.bridge, cidrs=network.cidrs)
    return Document(Kind.NETWORK, network.name, spec, network.tenant)


def vm_document(vm: Vm) -> Document:
    cards = tuple(InterfaceSpec(each.mac, each.network, each.addresses) for each in vm.interfaces)
    document = Document(Kind.VM, vm.name, VmSpec(vm.uuid, cards), vm.tenant)
    return msgspec.structs.replace(document, labels=dict(vm.labels))
