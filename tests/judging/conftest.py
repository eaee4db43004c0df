"""What can be judged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from sizewise.comparison import compare
from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from tests.conftest import sentence

DOCUMENTS = 200


class Prepared(NamedTuple):
    """A store with a dataset and the comparison of three recorded candidates, made once and copied for each test."""

    home: Path
    dataset: str
    comparison: str


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """One example of each of many documents, because a claim needs ten, and candidates: right, half right, wrong."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIZEWISE_HOME", str(folder / "home"))
        patch.setenv("SIZEWISE_OFFLINE", "1")
        return _prepare(folder, Store(folder / "home"))


def _prepare(folder: Path, store: Store) -> Prepared:
    rows = [
        {
            "id": f"q{number}",
            "prompt": f"What does item {number} say?",
            "references": [sentence(random.Random(number))],
            "source": f"doc{number}.txt",
        }
        for number in range(DOCUMENTS)
    ]
    path = folder / "many.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    dataset = read([path], store=store, name="test", seed=1).id
    examples = load(store, dataset).examples["test"]
    said = {
        "right": lambda text: text,
        "half": lambda text: text[: len(text) // 2],
        "wrong": lambda text: "**No** idea \u2013 \u201creally\u201d",
    }
    ids = {}
    for name, answer in said.items():
        path = folder / f"{name}.jsonl"
        answers = [{"id": e.id, "completion": answer(e.references[0])} for e in examples]
        path.write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
        ids[name] = evaluate(f"recorded:{path}", dataset, ["bleu"], store=store).id
    return Prepared(store.home, dataset, compare(ids, store=store).id)


@pytest.fixture
def dataset(prepared: Prepared, store: Store) -> Saved[Dataset]:
    """Return the dataset of many documents."""
    shutil.copytree(prepared.home, store.home, dirs_exist_ok=True)
    return store.get(Dataset, prepared.dataset)


@pytest.fixture
def compared(dataset: Saved[Dataset], prepared: Prepared) -> str:
    """Return the comparison of three recorded candidates: right, half right, wrong."""
    return prepared.comparison
