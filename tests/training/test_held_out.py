from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sizewise.datasets import build
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.lm import loop
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.lm.validation import bits_per_byte, validation_bits, validation_nats
from sizewise.records import Example, Message, Recipe
from sizewise.training.held_out import (
    MAX_TOKENS,
    MIN_ITEMS,
    MIN_TOKENS,
    MIN_VALIDATIONS,
    PIECE_CHARACTERS,
    Measured,
    hold_out,
    score_difference,
    tokens_for,
    tokens_in,
)
from sizewise.training.planning import MAX_VALIDATIONS, validations_for

TOKENIZER: Any = train_tokenizer(["what is the record of the patient " * 5], 300, 64)
RECIPE = Recipe(start="scratch", method="full", tokens=1, context=64)


def words_of(document: int, words: int) -> str:
    return " ".join(map(str, np.random.default_rng(document).integers(0, 10_000, words)))


def contents(documents: int, examples: int, words: int = 300) -> Any:
    """Make a dataset whose documents and examples are all in one split, besides two of each in training."""
    texts = tuple(make_document(f"d{i}", "", words_of(i, words), "test") for i in range(documents + 2))
    rows = tuple(
        Example(
            id=f"e{i}",
            messages=(Message(role="user", content=f"what {i}"),),
            references=(f"the record {i}",),
            source=f"s{i}",
        )
        for i in range(examples + 2)
    )
    reading = Reading(texts[: documents and documents + 2], rows[: examples and examples + 2])
    made = build([reading], ["x"], None, "general", 0)

    def parts(rows_of: Any) -> dict[str, Any]:
        everything = [row for part in rows_of.values() for row in part]
        return {"train": everything[:2], "validation": everything[2:], "test": []}

    return replace(made, documents=parts(made.documents), examples=parts(made.examples))


def test_answers_are_held_out_wherever_examples_are_trained_on() -> None:
    made = contents(10, 40)
    for share, kind in ((0.0, "text"), (0.25, "answers"), (0.5, "answers"), (1.0, "answers")):
        recipe = RECIPE.model_copy(update={"example_share": share})
        assert hold_out(made, TOKENIZER, recipe, 10_000).kind == kind
    assert hold_out(contents(0, 40), TOKENIZER, RECIPE.model_copy(update={"example_share": 0.0}), 10_000).kind == (
        "answers"
    )
    only = hold_out(contents(10, 3), TOKENIZER, RECIPE.model_copy(update={"example_share": 1.0}), 10_000)
    assert only.kind == "answers"
    few = hold_out(contents(10, 3), TOKENIZER, RECIPE, 10_000)
    assert few.kind == "text"
    assert "3 validation answers fit" in few.notes[0]


def test_recipes_are_compared_on_the_same_items() -> None:
    made = contents(10, 40)
    first = hold_out(made, TOKENIZER, RECIPE, 300)
    for change in ({"seed": 7}, {"example_share": 0.9}, {"document_share": 0.25}, {"rank": 4}, {"learning_rate": 1.0}):
        other = hold_out(made, TOKENIZER, RECIPE.model_copy(update=change), 300)
        assert other.sources == first.sources
        assert np.array_equal(other.held.rows.ids, first.held.rows.ids)
    assert 1 < len(first.sources) < 40


def test_text_is_sampled_from_all_documents_before_any_is_used_twice() -> None:
    made = contents(6, 0, words=3_000)
    assert all(len(document.text) > 3 * PIECE_CHARACTERS for document in made.documents["validation"])
    some = hold_out(made, TOKENIZER, RECIPE, 12_000)
    assert len(set(some.sources)) == 6
    everything = hold_out(made, TOKENIZER, RECIPE, 10**6)
    assert everything.held.bytes == sum(len(document.text.encode()) for document in made.documents["validation"])


