"""The tables. Their making is in migrations/; a test proves that both say the same."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData()

POOL = Table(
    "pool",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("rollout", Text, nullable=False),
)
"""One row: its lock makes writers follow one another."""

REVISIONS = Table(
    "revisions",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("cause", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("comment", Text, nullable=False),
    Column("changes", Text, nullable=False),
)
"""``changes`` is JSON; empty where nobody recorded them."""

DOCUMENTS = Table(
    "documents",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("content", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Column("valid_from", Float(53), nullable=False),
    Column("valid_to", Float(53), nullable=False),
    Column("ended", BigInteger, nullable=False),
    Index(
        "documents_in_force",
        "kind",
        "tenant",
        "name",
        unique=True,
        sqlite_where=text("valid_to = 0"),
        postgresql_where=text("valid_to = 0"),
    ),
)

VMS = Table(
    "vms",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("deleted_at", Float(53), nullable=False),
    Index(
        "vms_alive",
        "tenant",
        "name",
        unique=True,
        sqlite_where=text("deleted_at = 0"),
        postgresql_where=text("deleted_at = 0"),
    ),
)

VM_ATTRIBUTES = Table(
    "vm_attributes",
    METADATA,
    Column("vm", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("valid_from", Float(53), nullable=False),
    Column("valid_to", Float(53), nullable=False),
)

NUMBERS = Table(
    "numbers",
    METADATA,
    Column("space", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    UniqueConstraint("space", "number", name="numbers_once"),
)

HOSTS = Table(
    "hosts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("active", Integer, nullable=False),
    Column("joined_at", Float(53), nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Column("lost_at", Float(53), nullable=False),
    Index(
        "hosts_member_names",
        "name",
        unique=True,
        sqlite_where=text("active = 1"),
        postgresql_where=text("active = 1"),
    ),
)

JOIN_TOKENS = Table(
    "join_tokens",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("host_name", Text, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("created_by", Text, nullable=False),
    Column("used_at", Float(53), nullable=False),
    Column("used_by", Text, nullable=False),
)

NONCES = Table(
    "nonces",
    METADATA,
    Column("nonce", Text, primary_key=True),
    Column("expires_at", Float(53), nullable=False),
)

ISSUERS = Table(
    "issuers",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("statement", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
)

TASKS = Table(
    "tasks",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False, index=True),
    Column("ended", Integer, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("content", Text, nullable=False),
)

MANIFESTS = Table(
    "manifests",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("stage", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)

ORDERS = Table(
    "orders",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("stage", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("rest", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("taken", BigInteger, nullable=False),
)
"""``taken`` is the revision of the last manifest that the host's stream took."""

CHANGES = Table(
    "changes",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("what", Text, nullable=False),
    Column("name", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Which documents, VMs, hosts and observations were written, in order; old ones are forgotten."""

OBJECTS = Table(
    "objects",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("content", Text, nullable=False),
)

ACKS = Table(
    "acks",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("content", Text, nullable=False),
)

OBSERVATIONS = Table(
    "observations",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("content", Text, nullable=False),
)

INTAKES = Table(
    "intakes",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("through", BigInteger, nullable=False),
)

FLOWS = Table(
    "flows",
    METADATA,
    Column("cursor", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("verdict", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("shed", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("host", Text, nullable=False, server_default=""),
    Index("flows_by_host", "host", "cursor"),
    sqlite_autoincrement=True,
)

FLOW_INTAKES = Table(
    "flow_intakes",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("batch", Text, nullable=False),
)
"""The name of each host's last batch of flows."""

SAMPLES = Table(
    "samples",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("vm", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("content", Text, nullable=False),
    Index("samples_by_vm", "vm", "host", "at"),
)

SAMPLE_INTAKES = Table(
    "sample_intakes",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("through", BigInteger, nullable=False),
    Column("shed", BigInteger, nullable=False),
    Column("pruned", BigInteger, nullable=False),
)
"""``shed``: numbers that never came. Up to ``pruned`` only the last sample of each VM is kept."""

NAMES = Table(
    "names",
    METADATA,
    Column("network", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("vm", Text, nullable=False),
    Column("resolver", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("until", BigInteger, nullable=False),
)

COUNTERS = Table(
    "counters",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("packets", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("settled_packets", BigInteger, nullable=False),
    Column("settled_bytes", BigInteger, nullable=False),
    Column("changed", Float(53), nullable=False, server_default="0"),
    Column("local", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("rule", Text, nullable=False),
)
"""``settled_*`` is what all earlier epochs came to."""

LEDGER = Table(
    "ledger",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("vm", Text, nullable=False, index=True),
    Column("salt", LargeBinary, nullable=False),
    Column("entry", Text, nullable=False),
    Index("ledger_by_host", "host", "kind"),
)
"""``entry`` is the text that the tree holds; the columns before it are for finding it, and prove nothing."""

LEDGER_NODES = Table(
    "ledger_nodes",
    METADATA,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
"""Every complete subtree of the ledger's tree; level 0 are the leaves."""

LEDGER_CHECKPOINT = Table(
    "ledger_checkpoint",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
"""One row: the newest."""

LEDGER_WITNESSES = Table(
    "ledger_witnesses",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)
