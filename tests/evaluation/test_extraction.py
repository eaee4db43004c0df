"""Extraction in an evaluation: scores of each field, evidence of the values, and constrained answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sizewise import datasets
from sizewise.cli.main import app
from sizewise.errors import UsageError
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.evaluation.extraction import constrain
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, ItemRow, Request
from sizewise.store import Saved, Store

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "firm": {"type": "string"}, "kind": {"enum": ["a", "b"]}},
}
METRICS = ["field_f1", "field_precision", "field_recall", "value_in_source"]
COUNT = 12


def _data(store: Store, tmp_path: Path, schema: Any = SCHEMA) -> Saved[Any]:
    rows = [
        {
            "id": f"i{i}",
            "prompt": f"Invoice {i} of Firm {i} over {i * 100}.5 EUR. Which fields?",
            "references": [json.dumps({"total": i * 100 + 0.5, "firm": f"Firm {i}", "kind": "ab"[i % 2]})],
            "source": f"page {i}",
            **({"schema": schema} if schema else {}),
        }
        for i in range(COUNT)
    ]
    path = tmp_path / "invoices.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return datasets.read([path], store=store, all_test=True)


def _recorded(tmp_path: Path) -> str:
    answers = [
        {"id": f"i{i}", "completion": json.dumps({"total": i * 100 + 0.5, "firm": "Acme"})} for i in range(COUNT)
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    return f"recorded:{path}"


def test_each_field_has_scores_and_each_value_its_place(store: Store, tmp_path: Path) -> None:
    saved = evaluate(_recorded(tmp_path), _data(store, tmp_path), METRICS, store=store)
    scores, fields = saved.record.scores, {one.path: one for one in saved.record.fields}
    assert scores["field_precision"].value == pytest.approx(1 / 2)
    assert scores["field_recall"].value == pytest.approx(1 / 3)
    assert scores["value_in_source"].value == pytest.approx(1 / 2)
    assert (fields["total"].f1.value, fields["firm"].f1.value, fields["kind"].recall.value) == (1.0, 0.0, 0.0)
    assert fields["kind"].precision.missing_reason
    assert all(one.f1.n == COUNT and one.f1.ci_low is not None for one in fields.values())
    rows = list(store.read_rows(saved.path.parent, "items.jsonl", ItemRow))
    for row in rows:
        total, firm = row.evidence
        assert row.prompt[total.spans[0].start : total.spans[0].end].endswith(".5 EUR")
        assert (firm.path, firm.spans, bool(firm.missing_reason)) == ("firm", (), True)
    done = CliRunner().invoke(
        app, ["evaluate", _recorded(tmp_path), "--data", saved.record.data, "--metrics", ",".join(METRICS)]
    )
    assert "Fields of the answers" in done.stdout


def test_without_field_metrics_nothing_is_added(store: Store, tmp_path: Path) -> None:
    saved = evaluate(_recorded(tmp_path), _data(store, tmp_path), ["json_f1"], store=store)
    assert saved.record.fields == ()
    assert all(row.evidence == () for row in store.read_rows(saved.path.parent, "items.jsonl", ItemRow))
    assert '"evidence"' not in saved.path.with_name("items.jsonl").read_text(encoding="utf-8")


class Constrained(FakeModel):
    """Answers with an empty object if it must follow a schema."""

    asked: list[Request] = []  # noqa: RUF012

    def describe(self) -> Any:
        told = super().describe()
        return told.model_copy(update={"offers": (*told.offers, "json_schema"), "can_chat": False})

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.asked.extend(requests)
        yield from super().complete(requests)


def test_constrained_answers_follow_the_schema_of_their_example(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sizewise.evaluation.run.open_model", lambda *_, **__: Constrained("echo"))
    data = _data(store, tmp_path)
    plain = evaluate("fake:echo", data, METRICS, store=store)
    Constrained.asked.clear()
    saved = evaluate("fake:echo", data, METRICS, store=store, options=EvaluationOptions(constrained=True))
    assert {request.json_schema for request in Constrained.asked} == {json.dumps(SCHEMA, sort_keys=True)}
    assert {request.stop for request in Constrained.asked} == {()}
    assert saved.id != plain.id
    assert saved.record.constrained
    assert "constrained" in saved.record.scores["field_f1"].signature


def test_an_engine_that_cannot_constrain_names_the_one_that_can(store: Store, tmp_path: Path) -> None:
    options = EvaluationOptions(constrained=True)
    with pytest.raises(UsageError, match="can't follow a JSON schema") as error:
        evaluate("fake:echo", _data(store, tmp_path), METRICS, store=store, options=options)
    assert "--engine openvino" in error.value.next_step
    examples = datasets.load(store, _data(store, tmp_path, None).id).examples["test"]
    with pytest.raises(UsageError, match="None of the 12 examples has a JSON schema"):
        constrain([], examples, Constrained("echo").describe())
