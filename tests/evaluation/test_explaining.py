"""Explanations of the decisions of an evaluation, errors first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.comparison.decisions import read_explanations
from sizewise.datasets import load, read
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.evaluation.explaining import choose_decisions, explain_decisions, keep_explanations
from sizewise.models import open_model
from sizewise.models.explaining import explain_decision
from sizewise.records import ClassifierRecipe, ItemRow
from sizewise.store import Store
from sizewise.training import train
from tests.cli.test_cli import call
from tests.training.test_classifier import WORDS, labeled_file


def row(item: str, label: str, chance: float) -> ItemRow:
    chances = {"a": chance, "b": 1 - chance}
    return ItemRow(
        item=item, kind="example", cluster=item, uncontaminated=True, references=(label,), probabilities=chances
    )


def test_the_most_confident_errors_come_first_then_the_least_certain_decisions() -> None:
    rows = [row("sure", "a", 0.99), row("unsure", "a", 0.55), row("wrong", "b", 0.7), row("worst", "b", 0.9)]
    assert [one.item for one in choose_decisions(rows, 3)] == ["worst", "wrong", "unsure"]
    assert choose_decisions([rows[0].model_copy(update={"probabilities": None})], 3) == []


def test_explanations_of_a_classifier_in_the_terminal_as_json_and_kept_for_a_report(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = read(labeled_file(tmp_path), store=store)
    trained = train(ClassifierRecipe(start="tfidf", method="linear"), messages, store=store)
    measured = evaluate(trained, messages, ("accuracy",), store=store)
    found = explain_decisions(measured, count=4, store=store)
    assert len(found) == 4
    first = found[0]
    assert first.method == "weights"
    assert first.label != first.option  # a planted error
    words = {part.text for part in first.passages if part.effect > 0}
    assert words & set(WORDS[first.option])
    texts = {one.id: one.prompt for one in load(store, messages.id).examples["test"]}
    for one in found:
        assert all(texts[one.item][part.start : part.stop] == part.text for part in one.passages)
    code, out, _ = call(capsys, monkeypatch, "decisions", measured.id, "--explain", "2")
    assert code == 0
    assert f"{first.item}: decided {first.option}" in out
    assert "Exact: the weights of the linear model" in out
    code, out, _ = call(capsys, monkeypatch, "decisions", measured.id, "--item", found[3].item, "--json")
    assert [one["item"] for one in json.loads(out)["record"]["explanations"]] == [found[3].item]
    assert read_explanations(store, measured.id) == ()
    assert keep_explanations(measured.id, store) == read_explanations(store, measured.id) != ()
    with pytest.raises(UsageError, match="no decision about an item 'x'"):
        explain_decisions(measured, items=["x"], store=store)


def test_other_models_are_explained_by_removal_or_refused(tmp_path: Path, store: Store) -> None:
    messages = read(labeled_file(tmp_path), store=store)
    frequent = train(ClassifierRecipe(start="none", method="frequent"), messages, store=store)
    measured = evaluate(frequent, messages, ("log_loss",), store=store)
    (found,) = explain_decisions(measured, count=1, store=store)
    assert (found.method, found.passages, found.without) == ("removal", (), None)
    model = open_model("fake:echo", store=store)
    question = frequent.record.question
    by_likelihood = explain_decision(model, "win a prize", question=question)
    assert by_likelihood.texts >= 3
    assert by_likelihood.log_odds == pytest.approx(by_likelihood.rest + sum(p.effect for p in by_likelihood.passages))
    with pytest.raises(UsageError, match="has no question of its own"):
        explain_decision(model, "win a prize")
    with pytest.raises(UsageError, match="no option 'eggs'"):
        explain_decision(model, "win a prize", question=question, option="eggs")
    with pytest.raises(UsageError, match="number of passages is 0"):
        explain_decision(model, "win a prize", question=question, passages=0)
    answered = evaluate("fake:echo", messages, ("accuracy",), store=store)
    with pytest.raises(SizewiseError, match="has no probabilities"):
        explain_decisions(answered, store=store)
