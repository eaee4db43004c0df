"""Budgets hold for several completions, concurrent requests, truncated answers and restarts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import httpx

from sizewise.models import Model
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Request
from sizewise.service import Settings, budgets
from sizewise.service.api_keys import Key, Keys, add_key
from sizewise.service.budgets import Budgets
from sizewise.service.schemas import APIError
from sizewise.store import Store
from tests.service.test_service import running

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def keyed(tmp_path: Path, limits: str) -> tuple[Keys, dict[str, str]]:
    path = tmp_path / "keys.toml"
    key = add_key(path, "one")
    with path.open("a", encoding="utf-8") as file:
        file.write(limits + "\n")
    return Keys.load(path), {"Authorization": f"Bearer {key}"}


def said(words: int, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": "word " * words}]} | more


def used(store: Store) -> int:
    with sqlite3.connect(store.home / "service" / "usage.sqlite") as connection:
        return int(connection.execute("SELECT SUM(tokens) FROM uses").fetchone()[0] or 0)


def test_truncated_answers_are_charged(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 1200")
    with (
        running({"echo": FakeModel("echo", 0.002)}, Settings(keys=keys), store) as address,
        httpx.Client(base_url=address, headers=headers, timeout=30) as talk,
    ):
        statuses = []
        for _ in range(8):
            with talk.stream("POST", CHAT, json=said(400, stream=True)) as answer:
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    for number, _ in enumerate(answer.iter_lines()):
                        if number > 600:  # two lines an event
                            break
            time.sleep(0.1)
        assert statuses[0] == 200
        assert statuses[-1] == 429
        assert statuses.count(200) == 2
        assert 1_000 <= used(store) <= 2_200  # one prompt more than there was


def test_timed_out_answers_are_charged_for_generated_tokens(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 100000")
    settings = Settings(keys=keys, timeout_s=0.5)
    with running({"echo": FakeModel("echo", 0.005)}, settings, store) as address:
        for streamed in (False, True):
            before = used(store) if streamed else 0
            answer = httpx.post(f"{address}{CHAT}", json=said(400, stream=streamed), headers=headers, timeout=30)
            assert "timed out" in answer.text
            assert used(store) - before > 400  # the prompt, and some words


def test_request_with_n_completions_counts_n_times(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "requests_per_minute = 20")
    with (
        running({"echo": FakeModel("echo")}, Settings(keys=keys), store) as address,
        httpx.Client(base_url=address, headers=headers, timeout=30) as talk,
    ):
        many = {"model": "echo", "prompt": ["a b"] * 256, "n": 8}
        assert talk.post(TEXT, json=many).status_code == 429
        several = {"model": "echo", "prompt": ["a b"] * 4, "n": 4}
        assert talk.post(TEXT, json=several).status_code == 200
        refused = talk.post(TEXT, json=several)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        texts = {"model": "echo", "input": ["a"] * 10}
        assert talk.post("/v1/embeddings", json=texts).status_code == 429


def test_monitor_requests_do_not_count_against_the_rate_limit(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "requests_per_minute = 2\nstaff = true")
    with running({"echo": FakeModel("echo")}, Settings(keys=keys), store) as address:
        for path in ("/monitor/data", "/handovers") * 5:
            assert httpx.get(f"{address}{path}", headers=headers).status_code == 200
        statuses = [httpx.post(f"{address}{CHAT}", json=said(2), headers=headers).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]


@pytest.mark.parametrize("streamed", [False, True])
def test_concurrent_requests_cannot_exceed_the_budget(tmp_path: Path, store: Store, streamed: bool) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 10")
    with running({"echo": FakeModel("echo", 0.05)}, Settings(keys=keys), store) as address:

        def ask(_: int) -> int:
            return httpx.post(
                f"{address}{CHAT}", json=said(4, stream=streamed), headers=headers, timeout=30
            ).status_code

        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(ask, range(50)))
        assert found.count(200) == 1
        assert found.count(429) == 49
        assert httpx.post(f"{address}{CHAT}", json=said(2), headers=headers).status_code == 200  # what was left
        refused = httpx.post(f"{address}{CHAT}", json=said(4), headers=headers)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "insufficient_quota"
        assert int(refused.headers["retry-after"]) > 80_000


def test_budgets_survive_a_restart(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 18\nrequests_per_minute = 50")
    for expected in ([200, 200, 429, 429], [429, 429]):
        with running({"echo": FakeModel("echo")}, Settings(keys=keys), store) as address:
            found = [
                httpx.post(f"{address}{CHAT}", json=said(4), headers=headers).status_code for _ in range(len(expected))
            ]
        assert found == expected
    assert (store.home / "service" / "usage.sqlite").stat().st_mode & 0o077 == 0


class Paid(FakeModel):
    """Costs a cent a token."""

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for answer in super().complete(requests):
            yield answer.model_copy(update={"usd": 0.01 * (answer.prompt_tokens + answer.completion_tokens)})


def test_daily_budget_in_dollars(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "usd_per_day = 0.3")
    models: dict[str, Model] = {"echo": Paid("echo")}
    with running(models, Settings(keys=keys), store) as address:
        found = [
            httpx.post(f"{address}{CHAT}", json=said(4, max_tokens=4), headers=headers).status_code for _ in range(5)
        ]
    assert found[:2] == [200, 200]
    assert found[-1] == 429


def test_reservations_are_released(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Budgets(store.home / "usage.sqlite")
    key = Key(name="a", sha256="0" * 64, tokens_per_day=1_000)
    first = found.reserve(key, 900, 10)
    second = found.reserve(key, 900, 10)
    assert (first.tokens, second.tokens) == (900, 100)
    with pytest.raises(APIError, match="reservations"):
        found.reserve(key, 1)
    first.update(0, 300)
    first.end()
    first.end()
    second.end()
    assert found.reserve(key, 900).tokens == 700
    now = time.time()
    monkeypatch.setattr(budgets.time, "time", lambda: now + 86_401)
    assert found.reserve(key, 10_000).tokens == 300  # what the last one set aside is still under way
    assert Budgets(store.home / "usage.sqlite").reserve(key, 10_000).tokens == 1_000
    with pytest.raises(APIError):
        found.reserve(key, 10, prompt_tokens=100_000)


def test_services_with_the_same_home_share_usage(tmp_path: Path) -> None:
    key = Key(name="one", sha256="0" * 64, tokens_per_day=1_000, requests_per_minute=3)
    first, second = (Budgets(tmp_path / "usage.sqlite") for _ in range(2))
    first.admit(key)
    charge = first.reserve(key, 600)
    charge.update(0, 600)
    charge.end()
    second.admit(key)
    assert second.reserve(key, 600).tokens == 400
    first.admit(key)
    with pytest.raises(APIError, match="requests per minute"):
        second.admit(key)
    with pytest.raises(APIError, match="requests per minute"):
        first.admit(key)
    assert Budgets(tmp_path / "usage.sqlite").reserve(key, 900).tokens == 400


def test_old_usage_expires_and_usage_of_other_services_counts(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    key = Key(name="one", sha256="0" * 64, tokens_per_day=1_000)
    Budgets(path).add(key, budgets.Use(1, 700))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE uses SET at = 0")
    first, second = Budgets(path), Budgets(path)
    first.add(key, budgets.Use(1, 300))
    assert second.reserve(key, 900).tokens == 700
