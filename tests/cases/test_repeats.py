"""Answers and questions that repeat by nature, and those that repeat between training and test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.datasets import load
from sizewise.evaluation import evaluate
from sizewise.store import Store
from tests.cases.conftest import ReadIn, write_rows

CANNED = [
    "Vielen Dank für Ihre Nachricht, wir melden uns morgen bei Ihnen.",
    "Bitte schicken Sie uns ein Foto des Schadens mit der Vertragsnummer.",
    "Ihr Anliegen wurde an die Werkstatt in der Hafenstraße weitergeleitet.",
]
TRIAGE = [
    json.dumps({"queue": queue, "urgent": urgent, "tags": []})
    for queue in ("repairs", "rent")
    for urgent in (True, False)
]
CHINESE = ["转交给夜班的维修人员处理并通知住户", "请住户补充照片和合同编号", "已经登记无需再次处理"]


# the kind of axolotl#1946
@pytest.mark.parametrize("answers", [CANNED, TRIAGE, CHINESE], ids=["German", "JSON", "Chinese"])
def test_replies_that_repeat_are_kept_in_every_split(tmp_path: Path, read_in: ReadIn, answers: list[str]) -> None:
    rows = [
        {
            "prompt": f"{i}: {'水管漏水' if answers is CHINESE else 'Wasser in Keller'} {i * 13}",
            "answer": answers[i % len(answers)],
            "split": ("train", "train", "validation", "test")[i // 3 % 4],
        }
        for i in range(48)
    ]
    read = read_in(write_rows(tmp_path / "replies.jsonl", rows))
    assert len(read.examples) == 48
    assert {name: size["examples"] for name, size in read.record["splits"].items()} == {
        "train": 24, "validation": 12, "test": 12,
    }  # fmt: skip


def test_an_answer_that_training_has_to_another_question_stays_in_the_test(tmp_path: Path, read_in: ReadIn) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"Keller {i} steht unter Wasser.", "answer": CANNED[2], "split": "test" if i < 4 else "train"}
        for i in range(12)
    ]
    rows += [
        {"prompt": f"Aufzug {i} steht.", "answer": f"Ein Techniker kommt am {i}. um neun Uhr.", "split": "train"}
        for i in range(1, 12)
    ]
    read = read_in(write_rows(tmp_path / "replies.jsonl", rows))
    assert not read.refused
    assert read.record["splits"]["test"]["examples"] == 4


# the mirror of it: a question of the test that training has too
def _repeated(store: Store, read: Any) -> list[bool]:
    contents = load(store, read.dataset)
    known = {example.prompt for example in contents.examples["train"]}
    repeated = [example for example in contents.examples["test"] if example.prompt in known]
    return [
        contents.contamination_entries[example.id].uncontaminated
        for example in repeated
        if example.id in contents.contamination_entries
    ]


@pytest.mark.parametrize(
    "answer",
    [
        lambda i, split: ["late", "lost", "broken"][(i + (split == "test")) % 3],
        lambda i, split: f"It will be brought on day {i + 100 * (split == 'test')}, between nine and eleven.",
    ],
    ids=["labels", "sentences"],
)
def test_a_test_question_seen_in_training_is_contaminated(
    tmp_path: Path, read_in: ReadIn, store: Store, answer: Any
) -> None:
    asked = "Where is parcel {} that was sent from the depot at the canal on Monday morning by express, please?"
    rows = [
        {"prompt": asked.format(i), "answer": answer(i, split), "split": split}
        for split, numbers in (("train", range(24)), ("validation", range(40, 46)), ("test", range(18, 30)))
        for i in numbers
    ]
    read = read_in(write_rows(tmp_path / "parcels.jsonl", rows))
    repeated = _repeated(store, read)
    assert len(repeated) == 6
    assert not any(repeated)


@pytest.mark.parametrize("times", [2, 3])
def test_a_duplicate_row_of_a_test_file_is_counted_or_noted(tmp_path: Path, store: Store, times: int) -> None:
    row = [{"prompt": f"Is gate {i} open?", "answer": f"Gate {i} is open until ten at night."} for i in range(6)]
    data = write_rows(tmp_path / "test.jsonl", row * times)
    said = write_rows(tmp_path / "said.jsonl", [{"prompt": one["prompt"], "completion": one["answer"]} for one in row])
    stored = evaluate(f"recorded:{said}", data, ["exact_match"], store=store)
    score = stored.record.scores["exact_match@all"]
    told = " ".join([*stored.record.notes, *load(store, stored.record.data).record.notes])
    assert score.n == 6 * times or any(word in told for word in ("duplicate", "twice", "repeat", "left out", "same"))
