from __future__ import annotations

import json
from pathlib import Path

import pytest

from sizewise.datasets import DatasetContents, build, load, read
from sizewise.documents import Reading, ReadOptions
from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.records import SPLITS, Example, Message
from sizewise.store import Store


def make_example(name: str, answer: str, source: str, prompt: str = "Q?") -> Example:
    message = Message(role="user", content=prompt)
    return Example(id=name, messages=(message,), references=(answer,), source=source)


def test_reading_twice_gives_the_same_dataset(text_folder: Path, examples_file: Path, store: Store) -> None:
    one = read([text_folder, examples_file], store=store, seed=1)
    two = read([text_folder, examples_file], store=store, seed=1)
    other = read([text_folder, examples_file], store=store, seed=2)
    assert one == two
    assert other.id != one.id


def all_examples(contents: DatasetContents) -> list[Example]:
    return [example for split in SPLITS for example in contents.examples[split]]


def test_repeated_documents_are_removed_and_their_examples_follow_the_one_that_is_kept() -> None:
    documents = tuple(make_document(f"d{i}", "", f"Text number {i % 10}.", "test") for i in range(40))
    answers = tuple(make_example(f"e{i}", f"The very same long answer {i % 3}", f"d{i}", f"Q{i}?") for i in range(40))
    contents = build([Reading(list(documents), list(answers))], ["x"], None, "general", 0)
    texts = [d.text for split in SPLITS for d in contents.documents[split]]
    assert len(texts) == len(set(texts)) == 10
    assert len(all_examples(contents)) == 40
    for split in SPLITS:
        known = {document.id for document in contents.documents[split]}
        assert {example.source for example in contents.examples[split]} <= known
    assert contents.record.contamination.duplicates_removed == 30
    assert any("30 documents with the same text as another were removed" in note for note in contents.record.notes)


LABELS = ["Request for refund of payment", "Question about a late delivery", "Complaint about the staff", "Some other"]


CANNED = [f"Dear customer, thank you for your message. Please see page {i} of our terms for this." for i in range(40)]


TRIAGE = [json.dumps({"category": c, "priority": p}) for c in ("bill", "parcel", "login") for p in range(1, 5)]


ABSTAINED = "The document does not say."


@pytest.mark.parametrize(
    "answers",
    [
        [LABELS[i % 4] for i in range(1000)],
        [TRIAGE[i % 12] for i in range(1000)],
        [CANNED[i % 40] for i in range(1000)],
        [ABSTAINED if i % 2 else f"It is {i} euros for each of the {i % 7} days." for i in range(1000)],
        ["这份文件没有说明这一点" if i % 2 else f"第{i}条说明了费用是多少" for i in range(1000)],
    ],
    ids=["labels", "json", "canned", "abstained", "chinese"],
)
def test_the_same_answer_to_other_prompts_is_not_a_duplicate(answers: list[str]) -> None:
    rows = tuple(make_example(f"e{i}", a, f"e{i}", f"Case {i} of the year {i * 3}") for i, a in enumerate(answers))
    contents = build([Reading((), rows)], ["x"], None, "general", 0)
    assert [len(contents.examples[split]) for split in SPLITS] == [740, 60, 200]
    assert contents.record.contamination.duplicates_removed == 0


def test_the_same_prompt_and_answer_is_a_duplicate_and_the_split_keeps_its_shares() -> None:
    rows = tuple(
        make_example(f"e{i}", f"It is number {i % 100} of them all.", f"e{i}", f"Which one is {i % 100}?")
        for i in range(200)
    )
    contents = build([Reading((), rows)], ["x"], None, "general", 0)
    assert [len(contents.examples[split]) for split in SPLITS] == [74, 6, 20]
    assert contents.record.contamination.duplicates_removed == 100
    (note,) = contents.record.notes
    assert "100 examples repeat the prompt and answer of another example (removed): 'e100' repeats 'e0'" in note


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Is 2 > 1?", "Is 2 < 1?"),
        ("What is C++?", "What is C#?"),
        ("Is it 🙂?", "Is it 🙁?"),
    ],
)
def test_prompts_that_differ_in_a_sign_are_no_duplicates(one: str, two: str) -> None:
    rows = [make_example(f"e{i}", "yes", f"e{i}", f"Question {i}?") for i in range(10)]
    rows += [make_example("one", "yes", "one", one), make_example("two", "yes", "two", two)]
    assert len(all_examples(build([Reading((), tuple(rows))], ["x"], None, "general", 0))) == 12


