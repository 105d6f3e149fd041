"""ports/guard.Guard by the nft program. Owns running it, not the rules' text."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from buckler.drivers.netlink.links import NetlinkLinks
from buckler.drivers.nftables import ruleset
from buckler.drivers.nftables.notices import watch_tables
from buckler.model.shield import GuardState
from buckler.ports.guard import GuardFailed
from buckler.ports.links import LinksFailed

_SECONDS = 20


class NftablesGuard:
    """Works in the network namespace of the calling thread. Member addresses read back as nft writes them.

    ``by_bridge`` None asks the kernel which form of the rules it can do (see ruleset.py).
    """

    def __init__(self, *, by_bridge: bool | None = None) -> None:
        self._by_bridge = by_bridge

    def observe(self) -> GuardState | None:
        """See the port. Where rules go by port, a foreign port that came or went is drift too."""
        found = self._observe()
        if found is None or found[1] != self._find_foreign(found[0]):
            return None
        return found[0]

    def apply(self, state: GuardState) -> None:
        """See the port."""
        foreign = self._find_foreign(state)
        if self._observe() is None:
            _run(ruleset.write_rebuild(state, foreign, by_bridge=self._knows_bridges()))
            listing = self._list()
            if listing is None:
                raise GuardFailed("the guard's tables vanished while they were written")
            _run(ruleset.write_seal(ruleset.digest_rules(listing)))
        else:
            _run(ruleset.write_update(state, foreign))
        if self._observe() != (state, foreign):
            raise GuardFailed("the guard does not read back as it was written")

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See the port. What changes in the tables of others is told as well."""
        return watch_tables(changed)

    def remove(self) -> None:
        """See the port."""
        _run(ruleset.write_removal())

    def counts(self) -> dict[str, int]:
        """Frames dropped since the tables were built: unjudged, unadmitted, towards_host, from_host, tunnel."""
        return ruleset.read_counts(self._list() or [])

    def _observe(self) -> tuple[GuardState, frozenset[int]] | None:
        listing = self._list()
        if listing is None or not ruleset.is_sealed(listing):
            return None
        try:
            return ruleset.read_state(listing, _index_of)
        except (KeyError, TypeError, ValueError, IndexError):
            return None

    def _knows_bridges(self) -> bool:
        if self._by_bridge is None:
            self._by_bridge = _nft("-c", "-f", "-", script=ruleset.write_probe()).returncode == 0
        return self._by_bridge

    def _find_foreign(self, state: GuardState) -> frozenset[int]:
        """Ports of bridges that are not ours; none where rules name the bridge."""
        return frozenset() if self._knows_bridges() else _list_foreign_ports(state.bridges)

    def _list(self) -> list[Mapping[str, Any]] | None:
        found: list[Mapping[str, Any]] = []
        for family, name in ruleset.TABLES:
            done = _nft("-j", "list", "table", family, name)
            if done.returncode:
                return None
            found += json.loads(done.stdout)["nftables"][1:]
        return found


def _list_foreign_ports(ours: frozenset[str]) -> frozenset[int]:
    try:
        links = NetlinkLinks().links()
    except LinksFailed as failure:
        raise GuardFailed(f"cannot list interfaces: {failure}") from failure
    return frozenset(link.ifindex for link in links.values() if link.bridge and link.bridge not in ours)


def _index_of(text: str) -> int:
    try:
        return socket.if_nametoindex(text)
    except OSError:
        return int(text)


def _nft(*arguments: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["nft", *arguments], input=script, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise GuardFailed(f"cannot run nft: {failure}") from failure


def _run(script: str) -> None:
    done = _nft("-f", "-", script=script)
    if done.returncode:
        raise GuardFailed(f"nft refused: {done.stderr.strip()[:400]}")
