"""Tables of the state that the processes and machines of a service share; `migrations` creates them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, Text, UniqueConstraint

TABLES = MetaData()
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts in a column of type INTEGER only."""
KEY_TURNS = Table(
    "key_turns", TABLES, Column("key", String, primary_key=True), Column("turns", BigInteger, nullable=False)
)
KEY_USAGE = Table(
    "key_usage",
    TABLES,
    Column("key", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("usd", Float, nullable=False),
)
KEY_REQUESTS = Table(
    "key_requests",
    TABLES,
    Column("key", String, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("requests", BigInteger, nullable=False),
)
KEY_RESERVATIONS = Table(
    "key_reservations",
    TABLES,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False, index=True),
    Column("owner", String, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("usd", Float, nullable=False),
    Column("expires", Float, nullable=False),
)
WRITERS = Table(
    "writers", TABLES, Column("owner", String, primary_key=True), Column("charges", BigInteger, nullable=False)
)
"""Number of the last charge of each process, so that none is counted twice when a connection breaks."""
HANDOVERS = Table(
    "handovers",
    TABLES,
    Column("position", NUMBER, primary_key=True, autoincrement=True),
    Column("number", String, nullable=False, unique=True),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("done", Float),
)
API_KEYS = Table(
    "api_keys",
    TABLES,
    Column("name", String, primary_key=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("limits", Text, nullable=False),
    Column("created", Float, nullable=False),
)
ENTRIES = Table(
    "entries",
    TABLES,
    Column("position", NUMBER, primary_key=True, autoincrement=True),
    Column("ledger", String, nullable=False),
    Column("topic", String, nullable=False),
    Column("key", String, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("ledger", "topic", "key", name="entries_once"),
)
"""Votes, thumbs and the audit log of the guard, as in a `Ledger`."""
