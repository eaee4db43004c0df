from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from sizewise.errors import SizewiseError, UsageError
from sizewise.loadtest import Limits, LoadOptions, load_test
from sizewise.models.fake import FakeModel
from sizewise.service import Settings
from sizewise.service.api_keys import Keys, add_key
from sizewise.store import Store
from tests.models.standin import StandIn
from tests.service.test_service import running


def test_load_test_reports_latency_of_the_endpoint(store: Store) -> None:
    with running({"echo": FakeModel("echo", 0.02)}) as address:
        stored = load_test(
            address,
            [4, 1],
            options=LoadOptions(prompts=["one two three four five"], requests=12),
            limits=Limits(ttft_s=30, tpot_s=30),
            store=store,
        )
    record = stored.record
    assert [level.concurrent_users for level in record.levels] == [1, 4]
    assert record.engine.startswith("rule")
    for level in record.levels:
        first, token = level.scores["p50_ttft_s"], level.scores["p50_tpot_s"]
        assert first.value is not None
        assert token.value is not None
        assert 0.02 <= first.value < 3
        assert 0.015 <= token.value < 1
        assert first.ci_low is not None
        assert first.ci_low <= first.value
        assert level.errors == {}
        assert level.scores["within_limits"].value == 1.0
        assert level.scores["tokens_per_s"].n == 12
    assert record.max_concurrent_users == 4
    assert all(level.scores["tokens_per_s"].value for level in record.levels)
    assert store.get(type(record), stored.id).record == record


def test_load_test_reports_rate_rejections_and_limits(store: Store, tmp_path: Path) -> None:
    with running({"echo": FakeModel("echo", 0.01)}) as address:
        options = LoadOptions(rate=200.0, requests=20, prompts=["a b"])
        rate = load_test(address, options=options, limits=Limits(ttft_s=1e-6), store=store).record
        assert rate.levels[0].rate == 200.0
        assert rate.levels[0].scores["within_limits"].value == 0.0
        assert rate.max_concurrent_users is None
        with pytest.raises(UsageError, match="no model 'other'"):
            load_test(address, [1], options=LoadOptions(model="other"), store=store)
    path = tmp_path / "keys.toml"
    key = add_key(path, "one")
    text = path.read_text(encoding="utf-8").replace('name = "one"\n', 'name = "one"\nrequests_per_minute = 6\n')
    path.write_text(text, encoding="utf-8")
    with running({"echo": FakeModel("echo")}, Settings(keys=Keys.load(path))) as address:
        limited = load_test(address, [2], options=LoadOptions(requests=10, key=key), store=store).record.levels[0]
        assert limited.errors == {"status 429": 6}
        assert limited.scores["requests_per_s"].n == 4


@pytest.mark.parametrize("lead", ["data: ", "data:"])
def test_load_test_parses_streams_of_other_servers(store: Store, lead: str) -> None:
    server = StandIn()
    server.lead = lead
    record = load_test(server.url, [2], options=LoadOptions(requests=6), store=store).record
    assert record.levels[0].errors == {}
    assert not any("reasoning" in note for note in record.notes)
    server.models = ["long-thinker"]
    thinking = load_test(server.url, [2], options=LoadOptions(requests=6, max_tokens=64), store=store).record
    server.close()
    assert thinking.levels[0].errors == {}
    assert thinking.levels[0].scores["p50_ttft_s"].value is not None
    assert any("7 answers contained only reasoning" in note for note in thinking.notes)  # the first one is to warm up


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rate_must_be_positive(store: Store, rate: float) -> None:
    with pytest.raises(UsageError):
        load_test("http://127.0.0.1:9", options=LoadOptions(rate=rate), store=store)


def test_load_test_needs_a_server_and_users(store: Store) -> None:
    with pytest.raises(SizewiseError, match="Listing the models of"):
        load_test("http://127.0.0.1:9", [1], store=store)
    with pytest.raises(UsageError, match="isn't a URL"):
        load_test("localhost", [1], store=store)
    with pytest.raises(UsageError, match="concurrent users is an empty list"):
        load_test("http://127.0.0.1:9", [], store=store)
    with pytest.raises(SizewiseError, match="SIZEWISE_OFFLINE"):
        load_test("http://192.0.2.1:80", [1], store=store)
