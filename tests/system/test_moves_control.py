"""The eyes of the other tests of moves see: without Buckler every forbidden probe of theirs arrives, whichever kind it is."""

import time

import pytest

from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.fleetwork import forbidden, from_outside, idle, speaking
from buckler.lab.story.traffic import Traffic
from tests.system.fleetlab import client_traffic, fleet_lab, other_host, pair


@pytest.mark.timeout(120)
def test_without_buckler_every_kind_of_forbidden_probe_is_seen_and_all_traffic_outlives_a_move():
    with fleet_lab(1, bare=True) as cast:
        client, server = pair(cast, 1)
        traffic = [
            client_traffic(cast, 1, speaking(server), idle(server), f"tcp/{server.ipv4}/8080"),
            Traffic(cast.centre, OUTSIDE, from_outside(server), from_outside(server)),
        ]
        fire = Crossfire(cast, *forbidden([(client, server)]))
        time.sleep(2)
        cast.centre.migrate("server-1", other_host(cast, "server-1"))
        for one in traffic:
            one.has_gone_on()
            one.ask_idle()
        sightings = fire.sightings()
        assert len(sightings) == 36, "each kind of probe, in both families"
        assert {what for what, count in sightings.items() if not count} == set()
        for one in traffic:
            result = one.stop()
            assert result.holds, result
