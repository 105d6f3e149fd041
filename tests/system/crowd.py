"""Two hundred registered VMs on one host of a lab: real taps, shields and guard, an agent that takes them for running."""

import json
import os
import sys
from pathlib import Path

import msgspec

from buckler.lab.host import start_service
from buckler.lab.pool import BUCKLER, Pool
from buckler.lab.story.cast import wait_until
from buckler.model.domain import PASSPORT_NAMESPACE
from buckler.model.operatorapi.documents import SourceFile
from tests.system.simulated_host import Simulated

CROWD = 200
HOST = "host1"
ROOT = Path(__file__).parents[2]
_VMS = "/run/lab/crowd.json"
_POLICIES = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: crowd, tenant: shop}
spec:
  bridge: br0
  cidrs: [10.51.0.0/16, "fd51::/64"]
---
apiVersion: buckler.io/v1
kind: Flow
metadata: {name: clients-to-servers, tenant: shop}
spec:
  description: Clients use the servers
  owner: crowd
  reason: measured
  review: 2036-12-31
  order: 100
  from: [{vm: {matchLabels: {role: client}}}]
  to: [{vm: {matchLabels: {role: server}}}]
  ports:
    - {protocol: TCP, port: 8080}
"""


def crowd_documents():
    vms = "---\n".join(_document(number) for number in range(1, CROWD + 1))
    return SourceFile("crowd/policies.yaml", _POLICIES), SourceFile("crowd/vms.yaml", vms)


def raise_crowd(centre, say):
    """Return the pool when the shields of all of them stand."""
    pool = Pool(centre)
    pool.start_controller()
    for host in centre.plan.hosts:
        pool.join(host)
    pool.apply(*crowd_documents())
    say(f"{CROWD} VMs are registered")
    passports = pool.passports()
    crowd = tuple(_simulated(number, passports[_name(number)]) for number in range(1, CROWD + 1))
    (centre.root(HOST) / _VMS.lstrip("/")).write_bytes(msgspec.json.encode(crowd))
    _make_taps(centre, crowd)
    pool.kill(HOST, "buckler agent")
    environment = ("env", f"PYTHONPATH={ROOT}", f"PATH={os.environ['PATH']}")
    program = (sys.executable, "-m", "tests.system.simulated_host", _VMS)
    start_service(centre.pid(HOST), "agent", *environment, *program)
    wait_until("all their taps are open", lambda: _open_taps(centre) == CROWD, seconds=60, pause=0.5)
    pool.wait_for_hosts()
    say(f"{CROWD} shields stand on {HOST}")
    return pool


def _open_taps(centre):
    done = centre.attempt_on(HOST, *BUCKLER, "agent", "status", "-o", "json")
    return len(json.loads(done.stdout)["taps"]) if done.returncode == 0 else 0


def _make_taps(centre, crowd):
    """With the MAC that libvirt gives a tap, so that it is known for the card's."""
    lines = [f"tuntap add {vm.tap} mode tap" for vm in crowd]
    lines += [f"link set {vm.tap} address fe{vm.mac[2:]} master br0 up" for vm in crowd]
    path = centre.root(HOST) / "run/lab/taps"
    path.write_text("".join(f"{line}\n" for line in lines))
    centre.run_on(HOST, "ip", "-b", "/run/lab/taps")


def _name(number):
    return f"crowd-{number}"


def _uuid(number):
    return f"51510000-0000-4000-8000-{number:012d}"


def _mac(number):
    return f"52:54:00:52:{number >> 8:02x}:{number & 255:02x}"


def _simulated(number, passport):
    metadata = f"<metadata><b:passport xmlns:b='{PASSPORT_NAMESPACE}'>{passport}</b:passport></metadata>"
    return Simulated(_name(number), _uuid(number), _mac(number), f"crowd{number}", metadata)


def _document(number):
    return f"""\
apiVersion: buckler.io/v1
kind: VM
metadata:
  name: {_name(number)}
  tenant: shop
  labels: {{role: {"client" if number % 2 else "server"}}}
spec:
  uuid: {_uuid(number)}
  owner: crowd
  purpose: measured
  interfaces:
    - mac: "{_mac(number)}"
      network: crowd
      addresses: [10.51.{number >> 8}.{number & 255}, "fd51::{number:x}"]
"""
