"""Which fields of NSX's objects are understood, and which decide no verdict. Owns names only; any other is unclear."""

from __future__ import annotations

from buckler.policy.field import Place
from buckler.policy.importers.unclear import Unclear

_IDLE = {
    "resource_type", "id", "display_name", "description", "tags", "path", "relative_path", "parent_path", "remote_path",
    "unique_id", "realization_id", "owner_id", "origin_site_id", "overridden", "marked_for_delete", "owner",
    "is_default", "sequence_number", "internal_sequence_number", "notes", "comments", "rule_id", "rule_count", "tag",
    "locked", "lock_modified_by", "lock_modified_time", "tcp_strict", "logging_enabled", "group_type", "state",
    "reference", "service_type", "default_service",
}  # fmt: skip
_READ = {
    "SecurityPolicy": {
        "category", "stateful", "scope", "rules", "children",
        "scheduler_path", "connectivity_preference", "connectivity_strategy",
    },
    "Rule": {
        "action", "source_groups", "destination_groups", "sources_excluded", "destinations_excluded", "services",
        "service_entries", "profiles", "scope", "direction", "disabled", "logged", "ip_protocol",
    },
    "Group": {"expression", "extended_expression"},
    "Service": {"service_entries"},
    "Condition": {"member_type", "key", "operator", "value", "scope_operator"},
    "IPAddressExpression": {"ip_addresses"},
    "MACAddressExpression": {"mac_addresses"},
    "ExternalIDExpression": {"member_type", "external_ids"},
    "PathExpression": {"paths"},
    "NestedExpression": {"expressions"},
    "ConjunctionOperator": {"conjunction_operator"},
    "L4PortSetServiceEntry": {"l4_protocol", "destination_ports", "source_ports"},
    "ICMPTypeServiceEntry": {"protocol", "icmp_type", "icmp_code"},
    "IPProtocolServiceEntry": {"protocol_number"},
    "NestedServiceServiceEntry": {"nested_service_path"},
}  # fmt: skip


def check_fields(kind: str, taken: dict[str, Place]) -> None:
    """Refuse a field that says something and is not understood. Raises Unclear."""
    known = _READ.get(kind, set()) | _IDLE
    for key, inner in taken.items():
        if key not in known and not key.startswith("_") and inner.raw.value not in (None, (), {}):
            raise Unclear(inner, f"the field {key!r} of a {kind} is not known here")
