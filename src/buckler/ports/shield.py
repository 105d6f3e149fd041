"""The door to the programs and maps in the kernel that judge every frame of a VM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from buckler.model.ids import Digest, VmNumber
from buckler.model.program import Program
from buckler.model.shield import Address, AddressKey, BridgePort, MacKey, Service, ServiceKey, Tap


class ShieldFailed(Exception):
    """The kernel refused; nothing was opened. The one exception of this port."""


class Shield(Protocol):
    """All methods are idempotent. A tap that is attached but unknown to the maps drops everything.

    Order for a change: put_program, put_tap, put_macs/put_addresses, rejudge; then the deletions, programs last. So
    programs are in force before an address means another; a tap that is new stays closed by the guard until the end.
    """

    def open(self) -> None:
        """Adopt what an earlier agent left pinned, upgrading its programs in place; else load and pin anew."""

    def taps(self) -> dict[int, Tap]:
        """Read back the taps whose both programs are attached and whose maps are filled."""

    def put_tap(self, tap: Tap) -> None:
        """Attach both directions if they are not, then fill or replace the configuration; program swap is atomic.

        Raises ShieldFailed, also when ``tap.program`` was not put before.
        """

    def prepare_taps(self, taps: Sequence[Tap]) -> None:
        """Do for many taps at once what their ``put_tap`` would wait for one by one. No packet meets it; never needed."""

    def delete_tap(self, ifindex: int) -> None:
        """Forget the configuration first (closed), then detach, then free connections and counts of reasons.

        Counts per pair stay until Telemetry.forget_pairs: whoever keeps totals has to read them first.
        """

    def programs(self) -> frozenset[Digest]:
        """Programs that the kernel holds, each proven equal to its digest when it was put."""

    def put_program(self, digest: Digest, program: Program) -> None:
        """Build the program's map aside. No packet meets it before a tap uses it."""

    def delete_program(self, digest: Digest) -> None:
        """Free a program that no tap uses."""

    def rejudge(self) -> None:
        """Make every established connection be judged again, peer resolved anew, on its next packet."""


class AddressBook(Protocol):
    """Who owns an address or MAC, pool-wide. Idempotent; single replacements are atomic for packets."""

    def addresses(self) -> dict[AddressKey, Address]:
        """Read back everything."""

    def put_addresses(self, entries: Mapping[AddressKey, Address]) -> None:
        """Add or replace."""

    def delete_addresses(self, keys: frozenset[AddressKey]) -> None:
        """Remove; absent keys are no error."""

    def macs(self) -> dict[MacKey, VmNumber]:
        """Read back everything."""

    def put_macs(self, entries: Mapping[MacKey, VmNumber]) -> None:
        """Add or replace."""

    def delete_macs(self, keys: frozenset[MacKey]) -> None:
        """Remove; absent keys are no error."""


class Services(Protocol):
    """What stands behind virtual addresses, pool-wide. Idempotent; one replacement is atomic for packets."""

    def services(self) -> dict[ServiceKey, Service]:
        """Read back everything. One of which not all stands has number 0, which is nobody's."""

    def put_services(self, entries: Mapping[ServiceKey, Service]) -> None:
        """Add or replace."""

    def delete_services(self, keys: frozenset[ServiceKey]) -> None:
        """Remove; absent keys are no error."""


class Ports(Protocol):
    """Bridge ports with a role other than tap."""

    def bridge_ports(self) -> dict[int, BridgePort]:
        """Read back the ports whose program is attached and configured."""

    def put_bridge_port(self, port: BridgePort) -> None:
        """Attach and configure. Raises ShieldFailed."""

    def delete_bridge_port(self, ifindex: int) -> None:
        """Forget (closed) and detach."""


class Upkeep(Protocol):
    """What keeps a shield true while nothing changes. Opens nothing. All may raise ShieldFailed."""

    def held(self) -> frozenset[int]:
        """Indexes of taps of which the kernel holds anything at all, be their interfaces gone."""

    def fallen(self) -> frozenset[int]:
        """Configured taps and bridge ports at which a program of ours judges no more. Cheap: nobody tells of that."""

    def altered_programs(self) -> frozenset[Digest]:
        """Programs whose content is not what their digests name any more. Empty unless somebody meddled."""

    def prune(self) -> int:
        """Free connections whose time is up; return how many."""

    def keep_time(self, *, is_believed: bool) -> bool:
        """Say how the host's wall clock goes, when it was stepped or its standing changed; return whether anything did.

        While it is not believed (at first: until this is called), every allowance with an end has ended. What a dead
        agent said last holds on: ends are kept in a time that nobody steps.
        """
