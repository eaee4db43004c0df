"""A home written in schema 1, before the fields of records took the terms of the field, opens today."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sizewise import datasets
from sizewise.choice import choose
from sizewise.comparison import history
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
from sizewise.records.upgrades import NEEDS_2, upgrade
from sizewise.report.view import load_view
from sizewise.report.writing import write_study_report
from sizewise.routing import read_policy
from sizewise.store import Store
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
        renamed = upgrade({"scores": before["scores"]}, 1)["scores"]
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


@pytest.mark.parametrize("record_id", [one for one in EXPECTED["choose_again"] if one != "choice-81e5967228"])
def test_choosing_again_comes_to_the_same_answer(home: Store, record_id: str) -> None:
    before = EXPECTED["choose_again"][record_id]
    needs = Needs(**{NEEDS_2.get(key, key): value for key, value in before["needs"].items()})
    told = choose(EXPECTED["recommendations"][record_id]["comparison"], needs, store=home).record
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
    assert [[one.left, one.right, one.votes, one.win_rate.value, one.better] for one in found.pairs] == before["pairs"]


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
