"""Kinds and namespaces of a cluster that nobody here knows: what may be a policy closes what it may bind, and is told."""

from __future__ import annotations

import pytest

from tests.unit.importers.test_kubernetes_losses import ANP, NP, PODS, carried, told


@pytest.mark.parametrize(
    ("version", "kind", "namespaced"),
    [
        ("cilium.io/v2", "CiliumNetworkPolicy", True),
        ("crd.projectcalico.org/v1", "GlobalNetworkPolicy", False),
        ("networking.k8s.io/v2", "NetworkPolicy", True),
        ("policy.networking.k8s.io/v9", "ClusterNetworkPolicy", False),
        ("security.istio.io/v1", "AuthorizationPolicy", True),
        ("crd.antrea.io/v1beta1", "ClusterNetworkPolicy", False),
        ("networking.gke.io/v1alpha1", "FQDNNetworkPolicy", True),
        ("policy.linkerd.io/v1beta1", "Server", True),
        ("policy.linkerd.io/v1beta1", "HTTPRoute", True),
        ("kuma.io/v1alpha1", "MeshTrafficPermission", True),
        ("crd.nsx.vmware.com/v1alpha1", "SecurityPolicy", True),
        ("network.openshift.io/v1", "EgressNetworkPolicy", True),
        ("consul.hashicorp.com/v1alpha1", "ServiceIntentions", True),
        ("example.com/v1", "TrafficPolicy", True),
        ("example.com/v1", "Thing", True),
        ("example.com/v1", "Service", True),
        ("evil.apps/v1", "Role", False),
        ("projectcalico.org/v3", "Profile", False),
        ("network.openshift.io/v1", "NetNamespace", False),
        ("kyverno.io/v1", "NetworkPolicy", True),
    ],
)
def test_policies_of_a_kind_that_is_not_known_deny_all_they_may_bind(version, kind, namespaced):
    namespace = ", namespace: shop" if namespaced else ""
    result, imported = carried(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p{namespace}}}\nspec: {{}}\n")
    assert not result.is_exact
    assert not imported.talks
    assert not imported.inward


def test_policies_of_a_list_are_of_its_kind():
    item = "{metadata: {name: p, namespace: shop}, spec: {endpointSelector: {}, ingress: []}}"
    result, imported = carried(f"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicyList\nitems: [{item}]\n")
    assert [each.line for each in result.losses if each.effect == "tightened"] == [16]
    assert not imported.talks


def test_kinds_of_one_name_of_two_groups_both_close():
    text = "\napiVersion: %s/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    result, imported = carried(text % "security.istio.io", text % "policy.linkerd.io")
    assert sum(each.effect == "tightened" for each in result.losses) == 2
    assert not imported.talks


def test_a_policy_of_a_mesh_binds_more_than_its_own_namespace():
    for group in ("security.istio.io", "kuma.io"):
        text = f"apiVersion: {group}/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: istio-system}}\n"
        _result, imported = carried(text)
        assert not imported.talks


@pytest.mark.parametrize(
    ("version", "kind", "bounded"),
    [
        ("cilium.io/v2", "CiliumNetworkPolicy", True),
        ("cilium.io/v2", "CiliumClusterwideNetworkPolicy", False),
        ("policy.networking.k8s.io/v9", "ClusterNetworkPolicy", False),
        ("projectcalico.org/v3", "GlobalNetworkPolicy", False),
        ("consul.hashicorp.com/v1alpha1", "ServiceIntentions", False),
        ("example.com/v1", "Thing", False),
    ],
)
def test_only_policies_that_are_known_to_bind_their_own_namespace_leave_others_open(version, kind, bounded):
    metadata = "{name: p, namespace: elsewhere}" if kind != "CiliumClusterwideNetworkPolicy" else "{name: p}"
    _result, imported = carried(f"apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\n")
    assert bool(imported.talks) == bounded


SPACED = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: env, operator: %s}]}}]}]}"


@pytest.mark.parametrize(
    ("text", "closes"),
    [
        (NP % (SPACED % "DoesNotExist"), True),
        (NP % (SPACED % "NotIn, values: [prod]"), True),
        (NP % (SPACED % "Exists"), False),
        (ANP % ("p", "{action: Deny, from: [{namespaces: {matchLabels: {env: prod}}}]}"), True),
        (ANP % ("p", "{action: Deny, from: [{namespaces: {matchLabels: {kubernetes.io/metadata.name: far}}}]}"), False),
    ],
)
def test_namespaces_that_are_not_known_and_may_be_meant_are_closed(text, closes):
    far = PODS.replace("namespace: shop", "namespace: far").replace("10.0.0", "10.0.1") + text
    for space in ("", "apiVersion: v1\nkind: Namespace\nmetadata: {name: far}\n---\n"):
        result, imported = carried(f"{space}{far}")
        told_ = [each for each in result.losses if each.subject == "Namespace far" and each.effect == "tightened"]
        is_closed = closes and not space
        assert bool(imported.outward.get("far/a")) is not is_closed
        assert bool(told_) or not is_closed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: t}\n", "ClusterPolicy is not known"),
        ("apiVersion: monitoring.coreos.com/v1\nkind: Probe\nmetadata: {name: t}\n", "Probe is not known"),
        ("apiVersion: apps/v9\nkind: Deployment\nmetadata: {name: t}\n", "Deployment is not known"),
        ("apiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\n", "Kustomization is not known"),
        ("apiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: n}\n", "CiliumNode is not known"),
        ("replicas: 3\n", "no kind"),
    ],
)
def test_what_is_not_known_is_told(text, words):
    result, imported = carried(text)
    assert words in told(result)
    assert not result.is_exact
    assert imported.talks
