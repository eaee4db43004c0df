"""Load tests of a model in this process, and their use in comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.loadtest import load_test_model
from sizewise.models.fake import FakeModel
from sizewise.records import Dataset, LoadTest
from sizewise.store import Saved, Store


def test_users_send_the_questions_of_the_test_set(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store)
    other = evaluate("fake:echo", dataset.id, ["chrf"], store=store)
    found = load_test_model(measured.id, (4, 1), store=store)
    assert [level.concurrent_users for level in found.record.levels] == [1, 4]
    assert found.record.machine
    assert any("72 successful requests per level are needed" in note for note in found.record.notes)
    for level in found.record.levels:
        assert level.requests == max(12, 4 * (level.concurrent_users or 0))
        assert not level.errors
        first, whole = (level.scores[name].value for name in ("p50_ttft_s", "p50_latency_s"))
        assert first is not None
        assert whole is not None
        assert 0 < first <= whole < level.seconds
        assert f"users:{level.concurrent_users}|engine:" in level.scores["p95_latency_s"].signature

    compared = compare(
        {"tiny": measured.id, "echo": other.id}, load_tests={"tiny": found.id}, suites={}, store=store
    ).record
    assert compared.load_levels == {"tiny": found.record.levels}
    assert compared.load_tests == {"tiny": found.id}

    monkeypatch.setattr("sizewise.loadtest.engine.open_model", None)  # a second time nothing is asked
    assert load_test_model(measured.id, (1, 4), store=store).record == found.record


def test_a_failing_answer_is_an_error_of_its_level(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store)

    class Failing(FakeModel):
        def complete(self, requests: object) -> object:
            for answer in super().complete(requests):  # type: ignore[arg-type]
                yield answer.model_copy(update={"finish": "error", "error": "out of memory", "text": ""})

    monkeypatch.setattr("sizewise.loadtest.engine.open_model", lambda uri, **_: Failing("echo"))
    level = load_test_model(measured.id, (2,), store=store).record.levels[0]
    assert level.errors == {"out of memory": 12}
    assert level.scores["p95_latency_s"].missing_reason == "no request succeeded"
    assert level.scores["within_limits"].value == 0


def test_models_without_an_engine_here_are_refused(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    rule = evaluate("fake:echo", dataset.id, ["chrf"], store=store)
    with pytest.raises(SizewiseError, match="doesn't run on this machine"):
        load_test_model(rule.id, (1,), store=store)
    silent = evaluate(str(tiny_folder), dataset.id, ["bits_per_byte"], store=store)
    with pytest.raises(SizewiseError, match="has no answers"):
        load_test_model(silent.id, (1,), store=store)
    with pytest.raises(UsageError, match="concurrent users is an empty list"):
        load_test_model(silent.id, (), store=store)


@pytest.mark.slow
def test_speeds_of_different_software_are_shown_as_deployed(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path
) -> None:
    measured = evaluate(str(tiny_folder), dataset.id, ["chrf"], store=store)
    other = evaluate("fake:echo", dataset.id, ["chrf"], store=store)
    found = load_test_model(measured.id, (1,), store=store)
    elsewhere = store.write("load-elsewhere", found.record.model_copy(update={"engine": "vllm, bf16"}))
    notes = compare(
        {"tiny": measured.id, "echo": other.id}, load_tests={"tiny": found.id, "echo": elsewhere.id}, store=store
    ).record.notes
    assert any("different engines" in note and "vllm, bf16" in note for note in notes)
    with pytest.raises(UsageError, match="Unknown candidate 'none'"):
        compare({"tiny": measured.id, "echo": other.id}, load_tests={"none": found.id}, store=store)
    assert store.read(LoadTest, found.id) == found.record
