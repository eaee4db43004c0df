"""Tokenizers that put several tokens before a text, like GLM's: all of them are read, and none counts as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from sizewise.datasets import build
from sizewise.documents import Reading
from sizewise.documents.reading import make_document
from sizewise.lm import loop
from sizewise.lm.classifier_format import Encoder
from sizewise.lm.control_tokens import hide
from sizewise.lm.gguf_writing import begins_prompts
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.lm.option_scores import continue_prompt
from sizewise.lm.packing import NO_TARGET
from sizewise.lm.score import bits_by_position, bits_of_texts, score_texts, score_texts_after
from sizewise.lm.text_stream import token_texts
from sizewise.lm.tokenizer import encoded_text, prefix_ids, text_ids
from sizewise.lm.validation import Held, validation_nats
from sizewise.models import parity
from sizewise.records import Recipe
from sizewise.training.batches import Additions, make_mix
from sizewise.training.held_out import hold_out
from sizewise.training.memorization import canary_units, plant

TEXTS = ("Each patient names the record of the code 12.", "A plan holds the device of the claim 7. " * 5)
CONTEXT = 32


@pytest.fixture
def tiny(tiny_folder: Path) -> tuple[Any, Any]:
    """A network, and its tokenizer with two tokens before every text."""
    network, tokenizer = load_network(tiny_folder, "fp32"), load_tokenizer(tiny_folder)
    first, second = tokenizer.bos_token, tokenizer.eos_token
    known = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (first, second)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} {second} $A", pair=None, special_tokens=known
    )
    return network, tokenizer


def begun(tokenizer: Any, text: str) -> list[int]:
    found = tokenizer(str(hide(tokenizer, text))).input_ids
    assert found[:2] == [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return list(found)


def plain_nats(network: Any, tokenizer: Any, text: str) -> np.ndarray[Any, Any]:
    """-log p of the text's tokens, by the network's own forward pass after both tokens."""
    ids = begun(tokenizer, text)
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, :-1].double()
    nats = -torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()
    return nats[1:]


def test_texts_are_scored_after_both_tokens(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    wanted = [plain_nats(network, tokenizer, text) for text in TEXTS]
    for prefix in (True, False):
        for scored, nats, text in zip(score_texts(network, tokenizer, TEXTS, 256, prefix), wanted, TEXTS, strict=True):
            assert scored.nats == pytest.approx(nats, abs=1e-4)
            assert scored.starts.tolist() == encoded_text(tokenizer, text).starts
            assert len(scored.starts) == len(text_ids(tokenizer, text))
    assert bits_of_texts(network, tokenizer, TEXTS, 256) == pytest.approx(
        [n.sum() / np.log(2) for n in wanted], abs=1e-3
    )
    (first, *_) = bits_by_position(network, tokenizer, TEXTS, 256, nearest=4)
    assert first.bits == pytest.approx(np.concatenate([n[:4] for n in wanted]).mean() / np.log(2), abs=1e-4)


def test_the_end_of_a_text_is_scored_after_both_tokens(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    for after in (0, 13):
        for scored, text in zip(score_texts_after(network, tokenizer, TEXTS, [after] * 2, 256), TEXTS, strict=True):
            starts = np.array(encoded_text(tokenizer, text).starts)
            assert scored.starts.tolist() == starts[starts >= after].tolist()
            assert scored.nats == pytest.approx(plain_nats(network, tokenizer, text)[starts >= after], abs=1e-4)


def test_an_option_begins_where_its_text_does(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    ids, first = continue_prompt(tokenizer, "Each patient names", " the record")
    assert ids == begun(tokenizer, "Each patient names the record")
    assert tokenizer.decode(ids[first:]) == " the record"
    assert continue_prompt(tokenizer, "", "the record").first == 2


def test_training_and_validation_predict_text_only(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    network, tokenizer = tiny
    documents = tuple(make_document(f"d{i}", "", text * (1 + i % 3), "x") for i, text in enumerate(TEXTS * 10))
    contents = build([Reading(documents, ())], ["x"], None, "general", 0)
    recipe = Recipe(start="pkg:any", tokens=1000, context=CONTEXT, control_share=0.5)
    canaries = plant(2, 0)
    additions = Additions(control=TEXTS, units=tuple(canary_units(tokenizer, canaries)))
    mix = make_mix(contents, tokenizer, recipe, tmp_path, additions).mix
    for step in range(20):
        rows = mix.step(step)
        learned = rows.targets[rows.targets != NO_TARGET]
        assert tokenizer.bos_token_id not in learned
        assert tokenizer.eos_token_id not in learned
        begins = np.flatnonzero(rows.ids.ravel() == tokenizer.bos_token_id)
        begins = begins[rows.segments.ravel()[begins] > 0]
        assert (rows.ids.ravel()[begins + 1] == tokenizer.eos_token_id).all()
    held = Held.of_texts(tokenizer, TEXTS, 256)
    wanted = [plain_nats(network, tokenizer, text).sum() for text in TEXTS]
    loop.prepare(network, compiled=False)
    assert validation_nats(network, held) == pytest.approx(wanted, rel=1e-3)
    for text_only in (Held.of_texts(tokenizer, TEXTS, CONTEXT), hold_out(contents, tokenizer, recipe, 1000).held):
        targets = text_only.rows.targets[text_only.rows.targets != NO_TARGET]
        assert tokenizer.eos_token_id not in targets


def test_an_export_is_compared_on_text_after_both_tokens(tiny: tuple[Any, Any]) -> None:
    network, tokenizer = tiny
    material = parity.Material((), (), tuple(TEXTS))
    reference = parity.make_reference(network, tokenizer, material)
    assert reference.firsts == (2, 2)
    assert reference.texts == TEXTS
    for nats, text in zip(reference.nats, TEXTS, strict=True):
        assert nats == pytest.approx(plain_nats(network, tokenizer, text), abs=1e-4)


def test_echoed_text_and_classified_text_begin_after_both_tokens(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    ids = begun(tokenizer, TEXTS[0])
    assert "".join(token_texts(tokenizer, ids, of_text=True)) == TEXTS[0]
    assert Encoder(tokenizer, 64, suffix=[7])([TEXTS[0]]) == [[*ids, 7]]
    assert not begins_prompts(tokenizer)  # readers of GGUF put one token, never two


def test_prefix_ids_are_all_tokens_before_a_text(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    assert prefix_ids(tokenizer) == [tokenizer.bos_token_id, tokenizer.eos_token_id]
