from __future__ import annotations

from pathlib import Path
from typing import Any

from sizewise.datasets import build
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.records import Recipe
from sizewise.training import representation
from sizewise.training.batches import make_mix

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
        mix, notes[balance] = make_mix(contents, tokenizer, recipe, tmp_path)
        tokens[balance] = mix.prose.tokens
    assert tokens["augment"] > 1.9 * tokens["none"]
    assert tokens["reweight"] >= tokens["none"]
    assert "genders swapped" in notes["augment"][0]
    assert not any("swapped" in note for note in notes["none"])