def test_earlier_turns_and_pictures_belong_to_the_prompt() -> None:
    rows = [make_example(f"e{i}", "yes", f"e{i}", f"Question {i}?") for i in range(10)]
    for i in range(3):
        turns = (Message(role="user", content=f"I am number {i}."), Message(role="user", content="Am I right?"))
        seen = (Message(role="user", content="What is it?", images=(f"{i}.png",)),)
        rows += [make_example(f"t{i}", "yes", f"t{i}").model_copy(update={"messages": turns})]
        rows += [make_example(f"s{i}", "yes", f"s{i}").model_copy(update={"messages": seen})]
    assert len(all_examples(build([Reading((), tuple(rows))], ["x"], None, "general", 0))) == 16


def test_the_duplicate_named_for_the_test_split_is_kept() -> None:
    rows = [make_example(f"e{i}", "yes", f"e{i}", f"Question {i % 30}?") for i in range(60)]
    rows = [row.model_copy(update={"split": "test"}) if i >= 50 else row for i, row in enumerate(rows)]
    contents = build([Reading((), tuple(rows))], ["x"], None, "general", 0)
    assert {example.id for example in contents.examples["test"]} == {f"e{i}" for i in range(50, 60)}
    assert len(all_examples(contents)) == 30


def test_a_test_file_keeps_every_row_and_its_repetitions_count_as_one_source() -> None:
    rows = tuple(make_example(f"e{i}", "It opens at nine.", f"e{i}", f"Question {i % 4}?") for i in range(8))
    contents = build([Reading((), rows)], ["x"], None, "general", 0, split="test")
    assert len(contents.examples["test"]) == 8
    assert len({example.source for example in contents.examples["test"]}) == 4
    assert contents.record.contamination.duplicates_removed == 0
    assert any("4 examples repeat the prompt and answer" in note for note in contents.record.notes)


def test_labels_may_repeat_with_other_prompts() -> None:
    rows = tuple(make_example(f"e{i}", "spam" if i % 2 else "ham", f"e{i}", f"Message {i}") for i in range(30))
    contents = build([Reading((), rows)], ["x"], None, "fraud", 0)
    assert sum(len(contents.examples[split]) for split in SPLITS) == 30
    assert all(entry.uncontaminated for entry in contents.contamination_entries.values())


def test_a_planted_overlap_is_in_the_contamination_report() -> None:
    copied = " ".join(f"word{i}" for i in range(20))
    documents = tuple(make_document(f"d{i}", "", f"Own text {i}.\n\n{copied} {i}", "test") for i in range(20))
    contents = build([Reading(documents)], ["x"], None, "general", 0)
    dirty = {
        item
        for item, entry in contents.contamination_entries.items()
        if not entry.uncontaminated and entry.kind == "passage"
    }
    assert dirty == {f"{d.id}#1" for d in contents.documents["test"]}
    assert contents.record.contamination.uncontaminated_passages == len(contents.documents["test"])
    assert contents.record.contamination.shared_words == 20 * len(contents.documents["test"])


def test_prompts_seen_in_training_are_contaminated_and_a_note_asks_for_sources() -> None:
    rows = [make_example(f"e{i}", "spam", f"e{i}", f"Message {i // 2} of the list of all of us.") for i in range(40)]
    rows = [row.model_copy(update={"split": "test" if i % 2 else "train"}) for i, row in enumerate(rows)]
    rows[1] = make_example("e1", "spam", "e1", "A message that nobody has seen before.").model_copy(
        update={"split": "test"}
    )
    rows = [row.model_copy(update={"references": ("spam", f"ham {i}")}) for i, row in enumerate(rows)]
    contents = build([Reading((), tuple(rows))], ["x"], None, "fraud", 0)
    assert [name for name, entry in contents.contamination_entries.items() if entry.uncontaminated] == ["e1"]
    assert (contents.record.contamination.prompts, contents.record.contamination.uncontaminated_examples) == (19, 1)
    assert any("prompts of 19 of 20 test examples" in note for note in contents.record.notes)


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
    assert after.record.not_read == {"unsupported type .doc": 1}


