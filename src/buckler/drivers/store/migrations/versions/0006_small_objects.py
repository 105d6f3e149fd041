"""Objects are contents by digest: nothing says of what kind they are, or signs them one by one.

Manifests that were published before name whole segments and programs. These stay, so that who was bound by what can still be
told; the states that hosts may still enforce are carried over by the controller, which knows what they mean.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the contents out of their envelopes."""
    rows = op.get_bind().execute(sa.text("SELECT digest, envelope FROM objects")).all()
    op.drop_table("objects")
    objects = op.create_table(
        "objects",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    if rows:
        op.bulk_insert(objects, [{"digest": digest, "content": json.loads(text)["content"]} for digest, text in rows])
