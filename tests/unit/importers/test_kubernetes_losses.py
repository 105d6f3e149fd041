"""What cannot be carried over is told with file and line, and never opens anything."""

from __future__ import annotations

import pytest

from buckler.policy.importers.kubernetes.cluster import import_kubernetes
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.source import Source
from tests.unit.importers.imported import Imported

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
spec: {containers: [{name: x, ports: [{name: http, containerPort: 80}]}]}
status: {podIP: 10.0.0.5}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, labels: {app: b}}
spec: {containers: [{name: x, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.0.0.6}
---
"""
NP = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: %s
"""
ANP = """
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: %s}
spec: {priority: 5, subject: {namespaces: {}}, ingress: [%s]}
---
"""


def carried(*texts: str) -> tuple[Import, Imported]:
    result = import_kubernetes([Source("in.yaml", PODS + "---".join(texts))], "2030-01-01")
    return result, Imported(result)


def told(result: Import) -> str:
    return "\n".join(f"{each.file}:{each.line}:{each.path}: {each.what}" for each in result.losses)


def test_no_policy_is_all_open_and_exact():
    result, imported = carried("")
    assert result.is_exact
    assert imported.talks["shop/a", "shop/b"] == "all"


@pytest.mark.parametrize(
    "spec",
    [
        "{podSelector: {matchLabels: {app: 1}}, ingress: [{}]}",
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: Gt, values: ['1']}]}}]}]}",
        "{podSelector: {}, ingress: [{from: [{}]}]}",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
        "{podSelector: {}, ingress: [{from: [{serviceAccount: {}}]}]}",
        "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 79}]}]}",
        "{podSelector: {}, ingress: [{ports: [{port: '80'}]}]}",
        "{podSelector: {}, ingress: [{ports: [{port: http, endPort: 90}]}]}",
        "{podSelector: {}, ingress: [{ports: [{protocol: ICMP}]}]}",
        "{podSelector: {}, ingress: [{ports: [{endPort: 80}]}]}",
        "{podSelector: {}, ingress: [{when: tomorrow}]}",
        "{podSelector: {}, ingress: [{}], mood: good}",
        "{podSelector: {}, ingress: all}",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0.0.0.0}}]}]}",
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}",
        "{podSelector: {}, policyTypes: [Ingres]}",
    ],
)
def test_what_is_unclear_in_a_network_policy_allows_nothing(spec):
    result, imported = carried(NP % spec)
    assert not result.is_exact
    assert any(each.line > 14 and each.file == "in.yaml" for each in result.losses), told(result)
    assert ("shop/a", "shop/b") not in imported.talks
    assert not imported.reaches("203.0.113.9", "shop/a", "TCP", 80)
    assert not imported.reaches("203.0.113.9", "shop/b", "TCP", 80)


def test_what_is_unclear_takes_away_only_itself():
    rules = "[{from: [{}, {podSelector: {matchLabels: {app: a}}}], ports: [{port: 1}, {port: x, endPort: 2}]}]"
    _result, imported = carried(NP % f"{{podSelector: {{}}, ingress: {rules}}}")
    assert imported.reaches("shop/a", "shop/b", "TCP", 1)
    assert not imported.reaches("shop/a", "shop/b", "TCP", 2)
    assert not imported.reaches("shop/b", "shop/a", "TCP", 1)


def test_named_ports_do_not_open_addresses():
    rules = "[{to: [{ipBlock: {cidr: 203.0.113.0/24}}], ports: [{port: http}]}]"
    result, imported = carried(NP % f"{{podSelector: {{}}, policyTypes: [Egress], egress: {rules}}}")
    assert result.is_exact
    assert "named port" in told(result)
    assert not imported.talks
    assert not imported.outward


