"""The review loop."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Brings it."""
    op.create_table(
        "inspections",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("request_id", sa.String(80), nullable=False, index=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, index=True),
        sa.Column("board_id", sa.String(128), nullable=True),
        sa.Column("camera_id", sa.String(128), nullable=True),
        sa.Column("recipe", sa.String(128), nullable=True),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(16), nullable=True),
        sa.Column("image_path", sa.String(64), nullable=True, index=True),
        sa.Column("image_media_type", sa.String(16), nullable=True),
        sa.Column("image_bytes", sa.BigInteger(), nullable=True),
        sa.Column("feedback_id", sa.BigInteger(), nullable=True, index=True),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_inspections_board", "inspections", ["board_id", "id"])
    op.create_index("ix_inspections_reason", "inspections", ["reason", "id"])
    op.create_table(
        "inspection_defects",
        sa.Column("defect", sa.String(64), primary_key=True),
        sa.Column(
            "inspection_id",
            NUMBER,
            sa.ForeignKey("inspections.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
            index=True,
        ),
    )
    op.create_table(
        "feedback",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column(
            "inspection_id", NUMBER, sa.ForeignKey("inspections.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "review_totals",
        sa.Column("defect", sa.String(64), primary_key=True),
        sa.Column("recipe", sa.String(128), primary_key=True),
        sa.Column("outcome", sa.String(8), primary_key=True),
        sa.Column("given", sa.Integer(), nullable=False),
        sa.Column("standing", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Integer(), nullable=False),
    )
    states = op.create_table(
        "review_state",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("prune_due_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.bulk_insert(states, [{"id": 1, "prune_due_at": datetime(2000, 1, 1, tzinfo=UTC)}])


def downgrade() -> None:
    """Takes it back."""
    for table in ("review_state", "review_totals", "feedback", "inspection_defects", "inspections"):
        op.drop_table(table)
