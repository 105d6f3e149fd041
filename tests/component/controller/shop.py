"""Documents of a small pool, as texts."""

from __future__ import annotations

WEB_UUID = "11111111-1111-4111-8111-111111111111"
DB_UUID = "22222222-2222-4222-8222-222222222222"
WEB_MAC = "52:54:00:00:00:01"
DB_MAC = "52:54:00:00:00:02"

NETWORK = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front}
spec: {bridge: br0, cidrs: [10.0.0.0/24]}
"""


def vm(name: str, uuid: str, mac: str, address: str, role: str) -> str:
    return f"""\
apiVersion: buckler.io/v1
kind: VM
metadata: {{name: {name}, labels: {{role: {role}}}}}
spec:
  uuid: {uuid}
  interfaces:
  - {{mac: "{mac}", network: front, addresses: [{address}]}}
"""


WEB = vm("web", WEB_UUID, WEB_MAC, "10.0.0.1", "web")
DB = vm("db", DB_UUID, DB_MAC, "10.0.0.2", "db")


def flow(port: int = 5432, action: str = "allow") -> str:
    return f"""\
apiVersion: buckler.io/v1
kind: Flow
metadata: {{name: web-to-db}}
spec:
  description: the shop reads its data
  owner: shop
  reason: it cannot sell without
  review: "2030-01-01"
  action: {action}
  from: [{{vm: {{matchLabels: {{role: web}}}}}}]
  to: [{{vm: {{matchLabels: {{role: db}}}}}}]
  ports: [{{protocol: TCP, port: {port}}}]
"""


SHOP = (NETWORK, WEB, DB, flow())
