"""ports/hypervisor.py in memory: domains are their XML. Runs no guest; hooks are the caller's to call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from xml.etree.ElementTree import Element, SubElement, tostring

import msgspec
from defusedxml.ElementTree import fromstring

from buckler.model.domain import PASSPORT_NAMESPACE, RESIDENCE_NAMESPACE, DomainState
from buckler.ports.hypervisor import Domain, DomainEvent, HypervisorFailed


class InMemoryHypervisor:
    """``peers`` (URI → hypervisor) is where domains can move to."""

    def __init__(self, peers: dict[str, InMemoryHypervisor] | None = None) -> None:
        self._peers = peers or {}
        self._domains: dict[str, Domain] = {}
        self._watches: list[tuple[Callable[[DomainEvent], None], Callable[[], None]]] = []
        self._lock = threading.RLock()
        self._is_away = False
        self.leaving: set[str] = set()
        """Uuids of domains that are being moved away."""
        self.starts: dict[str, int] = {}
        """How often each domain was started here."""

    def domains(self) -> list[Domain]:
        self._check()
        with self._lock:
            return list(self._domains.values())

    def watch(self, happened: Callable[[DomainEvent], None], lost: Callable[[], None]) -> Callable[[], None]:
        self._check()
        entry = (happened, lost)
        with self._lock:
            self._watches.append(entry)

        def stop() -> None:
            with self._lock:
                self._watches = [watch for watch in self._watches if watch is not entry]

        return stop

    def write_passport(self, uuid: str, passport: str) -> None:
        self._write(uuid, PASSPORT_NAMESPACE, "passport", passport)

    def write_residence(self, uuid: str, residence: str) -> None:
        self._write(uuid, RESIDENCE_NAMESPACE, "residence", residence)

    def _write(self, uuid: str, namespace: str, name: str, content: str) -> None:
        root = fromstring(self._domain(uuid).xml)
        metadata = root.find("metadata")
        if metadata is None:
            metadata = SubElement(root, "metadata")
        for old in metadata.findall(f"{{{namespace}}}{name}"):
            metadata.remove(old)
        SubElement(metadata, f"{{{namespace}}}{name}").text = content
        self._replace(uuid, root, "metadata-change", namespace)

    def detach_interface(self, uuid: str, mac: str) -> None:
        root = fromstring(self._domain(uuid).xml)
        for devices in root.findall("devices"):
            for card in devices.findall("interface"):
                address = card.find("mac")
                if address is not None and address.get("address", "").lower() == mac.lower():
                    devices.remove(card)
        self._replace(uuid, root, "device-removed", "")

    def is_leaving(self, uuid: str) -> bool:
        return self._domain(uuid).uuid in self.leaving

    def migrate(self, uuid: str, destination_uri: str) -> None:
        domain = self._domain(uuid)
        destination = self._peers.get(destination_uri)
        if destination is None:
            raise HypervisorFailed(f"cannot reach {destination_uri}")
        if domain.state != DomainState.RUNNING:
            raise HypervisorFailed("domain is not running")
        destination.start(domain.xml, "migrated")
        destination.tell(uuid, "resumed", "migrated")
        self.stop(uuid, "migrated")
        self.undefine(uuid)

    def start(self, xml: str, detail: str = "booted") -> str:
        """Define and start a domain; return its uuid."""
        root = fromstring(xml)
        uuid, name = (root.findtext("uuid") or "").strip(), (root.findtext("name") or "").strip()
        with self._lock:
            self._domains[uuid] = Domain(uuid, name, DomainState.RUNNING.value, xml)
            self.starts[uuid] = self.starts.get(uuid, 0) + 1
        self.tell(uuid, "started", detail)
        return uuid

    def stop(self, uuid: str, detail: str = "destroyed") -> None:
        """Power a domain off; it stays defined."""
        with self._lock:
            self._domains[uuid] = msgspec.structs.replace(self._domain(uuid), state=DomainState.SHUTOFF.value)
        self.tell(uuid, "stopped", detail)

    def undefine(self, uuid: str) -> None:
        """Forget a domain."""
        self.tell(uuid, "undefined", "removed")
        with self._lock:
            self._domains.pop(uuid, None)

    def plug_interface(self, uuid: str, xml: str) -> None:
        """Add a network card to a domain."""
        root = fromstring(self._domain(uuid).xml)
        devices = root.find("devices")
        (SubElement(root, "devices") if devices is None else devices).append(fromstring(xml))
        self._replace(uuid, root, "device-added", "net")

    def go_away(self) -> None:
        """Break all connections, as a daemon that restarts."""
        with self._lock:
            self._is_away = True
            watches, self._watches = self._watches, []
        for _, lost in watches:
            lost()

    def come_back(self) -> None:
        """Answer again."""
        self._is_away = False

    def tell(self, uuid: str, what: str, detail: str) -> None:
        """Deliver an event to all who watch."""
        with self._lock:
            domain = self._domain(uuid)
            watches = list(self._watches)
        event = DomainEvent(uuid, domain.name, what, detail, time.time())
        for happened, _ in watches:
            happened(event)

    def _replace(self, uuid: str, root: Element, what: str, detail: str) -> None:
        with self._lock:
            xml = tostring(root, encoding="unicode")
            self._domains[uuid] = msgspec.structs.replace(self._domain(uuid), xml=xml)
        self.tell(uuid, what, detail)

    def _domain(self, uuid: str) -> Domain:
        self._check()
        try:
            return self._domains[uuid]
        except KeyError as error:
            raise HypervisorFailed(f"no domain with uuid {uuid}") from error

    def _check(self) -> None:
        if self._is_away:
            raise HypervisorFailed("the hypervisor is away")
