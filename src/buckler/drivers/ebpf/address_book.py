"""ports/shield.AddressBook on the loaded object: who owns an address or a MAC."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TypeVar

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.kernel import Kernel
from buckler.model.ids import IdentityNumber, VmNumber, Zone
from buckler.model.shield import Address, AddressKey, MacKey
from buckler.ports.shield import ShieldFailed

Result = TypeVar("Result")


class EbpfAddressBook:
    """Prefixes read back as Python's ipaddress writes them, MACs in lower case."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

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
        return _guarded("read macs", self._macs)

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
        found = {}
        for table, unpack in (("hosts", layout.unpack_host), ("prefixes", layout.unpack_prefix)):
            for key, value in self._kernel[table].items().items():
                zone, prefix = unpack(key)
                identity, vm, flags = layout.OWNER.unpack(value)
                found[AddressKey(Zone(zone), prefix)] = Address(IdentityNumber(identity), VmNumber(vm), flags)
        return found

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

    def _macs(self) -> dict[MacKey, VmNumber]:
        found = {}
        for key, value in self._kernel["macs"].items().items():
            zone, mac = layout.MAC_KEY.unpack(key)
            found[MacKey(Zone(zone), layout.unpack_mac(mac))] = VmNumber(layout.U32.unpack(value)[0])
        return found


def _pack_mac(key: MacKey) -> bytes:
    return layout.MAC_KEY.pack(key.zone, layout.pack_mac(key.mac))


def _guarded(what: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except (OSError, ValueError, struct.error) as failure:
        raise ShieldFailed(f"cannot {what}: {failure}") from failure
