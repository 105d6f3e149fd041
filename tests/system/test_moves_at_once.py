"""Twenty guests change hosts at the same time, in both directions, with their connections, and nothing forbidden passes."""

import pytest

from buckler.lab.moving import Move, Way
from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.fleetwork import forbidden, from_outside
from buckler.lab.story.traffic import Traffic, add_up
from tests.system.fleetlab import client_traffic, fleet_lab, other_host, pair
from tests.system.footprint import guests_of

PAIRS = 10
FIRED_AT = (1, 2)
SECONDS = 240
"""Forty emulated machines on a few cores: what takes a second alone takes a minute among so many."""


@pytest.mark.timeout(600)
def test_twenty_guests_change_hosts_at_once_and_keep_their_connections():
    with fleet_lab(PAIRS) as cast:
        places = {host: guests_of(cast, host) for host in ("host1", "host2")}
        traffic = [few_flows(cast, number) for number in range(1, PAIRS + 1)]
        traffic.append(Traffic(cast.centre, OUTSIDE, from_outside(pair(cast, 1)[1]), from_outside(pair(cast, 2)[1])))
        fire = Crossfire(cast, *forbidden([pair(cast, number) for number in FIRED_AT]))
        guests = [guest.name for guest in cast.guests]
        assert len(guests) == 20
        moves = [Move(cast.centre, guest, other_host(cast, guest), Way.P2P) for guest in guests]
        outcomes = {guest: move.outcome(SECONDS) for guest, move in zip(guests, moves, strict=True)}
        assert {guest: words for guest, (words, code) in outcomes.items() if code} == {}
        assert guests_of(cast, "host1") == places["host2"]
        assert guests_of(cast, "host2") == places["host1"]
        for one in traffic:
            one.has_gone_on(60)
            one.ask_idle()
        sent, passed, evidence = fire.stop()
        survived = add_up([one.stop() for one in traffic])
        assert (survived.resets, survived.dead) == (0, ()), survived
        assert sent > 500
        assert passed == 0, evidence


def few_flows(cast, number):
    """Little enough that the machines have time to move."""
    _, server = pair(cast, number)
    speaking = [f"tcp/{server.ipv4}/8080", f"udp/{server.ipv6}/53"]
    return client_traffic(cast, number, speaking, idle=[f"tcp/{server.ipv6}/8080"], interval_ms=250)
