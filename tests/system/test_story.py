"""The demo's story, asserted: the same steps on one lab, each test named as what it claims."""

import re
from pathlib import Path

import pytest

from buckler.lab.story.play import STEPS

pytestmark = pytest.mark.timeout(240)


def play(name, cast):
    step = next(step for step in STEPS if step.name == name)
    result = step.run(cast)
    assert result.holds, f"{step.claim}: {result}"
    return result


def test_the_shop_works_tier_by_tier_and_attacker_and_rogue_get_nothing(cast):
    play("shop", cast)


def test_what_reach_predicts_is_what_every_pair_of_guests_can_do_by_tcp_udp_and_icmp_over_ipv4_and_ipv6(cast):
    result = play("matrix", cast)
    assert result.tried == len(cast.guests) * (len(cast.guests) - 1) * 14


def test_no_forbidden_packet_passes_while_a_vm_moves_away_and_back(cast):
    play("migration", cast)


def test_killed_agents_change_no_traffic_and_no_verdict(cast):
    play("agent", cast)


def test_without_a_controller_hosts_go_on_and_a_vm_starts_and_one_moves_shielded(cast):
    play("controller", cast)


def test_a_plugged_card_passes_nothing_until_it_is_admitted(cast):
    play("hotplug", cast)


def test_deleted_filters_and_guard_are_back_within_two_seconds_recorded_and_nothing_leaked_from_the_vm(cast):
    play("drift", cast)


def test_a_removed_label_cuts_an_established_connection(cast):
    play("revocation", cast)


def test_quarantine_takes_a_vm_out_of_the_world_and_release_brings_it_back(cast):
    play("quarantine", cast)


def test_a_refusal_is_explained_a_life_is_told_and_the_ledger_verifies(cast):
    result = play("words", cast)
    for words in ("cut-off-attacker", "security tier", "security.yaml line "):
        assert words in result.explanation, "the words name rule, tier, document and line"
    life = "\n".join(result.history)
    for event in ("registered", "left by migration", "moved from host2 to host1"):
        assert event in life


def test_every_step_of_the_demo_is_asserted_here():
    asserted = re.findall(r'play\("(\w+)", cast\)', Path(__file__).read_text())
    assert asserted == [step.name for step in STEPS]
