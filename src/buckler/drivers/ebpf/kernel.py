"""The loaded object: its maps and hooks, adopted from pins or loaded anew. Owns loading, not the maps' contents."""

from __future__ import annotations

import ctypes as c
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.attach import HOOKS, Attachments
from buckler.drivers.ebpf.bpffs import DEFAULT_PINS, Pins, replace_pin
from buckler.drivers.ebpf.libbpf import KernelRefused, check
from buckler.drivers.ebpf.table import Table
from buckler.ports.shield import ShieldFailed

DEFAULT_OBJECT = Path(__file__).with_name("shield.bpf.o")
MAPS = [
    "settings",
    "tap_index",
    "endpoints",
    "tap_states",
    "own_addresses",
    "hosts",
    "prefixes",
    "macs",
    "services",
    "service_numbers",
    "residents",
    "ports",
    "policies",
    "established",
    "waiting",
    "secrets",
    "fragments",
    "counters",
    "pairs",
    "staged",
    "rates",
    "events",
    "sheds",
    "claims",
    "claim_budgets",
    "claim_sheds",
]
EVENTS_PER_SECOND = 200
_LOG_PROBLEMS = 4
"""BPF_LOG_STATS: without each step, which fills the log of Linux 6.1 before its problem stands in it."""
_ZERO = layout.U32.pack(0)


