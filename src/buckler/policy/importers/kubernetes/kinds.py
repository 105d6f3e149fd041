"""What kinds of objects have to do with traffic: decided by their API group. Owns lists of names, no object.

What nobody here knows may be a policy, and is taken for one that denies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

NO_VERDICT = frozenset({
    "APIService", "CSIDriver", "CSINode", "CertificateSigningRequest", "ClusterRole", "ClusterRoleBinding",
    "ComponentStatus", "ConfigMap", "ControllerRevision", "CustomResourceDefinition", "EndpointSlice", "Endpoints",
    "Event", "FlowSchema", "GRPCRoute", "Gateway", "GatewayClass", "HTTPRoute", "HorizontalPodAutoscaler",
    "IPAddress", "Ingress", "IngressClass", "Lease", "LimitRange", "MutatingWebhookConfiguration",
    "PersistentVolume", "PersistentVolumeClaim", "PodDisruptionBudget", "PodSecurityPolicy", "PodTemplate", "PriorityClass",
    "PriorityLevelConfiguration", "ResourceQuota", "Role", "RoleBinding", "Route", "RuntimeClass", "Secret",
    "Service", "ServiceAccount", "ServiceCIDR", "StorageClass", "TCPRoute", "TLSRoute", "UDPRoute",
    "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration",
    "VolumeAttachment",
})  # fmt: skip
"""Kinds of Kubernetes itself that the specification of network policies does not look at."""
_OWN = frozenset({
    "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "authentication.k8s.io",
    "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io",
    "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io", "metrics.k8s.io", "node.k8s.io", "policy",
    "rbac.authorization.k8s.io", "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
})  # fmt: skip
"""Groups of Kubernetes itself in which no policy on traffic is."""
_ROUTES = frozenset({"networking.k8s.io", "extensions", "gateway.networking.k8s.io"})
"""Groups of Kubernetes itself in which some are."""
_BOUNDED = (
    "networking.k8s.io", "policy.networking.k8s.io", "extensions", "projectcalico.org", "cilium.io", "antrea.io", "k8s.ovn.org",
    "antrea.tanzu.vmware.com", "policy.linkerd.io", "networking.gke.io", "network.openshift.io", "crd.nsx.vmware.com",
)  # fmt: skip
"""Groups whose policies bind their own namespace where they have one; a mesh's own namespace binds all others."""
_EVERYWHERE = re.compile(r"Cluster|Global|Admin|Baseline")
"""How the kinds of these groups begin that are of the whole cluster, whatever namespace an object states."""
_NETWORKS = ("projectcalico.org", "cilium.io", "antrea.io", "antrea.tanzu.vmware.com", "k8s.ovn.org", "istio.io")
_STATE = frozenset({
    "BGPConfiguration", "BGPPeer", "BlockAffinity", "CalicoNodeStatus", "CiliumEndpoint", "CiliumEndpointSlice", "CiliumIdentity",
    "CiliumNode", "ClusterInformation", "FelixConfiguration", "GlobalNetworkSet", "IPAMBlock", "IPAMConfig", "IPAMHandle", "IPPool",
    "IPReservation", "KubeControllersConfiguration", "NetworkSet",
})  # fmt: skip
"""Kinds in which networks keep their state, or names of addresses: they deny nothing by themselves."""
_OTHERS = (
    "acme.cert-manager.io", "apps.openshift.io", "argoproj.io", "audit.k8s.io", "autoscaling.k8s.io", "bitnami.com",
    "build.openshift.io", "cert-manager.io", "cluster.x-k8s.io", "config.k8s.io", "console.openshift.io", "external-secrets.io",
    "fluxcd.io", "gatekeeper.sh", "image.openshift.io", "kubewarden.io", "kyverno.io", "longhorn.io", "metallb.io",
    "monitoring.coreos.com", "operators.coreos.com", "postgresql.cnpg.io", "project.openshift.io", "rook.io", "route.openshift.io",
    "security.openshift.io", "snapshot.storage.k8s.io", "tekton.dev", "template.openshift.io", "user.openshift.io", "velero.io",
)  # fmt: skip
"""Groups that are not about what may be sent: what is created, certified, deployed, stored or watched."""
_TRAFFIC = re.compile(r"NetworkPolic(y|ies)\Z|Firewall|Permission|Intention|SecurityGroup")
"""In any group."""


class Bearing(StrEnum):
    """What an object that is not read has to do with verdicts."""

    MAY_DENY = "may deny"
    NONE = "none"
    OTHER = "other"
    """It is known to be about something else; of Kubernetes itself it is not."""


def bearing_of(group: str, kind: str) -> Bearing:
    """Say what a kind that is not read may do."""
    if _TRAFFIC.search(kind):
        return Bearing.MAY_DENY
    if (group in _OWN or group in _ROUTES) and kind in NO_VERDICT:
        return Bearing.NONE
    if group in _OWN or _is_of(group, _OTHERS) or (_is_of(group, _NETWORKS) and kind in _STATE):
        return Bearing.OTHER
    return Bearing.MAY_DENY


def is_bounded_kind(group: str, kind: str) -> bool:
    """Say whether what has a namespace binds its own only."""
    return _is_of(group, _BOUNDED) and not _EVERYWHERE.match(kind)


def _is_of(group: str, groups: Iterable[str]) -> bool:
    return any(group == each or group.endswith(f".{each}") for each in groups)