def test_a_block_that_covers_pods_is_told_and_opens_none():
    result, imported = carried(NP % "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}")
    assert "covers addresses of shop/a, shop/b" in told(result)
    assert not result.is_exact
    assert not imported.talks
    assert imported.reaches("10.9.9.9", "shop/a", "TCP", 80)


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ("{action: Deny, from: [{moons: {}}]}", False),
        ("{action: Pass, from: [{}]}", False),
        ("{action: Maybe, from: [{namespaces: {}}]}", False),
        ("{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {port: 0}}]}", False),
        ("{action: Deny, from: [{namespaces: {}}], ports: []}", False),
        ("{action: Deny, from: []}", False),
        ("{action: Deny, from: [{namespaces: {}}], until: noon}", False),
        ("{action: {a: b}, from: [{namespaces: {}}]}", False),
        ("{action: [Allow], from: [{namespaces: {}}]}", False),
        ("{action: Allow, from: [{moons: {}}]}", True),
    ],
)
def test_what_is_unclear_in_an_administrators_rule_fails_closed(rule, passes):
    """Unclear in Allow: matches nothing, and here nothing else denies. Unclear in Deny and Pass: denies everything."""
    result, imported = carried(ANP % ("p", rule))
    assert not result.is_exact
    assert imported.reaches("shop/a", "shop/b", "TCP", 80) == passes
    assert imported.reaches("203.0.113.9", "shop/b", "TCP", 80) == passes


def test_equal_priorities_are_told_and_the_stricter_holds():
    allow, deny = "{action: Allow, from: [{namespaces: {}}]}", "{action: Deny, from: [{namespaces: {}}]}"
    passing = "{action: Pass, from: [{namespaces: {}}]}"
    closed = NP % "{podSelector: {}, policyTypes: [Ingress]}"
    result, imported = carried(ANP % ("one", allow), ANP % ("two", deny))
    assert "same priority" in told(result)
    assert not imported.talks
    _result, imported = carried(ANP % ("one", allow), ANP % ("two", passing), closed)
    assert not imported.talks
    result, imported = carried(ANP % ("one", allow), closed)
    assert result.is_exact
    assert imported.reaches("shop/a", "shop/b", "TCP", 80)


def test_equal_priorities_that_never_meet_are_exact():
    one = ANP % ("one", "{action: Deny, from: [{namespaces: {}}]}")
    two = (ANP % ("two", "{action: Allow, from: [{namespaces: {}}]}")).replace(
        "namespaces: {}}, i", "pods: {namespaceSelector: {matchLabels: {team: none}}, podSelector: {}}}, i"
    )
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n"
    result, imported = carried(space, one, two)
    assert result.is_exact, told(result)
    assert not imported.talks


def test_a_pass_beside_the_baseline_policy_denies():
    cnp = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: c}
spec: {tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]}
---
"""
    banp = """
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {name: default}
spec: {subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}
"""
    result, imported = carried(cnp)
    assert result.is_exact
    assert imported.talks["shop/a", "shop/b"] == "all"
    result, imported = carried(cnp, banp)
    assert "Pass in the tier Baseline" in told(result)
    assert not result.is_exact
    assert not imported.talks


def test_ports_of_sidecars_have_names_too():
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: shop, labels: {app: c}}
spec:
  containers: []
  initContainers:
  - {restartPolicy: Always, ports: [{name: web, containerPort: 9090}]}
  - {ports: [{name: web, containerPort: 7}]}
---
"""
    rule = "{action: Deny, from: [{namespaces: {}}], ports: [{namedPort: web}]}"
    result, imported = carried(pod, ANP % ("p", rule))
    assert result.is_exact
    assert [imported.reaches("shop/a", "shop/c", "TCP", port) for port in (7, 9090)] == [True, False]


def test_a_folder_without_a_cluster_is_refused():
    assert import_kubernetes([Source("in.yaml", "replicas: 3\n")], "2030-01-01").unreadable
    assert import_kubernetes([], "2030-01-01").unreadable


def test_pods_on_the_host_network_are_told_and_left_out():
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: h}\nspec: {hostNetwork: true, containers: []}\n"
    result, imported = carried(text)
    assert "hostNetwork" in told(result)
    assert not result.is_exact
    assert len(imported.draft.pool.vms) == 2


