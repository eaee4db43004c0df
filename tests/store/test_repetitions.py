"""Repetitions of an evaluation: their ids, and which one a user means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sizewise.cli.main import app
from sizewise.cli.run_ids import newest_runs
from sizewise.errors import UsageError
from sizewise.evaluation import EvaluationOptions, evaluate, evaluate_suite
from sizewise.records import Evaluation, History, Ranking, Reproduction
from sizewise.store import Saved, Store
from sizewise.store.repetitions import newest_run, next_run_id, number_of, parse_run, runs_of


@pytest.fixture
def questions(tmp_path: Path) -> str:
    path = tmp_path / "job.jsonl"
    rows = [{"prompt": f"say {i}", "references": f"say {i}"} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def repeated(store: Store, questions: str, runs: int, model: str = "fake:echo") -> list[Saved[Evaluation]]:
    new = EvaluationOptions(new_run=True)
    return [evaluate(model, questions, ["exact_match"], store=store, options=new) for _ in range(runs)]


def test_the_newest_run_is_meant_unless_a_number_is_given(store: Store, questions: str) -> None:
    saved = repeated(store, questions, 3)
    base = saved[0].id
    assert [one.id for one in saved] == [base, f"{base}.2", f"{base}.3"]
    assert [one.record.conditions.number for one in saved if one.record.conditions] == [1, 2, 3]
    meant = {given: newest_run(store, given) for given in (base, f"{base}.1", f"{base}.2", f"{base}.9", "study-1")}
    assert list(meant.values()) == [f"{base}.3", base, f"{base}.2", f"{base}.9", "study-1"]
    assert runs_of(store, f"{base}.2") == [base, f"{base}.2", f"{base}.3"]
    assert next_run_id(store, base) == f"{base}.4"
    assert evaluate("fake:echo", questions, ["exact_match"], store=store).id == base


def test_runs_of_earlier_versions_count(store: Store, questions: str) -> None:
    first, second = repeated(store, questions, 2)
    body = json.loads(second.path.read_text(encoding="utf-8")) | {"id": f"{first.id}-run2"}
    former = second.path.parent.rename(second.path.parent.with_name(f"{first.id}-run2"))
    (former / "record.json").write_text(json.dumps(body), encoding="utf-8")
    assert newest_run(store, first.id) == newest_run(store, f"{first.id}.2") == f"{first.id}-run2"
    assert next_run_id(store, first.id) == f"{first.id}.3"
    assert parse_run(f"{first.id}-run2") == (first.id, 2)
    assert number_of(f"{first.id}.4-incomplete-abc123") == 4


def test_conditions_say_when_and_how_a_run_took_place(store: Store, questions: str) -> None:
    (saved,) = repeated(store, questions, 1)
    found = saved.record.conditions
    assert found is not None
    assert found.started <= saved.created
    assert found.started[:4] == saved.created[:4]
    assert found.machine
    assert found.cores >= 1
    assert found.decoding == "greedy"


def test_suites_are_repeated_too(store: Store) -> None:
    new = EvaluationOptions(new_run=True)
    first = evaluate_suite("fake:echo", "bias", store=store, limit=5, options=new)
    assert evaluate_suite("fake:echo", "bias", store=store, limit=5, options=new).id == f"{first.id}.2"


def test_commands_take_the_newest_run(store: Store, questions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    echo, silent = repeated(store, questions, 2), repeated(store, questions, 2, "fake:silent")
    run = CliRunner().invoke
    found = json.loads(run(app, ["compare", echo[0].id, f"{silent[0].id}.1", "--json"]).stdout)["record"]
    assert list(found["evaluations"].values()) == [echo[1].id, silent[0].id]
    told = json.loads(
        run(app, ["evaluate", "fake:echo", "--data", questions, "--metrics", "exact_match", "--json"]).stdout
    )
    assert told["id"] == echo[1].id
    runs = json.loads(run(app, ["compare", f"{echo[0].id}.1", echo[0].id, "--json"]).stdout)["record"]["evaluations"]
    assert list(runs.values()) == [echo[0].id, echo[1].id]
    with pytest.raises(UsageError, match="given twice"):
        newest_runs([echo[0].id, echo[1].id])


def test_reproductions_histories_and_rankings_are_saved(
    store: Store, questions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIZEWISE_HOME", str(store.home))
    base = repeated(store, questions, 2)[0].id
    votes = tmp_path / "votes.csv"
    votes.write_text("left,right,winner\n" + "a,b,left\n" * 12, encoding="utf-8")
    run = CliRunner().invoke
    for arguments, record_type in (
        (["evaluate", "--reproduce", f"{base}.1"], Reproduction),
        (["compare", "--history", "fake:echo"], History),
        (["judge", "rank", str(votes)], Ranking),
    ):
        told = json.loads(run(app, [*arguments, "--json"]).stdout)
        assert store.get(record_type, told["id"]).path == Path(told["path"])  # type: ignore[type-var]
    again = json.loads(run(app, ["compare", "--history", "fake:echo", "--json"]).stdout)
    assert len(list(store.saved(History))) == 1
    assert [entry["run"] for entry in again["record"]["entries"]] == [1, 2]
    assert "reproduction" in run(app, ["runs"]).stdout
    packed = json.loads(run(app, ["audit", again["id"], "--verify", "--json"]).stdout)["record"]
    assert list(packed["records"].values()).count("evaluation") == 2