class Kernel:
    """What the four drivers of this folder share. ``lock`` orders their changes within one process.

    ``tcx`` None tries tcx links first; False uses clsact filters only.
    """

    def __init__(
        self,
        pins: Path = DEFAULT_PINS,
        object_file: Path = DEFAULT_OBJECT,
        events_per_second: int = EVENTS_PER_SECOND,
        *,
        tcx: bool | None = None,
    ) -> None:
        self.pins = Pins(pins)
        self.lock = threading.RLock()
        self._object_file = object_file
        self._events_per_second = events_per_second
        self._tcx = tcx
        self._maps: dict[str, Table] = {}
        self._hooks: dict[str, int] = {}
        self._attachments: Attachments | None = None

    def __getitem__(self, name: str) -> Table:
        """Return a map by its name in the object. Raises ShieldFailed before ``open``."""
        try:
            return self._maps[name]
        except KeyError:
            raise ShieldFailed("the shield's maps are not open") from None

    @property
    def attachments(self) -> Attachments:
        """What hangs at which interface. Raises ShieldFailed before ``open``."""
        if self._attachments is None:
            raise ShieldFailed("the shield's programs are not open")
        return self._attachments

    def hook(self, name: str) -> int:
        """Return a program's descriptor."""
        return self._hooks[name]

    def open(self) -> bool:
        """Adopt pins of this very object, else load it, taking over pinned maps and live links. Returns whether adopted."""
        with self.lock:
            try:
                return self._open()
            except OSError as failure:
                raise ShieldFailed(f"cannot open the shield: {failure}") from failure

    def close(self) -> None:
        """Give descriptors back. What is pinned goes on."""
        for table in self._maps.values():
            table.close()
        for fd in self._hooks.values():
            os.close(fd)
        self._maps, self._hooks, self._attachments = {}, {}, None

    def generation(self) -> int:
        """The pool-wide generation that connections are stamped with."""
        return self._settings()[0]

    def raise_generation(self) -> None:
        """Make every connection's stamp old."""
        with self.lock:
            generation, clock, budget, book, build = self._settings()
            self["settings"].put(_ZERO, layout.SETTINGS.pack(generation + 1, clock, budget, book, build))

    def clock(self) -> int:
        """CLOCK_REALTIME - CLOCK_BOOTTIME in ns, as the programs take it to be; 0: no allowance with an end holds."""
        return self._settings()[1]

    def set_clock(self, clock: int) -> None:
        """Let programs know another wall clock, and make every connection's stamp old."""
        with self.lock:
            generation, _, budget, book, build = self._settings()
            self["settings"].put(_ZERO, layout.SETTINGS.pack(generation, clock, budget, book, build))
            self.raise_generation()

    @contextmanager
    def changing_book(self) -> Iterator[None]:
        """Let no program remember a decision while the address book changes, nor one from before afterwards.

        Who dies within leaves the number odd: nothing is remembered until somebody changes the book again.
        """
        with self.lock:
            self._set_book(self._book() | 1)
            yield
            self._set_book(self._book() + 1 & 0xFFFFFFFF)

    def _book(self) -> int:
        return self._settings()[3]

    def _set_book(self, book: int) -> None:
        generation, clock, budget, _, build = self._settings()
        self["settings"].put(_ZERO, layout.SETTINGS.pack(generation, clock, budget, book, build))

    def _settings(self) -> tuple[int, int, int, int, bytes]:
        generation, clock, budget, book, build = layout.SETTINGS.unpack(self["settings"].get(_ZERO) or b"")
        return generation, clock, budget, book, build

    def _open(self) -> bool:
        self.close()
        self.pins.prepare()
        if strange := self._strange():
            # their inner maps may hold other layouts, which the kernel does not compare: what is in force stays so
            raise ShieldFailed(f"the pinned maps are of another layout ({', '.join(strange)}): restart the host")
        build = hashlib.sha256(self._object_file.read_bytes()).digest()
        adopted = self._adopt(build)
        if not adopted:
            self._load()
        self._attachments = Attachments(self.pins, self._hooks, tcx=self._tcx)
        if not adopted:
            self._take_over(build)
        return adopted

    def _strange(self) -> list[str]:
        """Maps of another build that this one cannot go on with: unknown ones, and settings of another size."""
        found = {path.name for path in self.pins.maps.iterdir()}
        strange = found - set(MAPS)
        if "settings" in found:
            settings = Table(libbpf.get_pinned(self.pins.maps / "settings"))
            strange |= {"settings"} if settings.value_size != layout.SETTINGS.size else set()
            settings.close()
        return sorted(strange)

    def _adopt(self, build: bytes) -> bool:
        if not all((self.pins.maps / name).exists() for name in MAPS):
            return False
        if not all((self.pins.hooks / name).exists() for name in HOOKS):
            return False
        self._maps = {name: Table(libbpf.get_pinned(self.pins.maps / name)) for name in MAPS}
        if self._settings()[4] != build:
            self.close()
            return False
        self._hooks = {name: libbpf.get_pinned(self.pins.hooks / name) for name in HOOKS}
        return True

    def _load(self) -> None:
        loaded = libbpf.object_open(os.fsencode(self._object_file), None)
        if not loaded:
            check(-1, f"open {self._object_file}")
        log = c.create_string_buffer(1 << 16)
        try:
            for name in MAPS:
                path = os.fsencode(self.pins.maps / name)
                check(libbpf.map_set_pin_path(_found(libbpf.object_find_map(loaded, name.encode())), path), name)
            for name in HOOKS:
                program = _found(libbpf.object_find_program(loaded, name.encode()))
                libbpf.program_set_log(program, log, len(log))
                libbpf.program_set_log_level(program, _LOG_PROBLEMS)
            try:
                check(libbpf.object_load(loaded), f"load {self._object_file.name}")
            except KernelRefused as refused:
                tail = log.value.decode(errors="replace")[-400:]
                raise KernelRefused(refused.errno, f"{refused.strerror} {tail}") from refused
            self._maps = {
                name: Table(os.dup(libbpf.map_fd(libbpf.object_find_map(loaded, name.encode())))) for name in MAPS
            }
            self._hooks = {
                name: os.dup(libbpf.program_fd(libbpf.object_find_program(loaded, name.encode()))) for name in HOOKS
            }
        finally:
            libbpf.object_close(loaded)

    def _take_over(self, build: bytes) -> None:
        """Write what an empty map needs, swap live programs, and name the build last: a crash before that loads again."""
        for name, fd in self._hooks.items():
            replace_pin(fd, self.pins.hooks / name)
        generation, clock = max(1, self.generation() + 1), self.clock()
        self["settings"].put(_ZERO, layout.SETTINGS.pack(generation, clock, self._events_per_second, 0, bytes(32)))
        nobody = (layout.NOBODY,) * 4
        for name, bucket in (
            ("pairs", layout.PAIR_KEY.pack(*nobody, 0, 0)),
            ("staged", layout.STAGED_KEY.pack(*nobody, 0, 0, 0, 0)),
        ):
            if self[name].get(bucket) is None:
                self[name].put(bucket, bytes(self[name].read_size))
        if not any(self["secrets"].get(_ZERO) or b""):
            self["secrets"].put(_ZERO, os.urandom(layout.SECRET.size))
        ports = {layout.PORT_KEY.unpack(key)[0] for key in self["ports"].each_key()}
        taps = {layout.U32.unpack(key)[0] for key in self["tap_index"].each_key()}
        self.attachments.upgrade(taps, ports)
        self["settings"].put(_ZERO, layout.SETTINGS.pack(generation, clock, self._events_per_second, 0, build))


def _found(pointer: int | None) -> int:
    if not pointer:
        raise KernelRefused(2, "the object lacks a map or program of ours")
    return pointer