def test_a_pod_that_policies_tell_apart_from_its_controller_stands_alone():
    deployment = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: []}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1-x
  namespace: shop
  labels: {app: odd, pod-template-hash: '1'}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, controller: true}]
spec: {containers: []}
---
"""
    result, imported = carried(deployment, NP % "{podSelector: {matchLabels: {app: odd}}}")
    assert not result.is_exact
    assert ("shop/a", "shop/web") in imported.talks
    assert ("shop/a", "shop/web-1-x") not in imported.talks
    result, imported = carried(deployment, NP % "{podSelector: {}}")
    assert result.is_exact
    assert len(imported.draft.pool.vms) == 3


def test_a_port_name_with_two_numbers_allows_neither_and_denies_both():
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: shop, labels: {app: c}}
spec: {containers: [{ports: [{name: web, containerPort: 1}]}, {ports: [{name: web, containerPort: 2}]}]}
---
"""
    _result, imported = carried(pod, NP % "{podSelector: {}, ingress: [{ports: [{port: web}]}]}")
    assert not imported.reaches("shop/a", "shop/c", "TCP", 1)
    result, imported = carried(pod, ANP % ("p", "{action: Deny, from: [{namespaces: {}}], ports: [{namedPort: web}]}"))
    assert not result.is_exact
    assert [imported.reaches("shop/a", "shop/c", "TCP", port) for port in (1, 2, 3)] == [False, False, True]


def test_labels_that_imitate_a_namespaces_do_not_pass_for_them():
    pod = """
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: other, labels: {namespace/team: x, namespace.kubernetes.io/metadata.name: shop}}
spec: {containers: []}
---
"""
    rule = "{from: [{namespaceSelector: {matchLabels: {team: x}}}, {podSelector: {}}]}"
    _result, imported = carried(pod, NP % f"{{podSelector: {{}}, ingress: [{rule}]}}")
    assert ("other/c", "shop/a") not in imported.talks
    assert ("shop/b", "shop/a") in imported.talks


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: &x 1\nb: *x", "kind: Pod\nkind: Pod", "[" * 40 + "]" * 40, "kind: Pod\napiVersion: v1\n", "- 1"],
)
def test_what_cannot_be_read_writes_nothing(text):
    assert import_kubernetes([Source("in.yaml", text)], "2030-01-01").unreadable


def test_nodes_are_their_addresses_and_unknown_ones_are_denied():
    node = """
apiVersion: v1
kind: Node
metadata: {name: n}
status: {addresses: [{type: InternalIP, address: 192.168.9.1}, {type: Hostname, address: n}]}
---
"""
    anp = (ANP % ("p", "{action: Deny, to: [{nodes: {}}]}")).replace("ingress", "egress")
    result, imported = carried(node, anp)
    assert result.is_exact
    assert not imported.reaches("shop/a", "192.168.9.1", "TCP", 1)
    assert imported.reaches("shop/a", "192.168.9.2", "TCP", 1)
    result, imported = carried(anp)
    assert not result.is_exact
    assert not imported.outward


def test_addresses_of_administrators_mean_workloads_too():
    anp = (ANP % ("p", "{action: Deny, to: [{networks: [10.0.0.6/32]}]}")).replace("ingress", "egress")
    result, imported = carried(anp)
    assert result.is_exact
    assert not imported.reaches("shop/a", "shop/b", "TCP", 1)
    assert imported.reaches("shop/b", "shop/a", "TCP", 1)
    unknown = "apiVersion: v1\nkind: Pod\nmetadata: {name: c, namespace: shop}\nspec: {containers: []}\n---\n"
    result, imported = carried(unknown, anp)
    assert "is not known" in told(result)
    assert not imported.reaches("shop/a", "shop/c", "TCP", 1)
    assert [each.effect for each in result.losses if "not known" in each.what] == [Effect.TIGHTENED]
