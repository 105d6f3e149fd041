"""Values of the operator API that the tests of rendering share: a pool of two hosts and two VMs."""

from __future__ import annotations

from buckler.model.operatorapi.hosts import HostView
from buckler.model.operatorapi.vms import InterfaceView, PolicyName, VmView
from buckler.model.pool import HostState

NOW = 1_800_000_000.0

WEB = VmView(
    id="0190a5d0-0000-7000-8000-000000000001",
    number=1,
    name="web1",
    tenant="shop",
    uuid="11111111-1111-4111-8111-111111111111",
    labels={"tier": "web", "app": "shop"},
    host="h1",
    state="running",
    has_passport=True,
    interfaces=(
        InterfaceView(
            mac="52:54:00:00:00:01",
            network="front",
            addresses=("10.0.0.11", "fd00::11"),
            labels={"tier": "web", "buckler.io/network": "front"},
            identity=0x20000001,
            device="vnet0",
            bridge="br-front",
            admitted=True,
        ),
    ),
    policies=(PolicyName("Policy", "web", "shop", "tenant"),),
    owner="team-web",
)

H1 = HostView(
    id="0190a5d0-0000-7000-8000-0000000000a1",
    name="h1",
    state=HostState.ACTIVE,
    fabric="192.0.2.1",
    addresses=("192.0.2.1",),
    connected=True,
    seen_at=NOW - 1,
    wanted=7,
    enforced=7,
    vms=("web1",),
)
