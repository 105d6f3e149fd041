"""Domain XML → frozen facts, for input that may be hostile. Reads what is there; decides nothing."""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from buckler.model.domain import PASSPORT_NAMESPACE, RESIDENCE_NAMESPACE, DomainFacts, Hazard, InterfaceFacts

MAX_XML = 4 * 1024 * 1024
MAX_INTERFACES = 256
MAX_PASSPORT = 64 * 1024
PASSPORT_TAG = f"{{{PASSPORT_NAMESPACE}}}passport"
RESIDENCE_TAG = f"{{{RESIDENCE_NAMESPACE}}}residence"

_QEMU_NAMESPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_HARMLESS_QEMU = frozenset({"deprecation"})
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_NETWORK_CHANNELS = frozenset({"tcp", "udp", "vhostuser"})
_CHARACTER_DEVICES = ("serial", "console", "channel", "parallel", "redirdev", "smartcard", "rng/backend")
_DEVICE_HAZARDS = {
    "shmem": ("shared memory between VMs (shmem)", "remove <shmem>: memory shared between VMs passes no shield"),
    "ivshmem": ("shared memory between VMs (ivshmem)", "remove <ivshmem>: memory shared between VMs passes no shield"),
    "filesystem": ("a folder shared with the host (filesystem)", "remove <filesystem>; use a disk of its own"),
    "vsock": ("a socket to the host beside the network (vsock)", "remove <vsock>; use the guest agent's channel"),
    "hostdev": ("a device of the host passed through (hostdev)", "remove <hostdev>: what it sends passes no shield"),
}
_SHARED_MEMORY_MODELS = frozenset({"nvdimm", "virtio-pmem"})


class BadDomain(ValueError):
    """The XML is no domain that can be judged; the message says why."""


def parse_domain(xml: str) -> DomainFacts:
    """Read the facts of one domain. Raises BadDomain for anything not understood in full."""
    root = _root(xml)
    interfaces = tuple(_interface(node) for node in _bounded(root.findall("devices/interface")))
    return DomainFacts(
        uuid=_uuid(root.findtext("uuid")),
        name=(root.findtext("name") or "").strip()[:256],
        passport=_passport(root),
        interfaces=interfaces,
        hazards=tuple(_hazards(root)),
        volumes=tuple(_volumes(root)),
        residence=_residence(root),
    )


def _root(xml: str) -> Element:
    if len(xml) > MAX_XML:
        raise BadDomain(f"the domain XML is longer than {MAX_XML} characters")
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, RecursionError) as error:
        raise BadDomain(f"the domain XML cannot be read: {error}") from error
    if root.tag != "domain":
        raise BadDomain(f"the XML is a {root.tag[:40]!r}, not a domain")
    return root


def _bounded(nodes: list[Element]) -> list[Element]:
    if len(nodes) > MAX_INTERFACES:
        raise BadDomain(f"more than {MAX_INTERFACES} interfaces")
    return nodes


def _uuid(text: str | None) -> str:
    try:
        return str(uuids.UUID((text or "").strip()))
    except ValueError as error:
        raise BadDomain("the domain has no uuid") from error


def _passport(root: Element) -> str | None:
    found = root.findall(f"metadata/{PASSPORT_TAG}")
    if len(found) > 1:
        raise BadDomain("the domain carries more than one passport")
    if not found:
        return None
    text = "".join(found[0].itertext()).strip()
    if len(text) > MAX_PASSPORT:
        raise BadDomain("the passport is too long")
    return text


def _residence(root: Element) -> str:
    """It gives no right, so what is odd about it counts as absent."""
    found = root.findall(f"metadata/{RESIDENCE_TAG}")
    text = "".join(found[0].itertext()).strip() if len(found) == 1 else ""
    return text if len(text) <= MAX_PASSPORT else ""


def _interface(node: Element) -> InterfaceFacts:
    mac = _attribute(node, "mac", "address").lower()
    if mac and not _MAC.fullmatch(mac):
        raise BadDomain(f"not a MAC address: {mac[:40]!r}")
    return InterfaceFacts(
        kind=node.get("type", ""),
        mac=mac,
        bridge=_attribute(node, "source", "bridge"),
        network=_attribute(node, "source", "network"),
        device=_attribute(node, "target", "dev"),
        virtualport=_attribute(node, "virtualport", "type"),
    )


def _attribute(node: Element, child: str, name: str) -> str:
    found = node.find(child)
    return "" if found is None else found.get(name, "")


def _hazards(root: Element) -> Iterator[Hazard]:
    for node in root:
        if node.tag.startswith(_QEMU_NAMESPACE):
            word = node.tag.removeprefix(_QEMU_NAMESPACE)
            if word not in _HARMLESS_QEMU:
                yield Hazard(
                    f"its own arguments for QEMU (qemu:{word})", f"remove <qemu:{word}>: it can add any device"
                )
    yield from _device_hazards(root)


def _device_hazards(root: Element) -> Iterator[Hazard]:
    for tag, (what, hint) in _DEVICE_HAZARDS.items():
        if root.find(f"devices/{tag}") is not None:
            yield Hazard(what, hint)
    for disk in root.findall("devices/disk"):
        if disk.find("shareable") is not None:
            target = _attribute(disk, "target", "dev")
            yield Hazard(f"a disk shared with other VMs ({target})", "remove <shareable/>; give each VM its own disk")
    for memory in root.findall("devices/memory"):
        if memory.get("model", "") in _SHARED_MEMORY_MODELS:
            yield Hazard(
                f"memory backed by a file ({memory.get('model')})", "remove it: other VMs can map the same file"
            )
    for path in _CHARACTER_DEVICES:
        for device in root.findall(f"devices/{path}"):
            if device.get("type", "") in _NETWORK_CHANNELS:
                tag = path.partition("/")[0]
                yield Hazard(
                    f"a {tag} device over the network ({device.get('type')})", "use a pty, file or unix socket"
                )


def _volumes(root: Element) -> Iterator[str]:
    for disk in root.findall("devices/disk"):
        source = disk.find("source")
        if source is None:
            continue
        for name in ("file", "dev", "volume", "name"):
            if source.get(name):
                yield source.get(name, "")[:4096]
                break
