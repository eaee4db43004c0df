"""Numbers of charges, API keys, votes and handovers. Handovers of a SQLite file without revisions are taken over."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, String, Text, UniqueConstraint, inspect, text

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Create the tables, and copy handovers."""
    number = BigInteger().with_variant(Integer, "sqlite")
    op.create_table("writers", Column("owner", String, primary_key=True), Column("charges", BigInteger, nullable=False))
    op.create_table(
        "api_keys",
        Column("name", String, primary_key=True),
        Column("sha256", String, nullable=False, unique=True),
        Column("limits", Text, nullable=False),
        Column("created", Float, nullable=False),
    )
    op.create_table(
        "entries",
        Column("position", number, primary_key=True, autoincrement=True),
        Column("ledger", String, nullable=False),
        Column("topic", String, nullable=False),
        Column("key", String, nullable=False),
        Column("body", Text, nullable=False),
        UniqueConstraint("ledger", "topic", "key", name="entries_once"),
    )
    earlier = "handovers" in inspect(op.get_bind()).get_table_names()
    if earlier:
        op.rename_table("handovers", "handovers_1")
    op.create_table(
        "handovers",
        Column("position", number, primary_key=True, autoincrement=True),
        Column("number", String, nullable=False, unique=True),
        Column("at", Float, nullable=False),
        Column("who", String, nullable=False),
        Column("body", Text, nullable=False),
        Column("done", Float),
    )
    if earlier:
        op.execute(
            text(
                "INSERT INTO handovers (number, at, who, body, done) "
                "SELECT number, at, who, body, done FROM handovers_1 ORDER BY rowid"
            )
        )
        op.drop_table("handovers_1")
