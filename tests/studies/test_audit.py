from __future__ import annotations

import json
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sizewise.choice import choose
from sizewise.comparison import compare
from sizewise.errors import SizewiseError
from sizewise.evaluation import EvaluationOptions, evaluate, evaluate_suite
from sizewise.records import Dataset, Evaluation
from sizewise.store import Saved, Store, sha256_of
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


def change_item(saved: Saved[Evaluation], change: Callable[[dict[str, Any]], Any], number: int = 0) -> None:
    """Change one item of an evaluation, and forge the hash in its record."""
    path = saved.path.with_name("items.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if row["kind"] == "example"][number]
    change(chosen)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    body = json.loads(saved.path.read_text(encoding="utf-8"))
    body["record"]["items_sha256"] = sha256_of(path)
    saved.path.write_text(json.dumps(body), encoding="utf-8")


def said_of(found: str, store: Store) -> list[str]:
    return [line for one in audit(found, store=store, verify=True).recomputed for line in one.differing]


METRICS = ["bleu", "chrf", "token_f1", "exact_match", "rouge_l", "refusals", "answer_words", "lexical_grounding"]


def test_a_statistic_that_does_not_follow_from_its_answer_is_found(
    dataset: Saved[Dataset], store: Store, tmp_path: Path
) -> None:
    saved = evaluate("fake:copy", dataset.id, METRICS, store=store)
    assert audit(saved.id, store=store, verify=True).recomputed[0].from_answers > 4 * len(METRICS)
    assert not said_of(saved.id, store)
    original = {path: path.read_bytes() for path in (saved.path, saved.path.with_name("items.jsonl"))}
    for name in METRICS:
        for path, raw in original.items():
            path.write_bytes(raw)

        def add_one(row: dict[str, Any], name: str = name) -> None:
            row["stats"][name][0] += 1

        change_item(saved, add_one)
        said = said_of(saved.id, store)
        assert any(line.startswith(f"{name} of ") and "recomputed from its answer" in line for line in said)
        pack = tmp_path / "pack.zip"
        audit(saved.id, store=store, out=pack)
        forged = audit(pack, verify=True)  # a pack has neither the texts nor the dataset's examples
        assert not forged.changed
        assert any(line.startswith(f"{name} of ") for one in forged.recomputed for line in one.differing)


def test_a_changed_answer_reference_or_prompt_is_found(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    saved = evaluate("fake:copy", dataset.id, ["bleu", "exact_match"], store=store)
    original = {path: path.read_bytes() for path in (saved.path, saved.path.with_name("items.jsonl"))}
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "bleu of ": lambda row: row.update(completion=row["references"][0]),
        "references of ": lambda row: row.update(references=["another answer"]),
        "prompt of ": lambda row: row.update(prompt="another question"),
        "exact_match of ": lambda row: row["stats"].pop("exact_match"),
    }
    for found, change in changes.items():
        for path, raw in original.items():
            path.write_bytes(raw)
        change_item(saved, change)
        assert any(line.startswith(found) for line in said_of(saved.id, store)), found
    for path, raw in original.items():
        path.write_bytes(raw)
    items = saved.path.with_name("items.jsonl")
    lines = items.read_text(encoding="utf-8").splitlines(keepends=True)
    items.write_text("".join(lines[1:]), encoding="utf-8")  # left out, with the hash of before
    said = said_of(saved.id, store)
    assert any(line.startswith("items.jsonl: its SHA-256") for line in said)
    assert any(line.startswith("items: ") for line in said)


def test_answers_of_labels_json_samples_and_conversations_are_scored_again_in_a_pack(
    store: Store, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    labels = [
        {"id": f"l{i}", "prompt": f"Is {i} even?", "label": ("even", "odd")[i % 2], "source": f"d{i}"}
        for i in range(40)
    ]
    fields = [
        {
            "id": f"j{i}",
            "messages": [
                {"role": "system", "content": f"The person is called Ann{i}."},
                {"role": "user", "content": "Extract the person."},
            ],
            "references": [json.dumps({"name": f"Ann{i}", "age": i})],
            "schema": schema,
            "source": f"d{i}",
        }
        for i in range(12)
    ]
    for number, (rows, metrics, options) in enumerate(
        [
            (labels, ["accuracy", "macro_f1"], EvaluationOptions()),
            (fields, ["json_valid", "json_f1", "field_f1", "value_in_source"], EvaluationOptions()),
            (labels, ["accuracy"], EvaluationOptions(samples=3)),
        ]
    ):
        path = tmp_path / f"{number}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        model = f"recorded:{tmp_path / 'said.jsonl'}" if options.samples == 1 else "fake:copy"
        (tmp_path / "said.jsonl").write_text(
            "\n".join(
                json.dumps({"id": row["id"], "completion": row.get("label") or '{"name": "Ann1", "age": 1}'})
                for row in rows
            ),
            encoding="utf-8",
        )
        saved = evaluate(model, path, metrics, store=store, options=options)
        pack = tmp_path / f"{number}.zip"
        assert audit(saved.id, store=store, out=pack, verify=True).sound
        found = audit(pack, verify=True)
        assert found.sound, found.recomputed
        assert found.recomputed[0].from_answers >= len(rows)
        change_item(saved, lambda row: row.update(completion="no such thing", samples=row.get("samples", [])[1:]))
        audit(saved.id, store=store, out=pack)
        assert not audit(pack, verify=True).sound


def test_scores_of_groups_are_recomputed(store: Store, tmp_path: Path) -> None:
    bias = evaluate_suite("fake:echo", "bias", store=store)
    assert not audit(bias.id, store=store, verify=True).recomputed[0].not_computed
    path = tmp_path / "examples.jsonl"
    rows = [
        {"prompt": f"What does a patient of ward {i} need?", "reference": f"Bed {i}.", "source": f"d{i}"}
        for i in range(31)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    swapped = evaluate_suite("fake:echo", "counterfactuals", path, store=store)
    nuance = evaluate_suite("fake:echo", "language-nuance", store=store)
    for saved, group in (
        (bias, "stereotype_score#gender"),
        (swapped, "counterfactual_quality#gender: women"),
        (nuance, ""),
    ):
        found = audit(saved.id, store=store, verify=True)
        assert found.sound, found.recomputed
        assert found.recomputed[0].numbers == sum(score.value is not None for score in saved.record.scores.values())
        name = next(
            one for one, score in saved.record.scores.items() if one.startswith(group) and score.value is not None
        )
        body = json.loads(saved.path.read_text(encoding="utf-8"))
        body["record"]["scores"][name]["value"] += 0.01
        saved.path.write_text(json.dumps(body), encoding="utf-8")
        assert any(line.startswith(f"{name}: value") for line in said_of(saved.id, store))
    change_item(swapped, lambda row: row.update(completion=row["completion"].replace("patient", "person", 1)))
    assert any("recomputed from its answer" in line for line in said_of(swapped.id, store))


def hostile(path: Path, **entries: bytes | None) -> None:
    """Write a pack whose manifest lists its entries; None stands for one that is listed but absent."""
    names = [name.replace("__", "/") for name in entries]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps({"root": "eval-1", "files": dict.fromkeys(names, "0")}))
        for name, raw in zip(names, entries.values(), strict=True):
            if raw is not None:
                archive.writestr(name, raw)


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def make_links(path: Path) -> None:
    hostile(path, evaluation__a__record=b"{}")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry("evaluation/a/items.jsonl", stat.S_IFLNK | 0o777), "/etc/passwd")


def make_twins(path: Path) -> None:
    hostile(path, evaluation__a__record=b"{}")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("evaluation/a/RECORD", "{}")


def make_manifest(raw: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("manifest.json", raw)

    return make


def make_lying(path: Path) -> None:
    """The directory says that a file is small; what it holds is not."""
    hostile(path, evaluation__a__record=b"0" * 2_000_000)
    raw = path.read_bytes()
    path.write_bytes(raw.replace((2_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bomb": (lambda path: hostile(path, evaluation__a__record=b"0" * 300 * 2**20), "unpacks to"),
    "a bomb in the manifest": (make_manifest(b" " * 200 * 2**20), "manifest is larger"),
    "a deep manifest": (make_manifest(b"[" * 10**6), ""),
    "a manifest of another form": (make_manifest(b"[]"), "names no root"),
    "files without hashes": (make_manifest(b'{"root": "a", "files": {"a/b/c": 1}}'), "without a hash"),
    "a huge line": (lambda path: hostile(path, evaluation__a__items=bytes(range(32, 127)) * 200_000), "a line of more"),
    "too many lines": (lambda path: hostile(path, evaluation__a__items=b"\n" * 1_000_000), "lines"),
    "a path outside": (lambda path: hostile(path, **{"..__..__x": b"{}"}), "a file named"),
    "an absolute path": (lambda path: hostile(path, **{"/etc__a__b": b"{}"}), "a file named"),
    "a path of Windows": (lambda path: hostile(path, **{"C:\\a__b__c": b"{}"}), "a file named"),
    "a hidden name": (lambda path: hostile(path, **{"evaluation__.a__b": b"{}"}), "a file named"),
    "links": (make_links, "a link"),
    "two files of one name": (make_twins, "two files named"),
    "an absent file": (lambda path: hostile(path, evaluation__a__record=None), "doesn't hold"),
    "a false size": (make_lying, ""),
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_hostile_packs_are_refused_within_bounded_memory(kind: str, tmp_path: Path) -> None:
    make, said = HOSTILE[kind]
    path = tmp_path / "pack.zip"
    make(path)
    tracemalloc.start()
    try:
        with pytest.raises(SizewiseError, match=f"not a readable audit pack.*{said}"):
            audit(path, verify=True)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert [one.name for one in tmp_path.iterdir()] == ["pack.zip"]


def test_hostile_records_in_a_pack_are_refused(tmp_path: Path, dataset: Saved[Dataset], store: Store) -> None:
    saved = evaluate("fake:copy", dataset.id, ["bleu"], store=store)
    pack = tmp_path / "pack.zip"
    audit(saved.id, store=store, out=pack)
    with zipfile.ZipFile(pack) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    items = f"evaluation/{saved.id}/items.jsonl"
    for name, raw in {
        items: b"[" * 100_000,
        f"evaluation/{saved.id}/record.json": b'{"a": ' * 100_000,
        f"dataset/{dataset.id}/record.json": b"\xff\xfe",
    }.items():
        with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as archive:
            for one, body in content.items():
                archive.writestr(one, raw if one == name else body)
        with pytest.raises(SizewiseError, match=r"damaged|read"):
            audit(pack, verify=True)
