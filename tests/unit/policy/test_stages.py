"""What each stage of a change means for the shop: who is cut when, and who is not disturbed."""

from __future__ import annotations

import msgspec

from buckler.model.bundle import Stage
from buckler.model.program import Direction, Verdict
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.closing import address_map
from buckler.policy.language import Kind
from buckler.policy.lookup import look_up
from buckler.policy.prefix import host_prefix
from buckler.policy.rollout import plan_rollout
from tests.policyworld import Store, shop_documents

WEB1, WEB2, APP = "10.50.0.11", "10.50.0.12", "10.50.0.13"


def shop(store: Store, quarantined: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Bundle:
    documents = tuple(each for each in shop_documents() if each.name not in without)
    pool = store.pool(documents, quarantined)
    return build_bundle(pool, documents, store.allocate(pool, documents))


def allows(bundle: Bundle, source: str, destination: str, port: int) -> bool:
    segment = bundle.segments[0]
    owners = {address: each for each in segment.endpoints for address in each.addresses}
    meaning = address_map(segment)
    for own, other, direction in (
        (source, destination, Direction.EGRESS),
        (destination, source, Direction.INGRESS),
    ):
        if own not in owners:
            return False
        program = bundle.programs[owners[own].program]
        entry = look_up(program, meaning.identity(host_prefix(other)), direction, 6, port)
        if entry is None or entry.verdict != Verdict.ALLOW:
            return False
    return True


def test_quarantine_closes_the_vm_at_once_and_leaves_its_twin_alone():
    store = Store()
    before, after = shop(store), shop(store, ("web1",))
    assert allows(before, WEB1, APP, 8080)
    stages = plan_rollout([before], after)
    assert stages
    for stage in stages:
        assert not allows(stage.bundle, WEB1, APP, 8080)
        assert allows(stage.bundle, WEB2, APP, 8080)


def test_closing_needs_no_wait_for_hosts_that_are_away():
    store = Store()
    stages = plan_rollout([shop(store)], shop(store, ("web1",)))
    assert [each.waits_for_all for each in stages if each.stage in {Stage.CLOSE, Stage.FLIP}].count(True) == 0


def test_a_new_web_server_does_not_disturb_the_others():
    store = Store()
    stages = plan_rollout([shop(store, without=("web2",))], shop(store))
    assert all(allows(each.bundle, WEB1, APP, 8080) for each in stages)
    assert not any(allows(each.bundle, WEB2, APP, 8080) for each in stages[:-1])
    assert allows(stages[-1].bundle, WEB2, APP, 8080)
    assert stages[-1].waits_for_all


def test_a_new_allowance_is_one_stage():
    store = Store()
    without = shop(store, without=("web-to-app",))
    stages = plan_rollout([without], shop(store))
    assert [each.stage for each in stages] == [Stage.OPEN]


def test_a_withdrawn_allowance_is_closed_in_the_first_stage():
    store = Store()
    stages = plan_rollout([shop(store)], shop(store, without=("web-to-app",)))
    assert not allows(stages[0].bundle, WEB1, APP, 8080)
    assert any(each.kind is Kind.FLOW for each in shop_documents())


def test_a_relabelled_vm_keeps_what_old_and_new_both_allow():
    store = Store()
    documents = shop_documents()
    renamed = tuple(
        msgspec.structs.replace(each, labels={**each.labels, "release": "blue"}) if each.name == "web1" else each
        for each in documents
    )
    bundles = []
    for each in (documents, renamed):
        pool = store.pool(each)
        bundles.append(build_bundle(pool, each, store.allocate(pool, each)))
    stages = plan_rollout(bundles[:1], bundles[1])
    assert [each.stage for each in stages][:: len(stages) - 1] == [Stage.CLOSE, Stage.OPEN]
    assert all(allows(each.bundle, WEB1, APP, 8080) for each in stages)


def test_a_vm_that_a_stuck_change_brought_is_not_cut_by_the_next_one():
    """OPEN of the first change has not reached every host; the second change must not take the newcomer away again."""
    store = Store()
    first = plan_rollout([shop(store, without=("web2",))], shop(store))
    in_force = [first[-2].bundle, first[-1].bundle]
    assert not allows(in_force[0], WEB2, APP, 8080)
    for stage in plan_rollout(in_force, shop(store, ("attacker",))):
        assert allows(stage.bundle, WEB2, APP, 8080)
        assert any(each.name == "web2" for each in stage.bundle.segments[0].endpoints)
