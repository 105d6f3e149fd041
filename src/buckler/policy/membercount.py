"""How many interfaces serve at each virtual address by documents alone: counted, or counted on from before. Notes no problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.model.ids import VmId, VmNumber, Zone
from buckler.model.pool import Network
from buckler.policy.language import Document, NetworkSpec, ServiceSpec, VmSpec
from buckler.policy.pool import Singled, network_from_document, stations_of, vm_from_document
from buckler.policy.serving import is_meant, member_at


class Count(msgspec.Struct, frozen=True):
    """Interfaces that a selector means in the network, and those of them with an address of the family."""

    meant: int = 0
    serving: int = 0


class MemberCounts:
    """Counts as of the documents that were looked at last, known by the objects that they are."""

    def __init__(self) -> None:
        self._vms: dict[int, Document] = {}
        self._networks: dict[str, Document] = {}
        self._placed: dict[str, Network] = {}
        self._services: dict[str, Document] = {}
        self._counts: dict[str, dict[int, Count]] = {}

    def look(
        self, vms: Sequence[Document], services: Iterable[Document], networks: Mapping[str, Document]
    ) -> dict[str, Count]:
        """Count for each service that is given, by its document's key."""
        wanted = {each.key: each for each in services}
        names = {spec.network for each in wanted.values() if isinstance(spec := each.spec, ServiceSpec)}
        self._follow_networks({name: networks[name] for name in names if name in networks})
        self._follow_vms({id(document): document for document in vms})
        for key in [key for key, each in self._services.items() if wanted.get(key) is not each]:
            del self._services[key], self._counts[key]
        for key, each in wanted.items():
            if key not in self._services:
                self._services[key], self._counts[key] = each, {}
                self._count(self._vms.values(), [key])
        return {key: _total(self._counts[key].values()) for key in wanted}

    def _follow_networks(self, networks: dict[str, Document]) -> None:
        if networks.keys() != self._networks.keys() or any(
            networks[name] is not self._networks[name] for name in networks
        ):
            self._vms, self._services, self._counts = {}, {}, {}
            here = {name: each for name, each in networks.items() if isinstance(each.spec, NetworkSpec)}
            self._networks, self._placed = (
                networks,
                {name: network_from_document(each, Zone(0)) for name, each in here.items()},
            )

    def _follow_vms(self, now: dict[int, Document]) -> None:
        for name in [name for name in self._vms if name not in now]:
            for counts in self._counts.values():
                counts.pop(name, None)
        fresh = [document for name, document in now.items() if name not in self._vms]
        self._vms = now
        self._count(fresh, list(self._counts))

    def _count(self, documents: Iterable[Document], keys: Sequence[str]) -> None:
        """Place VMs as the pool will, by what is declared alone; names count as ``is_meant`` has them."""
        at: dict[str, list[tuple[str, ServiceSpec]]] = {}
        for key in keys:
            spec = self._services[key].spec
            if isinstance(spec, ServiceSpec):
                at.setdefault(spec.network, []).append((key, spec))
        for document in documents if at else ():
            if isinstance(document.spec, VmSpec) and any(card.network in at for card in document.spec.interfaces):
                self._count_one(document, at)

    def _count_one(self, document: Document, at: Mapping[str, list[tuple[str, ServiceSpec]]]) -> None:
        vm = vm_from_document(document, VmId(document.key), VmNumber(0))
        for station in stations_of(vm, self._placed, Singled()):
            for key, spec in at.get(station.network.name, ()):
                if is_meant(spec.selector, station):
                    serves = member_at(station, spec.virtual_address) is not None
                    before = self._counts[key].get(id(document), Count())
                    self._counts[key][id(document)] = Count(before.meant + 1, before.serving + serves)


def _total(counts: Iterable[Count]) -> Count:
    counts = tuple(counts)
    return Count(sum(each.meant for each in counts), sum(each.serving for each in counts))
