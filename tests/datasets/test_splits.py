from __future__ import annotations

import random
from pathlib import Path

import pytest

from sizewise.datasets import DatasetContents, build, load, read
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.records import SPLITS, Dataset, Document, Example, Message
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


def test_a_source_that_names_a_collection_is_no_document() -> None:
    rows = [make_example(f"e{i}", f"Answer {i}.", "CancerGov", f"Q{i * i}?") for i in range(40)]
    contents = build([Reading([], rows)], ["x"], None, "general", 0)
    assert len(contents.examples["test"]) == 8
    assert all(example.source == example.id and example.tags == ("CancerGov",) for example in all_examples(contents))
    (caution,) = contents.record.cautions
    assert caution in contents.record.notes
    assert "each example counts as its own document" in caution
    assert "('CancerGov')" in caution


def test_numbered_sources_are_documents_and_blank_ones_stand_alone() -> None:
    rows = [make_example(f"e{i}", f"Answer {i}.", f"contract-{i % 4}", f"Q{i * i}?") for i in range(80)]
    rows += [make_example(f"b{i}", f"Reply {i}.", "", f"R{i * i}?") for i in range(2)]
    contents = build([Reading([], rows)], ["x"], None, "general", 0)
    found = {e.id: e.source for e in all_examples(contents)}
    assert found == {e.id: e.source or e.id for e in rows}
    assert not contents.record.cautions
    splits = [{e.source for e in contents.examples[split]} for split in SPLITS]
    assert all(splits)
    assert not splits[0] & splits[2] | splits[0] & splits[1] | splits[1] & splits[2]
    assert any("the column 'source' names 4 documents" in note for note in contents.record.notes)


def test_a_document_that_is_given_as_one_is_never_a_collection() -> None:
    rows = [make_example(f"e{i}", f"Answer {i}.", ("lease", "terms", "wiki")[i % 3], f"Q{i * i}?") for i in range(90)]
    rows = [row.model_copy(update={"source_is_document": row.source != "wiki"}) for row in rows]
    contents = build([Reading([], rows)], ["x"], None, "general", 0, split="test")
    assert {e.source for e in all_examples(contents) if not e.tags} == {"lease", "terms"}
    assert not any(e.source_is_document for e in all_examples(contents))
    assert "('wiki')" in contents.record.cautions[0]


def test_too_few_sources_are_named_and_prompts_can_be_split_instead() -> None:
    rows = [make_example(f"e{i}", f"Answer {i}.", f"manual{i % 2}.pdf", f"Q{i * i}?") for i in range(40)]
    with pytest.raises(SizewiseError, match="40 examples come from 2 sources") as told:
        build([Reading([], rows)], ["x"], None, "general", 0)
    assert "rename it to 'tags'" in told.value.next_step
    assert "--split prompts" in told.value.next_step
    assert len(build([Reading([], rows)], ["x"], None, "general", 0, split="prompts").examples["test"]) == 8


def labelled(count: int) -> list[Example]:
    labels = ["refund"] * 70 + ["delivery"] * 25 + ["complaint"] * 5
    return [
        make_example(f"e{i}", labels[i % 100], f"e{i}", f"Ticket {i * 37 % 1009}, case {i * i}").model_copy(
            update={"label": labels[i % 100], "time": f"2026-{1 + i % 12:02}-{1 + i % 28:02}", "group": f"c{i // 4}"}
        )
        for i in range(count)
    ]


def build_by(split: str, examples: list[Example], documents: list[Document] | None = None) -> DatasetContents:
    return build([Reading(documents or [], examples)], ["x"], None, "general", 3, split=split)


def test_labels_are_spread_evenly_over_the_splits() -> None:
    rows = [row.model_copy(update={"group": ""}) for row in labelled(400)]
    contents = build_by("documents", rows)
    for name, count in (("refund", 56), ("delivery", 20), ("complaint", 4)):
        assert abs(sum(example.label == name for example in contents.examples["test"]) - count) <= 1
    assert contents.record.split_by == "documents"


def test_the_rows_of_a_group_stay_together() -> None:
    contents = build_by("group", labelled(400))
    groups = [{example.group for example in contents.examples[split]} for split in SPLITS]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert len(groups[2]) == 20


