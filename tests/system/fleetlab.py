"""A lab with a fleet, for the tests of moves: brought up, and taken away whatever happens."""

from contextlib import contextmanager

from buckler.lab.datacentre import build_lab, start_guests
from buckler.lab.fleet import fleet_documents, plan_fleet
from buckler.lab.pool import Pool, raise_pool
from buckler.lab.story.cast import Cast
from buckler.lab.story.traffic import Traffic
from buckler.lab.sweep import sweep


@contextmanager
def fleet_lab(pairs, prefix="blm", with_disk=frozenset(), *, bare=False):
    plan = plan_fleet(pairs, prefix, with_disk)
    try:
        centre = build_lab(plan, print)
        if bare:
            start_guests(centre, plan.guests, {})
        else:
            raise_pool(centre, fleet_documents(pairs), print)
        yield Cast(Pool(centre), print)
    finally:
        sweep(plan.folder, plan.prefix)


def pair(cast, number):
    return cast.guest(f"client-{number}"), cast.guest(f"server-{number}")


def other_host(cast, guest):
    home = cast.centre.host_of(guest)
    return next(host.name for host in cast.centre.plan.hosts if host.name != home)


def client_traffic(cast, number, speaking, idle=(), poured="", interval_ms=20):
    return Traffic(cast.centre, f"client-{number}", speaking, idle, poured, interval_ms)