def test_text_that_stands_in_the_training_text_does_not_count_as_progress() -> None:
    made = contents(14, 0, words=900)
    notice = words_of(99, 200)

    def with_notice(alone: bool) -> Any:
        documents = {
            split: [
                document.model_copy(update={"text": notice if alone else f"{document.text}\n\n{notice}"})
                for document in some
            ]
            for split, some in made.documents.items()
        }
        return replace(made, documents=documents)

    found = hold_out(with_notice(alone=False), TOKENIZER, RECIPE, 100_000)
    assert not found.notes
    assert len(set(found.sources)) == 14
    first_words = set(notice.split()[:20])
    decoded = " ".join(TOKENIZER.decode(ids.tolist()) for ids in found.held.rows.ids)
    assert sum(word in first_words for word in decoded.split()) < 60  # it would be 20 in each of 14 documents
    assert found.held.bytes > 0.5 * sum(len(document.text) for document in made.documents["validation"])
    copied = hold_out(with_notice(alone=True), TOKENIZER, RECIPE, 100_000)
    assert "recited" in copied.notes[0]


def test_long_examples_and_those_without_reference_are_not_held_out() -> None:
    made = contents(0, 40)
    rows = made.examples["validation"]
    rows[0] = rows[0].model_copy(update={"references": ()})
    rows[1] = rows[1].model_copy(update={"references": ("record " * 100,)})
    found = hold_out(made, TOKENIZER, RECIPE, 10**6)
    assert len(found.sources) == len(rows) - 2


def test_nats_are_those_of_each_item(tiny_folder: Any) -> None:
    network, tokenizer = load_network(tiny_folder, "fp32"), load_tokenizer(tiny_folder)
    made = contents(5, 40)
    loop.prepare(network, compiled=False)
    network.eval()
    for share in (0.0, 1.0):
        found = hold_out(made, tokenizer, RECIPE.model_copy(update={"example_share": share}), 5_000)
        nats = validation_nats(network, found.held)
        assert (nats > 0).all()
        assert validation_bits(network, found.held) == pytest.approx(bits_per_byte(nats, found.held))
        predicted = (found.held.rows.targets != -100).sum()
        with_loss = float(loop.loss_of(network, found.held.rows).detach()) * int(predicted)
        assert nats.sum() == pytest.approx(with_loss, rel=1e-4)
    few, many = (hold_out(made, tokenizer, RECIPE, tokens) for tokens in (1, 5_000))
    assert MIN_ITEMS == len(few.sources) < len(many.sources)
    alone, together = (validation_nats(network, some.held) for some in (few, many))
    assert together[:MIN_ITEMS] == pytest.approx(alone, rel=1e-4)


def test_validations_take_a_few_percent_of_a_run() -> None:
    assert tokens_for(1_000, 4) == MIN_TOKENS
    assert tokens_for(10**9, 20) == MAX_TOKENS
    assert tokens_for(1_000_000, 10) * 11 < 0.2 * 1_000_000
    assert tokens_in(1_000, validation_s=1.0, tokens=2_048) == 20_480
    assert tokens_in(1, validation_s=1.0, tokens=2_048) == MIN_TOKENS


def test_text_that_is_read_again_and_again_is_validated_twice_in_a_pass() -> None:
    assert validations_for(130_000, passes=1) == MIN_VALIDATIONS
    assert validations_for(520_000, passes=4) == 8
    assert validations_for(520_000, passes=4, seconds=100, validation_s=2) == 5  # a tenth of the time
    assert validations_for(520_000, passes=4, seconds=100, validation_s=10) == MIN_VALIDATIONS
    assert validations_for(10**9, passes=1) == validations_for(50_000, passes=50) == MAX_VALIDATIONS


def test_differences_are_paired_and_refuse_other_items() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(50, 500, 60)
    first = Measured(base.tolist(), [100] * 60, [f"s{i // 2}" for i in range(60)])
    better = first._replace(nats=(base - 1 + rng.normal(0, 0.2, 60)).tolist())
    score = score_difference(first, better, "change")
    assert score is not None
    assert score.value == pytest.approx(-1 / 100 / np.log(2), rel=0.2)
    assert score.ci_high is not None
    assert score.ci_high < 0  # though items differ far more than by the change
    assert score_difference(first, first._replace(sources=["other"] * 60), "change") is None
