"""A connection to libvirt that is opened anew when it broke. Asks nothing of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt

from buckler.drivers.libvirt.eventloop import run_event_loop
from buckler.ports.hypervisor import HypervisorFailed

_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 2, 3


class Connection:
    """Calls over it may overlap: libvirt keeps them apart."""

    def __init__(self, uri: str) -> None:
        run_event_loop()
        self._uri = uri
        self._lock = threading.Lock()
        self._connection: Any = None

    @contextmanager
    def use(self) -> Iterator[Any]:
        """Yield libvirt's connection; what goes wrong within is raised as HypervisorFailed."""
        with translated():
            with self._lock:
                if self._connection is None or not self._connection.isAlive():
                    self._connection = open_connection(self._uri)
                connection = self._connection
            yield connection


def open_connection(uri: str) -> Any:
    """Connect; a daemon that answers no more is found out within seconds. Raises libvirt's own error."""
    connection = libvirt.open(uri)
    connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
    return connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn libvirt's error into the port's."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorFailed(str(error)) from error
