"""A home written in schema 1, before the fields of records took the terms of the field, opens today."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sizewise import datasets
from sizewise.choice import choose
from sizewise.cli.main import app
from sizewise.comparison import history
from sizewise.errors import SizewiseError
from sizewise.judging import Ballot, report
from sizewise.metrics import METRICS
from sizewise.records import (
    Checkpoint,
    Comparison,
    ContaminationEntry,
    Dataset,
    Evaluation,
    ItemRow,
    LoadTest,
    Needs,
    Recommendation,
    Study,
)
from sizewise.records.upgrades import NEEDS_2, renamed_metric, upgrade
from sizewise.report.view import load_view
from sizewise.report.writing import write_study_report
from sizewise.routing import read_policy
from sizewise.store import Ledger, Store
from sizewise.store.store import KINDS
from sizewise.studies.audit import audit

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "schema-1.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schema-1")
    with zipfile.ZipFile(HERE / "schema-1.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def home(old: Path) -> Store:
    return Store(old / "home")


def test_every_record_is_read(home: Store) -> None:
    listed = {one.id: one.kind for one in home.listing() if one.created}
    former = {"load": "loadtest"}
    assert listed == {one: former.get(kind, kind) for one, kind in EXPECTED["records"].items()}
    assert set(listed.values()) <= set(KINDS)
    for record_id, kind in listed.items():
        assert home.read(KINDS[kind], record_id) == home.get(KINDS[kind], record_id).record


def test_values_are_those_of_before(home: Store) -> None:
    for record_id, before in EXPECTED["evaluations"].items():
        scores = home.read(Evaluation, record_id).scores
        renamed = {renamed_metric(name): value for name, value in before["scores"].items()}
        assert {name: score.value for name, score in scores.items()} == renamed
        assert all(score.ci_low is None or score.value is not None for score in scores.values())
    for record_id, before in EXPECTED["comparisons"].items():
        found = home.read(Comparison, record_id)
        assert (found.data, found.evaluations, len(found.differences)) == (
            before["data"],
            before["evaluations"],
            before["differences"],
        )
    for record_id, before in EXPECTED["recommendations"].items():
        told = home.read(Recommendation, record_id)
        outcome = {"not_decisive": "inconclusive"}.get(before["outcome"], before["outcome"])
        assert (told.outcome, told.pick, told.decisive, told.summary) == (
            outcome,
            before["pick"],
            before["decisive"],
            before["sentence"],
        )


def test_rows_beside_records_are_read(home: Store) -> None:
    items = [path.parent for path in (home.home / "evaluation").glob("*/items.jsonl")]
    assert len(items) > 20
    for folder in items:
        record = home.read(Evaluation, folder.name)
        rows = home.read_rows(folder, "items.jsonl", ItemRow)
        assert len(rows) == record.items
        # What was measured of an item has the name under which its total stands in the record.
        assert {name for row in rows for name in row.stats} <= {*record.metrics, *record.scores, *METRICS}
    for dataset in home.saved(Dataset):
        contents = datasets.load(home, dataset.id)
        assert len(contents.examples["test"]) == dataset.record.splits["test"].examples
        entries = home.read_rows(dataset.path.parent, "leaks.jsonl", ContaminationEntry)
        examples = [entry for entry in entries if entry.kind == "example"]
        assert sum(entry.uncontaminated for entry in examples) == dataset.record.contamination.uncontaminated_examples


def test_loads_are_found_in_their_folder_of_before(home: Store) -> None:
    for load in home.saved(LoadTest):
        assert load.path.parent.parent.name == "load"
        assert all(level.scores["p95_latency_s"].n for level in load.record.levels)


def test_every_record_can_be_written_anew_and_read(home: Store, tmp_path: Path) -> None:
    other = Store(tmp_path)
    for listed in home.listing():
        record = home.read(KINDS[listed.kind], listed.id)
        other.write(listed.id, record)
        assert other.read(KINDS[listed.kind], listed.id) == record


CHANGED = {
    "choice-81e5967228": "not auditable",
    "choice-c30b7591ca": "its pick scores 0",
    "choice-92a67cec8f": "its pick lacks half of the items",
}


@pytest.mark.parametrize("record_id", [one for one in EXPECTED["choose_again"] if one not in CHANGED])
def test_choosing_again_comes_to_the_same_answer(home: Store, record_id: str) -> None:
    before = EXPECTED["choose_again"][record_id]
    needs = Needs(**{NEEDS_2.get(key, key): value for key, value in before["needs"].items()})
    stored = home.read(Recommendation, record_id)  # the default quality metric has changed since
    needs = needs.model_copy(update={"quality": needs.quality or stored.quality})
    told = choose(stored.comparison, needs, store=home).record
    outcome = {"not_decisive": "inconclusive"}.get(before["outcome"], before["outcome"])
    assert (told.outcome, told.pick) == (outcome, before["pick"])


@pytest.mark.parametrize("record_id", list(EXPECTED["audits"]))
def test_audits_are_sound(home: Store, record_id: str) -> None:
    before = EXPECTED["audits"][record_id]
    found = audit(record_id, store=home, verify=True)
    assert found.sound is before["sound"], [one for one in found.recomputed if one.differing]
    assert found.records == before["records"] or len(found.records) == before["records"]


@pytest.mark.parametrize("record_id", list(EXPECTED["rounds"]))
def test_rounds_are_read_with_their_votes(home: Store, record_id: str) -> None:
    before = EXPECTED["rounds"][record_id]
    ballot = Ballot(home, record_id)
    try:
        assert ballot.closed is before["closed"]
    finally:
        ballot.close()
    found = report(record_id, store=home)
    assert found.votes == before["votes"]
    pairs = [[one.left, one.right, one.votes, one.better] for one in found.pairs]
    assert pairs == [[*one[:3], one[4]] for one in before["pairs"]]
    for one, (*_, rate, _better) in zip(found.pairs, before["pairs"], strict=True):
        assert one.win_rate.value == (rate if rate is None else pytest.approx(rate))


def test_studies_are_reported(home: Store, tmp_path: Path) -> None:
    for record_id in ("study-ac1aa94f1a", "study-1da11f1b99"):
        view = load_view(home, record_id, home.read(Study, record_id))
        write_study_report(view, tmp_path / record_id)
        page = (tmp_path / record_id / "report.html").read_text(encoding="utf-8")
        assert view.study.summary.split(";")[0][:40] in page


def test_histories_policies_and_checkpoints_are_read(home: Store, old: Path) -> None:
    assert history("data-87d11c58c2", store=home).entries
    policy = read_policy(old / "files" / "policy.json")
    assert policy.calibration is not None
    assert policy.calibration.similarity is not None
    assert any(one.record.memorization for one in home.saved(Checkpoint))


NAMES = ["low", "expected", "high", "general", "missing", "outcome", "metric", "users", "scores", "licence", "*"]


def test_names_of_candidates_are_no_fields() -> None:
    score = {"metric": "general", "value": 1.0, "low": 0.5, "high": 1.5, "n": 3, "unit": "share", "signature": "s"}
    old = {
        "scores": {"general": dict.fromkeys(NAMES, score)},
        "best": {"general": dict.fromkeys(NAMES, 0.1)},
        "models": {name: {"uri": name, "licence": "MIT"} for name in NAMES},
        "weighed": {name: {"stereotype": score} for name in NAMES},
        "crowds": {name: [{"users": 4, "scores": {"answer_s_p95": score}}] for name in NAMES},
    }
    new = upgrade(old, 1, "Comparison")
    assert list(new["scores"]) == ["language_nuance"]
    assert list(new["scores"]["language_nuance"]) == NAMES
    assert new["scores"]["language_nuance"]["low"]["ci_low"] == 0.5
    assert new["probability_best"]["language_nuance"] == dict.fromkeys(NAMES, 0.1)
    assert all(one["license"] == "MIT" for one in new["models"].values())
    assert list(new["suite_scores"]) == NAMES
    assert list(new["suite_scores"]["outcome"]) == ["stereotype_score"]
    assert new["load_levels"]["users"][0]["concurrent_users"] == 4
    assert upgrade(new, 1, "Comparison") == new
    told = upgrade({"outcome": "not_decisive", "why_not": dict.fromkeys(NAMES, "x"), "best_share": {}}, 1, "Study")
    assert (told["outcome"], list(told["rejected"])) == ("inconclusive", NAMES)


@pytest.mark.parametrize("schema", [0, -1, 1.5, True, None, "2", float("inf")])
def test_a_schema_that_is_no_number_is_an_error(schema: object) -> None:
    with pytest.raises(ValueError, match="positive whole number"):
        upgrade({}, schema, "Study")


@pytest.mark.parametrize("body", ["{", "null", "[]", '"x"', '{"outcome": []}', "[" * 9_000])
def test_an_entry_that_cannot_be_read_stops_only_who_reads_it(tmp_path: Path, body: str) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append("votes", "a", {"choice": "left"})
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    with connection:
        connection.execute("INSERT INTO entries (topic, key, body) VALUES ('other', 'b', ?)", (body,))
        connection.execute("PRAGMA user_version = -1")
    connection.close()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.entries("votes") == {"a": {"choice": "left"}}
        if body != '{"outcome": []}':
            with pytest.raises(SizewiseError, match=r"entry 'b' of .* is damaged"):
                ledger.entries("other")


def test_answers_in_an_old_ledger_are_upgraded_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    answer = {"id": "a", "text": "Yes.", "prompt_tokens": 3, "finish": "stop", "first_token_s": 0.5}
    with Ledger(path) as ledger:
        ledger.append("answers", "a", answer)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    for _ in range(2):
        with Ledger(path) as ledger:
            found = ledger.entries("answers")["a"]
        assert found["ttft_s"] == 0.5
        assert "first_token_s" not in found


@pytest.mark.parametrize(
    "change",
    [
        {"created": "yesterday"},
        {"created": None},
        {"created": "2026-01-01T00:00:00"},
        {"schema": 1e999},
        {"schema": 0},
        {"record": []},
        {"record": {"scores": []}},
        {"id": "another"},
        {"kind": "dataset"},
    ],
)
def test_a_record_that_cannot_be_read_stops_no_command(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    home = tmp_path / "home"
    for name in ("dataset", "evaluation"):
        shutil.copytree(old / "home" / name, home / name)
    path = home / "evaluation" / "eval-b92db949a6" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    monkeypatch.setenv("SIZEWISE_HOME", str(home))
    for arguments in (["runs"], ["runs", "--json"], ["runs", "--csv"], ["compare", "--history", "data-87d11c58c2"]):
        found = CliRunner().invoke(app, arguments)
        assert found.exit_code == 0, (arguments, found.output)
    with pytest.raises(SizewiseError, match="missing or damaged"):
        Store(home).read(Evaluation, "eval-b92db949a6")


def test_an_empty_folder_hides_no_record_of_before(old: Path, tmp_path: Path) -> None:
    shutil.copytree(old / "home" / "load", tmp_path / "load")
    store = Store(tmp_path)
    record_id = next(one.id for one in store.listing())
    (tmp_path / "loadtest" / record_id).mkdir(parents=True)
    assert store.read(LoadTest, record_id).levels
    shutil.copytree(tmp_path / "load" / record_id, tmp_path / "loadtest" / record_id, dirs_exist_ok=True)
    assert [one.id for one in store.listing()].count(record_id) == 1
