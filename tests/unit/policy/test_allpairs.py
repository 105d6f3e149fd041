"""The blocks of a large pool's matrix say what the matrix pair by pair says."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.operatorapi.answers import PortRange
from buckler.model.pool import ShieldMode
from buckler.policy.allpairs import list_blocks
from buckler.policy.compile import fill_rows
from buckler.policy.pairs import reach_pairs
from buckler.policy.pool import identity_key, singled_out, stations, visitors
from buckler.policy.reach import allowed_ranges
from tests.policyworld import Store
from tests.randompolicy import Drawn, flag, observing, world

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.proof
@QUICK
@given(st.data())
def test_blocks_say_what_pairs_say(data):
    choose = Drawn(data.draw)
    documents = tuple(observing(each) if flag(choose, 6) else each for each in world(choose, vms=6))
    store = Store()
    pool = store.pool(documents)
    numbers = store.allocate(pool, documents)
    ends: dict[tuple[int, ShieldMode | None], list[str]] = {}
    for station in stations(pool, singled_out(documents)):
        end = numbers.identities[identity_key(station.labels)], station.vm.mode
        ends.setdefault(end, []).append(station.vm.name)
    for visitor in visitors(pool, singled_out(documents)):
        ends.setdefault((numbers.identities[identity_key(visitor.labels)], None), []).append(visitor.outsider.name)
    modes = {number: frozenset(mode for other, mode in ends if other == number) for number, _ in ends}
    told: dict[tuple[str, str], tuple[PortRange, ...]] = {}
    for block in list_blocks(fill_rows(pool, documents, numbers), modes):
        for sender in [name for end in block.senders for name in ends[end]]:
            for receiver in [name for end in block.receivers for name in ends[end]]:
                if sender != receiver:
                    assert (sender, receiver) not in told
                    told[sender, receiver] = allowed_ranges(block.table)
    pairs = {(each.origin, each.to): each.allowed for each in reach_pairs(pool, documents, numbers) if each.allowed}
    names = {each.name for each in (*pool.vms, *pool.outsiders)}
    assert told == {pair: allowed for pair, allowed in pairs.items() if names.issuperset(pair)}
