from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.datasets import DatasetContents, build, load, read
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.records import SPLITS, Dataset, Example, Message
from sizewise.store import Saved, Store


def make_example(name: str, answer: str, source: str, prompt: str = "Q?") -> Example:
    message = Message(role="user", content=prompt)
    return Example(id=name, messages=(message,), references=(answer,), source=source)


def all_examples(contents: DatasetContents) -> list[Example]:
    return [example for split in SPLITS for example in contents.examples[split]]


def test_examples_follow_their_document(dataset: Saved[Dataset], store: Store) -> None:
    contents = load(store, dataset.id)
    for split in SPLITS:
        known = {document.id for document in contents.documents[split]}
        assert known
        assert {example.source for example in contents.examples[split]} == known


def test_several_answers_to_one_prompt_stay_on_one_side_of_the_split() -> None:
    rows = [make_example(f"e{i}", f"It is answer number {i}.", f"e{i}", f"Which one is {i // 2}?") for i in range(200)]
    contents = build([Reading((), tuple(rows))], ["x"], None, "general", 0)
    asked = [{example.prompt for example in contents.examples[split]} for split in SPLITS]
    assert len(all_examples(contents)) == 200
    assert not asked[0] & asked[2]
    assert not asked[0] & asked[1]
    assert len(contents.examples["test"]) == 40


def test_a_prompt_that_most_examples_share_does_not_stop_the_split() -> None:
    rows = [make_example(f"e{i}", f"It is answer number {i}.", f"e{i}", "Write a line.") for i in range(50)]
    assert len(build([Reading((), tuple(rows))], ["x"], None, "general", 0).examples["test"]) == 10


def test_too_few_documents_are_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "only.txt").write_text("Just one text.", encoding="utf-8")
    with pytest.raises(SizewiseError, match="too few to leave any for testing"):
        read([tmp_path / "only.txt"], store=store)


def test_a_single_document_among_many_examples_goes_to_training() -> None:
    rows = tuple(make_example(f"e{i}", f"An answer of number {i}", f"e{i}", f"Question {i}") for i in range(30))
    contents = build([Reading((make_document("note", "", "A note.", "test"),), rows)], ["x"], None, "general", 0)
    assert [d.id for d in contents.documents["train"]] == ["note"]
    assert contents.examples["test"]


def test_a_split_that_examples_name_is_kept() -> None:
    rows = [make_example(f"e{i}", f"An answer that is long enough {i}", f"s{i}") for i in range(60)]
    rows = [row.model_copy(update={"split": "test"}) if i < 10 else row for i, row in enumerate(rows)]
    contents = build([Reading((), tuple(rows))], ["x"], None, "general", 0)
    assert {example.id for example in contents.examples["test"]} == {f"e{i}" for i in range(10)}
    assert contents.examples["validation"]
    assert len(contents.examples["train"]) > 40


def test_a_document_follows_the_split_of_its_examples() -> None:
    documents = tuple(make_document(f"d{i}", "", f"Text number {i}.", "test") for i in range(20))
    example = make_example("e", "An answer that is long enough", "d3").model_copy(update={"split": "test"})
    contents = build([Reading(documents, (example,))], ["x"], None, "general", 0)
    assert [document.id for document in contents.documents["test"]] == ["d3"]


def test_a_source_cannot_be_in_two_splits() -> None:
    rows = [make_example(f"e{i}", f"An answer that is long enough {i}", "one") for i in range(2)]
    named = [row.model_copy(update={"split": split}) for row, split in zip(rows, ("test", "train"), strict=True)]
    with pytest.raises(SizewiseError, match="are assigned to both test and train"):
        build([Reading((), tuple(named))], ["x"], None, "general", 0)


def test_examples_of_one_collection_are_told_what_their_source_is_taken_for() -> None:
    rows = [make_example(f"e{i}", f"Answer {i}.", "CancerGov", f"Q{i}?") for i in range(40)]
    with pytest.raises(SizewiseError, match=r"0 documents and 40 examples come from 1 source \('CancerGov'\)") as told:
        build([Reading([], rows)], ["x"], None, "general", 0)
    assert "--split prompts" in told.value.next_step
    assert len(build([Reading([], rows)], ["x"], None, "general", 0, split="prompts").examples["test"]) == 8
