from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm import hf_format as folders
from sizewise.lm.device import machine_precision
from sizewise.models import size
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import planning, preflight, train
from sizewise.training.planning import weight_decay_of
from sizewise.training.starts import Start
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
    width = 2 if machine_precision() == "bf16" else 4

    def needed(rows: int, checkpointing: bool) -> float:
        return plain(shapes[0], "full", rows * recipe.context, checkpointing, width)

    sums = 4 * shapes[0].trained  # of gradients, if a step has several parts
    assert needed(1, True) + sums < needed(1, False) + sums < needed(8, False)
    for free, notes in (
        ((needed(2, False) + needed(4, False)) / 2 + sums, ["gradients of 2 of 8 rows"]),
        ((needed(1, True) + needed(1, False)) / 2 + sums, ["activation checkpointing", "gradients of"]),
    ):
        room = int(free - shapes[0].held)
        monkeypatch.setattr(preflight, "available_bytes", lambda room=room: room)
        monkeypatch.setattr(preflight, "check_weights", lambda *arguments: None)
        record = train(recipe.model_copy(update={"seed": len(notes)}), dataset.id, store=store).record
        assert all(any(note in found for found in record.notes) for note in notes), record.notes


def test_weights_that_do_not_fit_are_not_even_loaded(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "available_bytes", lambda: 1_000)
    monkeypatch.setattr(folders, "load_network", lambda *arguments: pytest.fail("it was loaded"))
    for start, method in ((str(tiny_folder), "lora"), ("scratch", "full")):
        recipe = Recipe.model_validate({"start": start, "method": method, "tokens": 1_000, "context": 64})
        with pytest.raises(SizewiseError, match=r"weights of .* alone"):
            train(recipe, dataset.id, store=store)


def test_weights_count_in_the_precision_in_which_they_are_loaded(tiny_folder: Path) -> None:
    stored = size.weight_bytes(tiny_folder)  # bf16, with a header
    assert preflight.weights_bytes(tiny_folder, "lora", "bf16") == pytest.approx(stored, rel=0.02)
    assert preflight.weights_bytes(tiny_folder, "lora", "fp32") == pytest.approx(2 * stored, rel=0.02)
    network = folders.load_network(tiny_folder, "fp32")
    assert preflight.weights_bytes(tiny_folder, "full", "fp32") == pytest.approx(folders.held_bytes(network), rel=0.02)
    in_4_bits = preflight.weights_bytes(tiny_folder, "qlora", "fp32")
    embedded = 4 * network.get_input_embeddings().weight.numel()
    assert embedded < in_4_bits < embedded + stored / 2


def test_llama_3_8b_by_qlora_holds_what_is_computed() -> None:
    # 8.03 billion weights; both embeddings (2 x 128,256 x 4,096) stay in bf16, the rest is in NF4.
    embedded = 2 * 128_256 * 4_096
    held = embedded * 2 + (8_030_261_248 - embedded) * preflight.BYTES_4_BIT
    assert held / GB == pytest.approx(5.7, abs=0.1)


def test_a_page_cache_does_not_refuse_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("4000000\n", encoding="utf-8")
    (tmp_path / "memory.current").write_text("3900000\n", encoding="utf-8")
    assert size.available_bytes() == 100_000
    (tmp_path / "memory.stat").write_text("anon 900000\nactive_file 1000000\ninactive_file 2000000\n", encoding="utf-8")
    assert size.available_bytes() == 3_100_000


