"""Every file that can hold customers' texts or their use is readable by its owner only."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("presidio_analyzer")

from starlette.testclient import TestClient

from sizewise.service.api_keys import Key, Keys, hash_of
from sizewise.service.app import create_app
from sizewise.service.state import Settings
from sizewise.store import Store
from tests.service.test_routing import Large

FILES = ("handovers.sqlite", "cases.sqlite", "series.sqlite", "usage.sqlite", "ledger.sqlite")


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("existing", [False, True])
def test_files_of_the_service_are_private(store: Store, open_umask: None, existing: bool) -> None:
    folder = store.home / "service"
    if existing:  # as an earlier version or a copy left them
        folder.mkdir(parents=True)
        for name in FILES:
            sqlite3.connect(folder / name).close()
            (folder / name).touch(0o666)
            assert readable_by_others(folder) != []
    key = Key(name="team", sha256=hash_of("sw-team"), tokens_per_day=10_000)
    app = create_app({"large": Large()}, Settings(keys=Keys((key,))), store)
    body: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Write to anna.k@example.org"}]}
    with TestClient(app) as client:
        client.headers["Authorization"] = "Bearer sw-team"
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        state = app.state.sizewise
        state.handovers.add("1", {"at": 0, "conversation": [{"role": "user", "content": "hello"}]})
        state.cases.add_unanswered({"question": "hello"})
        with store.service_ledger() as ledger:
            assert ledger.entries("crossings")
            assert set(readable_by_others(folder)) <= {"series.sqlite"}  # opened when the service ends
    assert {path.name for path in folder.iterdir()} >= set(FILES)
    assert readable_by_others(folder) == []


def readable_by_others(folder: Path) -> list[str]:
    others = stat.S_IRWXG | stat.S_IRWXO
    return [path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_mode & others]
