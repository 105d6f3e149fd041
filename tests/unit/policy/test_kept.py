"""What every state in force and the wanted one allow is denied in no stage between, however changes overlap."""

import random

import pytest

from buckler.model.ids import IDENTITY_INFRA
from buckler.model.program import Direction, Verdict
from buckler.policy.bundle import build_bundle
from buckler.policy.closing import address_map
from buckler.policy.documents import read_documents
from buckler.policy.lookup import read_program
from buckler.policy.prefix import host_prefix
from buckler.policy.resolve import find_interval
from buckler.policy.rollout import plan_rollout
from tests.policyworld import Store
from tests.system.tenants.lab import RED, as_file, base_documents, plan_tenants
from tests.system.tenants.swaps import ALWAYS, ASKING, FAR, LAST, NEAR, Sets, documents

TCP = 6
CHANGES = 40


class States:
    """The bundle of each set, built once."""

    def __init__(self):
        self._store, self._built = Store(), {}

    def bundle(self, sets):
        if sets not in self._built:
            found = read_documents([as_source(sets)])
            assert not found.problems
            pool = self._store.pool(found.documents)
            self._built[sets] = build_bundle(pool, found.documents, self._store.allocate(pool, found.documents))
        return self._built[sets]


def as_source(sets):
    return as_file("sets", [*base_documents(), *documents(sets)])


def outcomes(bundle):
    """What both ends do with the flow that every set allows, to each of the three: allowed, held or denied."""
    segment = next(each for each in bundle.segments if each.network == RED)
    meaning, ends = address_map(segment), {each.name: each for each in segment.endpoints}
    guests = {each.name: each for each in plan_tenants("x").guests}
    for name in (FAR, LAST, NEAR):
        for mine, other, side in ((ASKING, name, Direction.EGRESS), (name, ASKING, Direction.INGRESS)):
            peer = meaning.identity(host_prefix(guests[other].ipv4))
            if peer == IDENTITY_INFRA:
                yield "held"
                continue
            table = read_program(bundle.programs[ends[mine].program]).table(peer, side)
            yield (
                "allowed"
                if find_interval(table, TCP, ALWAYS[1]).verdict is Verdict.ALLOW
                else f"denied: {mine} {other}"
            )


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(1, 6))
def test_an_address_that_is_held_takes_nothing_from_those_that_get_its_identity(seed):
    dice, states, sets = random.Random(seed), States(), Sets()
    in_force, met = [states.bundle(sets)], set()
    for _ in range(CHANGES):
        flips = dice.sample(Sets._fields, dice.choice((1, 1, 2, 3)))
        sets = sets._replace(**{name: not getattr(sets, name) for name in flips})
        wanted = states.bundle(sets)
        stages = [each.bundle for each in plan_rollout(in_force, wanted)]
        told = stages[: dice.randint(0, len(stages))]
        met |= {outcome for each in told for outcome in outcomes(each)}
        is_through = len(told) == len(stages) or not dice.randrange(3)
        in_force = [wanted] if is_through else [*in_force, *told]
    assert met <= {"allowed", "held"}
    assert "allowed" in met
