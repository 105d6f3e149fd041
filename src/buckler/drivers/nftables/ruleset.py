"""The guard's rules as nft's own language, and what a listing says of them. Pure; runs nothing.

Elements are interface indexes, never names: a reused name opens nothing. A frame is stopped before the bridge learns
from it; link-local control frames reach ``input`` without ``prerouting``, so the mark is asked for there too.

Two forms. Where the kernel knows a frame's bridge (NFT_BRIDGE_META), rules say ``meta ibrname @bridges``. Where it does
not, they let go only ports that are known to belong to other bridges (set ``foreign``): a port that nobody knows yet
is closed, of whichever bridge.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from buckler.model.canonical import canonical_bytes
from buckler.model.shield import GuardState

TABLES = (("bridge", "buckler"), ("inet", "buckler"))
COUNTERS = ("unjudged", "unadmitted", "towards_host", "from_host", "tunnel")
MARK_JUDGED = 0x00800000

_UNMARKED = f"meta mark and {MARK_JUDGED:#x} == 0 counter name unjudged drop"
_BRIDGE = """
table bridge buckler {
  set bridges { type ifname; }
  set gateways { type ifname; }
  set ports { type iface_index . ifname; }
  set admitted { type iface_index; }
  set gateway_ports { type iface_index; }
  set foreign { type iface_index; }
  set seal { type ipv6_addr; }
  counter unjudged { }
  counter unadmitted { }
  counter towards_host { }
  counter from_host { }
%s}
"""
_CHAIN = "  chain {0} {{\n    type filter hook {0} priority -310; policy accept;\n    {1}\n  }}\n"
_BY_BRIDGE = {
    "prerouting": (f"meta ibrname @bridges {_UNMARKED}",),
    "forward": ("meta obrname @bridges meta oif . meta obrname != @ports counter name unadmitted drop",),
    "input": (
        f"meta ibrname @bridges {_UNMARKED}",
        "meta ibrname @bridges meta ibrname != @gateways counter name towards_host drop",
    ),
    "output": (
        "meta obrname @bridges meta obrname != @gateways counter name from_host drop",
        "meta obrname @bridges meta oif . meta obrname != @ports counter name unadmitted drop",
    ),
}
_BY_PORT = {
    "prerouting": ("meta iif @foreign accept", _UNMARKED),
    "forward": ("meta oif @foreign accept", "meta oif != @admitted counter name unadmitted drop"),
    "input": (
        "meta iif @foreign accept",
        _UNMARKED,
        "meta iif != @gateway_ports counter name towards_host drop",
    ),
    "output": ("meta oif @foreign accept", "meta oif != @gateway_ports counter name from_host drop"),
}
_INET = """
table inet buckler {
  set members4 { type ipv4_addr; }
  set members6 { type ipv6_addr; }
  set tunnel_ports { type inet_service; }
  set fabric { type ifname; }
  counter tunnel { }
  chain input {
    type filter hook input priority -310; policy accept;
    meta l4proto udp udp dport @tunnel_ports jump tunnels
  }
  chain tunnels {
    meta iifname != @fabric counter name tunnel drop
    ip saddr @members4 return
    ip6 saddr @members6 return
    counter name tunnel drop
  }
}
"""


def write_probe() -> str:
    """Ask whether the kernel knows a frame's bridge; to be checked, never run."""
    chain = "chain c { type filter hook prerouting priority 0; meta ibrname lo accept; }"
    return f"table bridge buckler_probe {{\n{chain}\n}}\n"


def write_rebuild(state: GuardState, foreign: frozenset[int], *, by_bridge: bool) -> str:
    """One transaction that replaces whatever stands under our tables' names."""
    chains = _BY_BRIDGE if by_bridge else _BY_PORT
    written = "".join(_CHAIN.format(hook, "\n    ".join(rules)) for hook, rules in chains.items())
    return write_removal() + _BRIDGE % written + _INET + _write_elements(state, foreign)


def write_update(state: GuardState, foreign: frozenset[int]) -> str:
    """One transaction that replaces the elements only: rules and counters stand."""
    flushes = "".join(f"flush set {place}\n" for place in _elements(state, foreign))
    return flushes + _write_elements(state, foreign)


