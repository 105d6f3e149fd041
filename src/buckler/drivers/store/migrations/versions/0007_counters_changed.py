"""Counters say when they last rose. Of those that are there it is not known, and stays 0 until they rise again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("counters", sa.Column("changed", sa.Float(53), nullable=False, server_default="0"))
