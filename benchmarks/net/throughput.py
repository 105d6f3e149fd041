"""Paired, interleaved bursts: each filter against the world without one, in turns. Owns neither worlds nor filters."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from enum import StrEnum

from benchmarks.net.figures import Figure, sum_up
from benchmarks.net.world import (
    CONNECT_PORT,
    FIRST_PORT,
    FIRST_TARGET,
    RECEIVER,
    RECEIVER_MAC,
    SENDER_MAC,
    SENDERS,
    STREAM_PORT,
    World,
)
from tests import packets


class Load(StrEnum):
    """What is sent. TAP: from tap to tap; VETH: between two namespaces, as far as the receiver's socket."""

    TAP_KNOWN = "tap_known"
    TAP_NEW = "tap_new"
    VETH_KNOWN = "veth_known"
    VETH_NEW = "veth_new"
    TCP = "tcp_bytes"
    CONNECT = "tcp_connections"


SECONDS = {Load.TCP: 0.3, Load.CONNECT: 0.25}
_BURST = 0.12


def open_flow(world: World) -> None:
    """Let the one known flow of both paths be answered, so that it is an established connection."""
    there = packets.udp(FIRST_PORT, FIRST_TARGET)
    back = packets.udp(FIRST_TARGET, FIRST_PORT)
    ask = packets.ip_frame((SENDER_MAC, SENDERS[0]), (RECEIVER_MAC, RECEIVER), 17, there)
    answer = packets.ip_frame((RECEIVER_MAC, RECEIVER), (SENDER_MAC, SENDERS[0]), 17, back)
    world.exchange(ask, answer)


def run_burst(world: World, load: Load) -> float:
    """Return frames, bytes or connections a second. Frames: of the sender's own time, in which they go the whole way."""
    seconds = str(SECONDS.get(load, _BURST))
    if load in (Load.TAP_KNOWN, Load.TAP_NEW):
        kind = "new" if load is Load.TAP_NEW else "known"
        ends = (str(world.tap_a.fd), str(world.tap_b.fd))
        return world.run_traffic("frames", *ends, seconds, kind)[2]
    if load in (Load.VETH_KNOWN, Load.VETH_NEW):
        return world.run_traffic("packets", "eth0", seconds, "new" if load is Load.VETH_NEW else "known")[1]
    mode, port = ("stream", STREAM_PORT) if load is Load.TCP else ("connect", CONNECT_PORT)
    return world.run_traffic(mode, RECEIVER, str(port), seconds)[0]


def measure(
    bare: World, worlds: Mapping[str, World], rounds: Mapping[str, int], told: Callable[[str], None]
) -> dict[str, dict[str, Figure]]:
    """Name of a filter → load → figure. Connections of earlier bursts are forgotten before each burst, outside its time."""
    pairs: dict[tuple[str, Load], list[tuple[float, float]]] = {}
    order = random.Random(1)
    for turn in range(max(rounds.values())):
        names = [name for name in worlds if rounds[name] > turn]
        order.shuffle(names)
        told(f"round {turn + 1}: {len(names)} filters")
        for name in names:
            for load in Load:
                both = [bare, worlds[name]] if turn % 2 else [worlds[name], bare]
                rates = {}
                for world in both:
                    world.forget()
                    rates[world.name] = run_burst(world, load)
                pairs.setdefault((name, load), []).append((rates[name], rates[bare.name]))
    return {name: {load.value: sum_up(pairs[name, load]) for load in Load} for name in worlds}
