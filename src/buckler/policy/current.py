"""The pool's state kept change by change: what each change means for the objects that hosts enforce.

Owns no order of publishing (rollout) and no numbers (``Numbering`` gives them). The same state has the same objects,
whatever was changed on the way to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from buckler.model.bundle import Root
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest, IdentityNumber, VmId
from buckler.model.label import LABEL_ENDPOINT, Labels
from buckler.model.pool import Host, Network, Outsider, ServiceAddress, Vm
from buckler.policy.bundle import outside_table
from buckler.policy.compose import NAMED_KINDS, compose_document, key_of_excepted, names_of
from buckler.policy.delta import Delta, Numbering
from buckler.policy.language import Document, Kind
from buckler.policy.pieces import head_of, place_endpoint
from buckler.policy.pool import Pool, Singled, Station, identity_key, singled_out, stations_of, visitor_of
from buckler.policy.quarantine import QUARANTINE_POLICIES
from buckler.policy.row import Row
from buckler.policy.rows import Rows
from buckler.policy.rules import expand_document
from buckler.policy.serving import Serving
from buckler.policy.standing import NO_PROGRAM, Net, Stand, all_together, endpoint_of, facts_of
from buckler.policy.trie import Shelf, Trie


class Current:
    """Change it by ``put_`` and ``drop_``, then ``settle``. An empty pool is where it begins."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering
        self.rows = Rows(numbering.rule)
        self.shelf = Shelf()
        self.serving = Serving(self.shelf, numbering.service)
        self._vms: dict[VmId, Vm] = {}
        self._by_name: dict[str, set[VmId]] = {}
        self._nets: dict[str, Net] = {}
        self._stands: dict[VmId, tuple[Stand, ...]] = {}
        self._users: Counter[IdentityNumber] = Counter()
        self._programs: dict[IdentityNumber, Digest] = {}
        self._net_of: dict[IdentityNumber, str] = {}
        self._hosts: tuple[Host, ...] = ()
        self._documents: dict[str, Document] = {}
        self._composed: dict[str, Document] = {}
        self._things: dict[str, Document] = {}
        self._namers: dict[tuple[Kind, str], set[str]] = {}
        self._names: dict[str, frozenset[tuple[Kind, str]]] = {}
        self._exceptions: dict[str, dict[str, Document]] = {}
        self._outsiders: dict[str, Outsider] = {}
        self._visits: dict[str, tuple[str, IdentityNumber, tuple[str, ...]]] = {}
        self._named: dict[str, Singled] = {}
        self._singled = Singled()
        self._outside: dict[str, IdentityNumber] = {}
        self._outside_table = Trie(self.shelf)
        self._outside_changed = True
        self._rules = Trie(self.shelf)
        self._root = Digest("")
        self.put_documents(QUARANTINE_POLICIES)

    def put_vm(self, vm: Vm) -> None:
        """Take a VM in, in place of what it was."""
        old = self._vms.get(vm.id)
        if old == vm:
            return
        if old is not None and old.name != vm.name:
            self._forget_name(old)
        self._vms[vm.id] = vm
        self._by_name.setdefault(vm.name, set()).add(vm.id)
        self._stand(vm.id)

    def drop_vm(self, vm: VmId) -> None:
        """Leave a VM out."""
        old = self._vms.pop(vm, None)
        if old is not None:
            self._forget_name(old)
            self._stand(vm)

    def put_network(self, network: Network) -> None:
        """Take a network in; the VMs in it stand anew."""
        net = self._nets.get(network.name)
        if net is not None and net.network == network:
            return
        waiting = [vm.id for vm in self._vms.values() if any(card.network == network.name for card in vm.interfaces)]
        if net is not None and net.network.zone != network.zone:
            self.drop_network(network.name)
            net = None
        if net is None:
            self._nets[network.name] = Net(network, self.shelf)
        else:
            net.network = network
            self.serving.turn(network.name)
            self._let_go(net)
        self._restand(waiting)
        self._revisit(network.name)

    def _revisit(self, network: str) -> None:
        for key, each in self._outsiders.items():
            if each.network == network:
                self._visit(key)

    def drop_network(self, name: str) -> None:
        """Leave a network out; interfaces in it stay closed."""
        net = self._nets.pop(name, None)
        if net is None:
            return
        vms = tuple(net.vms)
        for vm in vms:
            self._stand(vm, without=net)
        self._revisit(name)
        net.table.clear()
        self.serving.close(name)
        self._let_go(net)

    def put_hosts(self, hosts: Iterable[Host]) -> None:
        """Take the pool's hosts as they are now."""
        hosts = tuple(hosts)
        if hosts != self._hosts:
            self._hosts = hosts
            self._outside_changed = True

    def put_outsider(self, outsider: Outsider) -> None:
        """Take an endpoint in, in place of what it was."""
        key = f"{outsider.tenant}/{outsider.name}"
        if self._outsiders.get(key) != outsider:
            self._outsiders[key] = outsider
            self._visit(key)

    def drop_outsider(self, tenant: str, name: str) -> None:
        """Leave an endpoint out."""
        if self._outsiders.pop(f"{tenant}/{name}", None) is not None:
            self._visit(f"{tenant}/{name}")

    def put_service(self, service: ServiceAddress) -> None:
        """Take a virtual address in, in place of what it was; ``serving.drop`` leaves it out."""
        net = self._nets.get(service.network)
        networks = {net.network.name: net.network} if net else {}
        vms = (self._vms[vm] for vm in (net.vms if net else ()))
        self.serving.put(service, (each for vm in vms for each in stations_of(vm, networks, self._singled)))

    def put_documents(self, documents: Iterable[Document]) -> None:
        """Take policies, flows, groups and services in, in place of those with their keys: what they name comes with them."""
        documents = tuple(documents)
        for document in documents:
            if document.kind in NAMED_KINDS:
                self._things[document.key] = document
        for document in documents:
            if document.kind in NAMED_KINDS:
                self._note_named(document.key, singled_out((document,)))
                self._recompose(document)
            elif document.kind is Kind.EXCEPTION:
                self._drop_exception(document.key)
                self._exceptions.setdefault(key_of_excepted(document), {})[document.key] = document
                self._note_named(document.key, singled_out((document,)))
                self._put_again(key_of_excepted(document))
            else:
                self._put_policy(document)

    def drop_documents(self, keys: Iterable[str]) -> None:
        """Leave documents out. Nothing may name a group or service any more that goes."""
        keys = tuple(keys)
        things = [self._things[key] for key in keys if key in self._things]
        for key in keys:
            if key not in self._things:
                self._drop_exception(key)
                self._drop_policy(key)
        for thing in things:
            del self._things[thing.key]
            self._note_named(thing.key, Singled())
        for thing in things:
            self._recompose(thing)

    def _drop_exception(self, key: str) -> None:
        for policy, written in tuple(self._exceptions.items()):
            if written.pop(key, None) is not None:
                if not written:
                    del self._exceptions[policy]
                self._note_named(key, Singled())
                self._put_again(policy)

    def _put_again(self, key: str) -> None:
        if key in self._documents:
            self._put_policy(self._documents[key])

    def _recompose(self, thing: Document) -> None:
        """Say anew what policies mean that name this."""
        for key in tuple(self._namers.get((thing.kind, thing.name), ())):
            self._put_policy(self._documents[key])

    def _put_policy(self, written: Document) -> None:
        exceptions = tuple(self._exceptions.get(written.key, {}).values())
        self._forget_names(written.key)
        self._documents[written.key] = written
        names = self._names[written.key] = frozenset().union(*map(names_of, (written, *exceptions)))
        for name in names:
            self._namers.setdefault(name, set()).add(written.key)
        self._put_composed(compose_document(written, self._things, exceptions))

    def _forget_names(self, key: str) -> None:
        for name in self._names.pop(key, ()):
            self._namers[name].discard(key)

    def _put_composed(self, document: Document) -> None:
        old = self._composed.get(document.key)
        if old == document:
            return
        if old is not None:
            self._drop_rules(old)
        self._composed[document.key] = document
        self.rows.put_document(document, self._numbering.cidr)
        for rule in expand_document(document):
            name = canonical_bytes((rule.policy, rule.name, rule.tier.value))
            self._rules.put(f"r:{self._numbering.rule(rule.key)}", name)
        self._outside_changed = True
        self._note_named(document.key, singled_out((document,)))

    def _drop_policy(self, key: str) -> None:
        self._documents.pop(key, None)
        old = self._composed.pop(key, None)
        self._forget_names(key)
        if old is not None:
            self.rows.drop_document(key)
            self._drop_rules(old)
            self._outside_changed = True
            self._note_named(key, Singled())

    def settle(self) -> Delta:
        """Work out what all changes since the last time mean."""
        for number in self.rows.settle():
            if LABEL_ENDPOINT not in self.rows.postings.labels[number]:  # nothing stands there that could enforce it
                self._put_program(number, self.rows.row(number))
        if self._outside_changed:
            self._write_outside()
        outside = self._outside_table.write()
        for net in self._nets.values():
            self._write_head(net, outside)
        rules = self._rules.write()
        heads = tuple(net.head for net in sorted(self._nets.values(), key=lambda each: each.network.zone))
        before, self._root = self._root, self.shelf.hold(canonical_bytes(Root(heads, rules)))
        if before:
            self.shelf.release(before)
        fresh, gone = self.shelf.turn()
        return Delta(self._root, fresh, gone)

    def identities(self) -> Mapping[IdentityNumber, int]:
        """Count the interfaces of each identity."""
        return self._users

    def _forget_name(self, vm: Vm) -> None:
        self._by_name[vm.name].discard(vm.id)
        if not self._by_name[vm.name]:
            del self._by_name[vm.name]

    def _restand(self, vms: Iterable[VmId]) -> None:
        for vm in vms:
            self._stand(vm)

    def _stand(self, vm: VmId, without: Net | None = None) -> None:
        """Put a VM's interfaces where they belong now, new ones before old ones go: what stays is not touched."""
        old, value = self._stands.pop(vm, ()), self._vms.get(vm)
        networks: dict[str, Network] = {}
        for card in value.interfaces if value else ():
            net = self._nets.get(card.network)
            if net is not None and net is not without:
                networks[card.network] = net.network
        found = tuple(stations_of(value, networks, self._singled)) if value else ()
        new = tuple(self._enter(station) for station in found)
        if new:
            self._stands[vm] = new
        kept = {(each.network, each.mac) for each in new}
        for each in old:
            self._leave(
                each, vm, is_kept=(each.network, each.mac) in kept, stays=any(o.network == each.network for o in new)
            )

    def _visit(self, key: str) -> None:
        """Put an endpoint's addresses where they belong now."""
        old, outsider = self._visits.pop(key, None), self._outsiders.get(key)
        net = self._nets.get(outsider.network) if outsider else None
        visitor = visitor_of(outsider, {net.network.name: net.network}, self._singled) if outsider and net else None
        addresses: tuple[str, ...] = ()
        if visitor is not None and net is not None:
            addresses = visitor.outsider.addresses
            number = self._use(visitor.labels, visitor.network)
            self._visits[key] = (visitor.network.name, number, addresses)
            for address in addresses:
                net.table.put(f"a:{address}", b"%d" % number)
        if old is None:
            return
        before = self._nets.get(old[0])
        for address in old[2]:
            if before is not None and (before is not net or address not in addresses):
                before.table.drop(f"a:{address}")
        self._unuse(old[1])

    def _use(self, labels: Labels, network: Network) -> IdentityNumber:
        number = self._numbering.identity(identity_key(labels))
        if not self._users[number]:
            self.rows.put_labels(number, labels, network.zone)
            self._net_of[number] = network.name
        self._users[number] += 1
        return number

    def _unuse(self, number: IdentityNumber) -> None:
        self._users[number] -= 1
        if self._users[number]:
            return
        del self._users[number]
        self.rows.drop_labels(number)
        owner = self._nets.get(self._net_of.pop(number))
        if owner is not None:
            owner.table.drop(f"p:{number}")
        program = self._programs.pop(number, None)
        if program is not None:
            self.shelf.release(program)

    def _enter(self, station: Station) -> Stand:
        net = self._nets[station.network.name]
        number = self._use(station.labels, station.network)
        net.vms.add(station.vm.id)
        self.serving.enter(station)
        net.table.put(
            f"e:{station.interface.mac}", canonical_bytes(place_endpoint(endpoint_of(station, number), NO_PROGRAM))
        )
        return Stand(station.network.name, station.interface.mac, number)

    def _leave(self, stand: Stand, vm: VmId, *, is_kept: bool, stays: bool) -> None:
        net = self._nets.get(stand.network)
        self._unuse(stand.identity)
        if net is not None and not is_kept:
            net.table.drop(f"e:{stand.mac}")
            self.serving.leave(stand.network, stand.mac)
        if net is not None and not stays:
            net.vms.discard(vm)

    def _put_program(self, number: IdentityNumber, row: Row) -> None:
        old = self._programs.get(number)
        digest = self._programs[number] = self.shelf.hold(row.content, row.digest)
        if old is not None:
            self.shelf.release(old)
        self._nets[self._net_of[number]].table.put(f"p:{number}", b'"%s"' % digest.encode())

    def _note_named(self, key: str, named: Singled) -> None:
        """Let VMs that a selector names, or names no more, stand anew."""
        if named == self._named.get(key, Singled()):
            return
        self._named[key] = named
        if named == Singled():
            del self._named[key]
        before, after = self._singled, all_together(self._named.values())
        self._singled = after
        for key, each in self._outsiders.items():
            if before.everyone != after.everyone or each.name in before.names ^ after.names:
                self._visit(key)
        if before.everyone != after.everyone:
            self._restand(list(self._vms))
            return
        for name in before.names ^ after.names:
            self._restand(tuple(self._by_name.get(name, ())))
        self._restand(VmId(vm) for vm in before.ids ^ after.ids if VmId(vm) in self._vms)

    def _drop_rules(self, document: Document) -> None:
        for rule in expand_document(document):
            self._rules.drop(f"r:{self._numbering.rule(rule.key)}")

    def _write_outside(self) -> None:
        now = outside_table(
            Pool(tuple(net.network for net in self._nets.values()), (), self._hosts), self.rows.postings.prefixes()
        )
        for prefix in self._outside.keys() - now.keys():
            self._outside_table.drop(f"c:{prefix}")
        for prefix, number in now.items():
            if self._outside.get(prefix) != number:
                self._outside_table.put(f"c:{prefix}", b"%d" % number)
        self._outside = now
        self._outside_changed = False

    def _write_head(self, net: Net, outside: Digest) -> None:
        services = self.serving.write(net.network)
        head = canonical_bytes(head_of(facts_of(net.network), net.table.write(), outside, services))
        if net.head and self.shelf.objects.get(net.head) == head:
            return
        before, net.head = net.head, self.shelf.hold(head)
        if before:
            self.shelf.release(before)

    def _let_go(self, net: Net) -> None:
        if net.head:
            self.shelf.release(net.head)
            net.head = Digest("")
        self._outside_changed = True