def write_seal(digest: bytes) -> str:
    """Keep the digest of the rules beside them, as an element that no rule uses."""
    return (
        f"flush set bridge buckler seal\nadd element bridge buckler seal {{ {ipaddress.IPv6Address(digest[:16])} }}\n"
    )


def write_removal() -> str:
    """Take both tables away, if there."""
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family, name in TABLES)


def _elements(state: GuardState, foreign: frozenset[int]) -> dict[str, list[str]]:
    members, ports = sorted(state.members), sorted(state.ports)
    return {
        "bridge buckler bridges": [f'"{name}"' for name in sorted(state.bridges)],
        "bridge buckler gateways": [f'"{name}"' for name in sorted(state.gateways)],
        "bridge buckler ports": [f'{ifindex} . "{bridge}"' for ifindex, bridge in ports],
        "bridge buckler admitted": [str(ifindex) for ifindex in sorted({ifindex for ifindex, _ in ports})],
        "bridge buckler gateway_ports": [
            str(i) for i in sorted({i for i, bridge in ports if bridge in state.gateways})
        ],
        "bridge buckler foreign": [str(ifindex) for ifindex in sorted(foreign)],
        "inet buckler members4": [member for member in members if ":" not in member],
        "inet buckler members6": [member for member in members if ":" in member],
        "inet buckler tunnel_ports": [str(port) for port in sorted(state.tunnel_ports)],
        "inet buckler fabric": [f'"{state.fabric}"'] if state.fabric else [],
    }


def _write_elements(state: GuardState, foreign: frozenset[int]) -> str:
    return "".join(
        f"add element {place} {{ {', '.join(elements)} }}\n"
        for place, elements in _elements(state, foreign).items()
        if elements
    )


def digest_rules(listing: Iterable[Mapping[str, Any]]) -> bytes:
    """Digest of everything in our tables but elements, handles and counts."""
    kept = []
    for item in listing:
        for kind, value in item.items():
            if kind in ("table", "chain", "rule", "set", "counter", "map", "flowtable"):
                dropped = ("handle", "elem", "packets", "bytes")
                kept.append({kind: {key: part for key, part in value.items() if key not in dropped}})
    return hashlib.sha256(canonical_bytes(kept)).digest()


def read_sets(listing: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Set name → elements as nft gives them."""
    return {item["set"]["name"]: item["set"].get("elem", []) for item in listing if "set" in item}


def read_counts(listing: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Packets that each named counter dropped."""
    return {item["counter"]["name"]: item["counter"]["packets"] for item in listing if "counter" in item}


def is_sealed(listing: list[Mapping[str, Any]]) -> bool:
    """Say whether the rules are those that the seal was made of."""
    seal = read_sets(listing).get("seal", [])
    return seal == [str(ipaddress.IPv6Address(digest_rules(listing)[:16]))]


def read_state(listing: list[Mapping[str, Any]], index_of: Callable[[str], int]) -> tuple[GuardState, frozenset[int]]:
    """Read the elements back: the state, and the foreign ports that the rules let go.

    nft prints an index as the interface's present name; ``index_of`` turns it back. Raises ValueError when the sets
    that only rules read do not follow from the state.
    """
    sets = read_sets(listing)
    fabric = sets["fabric"]
    state = GuardState(
        bridges=frozenset(sets["bridges"]),
        ports=frozenset((index_of(str(pair["concat"][0])), pair["concat"][1]) for pair in sets["ports"]),
        gateways=frozenset(sets["gateways"]),
        fabric=fabric[0] if fabric else "",
        members=frozenset(sets["members4"]) | frozenset(sets["members6"]),
        tunnel_ports=frozenset(sets["tunnel_ports"]),
    )
    admitted = {index_of(str(element)) for element in sets["admitted"]}
    gateway_ports = {index_of(str(element)) for element in sets["gateway_ports"]}
    if admitted != {ifindex for ifindex, _ in state.ports}:
        raise ValueError("admitted ports are not those of the state")
    if gateway_ports != {ifindex for ifindex, bridge in state.ports if bridge in state.gateways}:
        raise ValueError("gateway ports are not those of the state")
    return state, frozenset(index_of(str(element)) for element in sets["foreign"])
