from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sizewise.datasets import build, read
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.records import Checkpoint, Recipe
from sizewise.store import Store
from sizewise.training import representation, train
from sizewise.training.batches import make_mix
from tests.conftest import sentence
from tests.languages import PASSAGES
from tests.training.test_training import TINY

TEXT = "He told his brother. The men and a woman asked Mr Smith; she said no to HIM."


def test_groups_are_counted_as_words() -> None:
    words, counts = representation.count_groups([TEXT, "A mosque, a church and the heather."])
    assert words == 24
    assert counts["gender"] == {"male": 6, "female": 2}
    assert counts["religion"] == {"christian": 1, "muslim": 1, "jewish": 0, "hindu": 0}


def test_swapping_keeps_capitals_and_other_words() -> None:
    swapped = representation.swap_groups(TEXT)
    assert swapped == "She told her sister. The women and a man asked Ms Smith; he said no to HER."
    assert representation.swap_groups("No people here.") == "No people here."


def test_the_rarer_group_needs_mentions() -> None:
    assert representation.rarer_group(representation.count_groups(["he she"])[1]) is None
    assert representation.rarer_group(representation.count_groups(["he " * 30 + "she"])[1]) == "female"
    assert representation.rarer_group(representation.count_groups(["he she " * 30])[1]) is None


def test_balancing_changes_what_is_trained_on(tmp_path: Path) -> None:
    tokenizer: Any = train_tokenizer(["the nurse said that he or she is here " * 5], 300, 64)
    documents = tuple(
        make_document(f"d{i}", "", ("She is a nurse. " if i == 3 else "He is a nurse here. ") * (20 + i), "test")
        for i in range(16)
    )
    contents = build([Reading(documents, ())], ["x"], None, "general", 0)
    tokens, notes = {}, {}
    for balance in ("none", "reweight", "augment"):
        recipe = Recipe.model_validate(
            {"start": "scratch", "method": "full", "tokens": 1, "context": 64, "balance": balance, "example_share": 0}
        )
        mix, notes[balance], *_ = make_mix(contents, tokenizer, recipe, tmp_path)
        tokens[balance] = mix.prose.tokens
    assert tokens["augment"] > 1.9 * tokens["none"]
    assert tokens["reweight"] >= tokens["none"]
    assert "genders swapped" in notes["augment"][0]
    assert not any("swapped" in note for note in notes["none"])


def test_the_record_tells_how_a_model_responds_to_swapped_groups(store: Store, tmp_path: Path) -> None:
    texts = tmp_path / "people"
    texts.mkdir()
    for number in range(12):
        rng = random.Random(number)
        lines = [f"{('He', 'She')[i % 3 == 0]} said to his brother: {sentence(rng)}." for i in range(30)]
        (texts / f"doc{number}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    data = read([texts], store=store, name="people", seed=1)
    recipe = Recipe.model_validate(TINY | {"tokens": 2_000, "balance": "augment"})
    made = train(recipe, data.id, store=store)
    found = Checkpoint.model_validate(made.record.model_dump()).representation
    assert found is not None
    assert found.sentences > 0
    assert found.counterfactual_gap_before is not None
    assert found.counterfactual_gap_after is not None
    assert "genders are swapped" in (made.path.parent / "model" / "README.md").read_text(encoding="utf-8")


def test_the_groups_of_german_text_are_neither_counted_nor_swapped() -> None:
    text = " Man hat die Frau und den Mann gesehen." * 9
    german = [make_document(f"{i}", "", passage.text + text, "") for i, passage in enumerate(PASSAGES["de"])]
    assert representation.foreign_language(german) == "German (de)"
    assert representation.count_representation(german, "none") is None
    english = [make_document(f"{i}", "", "The man and the woman met his mother. " * 3, "") for i in range(12)]
    found = representation.count_representation(english, "none")
    assert found is not None
    assert found.counts["gender"]["male"] > 0
