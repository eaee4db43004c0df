from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from sizewise.choice import choose
from sizewise.comparison import compare
from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from sizewise.studies.audit import audit


@pytest.fixture
def chosen(store: Store, dataset: Saved[Dataset]) -> str:
    """A recommendation with all that it rests on."""
    metrics = ["bits_per_byte", "bleu", "exact_match", "accuracy"]
    ids = [evaluate(f"fake:{name}", dataset.id, metrics, store=store).id for name in ("echo", "copy", "silent")]
    return choose(compare(ids, store=store).id, store=store).id


def test_a_pack_holds_all_that_a_verdict_rests_on_and_verifies_elsewhere(
    chosen: str, store: Store, dataset: Saved[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = tmp_path / "packs" / "mine.zip"
    found = audit(chosen, store=store, out=pack, verify=True)
    assert found.sound
    assert sorted(found.records.values()) == ["comparison", "dataset", *["evaluation"] * 3, "recommendation"]
    assert found.records[dataset.id] == "dataset"
    monkeypatch.setenv("SIZEWISE_HOME", str(tmp_path / "another"))
    elsewhere = audit(pack, verify=True)
    assert elsewhere.sound
    assert elsewhere.files == found.files
    assert {one.kind for one in elsewhere.recomputed} == {"comparison", "evaluation", "recommendation"}
    assert all(one.numbers > 3 for one in elsewhere.recomputed)
    with zipfile.ZipFile(pack) as archive:
        assert not [name for name in archive.namelist() if name.endswith("documents.jsonl")]


def test_a_changed_number_is_found_in_the_store_and_in_a_pack(chosen: str, store: Store, tmp_path: Path) -> None:
    pack = tmp_path / "mine.zip"
    audit(chosen, store=store, out=pack)
    path = next(store.home.glob("evaluation/*/record.json"))
    body = json.loads(path.read_text(encoding="utf-8"))
    body["record"]["scores"]["bleu"]["value"] += 0.1
    path.write_text(json.dumps(body), encoding="utf-8")
    found = audit(chosen, store=store, verify=True)
    assert not found.sound
    said = [line for one in found.recomputed for line in one.differing]
    assert any(line.startswith("bleu: value") for line in said)
    assert any("differs from its evaluation" in line for line in said)

    with zipfile.ZipFile(pack) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(pack, "w") as archive:
        for name, one in content.items():
            archive.writestr(name, path.read_bytes() if name == path.relative_to(store.home).as_posix() else one)
    forged = audit(pack, verify=True)
    assert forged.changed == (path.relative_to(store.home).as_posix(),)
    assert not forged.sound


def test_a_verdict_that_does_not_follow_is_found(chosen: str, store: Store) -> None:
    path = store.record_path("recommendation", chosen)
    body = json.loads(path.read_text(encoding="utf-8"))
    body["record"]["pick"] = "fake:copy"
    path.write_text(json.dumps(body), encoding="utf-8")
    said = [line for one in audit(chosen, store=store, verify=True).recomputed for line in one.differing]
    assert any(line.startswith("pick:") for line in said)


def test_what_is_no_pack_or_would_write_elsewhere_is_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(SizewiseError, match="not a readable audit pack"):
        audit(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps({"root": "x", "files": {"../../evil/record.json": "0"}}))
        archive.writestr("../../evil/record.json", "{}")
    with pytest.raises(SizewiseError, match="not a readable audit pack"):
        audit(path)
    with pytest.raises(SizewiseError, match="no record"):
        audit("eval-0000000000", store=store)
