"""ports/shield.Shield on the loaded object: taps, programs and their connections. Owns no addresses of others."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.attach import TAP_HOOKS
from buckler.drivers.ebpf.bpffs import digest_of_pin
from buckler.drivers.ebpf.bridge_ports import ROLE_HOOKS
from buckler.drivers.ebpf.carrying import SIZES, resize
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.pruning import delete_buckets, free_buckets, free_expired
from buckler.drivers.ebpf.table import Table
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, IdentityNumber, VmNumber, Zone
from buckler.model.pool import ShieldMode
from buckler.model.program import Program
from buckler.model.shield import MOST_CONNECTIONS, PortRole, Tap
from buckler.ports.shield import ShieldFailed

Result = TypeVar("Result")
_CLOCK_STEP = 1_000_000_000
_MODES = (ShieldMode.ENFORCE, ShieldMode.OBSERVE)
_SET_SIZES = (layout.U32.size, layout.HALF_OPEN_SET.size)
_FRAGMENT_SIZES = (layout.FRAGMENT_KEY.size, layout.FRAGMENT.size)


class EbpfShield:
    """A tap's addresses read back sorted as text, its MAC in lower case."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._policy_ids: dict[int, Digest] = {}

    def open(self) -> None:
        """See the port."""
        self._kernel.open()
        self._read_policies()

    def taps(self) -> dict[int, Tap]:
        """See the port."""
        with self._kernel.lock:
            return self._guarded("read taps", self._taps)

    def put_tap(self, tap: Tap) -> None:
        """See the port."""
        with self._kernel.lock:
            self._guarded(f"configure tap {tap.ifindex}", lambda: self._put_tap(tap))

    def prepare_taps(self, taps: Sequence[Tap]) -> None:
        """See the port. The kernel waits after a map's entry in a map, some ten milliseconds: once for all of them here."""
        with self._kernel.lock:
            self._guarded("prepare taps", lambda: self._prepare(taps))

    def delete_tap(self, ifindex: int) -> None:
        """See the port."""
        with self._kernel.lock:
            self._guarded(f"delete tap {ifindex}", lambda: self._delete_tap(ifindex))

    def programs(self) -> frozenset[Digest]:
        """See the port."""
        return frozenset(digest_of_pin(path) for path in self._kernel.pins.policies.iterdir())

    def put_program(self, digest: Digest, program: Program) -> None:
        """See the port."""
        if digest_of(canonical_bytes(program)) != digest:
            raise ShieldFailed(f"the program is not what {digest} names")
        with self._kernel.lock:
            self._guarded(f"put program {digest}", lambda: self._put_program(digest, program))

    def delete_program(self, digest: Digest) -> None:
        """See the port."""
        with self._kernel.lock:
            self._kernel.pins.policy(digest).unlink(missing_ok=True)
            self._policy_ids = {number: known for number, known in self._policy_ids.items() if known != digest}

    def rejudge(self) -> None:
        """See the port."""
        with self._kernel.lock:
            self._guarded("rejudge", self._kernel.raise_generation)

    def held(self) -> frozenset[int]:
        """See the port."""
        return frozenset(layout.U32.unpack(key)[0] for key in self._kernel["tap_index"].each_key())

    def fallen(self) -> frozenset[int]:
        """See the port. Three system calls for each program that should be somewhere."""
        return self._guarded("ask for attachments", self._fallen)

    def altered_programs(self) -> frozenset[Digest]:
        """See the port. Each map is read back entry by entry."""
        return frozenset(digest for digest in self.programs() if self._read_digest(digest) != digest)

    def prune(self) -> int:
        """See the port."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        freed = 0
        for index in self._indexes().values():
            table = self._inner("established", index >> 1)
            if table is None:
                continue
            try:
                freed += free_expired(table, now)
                is_larger = table.max_entries > self._quota(index)
            finally:
                table.close()
            if is_larger:
                with self._kernel.lock:
                    self._guarded("shrink a table", lambda index=index: self._resize(index >> 1, self._quota(index)))  # type: ignore[misc]
        free_buckets(self._kernel["rates"], now)
        return freed

    def keep_time(self, *, is_believed: bool) -> bool:
        """See the port."""
        clock = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        clock = max(clock, 0) if is_believed else 0
        with self._kernel.lock:
            known = self._kernel.clock()
            if bool(known) == bool(clock) and abs(known - clock) <= _CLOCK_STEP:
                return False
            self._guarded("set the clock", lambda: self._kernel.set_clock(clock))
            return True

    def _guarded(self, what: str, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except (OSError, ValueError, struct.error) as failure:
            raise ShieldFailed(f"cannot {what}: {failure}") from failure

    def _indexes(self) -> dict[int, int]:
        return {
            layout.U32.unpack(key)[0]: layout.U32.unpack(value)[0]
            for key, value in self._kernel["tap_index"].items().items()
        }

    def _inner(self, outer: str, number: int) -> Table | None:
        value = self._kernel[outer].get(layout.U32.pack(number))
        if value is None:
            return None
        return Table(libbpf.check(libbpf.map_fd_by_id(layout.U32.unpack(value)[0]), f"open {outer}"))

    def _read_policies(self) -> None:
        self._policy_ids = {}
        for path in self._kernel.pins.policies.iterdir():
            table = Table(libbpf.get_pinned(path))
            self._policy_ids[table.id] = digest_of_pin(path)
            table.close()

    def _taps(self) -> dict[int, Tap]:
        indexes = self._indexes()
        owned = self._owned()
        taps = {ifindex: self._read_tap(ifindex, index, owned.get(index, [])) for ifindex, index in indexes.items()}
        return {ifindex: tap for ifindex, tap in taps.items() if tap is not None}

    def _owned(self) -> dict[int, list[bytes]]:
        """The addresses of each side, as the kernel holds them."""
        owned: dict[int, list[bytes]] = {}
        for key in self._kernel["own_addresses"].items():
            index, address = layout.OWN_KEY.unpack(key)
            owned.setdefault(index, []).append(address)
        return owned

    def _is_attached(self, ifindex: int) -> bool:
        return all(self._kernel.attachments.is_attached(ifindex, hook) for hook in TAP_HOOKS)

    def _fallen(self) -> frozenset[int]:
        taps = {ifindex for ifindex in self.held() if not self._is_attached(ifindex)}
        roles = {
            layout.PORT_KEY.unpack(key)[0]: PortRole(layout.PORT.unpack(value)[0])
            for key, value in self._kernel["ports"].items().items()
        }
        attached = self._kernel.attachments.is_attached
        return frozenset(taps | {at for at, role in roles.items() if not attached(at, ROLE_HOOKS[role])})

    def _read_tap(self, ifindex: int, index: int, addresses: Sequence[bytes]) -> Tap | None:
        digest, table = self._program_of(index), self._inner("established", index >> 1)
        if digest is None or table is None or not self._is_attached(ifindex):
            return None
        table.close()
        at, vm, zone, identity, _, vlan, mode, services, mac, quota = layout.ENDPOINT.unpack(self._endpoint(index))
        if at != ifindex:
            return None
        return Tap(
            ifindex=ifindex,
            vm=VmNumber(vm),
            mac=layout.unpack_mac(mac),
            zone=Zone(zone),
            vlan=vlan,
            identity=IdentityNumber(identity),
            addresses=tuple(sorted(map(layout.unpack_address, addresses))),
            program=digest,
            mode=_MODES[mode],
            connections=quota or MOST_CONNECTIONS,
            services=bool(services),
        )

    def _endpoint(self, index: int) -> bytes:
        return self._kernel["endpoints"].get(layout.U32.pack(index)) or bytes(layout.ENDPOINT.size)

    def _quota(self, index: int) -> int:
        return int(layout.ENDPOINT.unpack(self._endpoint(index))[9]) or MOST_CONNECTIONS

    def _generation(self, index: int) -> int:
        return int(layout.ENDPOINT.unpack(self._endpoint(index))[4])

    def _put_tap(self, tap: Tap) -> None:
        if not self._kernel.pins.policy(tap.program).exists():
            raise ShieldFailed(f"tap {tap.ifindex}: program {tap.program} was not put before")
        addresses = [layout.pack_address(address) for address in tap.addresses]
        current, owned = self._indexes().get(tap.ifindex), self._owned()
        if current is not None and self._read_tap(tap.ifindex, current, owned.get(current, [])) == _normalise(tap):
            return
        if current is not None and not self._is_same_vm(current, tap):
            self._delete_tap(tap.ifindex)
            current = None
        counters, key = self._kernel["counters"], layout.U32.pack(tap.ifindex)
        if counters.get(key) is None:
            counters.put(key, bytes(counters.read_size))
        for hook in TAP_HOOKS:
            self._kernel.attachments.attach(tap.ifindex, hook)
        if current is None:
            index, generation = self._take_slot(tap)
        else:
            self._resize(current >> 1, tap.connections)
            index, generation = current ^ 1, _after(self._generation(current))
        self._write_side(index, generation, tap, addresses, owned.get(index, []) if current is not None else [])
        self._kernel["tap_index"].put(layout.U32.pack(tap.ifindex), layout.U32.pack(index))

    def _is_same_vm(self, index: int, tap: Tap) -> bool:
        _, vm, zone, _, _, _, _, _, mac, _ = layout.ENDPOINT.unpack(self._endpoint(index))
        return (vm, zone, mac) == (tap.vm, tap.zone, layout.pack_mac(tap.mac))

    def _write_side(
        self, index: int, generation: int, tap: Tap, addresses: list[bytes], owned: Sequence[bytes]
    ) -> None:
        """Fill the side that no packet looks at. The one that packets leave stays whole for those under way."""
        number = layout.U32.pack(index)
        own = self._kernel["own_addresses"]
        for address in set(owned) - set(addresses):
            own.delete(layout.OWN_KEY.pack(index, address))
        own.put_all({layout.OWN_KEY.pack(index, address): layout.U32.pack(1) for address in addresses})
        if self._program_of(index) != tap.program:
            self._put_policies({index: tap.program})
        mode, mac = _MODES.index(tap.mode), layout.pack_mac(tap.mac)
        quota = tap.connections % MOST_CONNECTIONS
        endpoint = (tap.ifindex, tap.vm, tap.zone, tap.identity, generation, tap.vlan, mode, tap.services, mac, quota)
        self._kernel["endpoints"].put(number, layout.ENDPOINT.pack(*endpoint))

    def _prepare(self, taps: Sequence[Tap]) -> None:
        indexes = self._indexes()
        wanted = {indexes[tap.ifindex] ^ 1: tap.program for tap in taps if tap.ifindex in indexes}
        self._put_policies({index: digest for index, digest in wanted.items() if self._program_of(index) != digest})

    def _program_of(self, index: int) -> Digest | None:
        policy = self._kernel["policies"].get(layout.U32.pack(index))
        return self._policy_ids.get(layout.U32.unpack(policy)[0]) if policy else None

    def _put_policies(self, wanted: Mapping[int, Digest]) -> None:
        opened = {
            digest: libbpf.get_pinned(self._kernel.pins.policy(digest)) for digest in sorted(set(wanted.values()))
        }
        try:
            entries = {layout.U32.pack(index): layout.U32.pack(opened[digest]) for index, digest in wanted.items()}
            self._kernel["policies"].put_all(entries)
        finally:
            for program in opened.values():
                os.close(program)

    def _take_slot(self, tap: Tap) -> tuple[int, int]:
        """Return the index of a free side and its generation: one that no tap of that slot ever had."""
        used = {index >> 1 for index in self._indexes().values()}
        slot = next((slot for slot in range(layout.MAX_TAPS) if slot not in used), None)
        if slot is None:
            raise ShieldFailed(f"no room for more than {layout.MAX_TAPS} taps")
        self._clear_slot(slot)
        generation = _after(self._generation(2 * slot))
        number = layout.U32.pack(slot)
        tables = {
            "established": (libbpf.HASH, SIZES, tap.connections, libbpf.NO_PREALLOC),
            "waiting": (libbpf.ARRAY, _SET_SIZES, layout.HALF_OPEN_SETS, 0),
            "fragments": (libbpf.LRU_HASH, _FRAGMENT_SIZES, layout.FRAGMENTS_PER_TAP, 0),
        }
        for outer, (kind, sizes, room, flags) in tables.items():
            table = Table.create(kind, outer, sizes, room, flags)
            try:
                self._kernel[outer].put(number, layout.U32.pack(table.fd))
            finally:
                table.close()
        return 2 * slot, generation

    def _resize(self, slot: int, connections: int) -> None:
        old = self._inner("established", slot)
        if old is None:
            raise ShieldFailed(f"slot {slot} has lost its connections")
        try:
            place = layout.U32.pack(slot)
            resize(old, connections, lambda new: self._kernel["established"].put(place, layout.U32.pack(new.fd)))
        finally:
            old.close()

    def _clear_slot(self, slot: int) -> None:
        """Leave nothing of a tap but its last generation, which both sides take: what is remembered of it never fits again."""
        sides = (2 * slot, 2 * slot + 1)
        last = max(self._generation(side) for side in sides)
        for side in sides:
            self._kernel["endpoints"].put(
                layout.U32.pack(side), layout.ENDPOINT.pack(0, 0, 0, 0, last, 0, 0, 0, bytes(6), 0)
            )
            self._kernel["policies"].delete(layout.U32.pack(side))
        for outer in ("established", "waiting", "fragments"):
            self._kernel[outer].delete(layout.U32.pack(slot))
        own = self._kernel["own_addresses"]
        for key in [key for key in own.items() if layout.OWN_KEY.unpack(key)[0] in sides]:
            own.delete(key)
        self._kernel["tap_states"].put(layout.U32.pack(slot), bytes(layout.TAP_STATE.size))
        delete_buckets(self._kernel["rates"], slot)

    def _delete_tap(self, ifindex: int) -> None:
        key = layout.U32.pack(ifindex)
        index = self._indexes().get(ifindex)
        vm = layout.ENDPOINT.unpack(self._endpoint(index))[1] if index is not None else 0
        self._kernel["tap_index"].delete(key)
        for hook in TAP_HOOKS:
            self._kernel.attachments.detach(ifindex, hook)
        self._kernel["counters"].delete(key)
        if index is None:
            return
        self._clear_slot(index >> 1)
        others = [at for at, index in self._indexes().items() if layout.ENDPOINT.unpack(self._endpoint(index))[1] == vm]
        residents, number = self._kernel["residents"], layout.U32.pack(vm)
        if residents.get(number) is not None and others:
            residents.put(number, layout.U32.pack(others[0]))
        elif not others:
            residents.delete(number)

    def _put_program(self, digest: Digest, program: Program) -> None:
        path = self._kernel.pins.policy(digest)
        if path.exists():
            return
        sizes = (layout.POLICY_KEY.size, layout.VERDICT.size)
        table = Table.create(libbpf.LPM_TRIE, "policy", sizes, max(1, len(program.entries)), libbpf.NO_PREALLOC)
        try:
            table.put_all(dict(layout.pack_entry(entry) for entry in program.entries))
            libbpf.check(libbpf.map_freeze(table.fd), "freeze program")
            if _digest_of_table(table) != digest:
                raise ShieldFailed(f"the kernel does not hold what {digest} names")
            libbpf.pin(table.fd, path)
            self._policy_ids[table.id] = digest
        finally:
            table.close()

    def _read_digest(self, digest: Digest) -> Digest | None:
        try:
            table = Table(libbpf.get_pinned(self._kernel.pins.policy(digest)))
        except FileNotFoundError:
            return None
        try:
            return _digest_of_table(table)
        except (OSError, ValueError):
            return None
        finally:
            table.close()


def _after(generation: int) -> int:
    return generation + 1 & 0xFFFFFFFF or 1


def _normalise(tap: Tap) -> Tap:
    """Write a tap as it reads back."""
    addresses = {layout.unpack_address(layout.pack_address(address)) for address in tap.addresses}
    return msgspec.structs.replace(tap, mac=tap.mac.lower(), addresses=tuple(sorted(addresses)))


def _digest_of_table(table: Table) -> Digest:
    entries = sorted(layout.unpack_entry(key, value) for key, value in table.items().items())
    return digest_of(canonical_bytes(Program(tuple(entries))))
