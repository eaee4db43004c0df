"""Shared fixtures: a home of its own for each test, documents, and tiny random networks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from sizewise.datasets import read
from sizewise.records import Dataset
from sizewise.store import Saved, Store

# How long an example takes depends on what else the machine does.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

CONTEXT = 256
NOUNS = [
    "patient",
    "record",
    "code",
    "element",
    "device",
    "order",
    "value",
    "system",
    "person",
    "date",
    "result",
    "claim",
    "plan",
    "account",
]
COPIED = "as the general terms of the group {} say that hold for its records and plans"
VERBS = ["names", "holds", "describes", "gives", "links", "lists", "marks", "shows"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test out of the home folder and off the network."""
    home = tmp_path / "home"
    monkeypatch.setenv("SIZEWISE_HOME", str(home))
    monkeypatch.setenv("SIZEWISE_OFFLINE", "1")
    for name in (
        "SIZEWISE_DATABASE_URL",
        "SIZEWISE_ARTIFACTS_URL",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sizewise.inquiry.WAITS_S", (0.0, 0.0, 0.0))
    return home


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


def sentence(rng: random.Random) -> str:
    words = [rng.choice(["The", "A", "Each"]), rng.choice(NOUNS), rng.choice(VERBS), "the", rng.choice(NOUNS)]
    return " ".join([*words, "of", "the", rng.choice(NOUNS), str(rng.randint(1, 99))]) + "."


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    """A folder of twenty small text files."""
    return write_texts(tmp_path / "texts")


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for number in range(20):
        rng = random.Random(number)
        paragraphs = [" ".join(sentence(rng) for _ in range(6)) for _ in range(5)]
        (folder / f"doc{number:02d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    return folder


@pytest.fixture
def examples_file(tmp_path: Path) -> Path:
    """Examples whose source are the documents of `text_folder`."""
    import json

    path = tmp_path / "examples.jsonl"
    rows = []
    for number in range(20):
        rng = random.Random(1000 + number)
        for k in range(4):
            answer = sentence(rng)
            if k == 3:  # words that another document's answer has too: often one that training has seen
                answer = f"{answer} {COPIED.format(number // 2)}"
            rows.append(
                {
                    "id": f"q{number}-{k}",
                    "prompt": f"What does item {number}-{k} say?",
                    "references": [answer],
                    "source": f"doc{number:02d}.txt",
                    "copy_text": " ".join(answer.split()[:5]),
                }
            )
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def dataset(text_folder: Path, examples_file: Path, store: Store) -> Saved[Dataset]:
    return read([text_folder, examples_file], store=store, name="test", seed=1)


@pytest.fixture
def tiny_folder(tmp_path: Path, text_folder: Path) -> Path:
    """A random network of a few thousand weights with a tokenizer of its own, as a Hugging Face folder."""
    return make_tiny(tmp_path / "tiny", text_folder, "full")


def make_tiny(folder: Path, texts: Path, attention: str, context: int = CONTEXT) -> Path:
    from sizewise.lm.architecture import Shape, build_network
    from sizewise.lm.hf_format import save_model
    from sizewise.lm.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([path.read_text(encoding="utf-8") for path in sorted(texts.glob("*"))], 400, context)
    ids = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    network: Any = build_network(Shape(2, 64, len(tokenizer)), attention, context, ids, seed=3)
    save_model(network, tokenizer, folder)
    return folder


RECORDED_STUDY = """
[study]
name = "Judged"
simulation = true

[data]
documents = ["texts"]
examples = "examples.jsonl"
"""


SOURCES = 200  # a fifth is for testing, a third of that for each pair: more than the ten that a claim needs


@pytest.fixture
def recorded_study(tmp_path: Path, text_folder: Path, store: Store) -> Path:
    """A study of three recorded candidates: one right, one half right, one wrong."""
    import json

    from sizewise.datasets import load

    questions = [
        {
            "id": f"s{number}",
            "prompt": f"What does item {number} say?",
            "references": [sentence(random.Random(1000 + number))],
            "source": f"source{number}.txt",
        }
        for number in range(SOURCES)
    ]
    examples_file = tmp_path / "examples.jsonl"
    examples_file.write_text("\n".join(json.dumps(row) for row in questions), encoding="utf-8")
    dataset = read([text_folder, examples_file], store=store)
    text = RECORDED_STUDY
    for name, answer in {
        "right": lambda said: said,
        "half": lambda said: said[: len(said) // 2],
        "wrong": lambda said: "<b>No</b> idea",
    }.items():
        rows = [{"id": e.id, "completion": answer(e.references[0])} for e in load(store, dataset.id).examples["test"]]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        text += f'\n[[candidates]]\nname = "{name}"\nmodel = "recorded:{name}.jsonl"\n'
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path
