"""Revisions say why they were made and what they changed; documents say with which revision they ended.

Of older revisions neither was kept, and nothing is made up: their changes stay empty, and every document that had ended
by now is taken as ended by the newest revision. So the documents of that one and of all later ones can be told.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("revisions", sa.Column("comment", sa.Text(), nullable=False, server_default=""))
    op.add_column("revisions", sa.Column("changes", sa.Text(), nullable=False, server_default=""))
    op.add_column("documents", sa.Column("ended", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE documents SET ended = (SELECT revision FROM pool WHERE id = 1) WHERE valid_to <> 0")
