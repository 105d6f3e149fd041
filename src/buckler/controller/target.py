"""What is declared → the root of its objects, change by change. Owns no stage; nothing here is the only place of anything."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from operator import is_not

from buckler.controller.numbering import StoreNumbering
from buckler.controller.pool_state import Registered, State
from buckler.controller.rollout_state import StateName, name_of
from buckler.model.ids import Digest
from buckler.model.pool import Outsider, Vm
from buckler.policy.compose import compose_documents, names_of
from buckler.policy.current import Current
from buckler.policy.language import Document, FlowSpec, Kind, PolicySpec
from buckler.ports.store import Unit


class Target:
    """Follows one snapshot after the other. When the transaction of one fails, it has to be made anew."""

    def __init__(self, unit: Unit) -> None:
        self._numbering = StoreNumbering(unit)
        self._current = Current(self._numbering)
        self._vms: tuple[Vm, ...] = ()
        self._registered: tuple[Registered, ...] = ()
        self._outsiders: dict[tuple[str, str], Outsider] = {}
        self._services: frozenset[tuple[str, str]] = frozenset()
        self._networks: frozenset[str] = frozenset()
        self._written: tuple[Document, ...] = ()
        self._policies: dict[str, Document] = {}

    def settle(self, unit: Unit, state: State) -> StateName:
        """Work out what is declared now, and keep its objects and new numbers in the store."""
        self._put(state)
        delta = self._current.settle()
        self._numbering.keep(unit)
        unit.objects.put(delta.fresh)
        return name_of(delta.root, self._current.shelf.objects[delta.root])

    def fetch(self, unit: Unit, wanted: frozenset[Digest]) -> Mapping[Digest, bytes]:
        """Objects of this state from memory, those of others from the store."""
        held = {
            digest: self._current.shelf.objects[digest] for digest in wanted if digest in self._current.shelf.objects
        }
        missing = wanted - held.keys()
        return {**held, **unit.objects.get(missing)} if missing else held

    def _put(self, state: State) -> None:
        """In the order in which each finds what it stands on; what goes, goes last."""
        current, pool = self._current, state.pool
        current.put_hosts(pool.hosts)
        for network in pool.networks:
            current.put_network(network)
        self._put_policies(state.rest)
        outsiders = {(each.tenant, each.name): each for each in pool.outsiders}
        for outsider in pool.outsiders:
            current.put_outsider(outsider)
        services = frozenset((each.tenant, each.name) for each in pool.services)
        for service in pool.services:
            current.put_service(service)
        for tenant, name in self._services - services:
            current.serving.drop(f"{tenant}/{name}")
        self._services = services
        self._put_vms(state)
        for tenant, name in self._outsiders.keys() - outsiders.keys():
            current.drop_outsider(tenant, name)
        networks = frozenset(network.name for network in pool.networks)
        for name in self._networks - networks:
            current.drop_network(name)
        self._outsiders, self._networks = outsiders, networks

    def _put_vms(self, state: State) -> None:
        if state.registered is self._registered:
            return
        before, now = self._vms, state.pool.vms
        pairs = list(compress(zip(before, now, strict=False), map(is_not, before, now)))
        if len(before) == len(now) and all(old.id == new.id for old, new in pairs):
            for _, vm in pairs:
                self._current.put_vm(vm)
        else:
            known = {vm.id: vm for vm in before}
            for vm in now:
                if known.pop(vm.id, None) is not vm:
                    self._current.put_vm(vm)
            for gone in known:
                self._current.drop_vm(gone)
        self._vms, self._registered = now, state.registered

    def _put_policies(self, written: tuple[Document, ...]) -> None:
        """Composed as a whole, as what one names or excepts may be another: that is little beside resolving."""
        if written is self._written or _is_same(written, self._written):
            return
        if not self._put_alone(written):
            composed = compose_documents(written)
            found = {each.key: each for each in composed if isinstance(each.spec, PolicySpec | FlowSpec)}
            self._current.put_documents(each for key, each in found.items() if self._policies.get(key) != each)
            self._current.drop_documents(self._policies.keys() - found.keys())
            self._policies = found
        self._written = written

    def _put_alone(self, written: tuple[Document, ...]) -> bool:
        """Where only policies and flows changed that name nothing, and no exception names any, each is its own meaning."""
        if len(written) != len(self._written) or any(each.kind is Kind.EXCEPTION for each in written):
            return False
        pairs = [(old, new) for old, new in zip(self._written, written, strict=True) if old is not new]
        for old, new in pairs:
            if old.key != new.key or not isinstance(new.spec, PolicySpec | FlowSpec) or names_of(new):
                return False
        changed = [new for old, new in pairs if self._policies.get(new.key) != new]
        self._current.put_documents(changed)
        self._policies |= {each.key: each for each in changed}
        return True


def _is_same(one: tuple[Document, ...], other: tuple[Document, ...]) -> bool:
    """The same values: equal ones that are others cost no more than to be composed once again."""
    return len(one) == len(other) and all(first is second for first, second in zip(one, other, strict=True))
