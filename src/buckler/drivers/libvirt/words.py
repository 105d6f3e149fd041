"""libvirt's numbers in words. Owns the translation only."""

from __future__ import annotations

import libvirt

from buckler.model.domain import DomainState

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: DomainState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: DomainState.BLOCKED,
    libvirt.VIR_DOMAIN_PAUSED: DomainState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: DomainState.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: DomainState.SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: DomainState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: DomainState.PMSUSPENDED,
}
_EVENTS = ("defined", "undefined", "started", "suspended", "resumed", "stopped", "shutdown", "pmsuspended", "crashed")


def state_word(number: int) -> DomainState:
    """Name a virDomainState."""
    return _STATES.get(number, DomainState.UNKNOWN)


def lifecycle_words(event: int, detail: int) -> tuple[str, str]:
    """Name a lifecycle event and its reason: (``stopped``, ``migrated``)."""
    what = _EVENTS[event] if 0 <= event < len(_EVENTS) else f"event-{event}"
    return what, _DETAILS.get((what, detail), str(detail))


def _details() -> dict[tuple[str, int], str]:
    words: dict[tuple[str, int], str] = {}
    for what in _EVENTS:
        prefix = f"VIR_DOMAIN_EVENT_{what.upper()}_"
        for name in dir(libvirt):
            if name.startswith(prefix) and not name.endswith("_LAST"):
                words[what, getattr(libvirt, name)] = name.removeprefix(prefix).lower().replace("_", "-")
    return words


_DETAILS = _details()
