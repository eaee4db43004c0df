"""What can be judged."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sizewise.comparison import compare
from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from tests.conftest import sentence

DOCUMENTS = 200


@pytest.fixture
def dataset(store: Store, tmp_path: Path) -> Saved[Dataset]:
    """One example of each of many documents: a claim needs ten of them."""
    rows = [
        {
            "id": f"q{number}",
            "prompt": f"What does item {number} say?",
            "references": [sentence(random.Random(number))],
            "source": f"doc{number}.txt",
        }
        for number in range(DOCUMENTS)
    ]
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return read([path], store=store, name="test", seed=1)


@pytest.fixture
def compared(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> str:
    """Three recorded candidates on the same examples: right, half right, wrong."""
    examples = load(store, dataset.id).examples["test"]
    said = {
        "right": lambda text: text,
        "half": lambda text: text[: len(text) // 2],
        "wrong": lambda text: "**No** idea \u2013 \u201creally\u201d",
    }
    ids = {}
    for name, answer in said.items():
        path = tmp_path / f"{name}.jsonl"
        rows = [{"id": e.id, "completion": answer(e.references[0])} for e in examples]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        ids[name] = evaluate(f"recorded:{path}", dataset.id, ["bleu"], store=store).id
    return compare(ids, store=store).id
