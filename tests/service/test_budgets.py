"""Budgets hold for several completions, concurrent requests, truncated answers and restarts."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
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
from sizewise.service import Settings, usage
from sizewise.service.api_keys import Key, Keys, add_key
from sizewise.service.budgets import Budgets
from sizewise.service.schemas import APIError
from sizewise.service.state import State
from sizewise.service.usage import Limits, Reservation, UsageRow, UsageStore, Use
from sizewise.store import Store
from sizewise.store.database import sqlite_url
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
        return int(connection.execute("SELECT SUM(tokens) FROM key_usage").fetchone()[0] or 0)


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
        answered = found.count(200)  # one, and one more if it asked when the first had ended
        assert (answered in (1, 2), found.count(429)) == (True, 50 - answered)
        assert used(store) <= 10
        for _ in range(4):  # what was left
            refused = httpx.post(f"{address}{CHAT}", json=said(4), headers=headers)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "insufficient_quota"
        assert int(refused.headers["retry-after"]) > 80_000


def test_budgets_survive_a_restart(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 18\nrequests_per_minute = 50")
    for expected in ([200, 200, 200, 429], [429, 429]):  # 8 tokens, 5 and 5: answers are cut to what is left
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


def store_at(path: Path) -> UsageStore:
    return UsageStore(sqlite_url(path), 900)


def take(found: UsageStore, tokens: int, least: int = 0, limit: int = 1_000) -> int:
    """Reserve tokens of a budget; 0 if it is exhausted."""
    reserved = found.reserve("one", Limits(limit), Use(0, tokens), least)
    return reserved.tokens if isinstance(reserved, Reservation) else 0


def test_reservations_shrink_with_usage_and_are_released(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.home / "usage.sqlite"
    key = Key(name="one", sha256="0" * 64, tokens_per_day=1_000)

    async def use() -> None:
        found = Budgets(lambda: sqlite_url(path))
        first, second = await found.reserve(key, 900, 10), await found.reserve(key, 900, 10)
        assert (first.tokens, second.tokens) == (900, 100)
        with pytest.raises(APIError, match="reservations"):
            await found.reserve(key, 1)
        first.update(0, 300)
        first.end()
        first.end()
        second.end()
        third = await found.reserve(key, 900, model="m")
        assert third.tokens == 700
        third.update(0, 64)
        await third.saved()
        assert [row.tokens for row in await found.used()] == [300, 64]
        with pytest.raises(APIError, match="reservations"):
            await found.reserve(key, 10)  # charged tokens and what is still reserved, no more and no less
        found.close()

    asyncio.run(use())
    found = store_at(path)
    assert take(found, 5_000) == 636  # what the service held was released when it closed
    now = time.time()
    monkeypatch.setattr(usage.time, "time", lambda: now + 86_461)
    assert take(found, 10_000) == 1_000  # reservations without progress end
    assert take(store_at(path), 10, least=100_000) == 0


def test_services_with_the_same_home_share_usage_and_reservations(tmp_path: Path) -> None:
    first, second = store_at(tmp_path / "usage.sqlite"), store_at(tmp_path / "usage.sqlite")
    assert first.admit("one", 2, 3) is None
    reserved = first.reserve("one", Limits(1_000), Use(0, 600))
    assert take(second, 600) == 400
    assert take(second, 1) == 0
    first.charge("one", "m", Use(1, 500), reserved, ended=True)
    assert take(second, 600) == 100
    assert second.admit("one", 1, 3) is None
    assert 0 < (first.admit("one", 1, 3) or 0) <= 62
    assert second.since(60) == [UsageRow("one", "m", 1, 500, 0.0)]


def test_reservations_of_a_killed_process_end(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    code = (
        "import sys\nfrom pathlib import Path\nfrom sizewise.service.usage import *\n"
        "from sizewise.store.database import sqlite_url\n"
        "found = UsageStore(sqlite_url(Path(sys.argv[1])), 900)\n"
        "kept = found.reserve('one', Limits(1000), Use(0, 900))\n"
        "found.charge('one', 'm', Use(1, 64), kept._replace(tokens=836), False)\n"
        "print('reserved', flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"reserved\n"
    assert take(store_at(path), 900) == 100
    process.kill()
    process.communicate()
    assert take(store_at(path), 900) == 836


def test_usage_of_an_earlier_version_counts_and_old_usage_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    now = time.time()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE uses (at REAL, key TEXT, answers INTEGER, tokens INTEGER, usd REAL)")
        rows = [(now - 120, "one", 1, 200, 0.0), (now - 121, "one", 0, 100, 0.5), (0, "one", 1, 700, 0.0)]
        connection.executemany("INSERT INTO uses VALUES (?, ?, ?, ?, ?)", rows)
    assert take(store_at(path), 1_000) == 700
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT SUM(tokens) FROM key_usage").fetchone() == (300,)


def test_usage_that_cannot_be_checked_stops_limited_keys_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limited = Key(name="one", sha256="0" * 64, tokens_per_day=1_000)
    found = Budgets(lambda: f"sqlite:///{tmp_path}/no/such/folder/usage.sqlite")

    async def use() -> None:
        with pytest.raises(APIError) as refused:
            await found.reserve(limited, 10)
        assert refused.value.status == 503
        charge = await found.reserve(limited.model_copy(update={"tokens_per_day": None}), 10)
        charge.update(0, 100)
        charge.end()
        await charge.saved()

    asyncio.run(use())
    assert "Failed to save usage" in caplog.text


def test_a_key_for_auto_uses_no_model_by_its_name() -> None:
    key = Key(name="one", sha256="0" * 64, models=("auto",))
    state = State({"small": FakeModel("echo"), "large": FakeModel("echo")}, Settings(), Store())
    assert state.find("large", key, by_auto=True).name == "large"
    with pytest.raises(APIError, match="may not use large"):
        state.find("large", key)
    with pytest.raises(APIError, match="Available models: none"):
        state.find("other", key)


def test_two_services_answer_one_of_fifty_requests_at_once_on_a_budget_of_ten(tmp_path: Path, store: Store) -> None:
    keys, headers = keyed(tmp_path, "tokens_per_day = 10")
    settings = Settings(keys=keys)
    with (
        running({"echo": FakeModel("echo", 0.05)}, settings, store) as first,
        running({"echo": FakeModel("echo", 0.05)}, settings, store) as second,
    ):

        def ask(number: int) -> int:
            address = (first, second)[number % 2]
            return httpx.post(f"{address}{CHAT}", json=said(4), headers=headers, timeout=30).status_code

        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(ask, range(50)))
    answered = found.count(200)  # one, and one more if it asked when the first had ended
    assert (answered in (1, 2), found.count(429)) == (True, 50 - answered)
    assert used(store) <= 10


def test_guessed_keys_are_counted_and_logged_with_their_address(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    keys, headers = keyed(tmp_path, "staff = true\ntokens_per_day = 1000")
    with running({"echo": FakeModel("echo")}, Settings(keys=keys), store) as address:
        for number in range(5):
            wrong = {"Authorization": f"Bearer sw-guess-{number}", "X-Request-Id": f"guess-{number}"}
            answer = httpx.post(f"{address}{CHAT}", json=said(2), headers=wrong)
            assert (answer.status_code, answer.headers["x-request-id"]) == (401, f"guess-{number}")
        assert httpx.post(f"{address}{CHAT}", json={"model": "echo"}, headers=headers).status_code == 400
        assert httpx.post(f"{address}{CHAT}", json=said(2), headers=headers).status_code == 200
        open_text = httpx.get(f"{address}/metrics").text
        text = httpx.get(f"{address}/metrics", headers=headers).text
    assert "1 request(s) from 127.0.0.1 had no valid API key, the last to /v1/chat/completions" in caplog.text
    assert "guess" not in caplog.text
    assert "sizewise_rejected_keys_total 5.0" in open_text
    assert 'sizewise_http_requests_total{path="/v1/chat/completions",status="400"} 1.0' in open_text
    assert 'key="one"' not in open_text
    assert 'sizewise_key_http_requests_total{key="one",status="200"} 1.0' in text
    assert 'sizewise_key_tokens_total{key="one",model="echo"} 4.0' in text
