"""The door to the connections that a tap's shield follows: read for another host, written from one."""

from __future__ import annotations

from typing import Protocol

from buckler.model.connection import Rows, Written


class Connections(Protocol):
    """Both methods take what the kernel holds at that moment: traffic goes on meanwhile.

    Both raise ShieldFailed, also where no shield stands: an empty table and a tap that is gone are never taken for
    each other.
    """

    def read(self, ifindex: int) -> Rows:
        """All connections of one tap that have not expired."""

    def write(self, ifindex: int, rows: Rows) -> Written:
        """Put or end connections of one tap. The caller has checked every row.

        What is put is judged by policy before its next packet passes, and its TCP windows are learned anew: until then no
        reset is believed. A connection that a packet was judged by here already stays as it is, whatever a row says.
        """
