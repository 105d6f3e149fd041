"""Checking only the VMs that differ says what checking all says: every refusal and warning, word for word, in order."""

from __future__ import annotations

import random

import pytest

from buckler.model.ids import HostId
from buckler.model.label import Selector
from buckler.model.pool import Host
from buckler.policy import virtualcheck
from buckler.policy.crosscheck import check_documents, check_hosts
from buckler.policy.language import Document, EndpointSpec, InterfaceSpec, Kind, NetworkSpec, Port, ServiceSpec, VmSpec
from buckler.policy.pool import link_local_address
from buckler.policy.vmcheck import CheckedVms

MACS = [f"52:54:00:00:00:0{number}" for number in range(6)]
NETWORKS = ("net", "lan", "far")
ADDRESSES = (
    *(f"10.0.0.{number}" for number in (0, 1, 2, 3, 4, 5, 255)),
    "10.1.0.7",
    "fe80::1",
    link_local_address(MACS[0]),
    link_local_address(MACS[1]),
)
HOSTS = (Host(HostId("h"), "hv", "", "10.0.0.4", ("10.0.0.4", "192.0.2.9")),)


class World:
    """A pool of documents that is changed at random, clashes and all."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.documents: dict[str, Document] = {}

    def change(self) -> tuple[Document, ...]:
        """Returns the documents that were written."""
        if self.documents and self.chance.random() < 0.3:
            del self.documents[self.chance.choice(sorted(self.documents))]
            return ()
        made = tuple(self.document() for _ in range(self.chance.choice((1, 1, 1, 3))))
        self.documents |= {each.key: each for each in made}
        return made

    def document(self) -> Document:
        pick, tenant = self.chance.choice, self.chance.choice(("default", "default", "shop"))
        file, line = pick(("a.yaml", "b.yaml")), pick((1, 2, 3))
        match pick(("vm", "vm", "vm", "vm", "network", "endpoint", "service")):
            case "service":
                meant = Selector(pick(({}, {"app": "a"}, {"buckler.io/name": "vm1"})))
                ports = (Port("TCP", 80),)
                spec = ServiceSpec(
                    meant,
                    ports,
                    network=pick(NETWORKS),
                    virtual_address=pick(("10.0.0.3", "10.0.0.255", "10.0.0.77", "")),
                )
                return Document(Kind.SERVICE, pick(("shop", "mail")), spec, tenant, file=file, line=line)
            case "network":
                spec: object = NetworkSpec(
                    f"br{pick('ab')}", cidrs=pick(((), ("10.0.0.0/24",))), gateway=pick(((), ("10.0.0.1",))),
                    routers=pick(((), ("10.0.0.2",))),
                )  # fmt: skip
                return Document(Kind.NETWORK, pick(NETWORKS), spec, tenant, file=file, line=line)  # type: ignore[arg-type]
            case "endpoint":
                spec = EndpointSpec(pick(NETWORKS), tuple(self.addresses()))
                return Document(Kind.ENDPOINT, pick(("vm1", "printer")), spec, tenant, file=file, line=line)
        cards = tuple(
            InterfaceSpec(pick(MACS), pick(NETWORKS), tuple(self.addresses()))
            for _ in range(self.chance.choice((0, 1, 1, 1, 2)))
        )
        name = pick((*(f"vm{number}" for number in range(8)), "world"))
        uuid = f"0000000{self.chance.randrange(9)}-1111-4111-8111-111111111111"
        return Document(Kind.VM, name, VmSpec(uuid, cards), tenant, pick(({}, {"app": "a"})), file=file, line=line)

    def addresses(self) -> list[str]:
        return [self.chance.choice(ADDRESSES) for _ in range(self.chance.choice((0, 1, 1, 2)))]

    def all(self) -> tuple[Document, ...]:
        return tuple(self.documents[key] for key in sorted(self.documents))


@pytest.mark.parametrize("seed", range(30))
def test_what_differs_is_all_that_needs_checking(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtualcheck, "MOST_MEMBERS", 1)
    world, checked = World(seed), CheckedVms()
    clean = clashing = 0
    for _ in range(150):
        before = world.all()
        kept = dict(world.documents)
        applied = world.change()
        after = world.all()
        found = check_documents(after, applied, checked)
        assert found == check_documents(after, applied)
        assert check_hosts(after, HOSTS, checked) == check_hosts(after, HOSTS)
        if world.chance.random() < 0.5:
            assert check_documents(before, (), checked) == check_documents(before, ())
        refused = any("is VM" in each.message for each in found)
        clashing, clean = clashing + refused, clean + (not refused)
        if refused and world.chance.random() < 0.95:
            world.documents = kept  # as a controller does
    assert clean > 2, "nothing was ever right"
    assert clashing > 5, "nothing ever clashed"


def test_a_document_that_is_there_twice_is_told_as_without_any_memory() -> None:
    world = World(1)
    made = tuple(world.document() for _ in range(20))
    assert check_documents((*made, *made), None, CheckedVms()) == check_documents((*made, *made))
