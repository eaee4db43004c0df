"""A run is what its id says: everything that it reads counts by content, and earlier ids are explained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sizewise.models.opening import former_revision, revision_of
from sizewise.records import Dataset, Recipe, fingerprint
from sizewise.store import Saved, Store
from sizewise.training import identity, run_id_of, train
from tests.training.test_training import TINY

COMMITS = ("a" * 40, "b" * 40)


def rewrite(path: Path, text: str) -> None:
    """Change a file's content, but neither its size nor its time."""
    state = path.stat()
    assert len(text.encode()) == state.st_size
    path.write_text(text, encoding="utf-8")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_the_content_of_recorded_answers_and_control_text_is_part_of_the_id(tmp_path: Path) -> None:
    answers, control = tmp_path / "answers.jsonl", tmp_path / "control"
    answers.write_text('{"id": "a", "completion": "yes"}', encoding="utf-8")
    (control / "deep" / "er").mkdir(parents=True)
    for name in ("top.txt", "deep/er/below.txt"):
        (control / name).write_text("some text", encoding="utf-8")
    single = tmp_path / "single.txt"
    single.write_text("some text", encoding="utf-8")
    both = [
        Recipe.model_validate(TINY | {"tokens": 500, "teacher": f"recorded:{answers}#gpt-4o", "control": str(control)}),
        Recipe.model_validate(
            TINY | {"tokens": 500, "teacher": f"rag:data-1:recorded:{answers}", "control": str(single)}
        ),
    ]
    seen = [[run_id_of(recipe, "data-1") for recipe in both]]
    changes = [
        (answers, '{"id": "a", "completion": "not"}', {0, 1}),
        (control / "top.txt", "same size", {0}),
        (control / "deep" / "er" / "below.txt", "same size", {0}),
        (single, "same size", {1}),
    ]
    for path, text, changed in changes:
        rewrite(path, text.ljust(path.stat().st_size)[: path.stat().st_size])
        seen.append([run_id_of(recipe, "data-1") for recipe in both])
        assert {n for n in (0, 1) if seen[-1][n] != seen[-2][n]} == changed
    (control / "deep" / "er" / "below.txt").rename(control / "deep" / "below.txt")
    assert run_id_of(both[0], "data-1") != seen[-1][0]


def test_a_recipe_without_files_keeps_its_id() -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 500, "teacher": "openai:gpt-4o"})
    former = identity._id_of(recipe, "data-1", former_revision, former_revision)
    assert run_id_of(recipe, "data-1") == former


def test_a_subfolder_of_a_model_is_part_of_its_revision(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    flat = revision_of(str(tmp_path))
    assert flat == former_revision(str(tmp_path))
    for folder in ("original", ".cache"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text("1", encoding="utf-8")
        assert (revision_of(str(tmp_path)) == flat) == (folder == "")
    nested = revision_of(str(tmp_path))
    (tmp_path / ".cache" / "weights").write_text("22", encoding="utf-8")
    assert revision_of(str(tmp_path)) == nested
    assert former_revision(str(tmp_path)) == flat


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hub with two commits of a model; `main` is the first."""
    from huggingface_hub import constants

    folder = tmp_path / "hub" / "models--org--tiny"
    for commit in COMMITS:
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").write_text("{}", encoding="utf-8")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMITS[0], encoding="utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    return folder


def test_a_model_on_the_hub_is_known_by_its_commit(hub: Path) -> None:
    assert revision_of("hf:org/tiny") == COMMITS[0]
    assert revision_of(f"hf:org/tiny@{COMMITS[1]}") == COMMITS[1]
    assert revision_of("hf:org/other") == ""
    recipe = Recipe.model_validate(TINY | {"tokens": 500, "start": "hf:org/tiny"})
    before = run_id_of(recipe, "data-1")
    (hub / "refs" / "main").write_text(COMMITS[1], encoding="utf-8")
    assert run_id_of(recipe, "data-1") != before


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None: ...


def test_a_run_under_an_earlier_id_is_kept_and_explained(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    control = tmp_path / "control.txt"
    control.write_text("Other text about other things. " * 400, encoding="utf-8")
    recipe = Recipe.model_validate(TINY | {"tokens": 500, "control": str(control)})
    former = identity._id_of(recipe, dataset.id, former_revision, former_revision)
    assert former != run_id_of(recipe, dataset.id)
    store.folder("checkpoint", former).mkdir(parents=True)
    reporter = Lines()
    saved = train(recipe, dataset.id, store=store, reporter=reporter)
    (said,) = [line for line in reporter.said if former in line]
    assert f"the control text {control}" in said
    assert saved.id == run_id_of(recipe, dataset.id)
    assert store.folder("checkpoint", former).is_dir()
    assert fingerprint([saved.id])  # the record is readable
