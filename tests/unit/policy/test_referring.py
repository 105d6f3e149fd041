"""Every problem in one round, and none that only follows from another: what names a document that is wrong in itself."""

from __future__ import annotations

import pytest

from buckler.controller.changes import Wanted, plan_change
from buckler.controller.problems import Refused
from buckler.model.operatorapi.documents import Reference
from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.referring import settle_problems
from buckler.policy.shelf import list_shipped, write_shipped
from buckler.policy.source import Source
from buckler.ports.records import DocumentKey, StoredDocument

HEAD = "---\napiVersion: buckler.io/v1\n"
DUTY = "description: d, owner: o, reason: r, review: '2030-01-01'"


def text(kind: str, name: str, spec: str) -> str:
    return f"{HEAD}kind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


NETWORK = text("Network", "front", "bridge: br0, cidrs: [10.0.0.0/24]")
VM = text(
    "VM",
    "web",
    "uuid: 00000000-0000-4000-8000-000000000001, "
    "interfaces: [{mac: '52:54:00:00:00:01', network: front, addresses: [10.0.0.1]}]",
)
SERVICE = text("Service", "shop", f"{DUTY[:24]}, selector: {{}}, ports: [{{protocol: TCP, port: 80}}]")
GROUP = text("AddressGroup", "office", "description: d, cidrs: [192.0.2.0/24]")
POLICY = text("Policy", "p", f"{DUTY}, subject: {{}}, ingress: [{{name: no, action: deny}}]")
FLOW = text("Flow", "f", f"{DUTY}, from: [{{addresses: office}}], service: shop")
EXCEPTION = text(
    "Exception", "e", "owner: o, reason: r, until: '2099-01-01T00:00:00Z', action: allow, policy: p, rule: no"
)
WHOLE = (NETWORK, VM, SERVICE, GROUP, POLICY, FLOW, EXCEPTION)


def problems(*texts: str) -> list[str]:
    reading = read_documents([Source("all.yaml", "".join(texts))])
    return [
        f"{each.path}: {each.message} ({each.hint})"
        for each in settle_problems(reading, check_documents(reading.documents), reading.documents)
    ]


def test_what_is_whole_has_no_problem() -> None:
    assert problems(*WHOLE) == []


@pytest.mark.parametrize(
    ("right", "wrong", "path"),
    [
        ("action: deny}", "action: denied}", "spec.ingress[0].action"),
        ("bridge: br0", "bridge: br0, brigde: br1", "spec.brigde"),
        ("bridge: br0", "bridge: [br0]", "spec.bridge"),
        ("cidrs: [192.0.2.0/24]", "cidrs: [192.0.2.1/24]", "spec.cidrs[0]"),
        ("ports: [{protocol: TCP, port: 80}]", "ports: [{protocol: TCP, port: 80000}]", "spec.ports[0].port"),
        ("kind: Policy", "kind: Polcy", "kind"),
        ("metadata: {name: p}", "metadata: {name: P}", "metadata.name"),
        ("metadata: {name: shop}", "metadata: {name: shop, tenant: 7}", "metadata.tenant"),
    ],
)
def test_what_names_a_document_that_is_wrong_in_itself_has_no_second_fault(right: str, wrong: str, path: str) -> None:
    written = "".join(WHOLE)
    assert right in written
    found = problems(written.replace(right, wrong, 1))
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: ")


def test_a_file_that_cannot_be_read_is_the_only_fault() -> None:
    reading = read_documents([Source("a.yaml", NETWORK + "}"), Source("b.yaml", VM)])
    found = settle_problems(reading, check_documents(reading.documents), reading.documents)
    assert [each.file for each in found] == ["a.yaml"]


def test_what_a_document_that_is_wrong_in_itself_names_is_told_in_the_same_round() -> None:
    written = "".join((NETWORK, VM, SERVICE, GROUP, POLICY, FLOW, EXCEPTION))
    for right, wrong in {
        "network: front": "network: frnt",
        "uuid: 00000000-0000-4000-8000-000000000001": "uuid: one",
        "from: [{addresses: office}]": "from: [{addresses: offce}]",
        "service: shop": "service: Shop!",
        "policy: p,": "policy: pp,",
        "action: allow,": "action: allowed,",
    }.items():
        assert right in written
        written = written.replace(right, wrong, 1)
    found = problems(written)
    assert [each.partition(" (")[0] for each in found] == [
        "spec.interfaces[0].network: VM web: network 'frnt' is not known",
        "spec.uuid: 'one' has not the right form",
        "spec.from[0].addresses: Flow f: address group 'offce' is not known",
        "spec.service: 'Shop!' has not the right form",
        "spec.action: 'allowed' is not known",
        "spec.policy: Exception e: policy 'pp' is not known",
    ]
    assert "did you mean 'front'?" in found[0]


def test_an_instance_of_which_one_document_is_wrong_lacks_none() -> None:
    written = write_shipped(list_shipped()["three-tier"], {"tenant": "default", "owner": "o", "review": "2030-01-01"})
    assert problems(written) == []
    found = problems(written.replace("port: 443}", "port: 443000}", 1))
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("Service", "shop", "Flow f still names service 'shop', which is to be deleted"),
        ("AddressGroup", "office", "Flow f still names address group 'office', which is to be deleted"),
        ("Network", "front", "VM web still names network 'front', which is to be deleted"),
        ("Policy", "p", "Exception e still names policy 'p', which is to be deleted"),
    ],
)
def test_who_still_names_what_is_to_be_deleted_is_told(kind: str, name: str, told: str) -> None:
    documents = read_documents([Source("all.yaml", "".join(WHOLE))]).documents
    present = {
        each.key: (StoredDocument(DocumentKey(each.kind, each.tenant, each.name), "", 1), each) for each in documents
    }
    with pytest.raises(Refused) as refused:
        plan_change(present, read_documents([]), Wanted(delete=(Reference(kind, name),)))
    (issue,) = refused.value.problem.problems
    assert issue.message == told
    assert issue.hint == "change or delete what names it first"
