"""Usage of keys. A SQLite file of a version without revisions has these tables already."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, String, inspect

revision = "1"
down_revision = None


def upgrade() -> None:
    """Create the tables that are missing."""
    present = inspect(op.get_bind()).get_table_names()
    if "key_turns" not in present:
        op.create_table(
            "key_turns", Column("key", String, primary_key=True), Column("turns", BigInteger, nullable=False)
        )
    if "key_usage" not in present:
        op.create_table(
            "key_usage",
            Column("key", String, primary_key=True),
            Column("model", String, primary_key=True),
            Column("at", BigInteger, primary_key=True),
            Column("requests", BigInteger, nullable=False),
            Column("tokens", BigInteger, nullable=False),
            Column("usd", Float, nullable=False),
        )
    if "key_requests" not in present:
        op.create_table(
            "key_requests",
            Column("key", String, primary_key=True),
            Column("at", BigInteger, primary_key=True),
            Column("requests", BigInteger, nullable=False),
        )
    if "key_reservations" not in present:
        op.create_table(
            "key_reservations",
            Column("id", String, primary_key=True),
            Column("key", String, nullable=False, index=True),
            Column("owner", String, nullable=False),
            Column("tokens", BigInteger, nullable=False),
            Column("usd", Float, nullable=False),
            Column("expires", Float, nullable=False),
        )
