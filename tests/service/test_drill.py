"""Two gateways and two backends on one PostgreSQL, one of each killed under load (larger: `make bench-scale`)."""

from __future__ import annotations

import importlib
import signal
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from tests.service.postgresql import running_postgresql

ROOT = Path(__file__).parents[2]


@pytest.mark.scale
@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_nothing_is_lost_when_a_backend_and_a_gateway_end(
    how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    scale = importlib.import_module("benchmarks.scale_service")
    with running_postgresql() as database:
        found = scale.drill(300, how, database, tmp_path)
    outcomes = found["outcomes"]
    told = outcomes.pop("broken, told", 0)
    assert outcomes == {"whole": 300 - told}  # nothing silent, nothing wrong, nothing without an answer
    assert told <= (0 if how == signal.SIGTERM else 2 * scale.CONCURRENT)
    rest = found["tokens_charged"] - found["tokens_of_whole_answers"]
    unfinished = told + found["asked_again"]  # charged by a gateway that ended before it could count the answer
    assert 0 <= rest <= (0 if how == signal.SIGTERM else unfinished * scale.ANSWER_TOKENS)
    assert found["small_budget_outcomes"]["whole"] >= found["small_budget"] // scale.ANSWER_TOKENS // 2
    charged = found["small_budget_charged"]  # the last answers are cut to what is left, where prompts are estimated
    assert 0.8 * found["small_budget"] <= charged <= found["small_budget"] + scale.ANSWER_TOKENS
