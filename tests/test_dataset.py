from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.dataset import build, load, passages, read
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import SPLITS, Dataset, Example, Message
from sizewise.store import Store, Stored


def make_example(name: str, answer: str, source: str, prompt: str = "Q?") -> Example:
    message = Message(role="user", content=prompt)
    return Example(id=name, messages=(message,), references=(answer,), source=source)


def test_reading_twice_gives_the_same_dataset(text_folder: Path, examples_file: Path, store: Store) -> None:
    one = read([text_folder, examples_file], store=store, seed=1)
    two = read([text_folder, examples_file], store=store, seed=1)
    other = read([text_folder, examples_file], store=store, seed=2)
    assert one == two
    assert other.id != one.id


def test_examples_follow_their_document(dataset: Stored[Dataset], store: Store) -> None:
    contents = load(store, dataset.id)
    for split in SPLITS:
        known = {document.id for document in contents.documents[split]}
        assert known
        assert {example.source for example in contents.examples[split]} == known


def test_duplicates_do_not_cross_the_split() -> None:
    documents = tuple(make_document(f"d{i}", "", f"Text number {i % 10}.", "test") for i in range(40))
    answers = tuple(make_example(f"e{i}", f"The very same long answer {i % 3}", f"d{i}") for i in range(40))
    contents = build([Reading(documents, answers)], ["x"], None, "general", 0)
    texts = [d.text for split in SPLITS for d in contents.documents[split]]
    assert len(texts) == len(set(texts)) == 10
    given_answers = [e.references[0] for split in SPLITS for e in contents.examples[split]]
    assert len(given_answers) == len(set(given_answers))
    assert contents.record.leak.duplicates_removed == 30 + 40 - len(given_answers)


def test_labels_may_repeat_with_other_prompts() -> None:
    rows = tuple(make_example(f"e{i}", "spam" if i % 2 else "ham", f"e{i}", f"Message {i}") for i in range(30))
    contents = build([Reading((), rows)], ["x"], None, "fraud", 0)
    assert sum(len(contents.examples[split]) for split in SPLITS) == 30
    assert all(entry.clean for entry in contents.leaks.values())


def test_a_planted_leak_is_in_the_ledger() -> None:
    leak = " ".join(f"word{i}" for i in range(20))
    documents = tuple(make_document(f"d{i}", "", f"Own text {i}.\n\n{leak} {i}", "test") for i in range(20))
    contents = build([Reading(documents)], ["x"], None, "general", 0)
    dirty = {item for item, entry in contents.leaks.items() if not entry.clean and entry.kind == "passage"}
    assert dirty == {f"{d.id}#1" for d in contents.documents["test"]}
    assert contents.record.leak.clean_passages == len(contents.documents["test"])
    assert contents.record.leak.shared_words == 20 * len(contents.documents["test"])


def test_without_examples_they_are_derived_and_it_is_said(text_folder: Path, store: Store) -> None:
    record = read([text_folder], store=store).record
    assert record.derived
    assert any("familiarity" in note for note in record.notes)
    assert record.splits["test"].examples > 0


def test_too_few_documents_are_refused(tmp_path: Path, store: Store) -> None:
    (tmp_path / "only.txt").write_text("Just one text.", encoding="utf-8")
    with pytest.raises(SizewiseError, match="none for testing"):
        read([tmp_path / "only.txt"], store=store)


def test_a_single_note_beside_many_examples_goes_to_training() -> None:
    rows = tuple(make_example(f"e{i}", f"An answer of number {i}", f"e{i}", f"Question {i}") for i in range(30))
    contents = build([Reading((make_document("note", "", "A note.", "test"),), rows)], ["x"], None, "general", 0)
    assert [d.id for d in contents.documents["train"]] == ["note"]
    assert contents.examples["test"]


def test_equal_names_in_several_sources_stay_apart(tmp_path: Path, store: Store) -> None:
    sources = []
    for name in "abc":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "notes.txt").write_text(f"The notes of {name}.", encoding="utf-8")
        row = {"prompt": f"What is {name}?", "references": [f"It is the folder {name}."], "source": "notes.txt"}
        (folder / "ex.jsonl").write_text(json.dumps(row | {"id": None}), encoding="utf-8")
        sources.append(folder)
    contents = load(store, read(sources, store=store).id)
    for split in SPLITS:
        (document,), (example,) = contents.documents[split], contents.examples[split]
        assert example.source == document.id
        assert example.references[0].split()[-1] == document.text.split()[-1]
    assert len({e.id for split in SPLITS for e in contents.examples[split]}) == 3


def test_a_file_that_is_not_read_makes_another_dataset(text_folder: Path, store: Store) -> None:
    before = read([text_folder], store=store)
    (text_folder / "new.doc").write_bytes(b"old")
    after = read([text_folder], store=store)
    assert after.id != before.id
    assert after.record.not_read == {"kind .doc": 1}


def test_nothing_named_is_a_usage_error(store: Store) -> None:
    with pytest.raises(UsageError):
        read([], store=store)


def test_everything_can_be_test_data(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "Q", "references": ["A b c d"]}), encoding="utf-8")
    splits = read([path], store=store, all_test=True).record.splits
    assert (splits["train"].examples, splits["test"].examples) == (0, 1)


@given(st.text(alphabet="ab \n", max_size=80))
def test_passages_cover_the_text(text: str) -> None:
    document = make_document("d", "", text, "test")
    spans = passages(document)
    assert "".join(text[span.start : span.end] for span in spans) == text


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
    with pytest.raises(SizewiseError, match="are to be in test and in train"):
        build([Reading((), tuple(named))], ["x"], None, "general", 0)
