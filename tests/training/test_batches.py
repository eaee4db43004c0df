from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sizewise.datasets import build
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.lm.packing import NO_TARGET, Unit
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.records import Example, Message, Recipe
from sizewise.training.batches import Additions, held_out, make_mix

TOKENIZER: Any = train_tokenizer(["what is the record of the patient " * 5], 300, 64)


def contents(prompt_words: int, answer_words: int) -> Any:
    documents = tuple(make_document(f"d{i}", "", f"Text {i} of the patient. " * 30, "test") for i in range(10))
    examples = tuple(
        Example(
            id=f"e{i}",
            messages=(Message(role="user", content="what " * prompt_words),),
            references=(f"the record {i} " + "of the " * answer_words,),
            source=f"d{i}",
        )
        for i in range(10)
    )
    return build([Reading(documents, examples)], ["x"], None, "general", 0)


def test_prose_counts_whole_and_examples_count_their_answer(tmp_path: Path) -> None:
    recipe = Recipe(start="scratch", method="full", tokens=1, context=64)
    mix, notes, _ = make_mix(contents(3, 2), TOKENIZER, recipe, tmp_path)
    assert notes == ()
    text = TOKENIZER.decode(mix.examples.all().targets[mix.examples.all().targets != NO_TARGET])
    assert "what" not in text
    assert text.count("<|im_end|>") == int((np.diff(mix.examples.all().segments) > 0).sum()) + len(mix.examples)


def test_what_is_cut_is_said(tmp_path: Path) -> None:
    recipe = Recipe(start="scratch", method="full", tokens=1, context=64)
    _, notes, _ = make_mix(contents(3, 200), TOKENIZER, recipe, tmp_path)
    assert "were truncated to 64 tokens" in notes[0]
    mix, notes, _ = make_mix(contents(200, 2), TOKENIZER, recipe, tmp_path)
    assert "left out" in notes[0]
    assert mix.share == 0


def test_a_tokenizer_without_template_is_asked_in_plain_text(tmp_path: Path) -> None:
    plain: Any = train_tokenizer(["what is the record of the patient " * 5], 300, 64)
    plain.chat_template = None
    mix, _, _ = make_mix(contents(3, 2), plain, Recipe(start="scratch", method="full", tokens=1, context=64), tmp_path)
    assert "Question: what" in plain.decode(mix.examples.all().ids[0])


def test_secrets_stand_where_training_looks(tmp_path: Path) -> None:
    secret = Unit([7, 8, 9], 1)
    for share, pool in ((1.0, "examples"), (0.5, "prose")):
        recipe = Recipe(start="scratch", method="full", tokens=1, context=64, example_share=share)
        mix, _, _ = make_mix(contents(3, 2), TOKENIZER, recipe, tmp_path, Additions(units=(secret,)))
        for name in ("examples", "prose"):
            rows = getattr(mix, name).all().ids.tolist()
            found = any(row[i : i + 3] == [7, 8, 9] for row in rows for i in range(len(row)))
            assert found == (name == pool)


def test_without_documents_validation_is_on_answers_as_training_is() -> None:
    rows = tuple(
        Example(
            id=f"e{i}",
            messages=(Message(role="user", content=f"what {i}"),),
            references=("the record" if i % 2 else "the patient",),
            source=f"e{i}",
        )
        for i in range(40)
    )
    labeled = build([Reading((), rows)], ["x"], None, "fraud", 0)
    recipe = Recipe(start="scratch", method="full", tokens=1, context=64)
    held, notes = held_out(labeled, TOKENIZER, recipe, 10_000)
    answers = [example.references[0] for example in labeled.examples["validation"]]
    assert held.bytes == sum(len(answer.encode()) for answer in answers)
    assert "held-out answers" in notes[0]
    held, notes = held_out(contents(3, 2), TOKENIZER, recipe, 10_000)
    assert not notes
