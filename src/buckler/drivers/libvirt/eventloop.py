"""libvirt's event loop in one thread of its own. It must run before the first connection is opened."""

from __future__ import annotations

import threading

import libvirt

_started = threading.Lock()
_is_running = False


def run_event_loop() -> None:
    """Start the loop once per process; libvirt has no way to end it."""
    global _is_running
    with _started:
        if _is_running:
            return
        libvirt.virEventRegisterDefaultImpl()
        # libvirt prints every error on stderr unless told otherwise; ours are raised.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        threading.Thread(target=_loop, name="libvirt-events", daemon=True).start()
        _is_running = True


def _loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