def test_rejected_rows_are_saved_with_the_dataset(tmp_path: Path, store: Store) -> None:
    rows = [{"prompt": f"Question {i}?", "answer": f"It is number {i}." if i != 7 else None} for i in range(40)]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = read([path], store=store)
    assert made.record.rejected == 1
    assert made.record.forms == {"prompt + answer": 39}
    (row,) = load(store, made.id).rejected
    assert (row.file, row.line) == ("x.jsonl", 8)
    with pytest.raises(SizewiseError, match="1 of 40 rows"):
        read([path], store=store, options=ReadOptions(max_rejects=0.01))


def test_duplicate_ids_are_renumbered_with_a_note() -> None:
    names = ["0", "1", "1", "1~2", *map(str, range(2, 20))]
    rows = [make_example(name, f"It is {i}.", name, f"Question {i}?") for i, name in enumerate(names)]
    contents = build([Reading((), tuple(rows))], ["x"], None, "general", 0)
    assert len({example.id for example in all_examples(contents)}) == len(names)
    assert "2 examples had duplicate ids and got a new one: '1~2' was '1', '1~2~2' was '1~2'" in (contents.record.notes)


def test_reading_no_files_is_a_usage_error(store: Store) -> None:
    with pytest.raises(UsageError):
        read([], store=store)


def test_everything_can_be_test_data(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "Q", "references": ["A b c d"]}), encoding="utf-8")
    splits = read([path], store=store, all_test=True).record.splits
    assert (splits["train"].examples, splits["test"].examples) == (0, 1)


def test_notes_on_a_test_file_are_part_of_its_evaluation(tmp_path: Path, store: Store) -> None:
    rows = [{"id": i, "prompt": f"Question {i % 39}?", "answer": "It opens at nine."} for i in range(40)]
    rows[20]["answer"] = {"text": "nine"}
    data, said = tmp_path / "x.jsonl", tmp_path / "said.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    said.write_text("\n".join(json.dumps({"id": i, "completion": "Nine."}) for i in range(40)), encoding="utf-8")
    record = evaluate(f"recorded:{said}", data, ["exact_match"], store=store).record
    assert record.scores["exact_match@all"].n == 39
    assert any("line 21" in note for note in record.notes)
    assert any("'39' repeats '0'" in note for note in record.notes)


def test_the_id_depends_on_everything_that_the_record_states(tmp_path: Path, store: Store) -> None:
    rows = [{"prompt": f"Which harbor has the number {i}?", "reference": f"Harbor {i * 7}"} for i in range(40)]

    def write(folder: str, name: str, *more: str) -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in [*map(json.dumps, rows), *more]), encoding="utf-8")
        return path

    first = read(write("a", "x.jsonl"), store=store)
    assert read(write("b", "x.jsonl"), store=store).id == first.id
    other = [
        read(write("a", "y.jsonl"), store=store),
        read(write("c", "x.jsonl", "[1"), store=store),
        read(write("d", "x.jsonl", "{"), store=store),
        read(write("a", "x.jsonl"), store=store, name="named"),
        read(write("a", "x.jsonl"), store=store, domain="law"),
    ]
    assert len({first.id, *(saved.id for saved in other)}) == 6
    assert (other[1].record.rejected, other[3].record.name, other[4].record.domain) == (1, "named", "law")


def test_personal_data_in_the_names_of_files_is_masked_in_the_record(tmp_path: Path, store: Store) -> None:
    pytest.importorskip("presidio_analyzer")
    paths = [tmp_path / f"{name}@example.com.txt" for name in ("anna", "boris", "chen")]
    for i, path in enumerate(paths):
        path.write_text(f"The notes of number {i * i} are here.", encoding="utf-8")
    record = read(paths, store=store, options=ReadOptions(personal_data="mask")).record
    assert "@example.com" not in record.model_dump_json()
