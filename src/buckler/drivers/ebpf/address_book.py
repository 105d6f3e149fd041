"""ports/shield.AddressBook on the loaded object: who owns an address or a MAC."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.table import Table
from buckler.model.ids import IdentityNumber, VmNumber, Zone
from buckler.model.shield import Address, AddressKey, MacKey
from buckler.ports.shield import ShieldFailed

Result = TypeVar("Result")
Key = TypeVar("Key")
Value = TypeVar("Value")


class EbpfAddressBook:
    """Prefixes read back as Python's ipaddress writes them, MACs in lower case."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._hosts = _Reading(lambda raw: _address_key(layout.unpack_host(raw)), _unpack_owner)
        self._prefixes = _Reading(lambda raw: _address_key(layout.unpack_prefix(raw)), _unpack_owner)
        self._owners = _Reading(_unpack_mac, lambda raw: VmNumber(layout.U32.unpack(raw)[0]))

    def addresses(self) -> dict[AddressKey, Address]:
        """See the port."""
        return _guarded("read addresses", self._addresses)

    def put_addresses(self, entries: Mapping[AddressKey, Address]) -> None:
        """See the port."""
        _guarded("put addresses", lambda: self._put_addresses(entries))

    def delete_addresses(self, keys: frozenset[AddressKey]) -> None:
        """See the port."""
        _guarded("delete addresses", lambda: self._delete_addresses(keys))

    def macs(self) -> dict[MacKey, VmNumber]:
        """See the port."""
        return _guarded("read macs", lambda: self._owners.read(self._kernel["macs"]))

    def put_macs(self, entries: Mapping[MacKey, VmNumber]) -> None:
        """See the port."""
        _guarded(
            "put macs",
            lambda: self._kernel["macs"].put_all({_pack_mac(key): layout.U32.pack(vm) for key, vm in entries.items()}),
        )

    def delete_macs(self, keys: frozenset[MacKey]) -> None:
        """See the port."""
        _guarded("delete macs", lambda: self._delete_macs(keys))

    def _addresses(self) -> dict[AddressKey, Address]:
        return self._hosts.read(self._kernel["hosts"]) | self._prefixes.read(self._kernel["prefixes"])

    def _put_addresses(self, entries: Mapping[AddressKey, Address]) -> None:
        tables: dict[bool, dict[bytes, bytes]] = {True: {}, False: {}}
        for key, address in entries.items():
            single, raw = layout.pack_prefix(key.zone, key.prefix)
            tables[single][raw] = layout.OWNER.pack(address.identity, address.vm, address.flags)
        with self._kernel.changing_book():
            self._kernel["hosts"].put_all(tables[True])
            self._kernel["prefixes"].put_all(tables[False])

    def _delete_addresses(self, keys: frozenset[AddressKey]) -> None:
        packed = [layout.pack_prefix(key.zone, key.prefix) for key in keys]
        with self._kernel.changing_book():
            for single, raw in packed:
                self._kernel["hosts" if single else "prefixes"].delete(raw)

    def _delete_macs(self, keys: frozenset[MacKey]) -> None:
        for key in keys:
            self._kernel["macs"].delete(_pack_mac(key))


class _Reading(Generic[Key, Value]):
    """A map as it was last read. All of it is fetched each time; only what differs is decoded anew."""

    def __init__(self, key: Callable[[bytes], Key], value: Callable[[bytes], Value]) -> None:
        self._key, self._value = key, value
        self._dump = b"", b""
        self._known: dict[bytes, tuple[bytes, Key, Value]] = {}

    def read(self, table: Table) -> dict[Key, Value]:
        """Raises OSError, ValueError, struct.error."""
        dump = table.dump()
        if dump != self._dump:
            known = self._known
            raws = (struct.iter_unpack(f"{size}s", raw) for size, raw in zip(_sizes(table), dump, strict=True))
            fresh: dict[bytes, tuple[bytes, Key, Value]] = {}
            for (key,), (value,) in zip(*raws, strict=True):
                entry = known.get(key)
                if entry is None or entry[0] != value:
                    entry = value, self._key(key), self._value(value)
                fresh[key] = entry
            self._dump, self._known = dump, fresh
        return {key: value for _, key, value in self._known.values()}


def _sizes(table: Table) -> tuple[int, int]:
    return table.key_size, table.read_size


def _address_key(read: tuple[int, str]) -> AddressKey:
    zone, prefix = read
    return AddressKey(Zone(zone), prefix)


def _unpack_owner(raw: bytes) -> Address:
    identity, vm, flags = layout.OWNER.unpack(raw)
    return Address(IdentityNumber(identity), VmNumber(vm), flags)


def _unpack_mac(raw: bytes) -> MacKey:
    zone, mac = layout.MAC_KEY.unpack(raw)
    return MacKey(Zone(zone), layout.unpack_mac(mac))


def _pack_mac(key: MacKey) -> bytes:
    return layout.MAC_KEY.pack(key.zone, layout.pack_mac(key.mac))


def _guarded(what: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except (OSError, ValueError, struct.error) as failure:
        raise ShieldFailed(f"cannot {what}: {failure}") from failure
