from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import SizewiseError
from sizewise.lm import hf_format as folders
from sizewise.lm.device import machine_precision
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import planning, preflight, train
from sizewise.training.planning import weight_decay_of
from tests.training.test_training import TINY

MISTRAL_7B = preflight.Shape(
    layers=32, width=4096, inner=14336, kv_width=1024, vocabulary=32000, parameters=7_241_732_096, trained=41_943_040
)
GB = 1e9


def test_mistral_7b_by_lora_needs_what_the_cards_say() -> None:
    def needed(method: str, tokens: int, again: bool) -> float:
        return preflight.memory_bytes(MISTRAL_7B, method, tokens, again) / GB

    assert needed("lora", 2048, True) < 24 < needed("lora", 2048, False) < 80
    assert needed("lora", 512, True) > 15  # the weights alone do not fit on 16 GB beside anything else
    assert needed("qlora", 2048, True) < 16
    full = MISTRAL_7B._replace(trained=MISTRAL_7B.parameters)
    assert preflight.memory_bytes(full, "full", 512, True) / GB > 80


def test_text_that_is_repeated_gets_more_weight_decay() -> None:
    decays = [weight_decay_of("scratch", epochs) for epochs in (0.5, 4, 5, 8, 16)]
    assert decays[:2] == [0.1, 0.1]
    assert 0.1 < decays[2] < decays[3] == decays[4] == pytest.approx(1.0)
    assert weight_decay_of("lora", 16) == weight_decay_of("full", 16) == 0


def test_memory_grows_with_what_is_trained_and_kept() -> None:
    def needed(**changes: int) -> float:
        return preflight.memory_bytes(MISTRAL_7B._replace(**changes), "lora", 1024, False)

    plain = needed()
    assert needed(trained=2 * MISTRAL_7B.trained) > plain
    assert needed(layers=64) > plain
    assert preflight.memory_bytes(MISTRAL_7B, "lora", 2048, False) > plain
    assert preflight.memory_bytes(MISTRAL_7B, "lora", 1024, True) < plain


@pytest.mark.parametrize(
    ("changes", "least", "advice"),
    [({}, 4.0, "--checkpointing on"), ({"method": "full", "start": "x"}, 9.0, "--method lora"), ({}, 9.0, "--context")],
)
def test_what_cannot_fit_is_refused_with_what_would(changes: dict[str, str], least: float, advice: str) -> None:
    recipe = Recipe.model_validate({"start": "pkg:x", "tokens": 1} | changes)
    with pytest.raises(SizewiseError, match=r"needs about 10\.0 GB") as error:
        preflight.check_memory(10 * GB, least * GB, int(8 * GB), recipe)
    assert advice in error.value.next_step
    preflight.check_memory(10 * GB, 4 * GB, int(12 * GB), recipe)
    preflight.check_memory(10 * GB, 4 * GB, None, recipe)


def test_a_run_without_room_keeps_fewer_activations_or_is_refused(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 1_000, "rows_per_step": 8})
    shapes: list[preflight.Shape] = []
    plain = preflight.memory_bytes

    def watched(shape: preflight.Shape, *arguments: Any) -> float:
        shapes.append(shape)
        return plain(shape, *arguments)

    monkeypatch.setattr(preflight, "memory_bytes", lambda shape, *a, **k: watched(shape, *a, *k.values()))
    monkeypatch.setattr(preflight, "available_bytes", lambda: 2_100_000)
    with pytest.raises(SizewiseError, match=r"needs about .* are free"):
        train(recipe, dataset.id, store=store)
    tokens = recipe.rows_per_step * recipe.context
    width = 2 if machine_precision() == "bf16" else 4
    kept, again = (plain(shapes[0], "full", tokens, some, width) for some in (False, True))
    assert again < kept
    monkeypatch.setattr(planning, "_free_bytes", lambda start: int((kept + again) / 2))
    record = train(recipe, dataset.id, store=store).record
    assert any("activation checkpointing" in note for note in record.notes)


def test_weights_that_do_not_fit_are_not_even_loaded(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "available_bytes", lambda: 1_000)
    monkeypatch.setattr(folders, "load_network", lambda *arguments: pytest.fail("it was loaded"))
    for start, method in ((str(tiny_folder), "lora"), ("scratch", "full")):
        recipe = Recipe.model_validate({"start": start, "method": method, "tokens": 1_000, "context": 64})
        with pytest.raises(SizewiseError, match=r"weights of .* alone"):
            train(recipe, dataset.id, store=store)


def test_the_estimate_and_its_error_are_kept(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 6_000})
    record = train(recipe, dataset.id, store=store, usd_per_hour=2.0).record
    expected = record.estimate
    assert expected is not None
    assert expected.seconds.lower < expected.seconds.expected < expected.seconds.upper
    assert expected.usd is not None
    assert expected.usd.expected == pytest.approx(expected.seconds.expected / 1800)
    assert record.estimate_error["seconds"] == pytest.approx(record.seconds / expected.seconds.expected - 1)
    assert "memory" in record.estimate_error
    assert "minutes" in planning.format_estimate(expected)
