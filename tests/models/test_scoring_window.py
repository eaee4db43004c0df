"""The window of log-likelihoods follows the model's context and the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.models import local
from sizewise.models.base import TokenRun, score_after
from sizewise.models.local import MIN_WINDOW, LocalModel, scoring_window
from tests.conftest import make_tiny

LARGE = {"hidden_size": 4096, "intermediate_size": 14_336, "vocab_size": 128_000}
TEXT = "The record names the plan of the order 12. " * 30


@pytest.fixture
def model(tmp_path: Path, text_folder: Path) -> LocalModel:
    folder = make_tiny(tmp_path / "net", text_folder, "full", 4096)
    return LocalModel(folder, uri="tiny", revision="1", origin="", license="", precision="fp32")


def test_the_window_is_the_context_where_memory_permits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "machine_bytes", lambda: 64 * 2**30)
    assert scoring_window(LARGE, 8_192, 2) == 8_192
    assert scoring_window(LARGE, 40_960, 2) == 40_960
    monkeypatch.setattr(local, "machine_bytes", lambda: 8 * 2**30)
    small = scoring_window(LARGE, 131_072, 2)
    assert MIN_WINDOW <= small < 131_072
    assert small & (small - 1) == 0  # a power of two, so that machines of about the same memory agree
    assert scoring_window(LARGE, 131_072, 2, with_logits=True) <= small / 2
    monkeypatch.setattr(local, "machine_bytes", lambda: 2**20)
    assert scoring_window(LARGE, 131_072, 4) == MIN_WINDOW


def test_a_text_beyond_2048_tokens_is_scored_in_one_window(model: LocalModel) -> None:
    assert "window:4096|" in model.signature()
    text = TEXT * 8
    assert len(model.tokenizer(text).input_ids) > 2048
    (scored,) = model.score([text])
    ids = [model.tokenizer.bos_token_id, *model.tokenizer(text).input_ids]
    (run,) = model.score_runs([TokenRun(ids, 1)])
    assert scored.nats.sum() == pytest.approx(run.nats, rel=1e-5)


def test_scores_after_a_character_equal_those_of_the_whole_text(model: LocalModel) -> None:
    texts, after = [TEXT + "claim", TEXT + "device of the plan", "short"], [len(TEXT), len(TEXT), 0]
    for begin, found, whole in zip(after, score_after(model, texts, after), model.score(texts), strict=True):
        counted = whole.starts >= begin
        assert found.starts.tolist() == whole.starts[counted].tolist()
        assert found.nats == pytest.approx(whole.nats[counted], abs=1e-4)


def test_greedy_runs_are_known(model: LocalModel) -> None:
    ids = model.tokenizer(TEXT).input_ids[:20]
    best = model.score_prompts([_request(ids)])[0].likeliest
    assert best is not None
    (wrong,) = model.score_runs([TokenRun(ids, 5)])
    assert wrong.greedy is all(one is None for one in best[4:])


def _request(ids: list[int]) -> local.Request:
    return local.Request(id="a", ids=tuple(ids), max_tokens=1)