class _Card:
    """Stands in for PyTorch's memory counters of a card: a row of a step takes 3 GB, or 1 GB with checkpointing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room_gb: float) -> None:
        self.tried: list[tuple[int, bool]] = []
        self._again = False
        monkeypatch.setattr(planning.loop, "prepare", self._prepare)
        monkeypatch.setattr(planning.loop, "finish", lambda network: None)
        monkeypatch.setattr(planning.loop, "probe_speed", self._probe)
        for module in (planning, preflight):
            monkeypatch.setattr(module, "device_peak_bytes", lambda device: self._peak, raising=False)
        monkeypatch.setattr(planning, "device_bytes", lambda device: room_gb * GB)
        monkeypatch.setattr(planning, "reset_device_peak", lambda device: None)
        monkeypatch.setattr(planning, "release_memory", lambda device: None)

    def _prepare(self, network: Any, compiled: bool, checkpointing: bool) -> None:
        self._again = checkpointing

    def _probe(self, network: Any, mix: Any, teacher: Any, steps: int, rows: int, own: int) -> tuple[float, float]:
        self.tried.append((rows, self._again))
        self._peak = rows * (1 if self._again else 3) * GB
        if self._peak > 20 * GB:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return 0.0, 1000.0


def _measured(card: _Card, **changes: Any) -> planning._Fit:
    recipe = Recipe.model_validate({"start": "pkg:x", "tokens": 1, "rows_per_step": 8} | changes)
    start = Start(SimpleNamespace(zero_grad=lambda set_to_none: None), None, "lora", "", "", "cuda")
    rows = recipe.rows_per_step
    fit = planning._Fit(MISTRAL_7B._replace(trained=10**9), 0.0, recipe.checkpointing == "on", rows, rows)
    return planning._measure(start, SimpleNamespace(mix=None), None, fit, recipe)[1]  # type: ignore[arg-type]


def test_rows_in_memory_are_halved_until_step_and_optimizer_fit_on_a_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = _Card(monkeypatch, room_gb=20)
    assert _measured(card)[2:] == (False, 2, 8, False)  # 8 rows don't fit, 4 fit without the 12 GB of the optimizer
    assert card.tried == [(8, False), (4, False), (2, False)]
    card = _Card(monkeypatch, room_gb=14)
    assert _measured(card)[2:] == (True, 2, 8, False)
    assert card.tried[-3:] == [(8, True), (4, True), (2, True)]
    card = _Card(monkeypatch, room_gb=12.5)
    with pytest.raises(SizewiseError, match="not even one row") as error:
        _measured(card)
    assert "--method qlora" in error.value.next_step
    with pytest.raises(SizewiseError, match="not even one row"):
        _measured(_Card(monkeypatch, room_gb=13.5), checkpointing="off")


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


@pytest.mark.parametrize(
    ("rows", "context", "measured"),  # by benchmarks/preflight.py, beside the process before training
    [(200, 128, 627e6), (100, 512, 1404e6), (400, 64, 520e6), (800, 128, 2304e6)],
)
def test_attention_scores_of_large_batches_count(rows: int, context: int, measured: float) -> None:
    settings = {"num_attention_heads": 4, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 192}
    shape = preflight.Shape.of(settings | {"vocab_size": 400}, 132_416, 132_416)
    needed = preflight.memory_bytes(shape, "full", rows * context, False, 4, context=context)
    assert needed == pytest.approx(measured, rel=0.15)
    # A graphics card computes attention without whole scores.
    with_card = preflight.memory_bytes(shape, "full", rows * context, False, 4, on_card=True, context=context)
    assert with_card < 0.75 * needed


def test_a_rank_above_the_width_is_refused_before_anything_is_loaded(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "load_network", lambda *arguments: pytest.fail("it was loaded"))
    recipe = Recipe.model_validate({"start": str(tiny_folder), "tokens": 1_000, "context": 64, "rank": 1_000_000_000})
    with pytest.raises(UsageError, match=r"rank 1,000,000,000 .* 64 wide"):
        train(recipe, dataset.id, store=store)


def test_a_tiny_part_of_an_epoch_is_a_step_or_two(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 1_000, "max_epochs": 1e-6})
    record = train(recipe, dataset.id, store=store).record
    assert 1 <= record.steps <= 2  # its tokens are about those of one step
    assert any("1e-06 epochs" in note for note in record.notes)
