"""ports/shield.Services on the loaded object: what stands behind virtual addresses. Chooses no member."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TypeVar

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.kernel import Kernel
from buckler.model.bundle import MOST_SERVICE_NUMBER, ServiceMember, ServicePort
from buckler.model.ids import Zone
from buckler.model.shield import Service, ServiceKey
from buckler.ports.shield import ShieldFailed

Result = TypeVar("Result")
_BROKEN = Service(0, (), ())
_PORTS_AT = 3 * layout.U32.size
_MEMBERS_AT = _PORTS_AT + layout.MOST_PORTS * layout.SERVICE_PORT.size


class EbpfServices:
    """Addresses read back as Python's ipaddress writes them, MACs in lower case."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def services(self) -> dict[ServiceKey, Service]:
        """See the port."""
        return _guarded("read services", self._services)

    def put_services(self, entries: Mapping[ServiceKey, Service]) -> None:
        """See the port."""
        with self._kernel.lock:
            _guarded("put services", lambda: self._put(entries))

    def delete_services(self, keys: frozenset[ServiceKey]) -> None:
        """See the port."""
        with self._kernel.lock:
            _guarded("delete services", lambda: self._delete(keys))

    def _services(self) -> dict[ServiceKey, Service]:
        found = {_unpack_key(key): _unpack(value) for key, value in self._kernel["services"].items().items()}
        numbers = self._numbers()
        for number, where in numbers.items():
            if found.get(where, _BROKEN).number != number:
                found[where] = _BROKEN
        return {key: service if numbers.get(service.number) == key else _BROKEN for key, service in found.items()}

    def _numbers(self) -> dict[int, ServiceKey]:
        numbers = self._kernel["service_numbers"].items()
        return {layout.U32.unpack(key)[0]: _unpack_key(value) for key, value in numbers.items()}

    def _put(self, entries: Mapping[ServiceKey, Service]) -> None:
        """The number first: a frame that finds the service finds its way back."""
        packed = {_pack_key(key): (service.number, _pack(key, service)) for key, service in entries.items()}
        kept = {service.number for service in entries.values()}
        self._forget(frozenset(entries), kept)
        self._kernel["service_numbers"].put_all({layout.U32.pack(number): key for key, (number, _) in packed.items()})
        self._kernel["services"].put_all({key: value for key, (_, value) in packed.items()})

    def _delete(self, keys: frozenset[ServiceKey]) -> None:
        for key in keys:
            self._kernel["services"].delete(_pack_key(key))
        self._forget(keys, set())

    def _forget(self, keys: frozenset[ServiceKey], kept: set[int]) -> None:
        for number, where in self._numbers().items():
            if where in keys and number not in kept:
                self._kernel["service_numbers"].delete(layout.U32.pack(number))


def _pack_key(key: ServiceKey) -> bytes:
    return layout.HOST_KEY.pack(key.zone, layout.pack_address(key.address))


def _unpack_key(raw: bytes) -> ServiceKey:
    zone, address = layout.HOST_KEY.unpack(raw)
    return ServiceKey(Zone(zone), layout.unpack_address(address))


def _pack(key: ServiceKey, service: Service) -> bytes:
    if not 0 < service.number <= MOST_SERVICE_NUMBER:
        raise ValueError(f"service number {service.number}")
    if len(service.ports) > layout.MOST_PORTS or len(service.members) > layout.MOST_MEMBERS:
        raise ValueError(f"service {service.number}: {len(service.ports)} ports, {len(service.members)} members")
    if any((":" in member.address) != (":" in key.address) for member in service.members):
        raise ValueError(f"service {service.number}: a member of another family than {key.address}")
    ports = b"".join(layout.SERVICE_PORT.pack(port.first, port.last, port.protocol) for port in service.ports)
    members = b"".join(
        layout.SERVICE_MEMBER.pack(layout.pack_address(member.address), layout.pack_mac(member.mac))
        for member in service.members
    )
    head = struct.pack("<III", service.number, len(service.ports), len(service.members))
    return (head + ports.ljust(_MEMBERS_AT - _PORTS_AT, b"\0") + members).ljust(layout.SERVICE.size, b"\0")


def _unpack(raw: bytes) -> Service:
    number, ports, members = struct.unpack_from("<III", raw)
    if ports > layout.MOST_PORTS or members > layout.MOST_MEMBERS or any(raw[_behind(members) :]):
        return _BROKEN
    offered = layout.SERVICE_PORT.iter_unpack(raw[_PORTS_AT : _PORTS_AT + ports * layout.SERVICE_PORT.size])
    standing = layout.SERVICE_MEMBER.iter_unpack(raw[_MEMBERS_AT : _behind(members)])
    return Service(
        number,
        tuple(ServicePort(protocol, first, last) for first, last, protocol in offered),
        tuple(ServiceMember(layout.unpack_address(address), layout.unpack_mac(mac)) for address, mac in standing),
    )


def _behind(members: int) -> int:
    return int(_MEMBERS_AT + members * layout.SERVICE_MEMBER.size)


def _guarded(what: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except (OSError, ValueError, struct.error) as failure:
        raise ShieldFailed(f"cannot {what}: {failure}") from failure
