"""What VMs used, as hosts told it; and which host told a flow, so that each has its share of the ring."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; of older flows nobody remembers the host as such."""
    op.create_table(
        "samples",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vm", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host", "sequence"),
    )
    op.create_index("samples_by_vm", "samples", ["vm", "host", "at"], unique=False)
    op.create_table(
        "sample_intakes",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("through", sa.BigInteger(), nullable=False),
        sa.Column("shed", sa.BigInteger(), nullable=False),
        sa.Column("pruned", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
    op.add_column("flows", sa.Column("host", sa.Text(), nullable=False, server_default=""))
    op.create_index("flows_by_host", "flows", ["host", "cursor"], unique=False)
    op.create_table(
        "flow_intakes",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
