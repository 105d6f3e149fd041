"""A machine whose very first instructions send frames, and an observer of all ports of a host. Judges nothing.

The firmware is the whole guest: it is executed from the reset vector, needs no memory, and drives a NE2000 by port I/O.
It sends, in turn and for ever, one frame that no shield lets pass and one that every shield of that VM does.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections import Counter
from pathlib import Path

FORBIDDEN_MAC = "52:54:00:de:ad:01"
SLOT = 5
_SIZE = 1 << 16
_PORT = 0xC100
_FRAME = 60
_ALL_FRAMES = 0x0003
_NEW_NETWORK = 0x40000000


def announcement(mac: str, address: str) -> bytes:
    """An ARP announcement (RFC 5227, section 2.3)."""
    raw, ip = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + raw + ip + bytes(6) + ip
    return (b"\xff" * 6 + raw + b"\x08\x06" + arp).ljust(_FRAME, b"\0")


def firmware(*frames: bytes) -> bytes:
    """64 KiB for the top of the address space, in 16-bit code."""
    code = bytearray(_configure_card())
    again = len(code)
    for page, frame in zip((0x40, 0x48), frames, strict=True):
        code += _send(page, frame)
    code += b"\xb9\x00\x20\xe2\xfe"  # mov cx, 0x2000; loop to itself: a pause
    code += b"\xe9" + struct.pack("<h", again - len(code) - 3)  # jmp again
    image = bytearray(code.ljust(_SIZE, b"\xf4"))
    image[0xFFF0:0xFFF3] = b"\xe9" + struct.pack("<H", (0 - 0xFFF3) & 0xFFFF)  # the reset vector: jmp 0
    return bytes(image)


def _configure_card() -> bytes:
    """Give the card its ports and switch them on, through PCI's configuration ports."""
    base = 0x8000_0000 | SLOT << 11
    return b"".join(
        _out32(0xCF8, base | register) + _out32(0xCFC, value) for register, value in ((0x10, _PORT), (0x04, 1))
    )


def _send(page: int, frame: bytes) -> bytes:
    """Write the frame into the card's memory at ``page``, then transmit it (DP8390 data sheet, page 0 registers)."""
    setup = ((0x00, 0x21), (0x0E, 0x48), (0x0A, len(frame)), (0x0B, 0), (0x08, 0), (0x09, page), (0x00, 0x12))
    start = ((0x04, page), (0x05, len(frame)), (0x06, 0), (0x00, 0x26))
    words = [*setup, *((0x10, byte) for byte in frame), *start]
    return b"".join(_out8(_PORT + register, value) for register, value in words)


def _out8(port: int, value: int) -> bytes:
    return b"\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def _out32(port: int, value: int) -> bytes:
    return b"\xba" + struct.pack("<H", port) + b"\x66\xb8" + struct.pack("<I", value) + b"\x66\xef"


def machine(name: str, uuid: str, mac: str, passport: str, rom: str, namespace: str) -> str:
    """The domain's XML: nothing but a processor, the firmware and the card."""
    shown = f"<b:passport xmlns:b='{namespace}'>{passport}</b:passport>" if passport else ""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><metadata>{shown}</metadata><memory unit='MiB'>8</memory>"
        f"<os><type arch='x86_64' machine='pc'>hvm</type><loader type='rom'>{rom}</loader></os><devices>"
        "<emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/><memballoon model='none'/>"
        f"<interface type='bridge'><mac address='{mac}'/><source bridge='br0'/><model type='ne2k_pci'/>"
        f"<rom enabled='no'/><address type='pci' domain='0' bus='0' slot='{SLOT:#x}' function='0'/></interface>"
        "</devices></domain>"
    )


class Observer:
    """Counts the frames of two senders at every interface of a network namespace, by its own raw socket."""

    def __init__(self, pid: int, *macs: str) -> None:
        self._macs = {bytes.fromhex(mac.replace(":", "")): mac for mac in macs}
        self._seen: Counter[tuple[str, str]] = Counter()
        self._socket = _socket_of(pid)
        self._socket.settimeout(0.2)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def at_taps(self, mac: str) -> int:
        """As the sender's own tap received them, before any shield."""
        return sum(self._at(mac, is_tap=True).values())

    def elsewhere(self, mac: str) -> dict[str, int]:
        """On the bridge and all its other ports."""
        return self._at(mac, is_tap=False)

    def _at(self, mac: str, *, is_tap: bool) -> dict[str, int]:
        """Without a name is an interface that is gone by now: only taps go."""
        return {
            where: count
            for (where, who), count in dict(self._seen).items()
            if who == mac and (where.startswith("vnet") or not where) == is_tap
        }

    def lost(self) -> int:
        """Frames that the observer itself missed since it was last asked."""
        statistics = self._socket.getsockopt(263, 6, 8)  # SOL_PACKET, PACKET_STATISTICS
        return int(struct.unpack("=II", statistics)[1])

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                frame, at = self._socket.recvfrom(64)
            except TimeoutError:
                continue
            except OSError:  # an interface that is gone by now
                continue
            who = self._macs.get(frame[6:12])
            if who is not None:
                self._seen[at[0], who] += 1


def _socket_of(pid: int) -> socket.socket:
    """A raw socket of another network namespace: made in a thread that enters it and ends there."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def enter() -> None:
        handle = os.open(Path(f"/proc/{pid}/ns/net"), os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
            raw.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
            made.append(raw)
        except OSError as error:
            failed.append(error)
        finally:
            os.close(handle)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
