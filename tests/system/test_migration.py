"""Peers that may speak with a VM in one direction never get anything through in the other while it moves."""

import pytest

from buckler.lab.story.cast import wait_until
from buckler.lab.story.crossfire import Crossfire
from buckler.lab.story.motion_steps import migrate_by_task
from buckler.lab.story.probing import hammer, hold

ECHO_ID = 77
FORBIDDEN = (
    ("web1", "app", ("tcp/22", "tcp/80", "udp/53")),
    ("app", "web1", ("tcp/22", "tcp/80", "udp/53", "icmp")),
    ("app", "db", ("tcp/22", "udp/53")),
    ("db", "app", ("tcp/22", "tcp/8080", "udp/53", "icmp")),
)
"""Who sends to whom what no rule allows, though web1 may call app, and app may call db, on one port and with pings."""


def request(service, address):
    """Write what the sender asks; all pings carry one id, that of the allowed ones too."""
    kind, _, port = service.partition("/")
    return f"{kind}/{address}/{port or ECHO_ID}"


def arrival(service, address):
    kind, _, port = service.partition("/")
    return f"{kind}/{address}" + (f"/{port}" if port else "")


def crossfire(cast):
    shots, eyes = {}, {}
    for origin, target, services in FORBIDDEN:
        sender, receiver = cast.guest(origin), cast.guest(target)
        for service in services:
            for of in (lambda guest: guest.ipv4, lambda guest: guest.ipv6):
                shots.setdefault(origin, []).append(request(service, of(receiver)))
                eyes.setdefault(target, []).append(arrival(service, of(sender)))
    return Crossfire(cast, shots, eyes)


@pytest.mark.timeout(240)
def test_an_allowed_conversation_opens_nothing_the_other_way_while_a_vm_moves(cast):
    app = cast.guest("app")
    talk = hold(cast.centre, "web1", "talk", f"tcp/{app.ipv4}/8080")
    pings = hammer(cast.centre, "web1", "pings", [f"icmp/{address}/{ECHO_ID}" for address in (app.ipv4, app.ipv6)])
    wait_until("the allowed speak", lambda: int(pings.read().get("answered", 0)) > 10)
    assert int(talk.read()["received"]) > 0
    fire = crossfire(cast)
    home = cast.centre.host_of("app")
    away = next(host.name for host in cast.centre.plan.hosts if host.name != home)
    migrate_by_task(cast, "app", away)
    answered = int(pings.read()["answered"])
    migrate_by_task(cast, "app", home)
    wait_until("the pings go on", lambda: int(pings.read()["answered"]) > answered)
    sent, passed, evidence = fire.stop()
    pings.stop(), talk.stop()
    assert sent > 500
    assert passed == 0, evidence