def test_the_latest_rows_are_held_out() -> None:
    rows = [row.model_copy(update={"group": ""}) for row in labelled(400)]
    contents = build_by("time", rows)
    train, test = ([example.time for example in contents.examples[split]] for split in ("train", "test"))
    assert max(train) <= min(test)


def test_time_zones_count_when_rows_are_held_out_by_time() -> None:
    times = ["2026-03-01T23:30:00-05:00", "2026-03-02T01:00:00+00:00", "2026-03-02T02:00:00+02:00"]
    rows = [
        make_example(f"e{i}", "a", f"e{i}", f"Word {i * i}").model_copy(update={"time": t}) for i, t in enumerate(times)
    ]
    (latest,) = build_by("time", rows).examples["test"]
    assert latest.id == "e0"


@pytest.mark.parametrize(
    "times",
    [
        [f"{year}-01-01" for year in range(1950, 1980)],
        [*map(str, range(1990, 2015)), "2024-05-10", "2024-05-11", "2024-05-12T10:00", "2024-06", "2025"],
        [f"2023-{month:02}" for month in range(1, 13)] * 2 + [f"2024-03-{day:02}" for day in range(1, 7)],
    ],
    ids=["before 1970", "years and days", "months and days"],
)
def test_the_latest_are_held_out_however_precise_their_times_are(times: list[str]) -> None:
    rows = [
        make_example(f"e{i}", "a", f"e{i}", f"Word {i * i}").model_copy(update={"time": t}) for i, t in enumerate(times)
    ]
    contents = build_by("time", rows)
    ids = {int(example.id[1:]) for example in contents.examples["test"]}
    assert ids == set(range(24, 30))


def test_one_time_for_all_is_no_order() -> None:
    rows = [make_example(f"e{i}", "a", f"e{i}", f"Word {i * i}").model_copy(update={"time": "2024"}) for i in range(9)]
    with pytest.raises(SizewiseError, match="have the time '2024'"):
        build_by("time", rows)


def test_near_duplicates_that_the_data_put_apart_are_named() -> None:
    rng = random.Random(5)
    words = ["".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(400)]
    prompts = [" ".join(rng.sample(words, 20)) for _ in range(20)]
    rows = [make_example(f"e{i}", f"a{i}", f"e{i}", f"{'Please: ' * (i // 20)}{prompts[i % 20]}") for i in range(40)]
    rows = [row.model_copy(update={"split": "test" if i >= 38 else "train"}) for i, row in enumerate(rows)]
    notes = build_by("given", rows).record.notes
    assert any(
        "2 near-duplicates are in another split than what they resemble: 'e38' resembles 'e18'" in n for n in notes
    )
    assert any("18 near-duplicates stay in the split of what they resemble" in note for note in notes)


def test_questions_are_held_out_though_their_documents_are_trained_on() -> None:
    documents = [make_document(f"d{i}", "", f"The number of the house {i} is {i * 31}.", "x") for i in range(20)]
    rows = [make_example(f"e{i}", f"It is {i * 31}.", f"d{i}", f"Which number has house {i}?") for i in range(20)]
    contents = build_by("questions", rows, documents)
    assert [len(contents.documents[split]) for split in SPLITS] == [20, 0, 0]
    assert len(contents.examples["test"]) == 4
    assert contents.record.contamination.uncontaminated_examples == 4


def test_questions_for_training_are_validated_on_if_no_other_is_left() -> None:
    documents = [make_document(f"d{i}", "", f"The number of the house {i} is {i * 31}.", "x") for i in range(40)]
    rows = [
        make_example(f"e{i}", f"It is {i * 31}.", f"d{i}", f"Which number has house {i}?").model_copy(
            update={"split": "test" if i < 5 else "train"}
        )
        for i in range(40)
    ]
    contents = build_by("questions", rows, documents)
    assert [len(contents.examples[split]) for split in SPLITS] == [33, 2, 5]
    assert any("2 examples that name the training split are validated on instead" in n for n in contents.record.notes)
    named = [rows[5].model_copy(update={"split": "validation"}), *rows[:5], *rows[6:]]
    assert [len(build_by("questions", named, documents).examples[split]) for split in SPLITS] == [34, 1, 5]


