"""The plan of a lab, and what the story's values say of themselves."""

import msgspec
import pytest

from buckler.lab.domain import domain_xml
from buckler.lab.plan import ROGUE, ShopVm, plan_lab
from buckler.lab.story.figures import MatrixMatches, MigrationShielded, Summary, Survived
from buckler.lab.story.play import STEPS, summarise
from buckler.lab.story.probing import SERVICES, Service, every_meeting, expected_meetings
from buckler.model.operatorapi.answers import PortRange, Reach, ReachPair

SHOP = tuple(
    ShopVm(name, f"00000000-0000-4000-8000-0000000000{number}", f"52:54:00:50:00:{number}", addresses)
    for name, number, addresses in (
        ("web1", 11, ("10.50.0.11", "fd50::11")),
        ("app", 21, ("fd50::21", "10.50.0.21")),
        ("db", 31, ("10.50.0.31", "fd50::31")),
    )
)


def test_hosts_and_addresses_are_distinct() -> None:
    plan = plan_lab(SHOP, hosts=5)
    machines = (*plan.hosts, plan.controller)
    assert len({machine.address for machine in machines}) == len({machine.uuid for machine in machines}) == 6
    assert len(set(plan.namespaces)) == len(plan.namespaces)


def test_addresses_are_found_by_family_in_any_order() -> None:
    app = plan_lab(SHOP).guest("app")
    assert (app.ipv4, app.ipv6) == ("10.50.0.21", "fd50::21")


@pytest.mark.parametrize("hosts", [0, 1, 100])
def test_a_lab_of_a_senseless_size_is_refused(hosts: int) -> None:
    with pytest.raises(ValueError, match="hosts"):
        plan_lab(SHOP, hosts=hosts)


def test_a_vm_without_ipv6_is_refused() -> None:
    with pytest.raises(ValueError, match="IPv6"):
        plan_lab((ShopVm("app", "u", "m", ("10.50.0.21",)),))


def test_the_passport_stands_in_the_domains_metadata_as_text() -> None:
    assert ">a.b.c</buckler:passport>" in domain_xml(ROGUE, passport="a.b.c")
    assert "passport" not in domain_xml(ROGUE)


def test_reach_is_turned_into_exactly_the_meetings_it_allows() -> None:
    plan = plan_lab(SHOP)
    allowed = (PortRange("TCP", 8080, 8080), PortRange("ICMP", 8 << 8, 8 << 8))
    reach = Reach(1, ("web1", "app"), (ReachPair("web1", "app", allowed), ReachPair("app", "web1")))
    found = {(m.origin, m.to, m.service) for m in expected_meetings(reach, plan.guests)}
    assert found == {
        ("web1", "app", Service("tcp", 4, 8080)),
        ("web1", "app", Service("tcp", 6, 8080)),
        ("web1", "app", Service("icmp", 4, 0)),
    }


def test_every_ordered_pair_is_tried_with_every_service() -> None:
    plan = plan_lab(SHOP)
    assert len(every_meeting(plan.guests)) == 4 * 3 * len(SERVICES)


def test_a_matrix_of_nothing_or_of_everything_proves_nothing() -> None:
    assert not MatrixMatches(100, 0, (), ()).holds
    assert not MatrixMatches(100, 100, (), ()).holds
    assert MatrixMatches(100, 7, (), ()).holds


def test_one_forbidden_packet_is_enough_to_fail() -> None:
    survived = Survived(flows=7, resets=0, dead=(), mib_poured=1.0, longest_gap_ms=300)
    moved = MigrationShielded(("a → b",) * 5, (1.0,) * 5, sent=5000, passed=0, survived=survived, connections_moved=30)
    assert moved.holds
    assert not msgspec.structs.replace(moved, passed=1).holds


def test_one_broken_connection_is_enough_to_fail() -> None:
    survived = Survived(flows=7, resets=1, dead=(), mib_poured=1.0, longest_gap_ms=300)
    assert not survived.holds
    assert not msgspec.structs.replace(survived, resets=0, dead=("web1: a flow",)).holds
    assert not MigrationShielded(("a → b",) * 5, (1.0,) * 5, 5000, 0, survived, connections_moved=30).holds


def test_a_run_without_results_is_no_success() -> None:
    summary = summarise({}, 6, 2, 1.0, ())
    assert not summary.matrix_equal
    assert summary.forbidden_passed != 0
    assert summary.hotplug_leaked != 0
    assert not summary.ledger_verified


def test_every_step_has_a_name_of_its_own() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_the_summary_has_exactly_the_figures_that_are_promised() -> None:
    promised = """seconds guests hosts matrix_equal migrations forbidden_sent forbidden_passed resets connections_moved
        agent_kill_verdicts_equal controller_down_ok controller_down_migrations hotplug_leaked drift_leaked_from_vm drift_repaired_s revocation_cut ledger_entries
        ledger_verified left_behind"""
    assert list(Summary.__struct_fields__) == promised.split()
