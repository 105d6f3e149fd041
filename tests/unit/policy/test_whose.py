"""Which documents' rules stand at which label set, held against asking every rule of every label set."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.policy.language import Stand
from buckler.policy.pool import identity_key, singled_out, stations
from buckler.policy.rules import Rule, list_rules
from buckler.policy.whose import rules_by_labels
from tests.policyworld import Store
from tests.randompolicy import Drawn, world


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_rules_stand_where_their_subject_matches(data):
    documents = world(Drawn(data.draw), vms=6)
    rules = list_rules(documents)
    label_sets = [each.labels for each in stations(Store().pool(documents), singled_out(documents))]
    found = rules_by_labels(label_sets, rules)
    assert found.keys() == {identity_key(labels) for labels in label_sets}
    for labels in label_sets:
        wanted: dict[str, Rule] = {}
        for rule in rules:
            if rule.stand is Stand.VM and rule.subject.matches(labels):
                wanted.setdefault(rule.document, rule)
        assert found[identity_key(labels)] == tuple(wanted.values())