@pytest.mark.parametrize(
    ("split", "what"),
    [("time", "have no time"), ("group", "have no group"), ("given", "name no splits"), ("random", "The split is by")],
)
def test_a_split_by_what_the_data_lack_is_refused(split: str, what: str) -> None:
    rows = [make_example(f"e{i}", "a", f"e{i}", f"Word {i * i}") for i in range(30)]
    with pytest.raises(SizewiseError, match=what):
        build_by(split, rows)


def test_rows_without_a_named_split_are_trained_on_if_the_data_name_splits() -> None:
    rows = [
        row.model_copy(update={"group": "", "split": "test" if i < 5 else "validation" if i < 8 else None})
        for i, row in enumerate(labelled(100))
    ]
    contents = build_by("given", rows)
    assert [len(contents.examples[split]) for split in SPLITS] == [92, 3, 5]


def test_versions_of_a_document_stay_on_one_side_of_the_split() -> None:
    texts = [" ".join(f"w{(i * 7919 + k * k) % 5003}" for k in range(200)) for i in range(40)]
    documents = [make_document(f"v1-{i}", "", text, "x") for i, text in enumerate(texts)]
    documents += [make_document(f"v2-{i}", "", f"New. {text} The end.", "x") for i, text in enumerate(texts)]
    contents = build_by("documents", [], documents)
    sides = [{document.id[3:] for document in contents.documents[split]} for split in SPLITS]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert contents.record.near_duplicates == 40
    assert any("'v2-0' resembles 'v1-0'" in note for note in contents.record.notes)


def test_prompts_in_other_words_stay_on_one_side_of_the_split() -> None:
    rng = random.Random(5)
    words = ["".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3)) for _ in range(400)]
    prompts = [" ".join(rng.sample(words, 20)) for _ in range(50)]
    rows = [make_example(f"e{i}", f"a{i}", f"e{i}", f"{'Please: ' * (i // 50)}{prompts[i % 50]}") for i in range(100)]
    contents = build_by("documents", rows)
    sides = [{int(example.id[1:]) % 50 for example in contents.examples[split]} for split in SPLITS]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert len({example.source for split in SPLITS for example in contents.examples[split]}) == 50


@pytest.mark.parametrize("split", ["documents", "questions", "prompts"])
def test_a_conversation_stays_with_the_one_that_it_goes_on_from(split: str) -> None:
    def turns(number: int, count: int) -> tuple[Message, ...]:
        texts = [f"Frage {number}.{turn} zum {number * 37}. Paket?" for turn in range(count)]
        made = [Message(role="user", content=texts[0])]
        for turn, text in enumerate(texts[1:]):
            made += [Message(role="assistant", content=f"答 {number}.{turn}"), Message(role="user", content=text)]
        return tuple(made)

    examples = [
        Example(id=f"{n}.{count}", messages=turns(n, count), references=(f"答 {n}.{count - 1}",), source=f"{n}.{count}")
        for n in range(20)
        for count in (1, 2, 3)
    ]
    contents = build_by(split, examples)
    splits_of: dict[str, set[str]] = {}
    for name in SPLITS:
        for example in contents.examples[name]:
            splits_of.setdefault(example.id.split(".")[0], set()).add(name)
    assert len(splits_of) == 20
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert set.union(*splits_of.values()) == set(SPLITS)


def test_a_question_in_two_splits_is_named() -> None:
    documents = [make_document(f"d{i}", "", f"The number of the house {i} is {i * 31}.", "x") for i in range(20)]
    rows = [make_example(f"e{i}", f"It is {i * 31}.", f"d{i}", f"Which number has house {i}?") for i in range(20)]
    rows = [row.model_copy(update={"split": "test" if i < 4 else "train"}) for i, row in enumerate(rows)]
    same = make_example("draft-1", "31", "d1", "which number has house 1").model_copy(update={"split": "train"})
    with pytest.raises(SizewiseError, match=r"'e1' \(test\) and 'draft-1' \(train\) ask the same question"):
        build_by("questions", [*rows, same], documents)
