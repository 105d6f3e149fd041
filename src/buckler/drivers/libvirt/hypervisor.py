"""ports/hypervisor.py on libvirt. Reads, watches and moves domains; what may run is decided elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import libvirt
from defusedxml.ElementTree import fromstring

from buckler.drivers.libvirt.connection import Connection, open_connection, translated
from buckler.drivers.libvirt.words import lifecycle_words, state_word
from buckler.model.domain import PASSPORT_NAMESPACE, RESIDENCE_NAMESPACE
from buckler.ports.hypervisor import Domain, DomainEvent

_GONE = frozenset({libvirt.VIR_ERR_NO_DOMAIN})
_MIGRATE = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


class LibvirtHypervisor:
    """One connection for questions, opened anew when it broke, and one for each watch."""

    def __init__(self, uri: str = "qemu:///system") -> None:
        self._uri = uri
        self._connection = Connection(uri)

    def domains(self) -> list[Domain]:
        with self._connection.use() as connection:
            found = (_describe(domain) for domain in connection.listAllDomains())
            return [domain for domain in found if domain is not None]

    def watch(self, happened: Callable[[DomainEvent], None], lost: Callable[[], None]) -> Callable[[], None]:
        with translated():
            return _Watch(open_connection(self._uri), happened, lost).stop

    def write_passport(self, uuid: str, passport: str) -> None:
        self._write(uuid, "passport", passport, "buckler", PASSPORT_NAMESPACE)

    def write_residence(self, uuid: str, residence: str) -> None:
        self._write(uuid, "residence", residence, "buckler-residence", RESIDENCE_NAMESPACE)

    def _write(self, uuid: str, name: str, content: str, prefix: str, namespace: str) -> None:
        """Libvirt keeps one element for each namespace."""
        with self._domain(uuid) as domain:
            flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            element = Element(name)
            element.text = content
            text = tostring(element, encoding="unicode")
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, prefix, namespace, flags)

    def detach_interface(self, uuid: str, mac: str) -> None:
        """Cut the card's link first: that needs nothing of the guest, whereas unplugging waits for its consent."""
        with self._domain(uuid) as domain:
            for card in fromstring(domain.XMLDesc(), forbid_dtd=True).findall("devices/interface"):
                address = card.find("mac")
                if address is not None and address.get("address", "").lower() == mac.lower():
                    _cut_link(domain, card)
                    alias = card.find("alias")
                    if alias is not None:  # this way libvirt does not wait seconds for the guest's consent
                        domain.detachDeviceAlias(alias.get("name", ""), libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def migrate(self, uuid: str, destination_uri: str) -> None:
        with self._domain(uuid) as domain:
            domain.migrateToURI3(destination_uri, {}, _MIGRATE)

    def is_leaving(self, uuid: str) -> bool:
        """Libvirt begins the job before it speaks to the destination (measured, for every form of migration)."""
        with self._domain(uuid) as domain:
            job = domain.jobStats()
            is_busy = job.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE
            return bool(is_busy and job.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)

    @contextmanager
    def _domain(self, uuid: str) -> Iterator[Any]:
        with self._connection.use() as connection:
            yield connection.lookupByUUIDString(uuid)


class _Watch:
    """The callbacks of one connection, until it breaks or is stopped; ``lost`` is called at most once."""

    def __init__(self, connection: Any, happened: Callable[[DomainEvent], None], lost: Callable[[], None]) -> None:
        self._connection = connection
        self._happened = happened
        self._lost = lost
        self._is_over = threading.Event()
        connection.registerCloseCallback(self._closed, None)
        on = libvirt
        self._callbacks = [
            connection.domainEventRegisterAny(None, kind, call, None)
            for kind, call in (
                (on.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
                (on.VIR_DOMAIN_EVENT_ID_REBOOT, lambda _c, domain, _o: self._tell(domain, "reboot", "")),
                (
                    on.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                    lambda _c, domain, alias, _o: self._tell(domain, "device-added", alias),
                ),
                (
                    on.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                    lambda _c, domain, alias, _o: self._tell(domain, "device-removed", alias),
                ),
                (
                    on.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                    lambda _c, domain, _k, uri, _o: self._tell(domain, "metadata-change", uri or ""),
                ),
            )
        ]

    def stop(self) -> None:
        if self._is_over.is_set():
            return
        self._is_over.set()
        try:
            self._connection.unregisterCloseCallback()
            for callback in self._callbacks:
                self._connection.domainEventDeregisterAny(callback)
            self._connection.close()
        except libvirt.libvirtError:
            return

    def _lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        self._tell(domain, *lifecycle_words(event, detail))

    def _tell(self, domain: Any, what: str, detail: str) -> None:
        if not self._is_over.is_set():
            self._happened(DomainEvent(domain.UUIDString(), domain.name(), what, detail, time.time()))

    def _closed(self, _connection: Any, _reason: int, _opaque: Any) -> None:
        if not self._is_over.is_set():
            self._is_over.set()
            self._lost()


def _describe(domain: Any) -> Domain | None:
    try:
        state, _ = domain.state()
        return Domain(domain.UUIDString(), domain.name(), state_word(state).value, domain.XMLDesc())
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return None
        raise


def _cut_link(domain: Any, card: Element) -> None:
    for link in card.findall("link"):
        card.remove(link)
    SubElement(card, "link", {"state": "down"})
    domain.updateDeviceFlags(tostring(card, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
