"""State that several services share: one interface over SQLite and PostgreSQL, and a database that goes away."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("alembic")
pytest.importorskip("fastapi")

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from starlette.testclient import TestClient

from sizewise import store as store_package
from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, RoundDesign, open_round
from sizewise.models.fake import FakeModel
from sizewise.records import Vote
from sizewise.service import Settings, create_app
from sizewise.service.api_keys import Key
from sizewise.service.budgets import Budgets
from sizewise.service.handovers import Handovers
from sizewise.service.key_file import open_keys
from sizewise.service.schemas import APIError
from sizewise.service.shared_keys import KeyTable, SharedKeys
from sizewise.service.usage import Limits, Reservation, UsageStore, Use
from sizewise.store import Store
from sizewise.store.database import HEAD, Database, sqlite_url
from sizewise.store.shared_ledger import shared_database
from sizewise.store.tables import TABLES
from tests.judging.conftest import compared, dataset, prepared
from tests.service.postgresql import Server, running_postgresql
from tests.service.test_handovers import said
from tests.service.test_health import until

__all__ = ["compared", "dataset", "prepared"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_postgresql() as found:
        yield found


@pytest.fixture
def shared(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A PostgreSQL database without rows, which all services share."""
    monkeypatch.setenv("SIZEWISE_DATABASE_URL", server.url)
    with shared_database(server.url).transaction() as db:
        for table in TABLES.sorted_tables:
            db.execute(table.delete())
    yield server.url
    shared_database(server.url).close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_make_the_tables_of_the_code(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    is_sqlite = kind == "sqlite"
    url = sqlite_url(tmp_path / "new.sqlite") if is_sqlite else request.getfixturevalue("shared")
    database = Database(url)
    with database.transaction() as db:
        assert compare_metadata(MigrationContext.configure(db), TABLES) == []
        assert db.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
    folder = Path(store_package.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD
    database.close()


def test_handovers_of_an_earlier_version_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "handovers.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE handovers (number TEXT PRIMARY KEY, at REAL NOT NULL, who TEXT NOT NULL, "
            "body TEXT NOT NULL, done REAL)"
        )
        for number in ("z", "a", "m"):
            row = number, time.time(), "ada", json.dumps(said(number)), 1.0 if number == "a" else None
            connection.execute("INSERT INTO handovers VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    found = Handovers(path)
    assert [one["number"] for one in found.waiting(10)] == ["z", "m"]
    found.add("n", said("n"))
    assert [one["number"] for one in Handovers(path).waiting(10)] == ["z", "m", "n"]


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "newer.sqlite")
    database = Database(url)
    with database.transaction() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '99'"))
    database.close()
    with pytest.raises(SizewiseError, match="revision 99"), Database(url).transaction():
        pass


@pytest.mark.parametrize(
    ("url", "told"),
    [
        *(("mysterious:///x", "mysterious"), ("postgresql://db.example.org/x", "SIZEWISE_OFFLINE")),
        *(("nonsense", "parse"), ("postgresql://one:pass@word@localhost/x", "password in SIZEWISE_DATABASE_URL")),
    ],
)
def test_urls_are_checked(url: str, told: str) -> None:
    with pytest.raises(SizewiseError, match=told):
        Database(url)


def test_services_on_several_machines_cannot_exceed_a_budget(shared: str) -> None:
    """Reservations of 30 tokens from two services at once, the first of which create the key's row."""
    services = [UsageStore(shared, 900) for _ in range(2)]

    def take(number: int) -> int:
        found = services[number % 2].reserve("one", Limits(1_000), Use(0, 30))
        return found.tokens if isinstance(found, Reservation) else 0

    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(take, range(100)))
    assert sum(taken) == 1_000
    assert services[0].admit("one", 5, 8) is None
    assert services[1].admit("one", 5, 8) is not None
    for service in services:
        service.close()


def test_a_charge_is_saved_once_however_often_it_is_sent(shared: str, tmp_path: Path) -> None:
    for url in (shared, sqlite_url(tmp_path / "usage.sqlite")):
        found = UsageStore(url, 900)
        for number in (1, 1, 2, 2, 1):
            found.charge("once", "m", Use(1, 10), None, True, number)
        assert [row.tokens for row in found.since(1_000)] == [20]
        found.close()


