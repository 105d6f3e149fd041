"""Files of the cluster, its hosts and virtual networks → which guests what is forwarded may be dropped for. Owns no chain.

Rules on what is forwarded are not carried over one by one: whom they may close is closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.proxmox.files import FirewallFile, Line, Teller, is_on, read_file
from buckler.policy.source import Source

_ACCEPT = re.compile(r"(\S+\(accept\)|accept)\Z")
_NETWORK = re.compile(r"(?:.*/)?sdn/firewall/([^/]+)\.fw\Z")
_FORWARD = "policy_forward"


class Closing(msgspec.Struct, frozen=True):
    """A line by which something forwarded may be dropped, of the guests on one bridge. An empty one: of all."""

    line: Line
    bridge: str = ""


def find_closings(cluster: FirewallFile, others: Iterable[Source], book: LossBook) -> list[Closing]:
    """Read what is not a guest's, tell what of it binds no guest, and list what may."""
    if not is_on(cluster):
        return []
    _tell_rest(cluster, "all hosts", Teller(book, "cluster"))
    groups = {name: lines for name, lines in cluster.groups.items() if ("group", name) not in cluster.twice}
    found = [Closing(line) for line in _dropping(cluster, groups)]
    for source in others:
        tell = Teller(book, source.name)
        file = read_file(source, tell)
        network = _NETWORK.match(source.name)
        enable = file.options.get("enable")
        if network and not is_on(file) and not file.unclear:
            line = enable[1] if enable else Line(source.name, 1, "")
            tell.tell(line, "the firewall of this virtual network is off", "nothing of it is carried over", Effect.NOTE)
        elif network is None and enable is not None and not is_on(file) and not file.unclear:
            tell.tell(enable[1], "the firewall of this host is off", "nothing of it is carried over", Effect.NOTE)
        else:
            _tell_rest(file, "a virtual network" if network else "a host", tell)
            found += [Closing(line, network[1] if network else "") for line in _dropping(file, groups)]
    return found


def _dropping(file: FirewallFile, groups: Mapping[str, list[Line]]) -> Iterable[Line]:
    policy, line = file.options.get(_FORWARD, ("ACCEPT", None))
    if line is not None and policy.upper() != "ACCEPT":
        yield line
    yield from file.unclear
    yield from (each for each in file.rules if _drops(each, groups))


def _drops(line: Line, groups: Mapping[str, list[Line]]) -> bool:
    """Say whether a line may drop what is forwarded; a group may that is not known, or stands in a group."""
    words = line.text.partition("#")[0].lower().split()
    if len(words) > 1 and words[0] == "group":
        inner = groups.get(words[1])
        return inner is None or any(_drops(each, {}) for each in inner)
    return bool(words) and words[0] == "forward" and not (len(words) > 1 and _ACCEPT.match(words[1]))


def _tell_rest(file: FirewallFile, whose: str, tell: Teller) -> None:
    for line in file.rules:
        if not line.text.lstrip("|").lower().startswith("forward"):
            means = "not carried over: here no guest reaches a host's addresses"
            tell.tell(line, f"a rule of {whose}", means, Effect.OMITTED)
    for key, (value, line) in file.options.items():
        if key not in {"enable", _FORWARD}:
            tell.tell(line, f"the option {key}: {value} of {whose}", "it binds no guest", Effect.NOTE)
