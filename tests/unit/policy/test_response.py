"""Responses: what of a VM's own refusals quarantines it, and what never does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.documents import read_documents
from buckler.policy.language import LimitSpec, PolicyMode, ResponseSpec, TriggerSpec
from buckler.policy.response import Figures, Refusal, Suspect, Verdict, decide, figures_of, is_triggered
from buckler.policy.source import Source

QUICK = settings(max_examples=200, deadline=None)
COUNTS = st.one_of(st.none(), st.integers(0, 50))
TRIGGERS = st.builds(TriggerSpec, within=st.integers(1, 60), refusals=COUNTS, peers=COUNTS, ports=COUNTS)
FIGURES = st.builds(Figures, *(st.integers(0, 60),) * 3)
LABELS = st.dictionaries(st.sampled_from(("app", "scanner")), st.sampled_from(("yes", "no")))
EXEMPT = Selector(match_labels={"scanner": "yes"})
SPECS = st.builds(
    ResponseSpec,
    description=st.just("d"),
    owner=st.just("o"),
    reason=st.just("r"),
    review=st.just("2030-01-01"),
    trigger=TRIGGERS,
    limit=st.builds(LimitSpec, vms=st.integers(0, 5), within=st.just(60)),
    mode=st.sampled_from(PolicyMode),
    subject=st.sampled_from((Selector(), Selector(match_expressions=(Expression("app", Operator.EXISTS),)))),
    exempt=st.sampled_from((None, EXEMPT)),
)
SUSPECTS = st.builds(Suspect, labels=LABELS, is_quarantined=st.booleans(), recent=st.integers(0, 6))
REFUSALS = st.lists(
    st.builds(
        Refusal,
        at=st.floats(0, 100),
        address=st.sampled_from(("10.0.0.1", "10.0.0.2", "fd00::1")),
        protocol=st.sampled_from(("tcp", "udp")),
        port=st.integers(1, 4),
        packets=st.integers(1, 9),
    ),
    max_size=40,
)


@QUICK
@given(SPECS, FIGURES, SUSPECTS)
def test_a_quarantine_needs_everything_at_once(spec: ResponseSpec, figures: Figures, suspect: Suspect) -> None:
    verdict = decide(spec, figures, suspect)
    is_exempt = spec.exempt is not None and spec.exempt.matches(suspect.labels)
    may = (
        spec.mode is PolicyMode.ENFORCE
        and not is_exempt
        and not suspect.is_quarantined
        and spec.subject.matches(suspect.labels)
        and suspect.recent < spec.limit.vms
        and is_triggered(spec.trigger, figures)
    )
    assert (verdict is Verdict.QUARANTINE) == may
    if suspect.is_quarantined or not is_triggered(spec.trigger, figures):
        assert verdict is Verdict.NOTHING


@QUICK
@given(TRIGGERS, FIGURES)
def test_every_number_that_is_given_must_be_exceeded_and_none_given_triggers_nothing(
    trigger: TriggerSpec, figures: Figures
) -> None:
    given_numbers = [
        (most, found)
        for most, found in zip(
            (trigger.refusals, trigger.peers, trigger.ports),
            (figures.refusals, figures.peers, figures.ports),
            strict=True,
        )
        if most is not None
    ]
    assert is_triggered(trigger, figures) == (bool(given_numbers) and all(a < b for a, b in given_numbers))


@QUICK
@given(REFUSALS, st.integers(1, 50))
def test_figures_count_the_last_seconds_only_whatever_the_order(refusals: list[Refusal], within: int) -> None:
    found = figures_of(refusals, within)
    newest = max((each.at for each in refusals), default=0)
    counted = [each for each in refusals if newest - each.at < within]
    assert found.refusals == sum(each.packets for each in counted)
    assert found.peers == len({each.address for each in counted}) <= len(refusals)
    assert found == figures_of(list(reversed(refusals)), within)
    assert figures_of([*refusals, *refusals], within).peers == found.peers


@QUICK
@given(SPECS, REFUSALS, SUSPECTS, st.integers(0, 39))
def test_fewer_refusals_never_lead_to_more(
    spec: ResponseSpec, refusals: list[Refusal], suspect: Suspect, left_out: int
) -> None:
    newest = sorted(refusals, key=lambda each: each.at)
    fewer = [each for number, each in enumerate(newest) if number != left_out or number == len(newest) - 1]
    most, least = (decide(spec, figures_of(each, spec.trigger.within), suspect) for each in (newest, fewer))
    assert least in {Verdict.NOTHING, most}


def test_one_loud_flow_is_no_scan() -> None:
    loud = [Refusal(number / 100, "10.0.0.9", "tcp", 445, 1) for number in range(400)]
    scan = [Refusal(number / 100, f"10.0.0.{number}", "tcp", 445, 1) for number in range(1, 40)]
    trigger = TriggerSpec(within=10, refusals=20, peers=10)
    assert not is_triggered(trigger, figures_of(loud, 10))
    assert is_triggered(trigger, figures_of(scan, 10))


TEXT = """\
apiVersion: buckler.io/v1
kind: Response
metadata: {%s}
spec: {description: d, owner: o, reason: r, review: 2030-01-01, %s}
"""
RIGHT = "trigger: {refusals: 20, within: 10}, action: quarantine, limit: {vms: 3, within: 600}"


@pytest.mark.parametrize(
    ("metadata", "rest", "said"),
    [
        ("name: a", RIGHT, ""),
        ("name: a, tenant: t", RIGHT, "belongs to the pool"),
        ("name: a", RIGHT.replace("refusals: 20, ", ""), "counts nothing"),
        ("name: a", RIGHT.replace("within: 10", "within: 0"), "out of range"),
        ("name: a", RIGHT.replace(", limit: {vms: 3, within: 600}", ""), "limit is missing"),
        ("name: a", RIGHT.replace("action: quarantine", "action: tarpit"), "not implemented yet"),
        ("name: a", RIGHT + ", allow: everything", "is not known"),
        ("name: a", RIGHT + ", tier: tenant", "unknown field"),
    ],
)
def test_a_response_is_checked(metadata: str, rest: str, said: str) -> None:
    reading = read_documents([Source("a.yaml", TEXT % (metadata, rest))])
    problems = "; ".join(f"{each.message}" for each in reading.problems)
    assert (said in problems) if said else not problems
    assert [each.spec.mode for each in reading.documents] == ([] if said else [PolicyMode.OBSERVE]), "by default"