@pytest.mark.scale
def test_a_database_that_goes_away_costs_no_charge(server: Server, shared: str) -> None:
    """Unlimited keys go on, limited ones get a 503, and every charge is in the database once it is back."""
    limited = Key(name="limited", sha256="0" * 64, tokens_per_day=1_000_000)
    free = Key(name="free", sha256="1" * 64)
    budgets = Budgets(lambda: shared)
    refused: list[int] = []

    async def use(key: Key, times: int) -> int:
        done = 0
        for _ in range(times):
            try:
                charge = await budgets.reserve(key, 100)
            except APIError as error:
                refused.append(error.status)
                continue
            charge.update(0, 100)
            charge.end()
            done += 1
            await asyncio.sleep(0.02)
        return done

    async def go() -> tuple[int, int]:
        tasks = [asyncio.create_task(use(key, 60)) for key in (limited, free)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        done = await tasks[0], await tasks[1]
        refused_before = len(refused)
        for _ in range(50):  # it is noticed without a restart
            if await use(limited, 1):
                return done[0] + 1, done[1]
            await asyncio.sleep(0.1)
        raise AssertionError(refused_before)

    done = asyncio.run(go())
    assert done[1] == 60
    assert set(refused) == {503}
    budgets.close()
    found = UsageStore(shared, 900)
    assert {row.key: row.tokens for row in found.since(1_000)} == {"limited": 100 * done[0], "free": 6_000}
    found.close()


def test_keys_of_the_database_are_followed(shared: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = open_keys(None)
    assert isinstance(table, KeyTable)
    made = table.add("ann", {"tokens_per_day": 50, "models": ["small"]})
    keys = SharedKeys(table)
    key = keys.find(f"Bearer {made}")
    assert key is not None
    assert (key.name, key.tokens_per_day, key.models) == ("ann", 50, ("small",))
    rotated = table.rotate("ann")
    keys.read_again()
    with pytest.raises(APIError):
        keys.find(f"Bearer {made}")
    assert keys.find(f"Bearer {rotated}") is not None
    table.revoke("ann")
    keys.read_again()
    with pytest.raises(APIError):  # the last key is gone, but the service stays closed
        keys.find(None)
    for wrong in (lambda: table.revoke("ann"), lambda: table.add('a"b'), lambda: table.rotate("bob")):
        with pytest.raises(SizewiseError):
            wrong()
    table.add("bob")
    with pytest.raises(SizewiseError, match="already"):
        table.add("bob")
    assert [one.name for one in table.read()] == ["bob"]


def test_thumbs_and_handovers_of_two_services_are_one(shared: str, tmp_path: Path) -> None:
    clients = [
        TestClient(create_app({"fake": FakeModel("echo")}, Settings(), Store(tmp_path / name))) for name in ("a", "b")
    ]
    for client in clients:
        sent = client.post("/feedback", json={"answer": "one", "model": "fake", "up": client is clients[0]})
        assert sent.status_code == 200
    for client in clients:
        assert client.get("/monitor/data").json()["thumbs"] == {"fake": [0, 1]}  # the last one counts
    clients[0].app.state.sizewise.handovers.add("1", said("help"))  # type: ignore[attr-defined]
    assert [one["number"] for one in clients[1].get("/handovers").json()["waiting"]] == ["1"]
    assert clients[1].post("/handovers/1/done").status_code == 200
    assert clients[0].get("/handovers").json()["waiting"] == []


@pytest.mark.scale
def test_pages_say_503_while_the_database_is_away(server: Server, shared: str, store: Store) -> None:
    thumb = {"answer": "one", "model": "fake", "up": True}
    chat: dict[str, Any] = {"model": "fake", "messages": [{"role": "user", "content": "hello"}]}
    with TestClient(create_app({"fake": FakeModel("echo")}, Settings(), store)) as client:
        assert until(lambda: client.get("/health").status_code == 200)
        assert client.post("/feedback", json=thumb).status_code == 200
        server.stop()
        answer = client.post("/feedback", json=thumb)
        said_meanwhile = client.post("/v1/chat/completions", json=chat)
        server.start()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
        assert "127.0.0.1" not in answer.text
        assert said_meanwhile.status_code == 200
        assert client.post("/feedback", json=thumb).status_code == 200


def test_no_vote_is_doubled_by_two_services(shared: str, compared: str, store: Store) -> None:
    opened = open_round([compared], RoundDesign(raters=["Ada"], items=8), store=store)
    ballots = [Ballot(store, opened.stored.id) for _ in range(2)]
    rater = opened.stored.record.raters[0]
    task = ballots[0].next_task(rater)
    assert task is not None
    vote = Vote(task=task.id, rater=rater.name, origin=rater.origin, choice="left", seconds=1.0)
    threads = [threading.Thread(target=one.vote, args=(rater, vote, "nonce-1")) for one in ballots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ballot in ballots:
        ballot.refresh()
        assert [(one.task, one.choice) for one in ballot.votes()] == [(task.id, "left")]
        assert len(ballot.versions()) == 1
        after = ballot.next_task(rater)
        assert after is not None
        assert after.id != task.id
    ballots[1].undo(rater, "nonce-2")
    ballots[0].refresh()
    assert ballots[0].votes() == []
