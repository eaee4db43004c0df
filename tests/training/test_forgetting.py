from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import train
from sizewise.training.forgetting import general_answer_bits, read_control


def test_what_is_replayed_is_never_measured(store: Store, text_folder: Path) -> None:
    control = read_control(str(text_folder), 3, store)
    assert control == read_control(str(text_folder), 3, store)
    assert control.measured
    assert not {text[:100] for text in control.measured} & {text[:100] for text in control.replayed}


def test_general_answers_need_no_template(tiny_folder: Path) -> None:
    network, tokenizer = load_network(tiny_folder, "fp32"), load_tokenizer(tiny_folder)
    chat = general_answer_bits(network, tokenizer, 128)
    tokenizer.chat_template = None
    plain = general_answer_bits(network, tokenizer, 128)
    assert 0 < plain < 20
    assert chat != plain


def test_forgetting_is_measured_and_replay_mixed_in(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    values = {"start": str(tiny_folder), "tokens": 3_000, "context": 64, "rank": 4}
    replayed = train(Recipe.model_validate(values | {"control_share": 0.5}), dataset.id, store=store).record
    plain = train(Recipe.model_validate(values | {"control_share": 0.0}), dataset.id, store=store).record
    without = train(Recipe.model_validate(values | {"control": "none"}), dataset.id, store=store).record
    assert without.forgetting is None
    assert replayed.forgetting is not None
    assert plain.forgetting is not None
    assert replayed.forgetting.before == plain.forgetting.before
    assert replayed.forgetting.after < plain.forgetting.after
    assert replayed.curve[-1].control_bits_per_byte is not None
    assert replayed.forgetting.questions == 40


def test_control_text_without_text_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "only.jsonl"
    path.write_text('{"id": "a", "prompt": "What?", "references": ["That."]}\n', encoding="utf-8")
    with pytest.raises(SizewiseError, match="no text") as error:
        read_control(str(path), 0, store)
    assert "--control none" in error.value.next_step
