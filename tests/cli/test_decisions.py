from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.records import Evaluation, ModelDescription
from sizewise.store import Store
from tests.cli.test_cli import call
from tests.comparison.test_decisions import made


@pytest.fixture
def evaluation(store: Store) -> str:
    rows, _, _ = made(300)
    model = ModelDescription(uri="fake:echo", origin="x", license="x", engine="test", precision="none")
    record = Evaluation(
        model=model, data="suite:x", seed=0, limit=None, metrics=("accuracy",), scores={}, items=300, failed=0,
        seconds=0, versions={},
    )  # fmt: skip
    store.write_rows(store.folder("evaluation", "eval-1"), "items.jsonl", rows)
    store.write("eval-1", record)
    return "eval-1"


def test_decisions_of_an_evaluation(
    evaluation: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = tmp_path / "costs.csv"
    costs.write_text("correct,decided,cost\nham,spam,20\n", encoding="utf-8")
    arguments = ("decisions", evaluation, "--costs", str(costs), "--hand-over", "0.5", "--risk", "0.1")
    code, out, _ = call(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "Cost of 1,000 decisions" in out
    assert max(map(len, out.splitlines()[2:])) <= 120
    code, out, _ = call(capsys, monkeypatch, *arguments, "--json")
    found = json.loads(out)
    assert (code, found["kind"], found["id"]) == (0, "decision-analysis", evaluation)
    assert found["record"]["costs"]["hand_over"] == 0.5
    code, out, _ = call(capsys, monkeypatch, "decisions", evaluation, "--csv")
    assert out.startswith("label,n,precision,recall,F1,ROC AUC\nham,")
    costs.write_bytes("\ufeffCorrect;Decided;Cost\r\nham;spam;20,5\r\nspam;ham;0,250\r\n".encode())
    code, out, _ = call(capsys, monkeypatch, *arguments, "--json")
    assert (code, json.loads(out)["record"]["costs"]["matrix"]) == (0, [[0.0, 20.5], [0.25, 0.0]])
    costs.write_text("sep=;\ncorrect;decided;cost\nham;spam;20\n;;\n", encoding="utf-8")
    code, out, _ = call(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "cost of deciding spam instead of ham 20, ham instead of spam 1" in out
    assert "accuracy of the cheapest actions" in out
    for content, said in (
        ("correct;decided;cost\nham;spam;1.500\n", "is '1.500': '1.500' may mean 1.500 or 1500"),
        ("correct,decided,cost\nham,spam,20,5\n", "Row 1 of"),
        ('correct,decided,cost\nham,spam,"1,500"\n', "may mean 1.500 or 1500"),
        ("correct;decided;cost\nham;spam;1.500,5\n", "is '1.500,5'."),
    ):
        costs.write_text(content, encoding="utf-8")
        code, _, err = call(capsys, monkeypatch, *arguments)
        assert (code, said in err) == (2, True), err
    assert call(capsys, monkeypatch, "decisions", evaluation, "--cost", "ham=2")[0] == 2
    code, _, err = call(capsys, monkeypatch, "decisions", evaluation, "--cost", "ham:spam=much")
    assert code == 2
    assert "The cost of deciding 'spam' for 'ham' is 'much'." in err
    for wrong, said in (
        (("ham:spam=-5",), "less than the correct decision (0)"),
        (("ham:ham=5", "ham:spam=1"), "less than the correct decision (5)"),
        (("ham:spam=1e308",), "costs 1e+308"),
        (("ham:spam=1e-320",), "a size between"),
        (("ham:spam=5", "ham:spam=7"), "has two costs"),
    ):
        stated = [part for cost in wrong for part in ("--cost", cost)]
        code, _, err = call(capsys, monkeypatch, "decisions", evaluation, *stated)
        assert (code, said in err) == (2, True), err
    code, _, err = call(capsys, monkeypatch, "decisions", evaluation, "--groups", "age")
    assert code == 1
    assert "have no column 'age' of groups" in err


def test_costs_of_labels_with_colons(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"ham": "kind: ham", "spam": "kind: spam=yes"}
    model = ModelDescription(uri="fake:echo", origin="x", license="x", engine="test", precision="none")
    record = Evaluation(
        model=model, data="suite:x", seed=0, limit=None, metrics=("accuracy",), scores={}, items=60, failed=0,
        seconds=0, versions={},
    )  # fmt: skip
    rows = [
        row.model_copy(
            update={
                "references": tuple(names[one] for one in row.references),
                "probabilities": {names[one]: share for one, share in (row.probabilities or {}).items()},
            }
        )
        for row in made(60)[0]
    ]
    store.write_rows(store.folder("evaluation", "eval-2"), "items.jsonl", rows)
    store.write("eval-2", record)
    arguments = ("decisions", "eval-2", "--json", "--cost")
    code, out, err = call(capsys, monkeypatch, *arguments, "kind: ham:kind: spam=yes=20")
    assert code == 0, err
    found = json.loads(out)["record"]["costs"]
    assert found["labels"] == list(names.values())
    assert found["matrix"] == [[0.0, 20.0], [1.0, 0.0]]
    code, _, err = call(capsys, monkeypatch, "decisions", "eval-2", "--cost", "kind: ham:kind: eggs=20")
    assert (code, "can be split into no pairs of labels" in err) == (2, True), err


def test_the_other_evaluation_is_of_the_same_data(
    evaluation: str, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = store.read(Evaluation, evaluation).model_copy(update={"data": "suite:y"})
    store.write_rows(store.folder("evaluation", "eval-2"), "items.jsonl", [])
    store.write("eval-2", other)
    code, _, err = call(capsys, monkeypatch, "decisions", evaluation, "eval-2")
    assert (code, "two evaluations of the same data" in err) == (1, True)
