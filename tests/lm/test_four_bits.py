"""4-bit weights and 8-bit moments with bitsandbytes, which also runs on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("bitsandbytes", reason="the extra [qlora] is not installed")

from sizewise.lm import adapt, loop
from sizewise.lm import hf_format as folders
from sizewise.lm.architecture import with_attention
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.packing import Rows, Unit, pack
from sizewise.lm.score import score_ids
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import preflight, train
from tests.conftest import make_tiny

IDS = np.random.default_rng(0).integers(3, 300, 60).tolist()


def rows() -> Rows:
    return pack([Unit(IDS, 1)], 64, 0).all()


@pytest.mark.parametrize("attention", ["full", "window:16"])
def test_adapters_learn_over_4_bit_weights_and_merge_into_the_full_ones(
    tiny_folder: Path, tmp_path: Path, attention: str
) -> None:
    plain = folders.load_network(tiny_folder, "fp32")
    network = with_attention(adapt.load_in_4_bits(tiny_folder, "cpu", "fp32"), attention, 64)
    assert folders.parameters_of(network) == folders.parameters_of(plain)
    computed = preflight.weights_bytes(tiny_folder, "qlora", "fp32")
    books = 14 * 4 * (16 + 256 + 1)  # code books of the weights and of their scales, which large layers don't notice
    assert folders.held_bytes(network) == pytest.approx(computed + books, rel=0.01)
    network = adapt.add_lora(network, 4, 0)
    loop.prepare(network, compiled=False)
    optimizer = MasterAdamW(network.named_parameters(), 0.0)
    losses = []
    for _ in range(4):
        losses.append(loop.backward_in_parts(network, rows(), None, 0, optimizer.collect))
        optimizer.step(1e-2)
    assert losses[-1] < losses[0]
    loop.finish(network)
    network.save_pretrained(tmp_path / "adapter")
    merged = adapt.merge_saved(tiny_folder, tmp_path / "adapter", attention, 64)
    adapted = float(score_ids(adapt.base_of(network), [IDS], 64)[0].mean())
    assert float(score_ids(merged, [IDS], 64)[0].mean()) == pytest.approx(adapted, abs=0.1)
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}


def test_8_bit_moments_resume_where_they_were(tiny_folder: Path) -> None:
    def step(network: Any, optimizer: MasterAdamW) -> None:
        loop.backward_in_parts(network, rows(), None, 0, optimizer.collect)
        optimizer.step(1e-3)

    network = folders.load_network(tiny_folder, "fp32")
    loop.prepare(network, compiled=False)
    optimizer = MasterAdamW(network.named_parameters(), 0.0, "adamw8bit")
    step(network, optimizer)
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    assert any(tensor.dtype == torch.uint8 for tensor in saved.values())
    step(network, optimizer)
    expected = [parameter.detach().clone() for parameter in network.parameters()]
    resumed = MasterAdamW(network.named_parameters(), 0.0, "adamw8bit")
    resumed.load(saved)
    step(network, resumed)
    assert all(torch.equal(one, other) for one, other in zip(expected, network.parameters(), strict=True))


def test_gradients_are_those_before_a_validation(tiny_folder: Path) -> None:
    """On processors with bf16 instructions, bitsandbytes would switch to a kernel without gradients in evaluation."""
    network = adapt.add_lora(adapt.load_in_4_bits(tiny_folder, "cpu", "fp32"), 4, 0)
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    loop.prepare(network, compiled=False)

    def gradients() -> dict[str, torch.Tensor]:
        network.zero_grad()
        network.train()
        loop.loss_of(network, rows()).backward()
        return {name: parameter.grad.clone() for name, parameter in trained.items()}

    first = gradients()
    network.eval()
    with torch.no_grad():
        loop.loss_of(network, rows())
    for name, second in gradients().items():
        assert torch.allclose(second, first[name], rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("inner", [64, 72])
def test_answers_in_4_bits_are_those_of_the_same_weights(tmp_path: Path, text_folder: Path, inner: int) -> None:
    """Where the processor has bf16 instructions, answers use a kernel that takes multiples of 32 outputs only."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from sizewise.models.local import _load

    tokenizer = folders.load_tokenizer(make_tiny(tmp_path / "tiny", text_folder, "full"))
    config = LlamaConfig(
        hidden_size=64, intermediate_size=inner, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=416, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    folders.save_model(LlamaForCausalLM(config).to(torch.bfloat16), tokenizer, tmp_path / "net")
    answering = _load(tmp_path / "net", "nf4", "cpu")
    wanted = adapt.load_in_4_bits(tmp_path / "net", "cpu", "fp32")
    found = [score_ids(network, [IDS], 64)[0] for network in (answering, wanted)]
    assert found[0] == pytest.approx(found[1], abs=0.05)


def test_a_whole_training_in_4_bits_ends_in_a_record(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    recipe = Recipe(start=str(tiny_folder), method="qlora", tokens=1_000, context=64, rank=4, control="none")
    record = train(recipe, dataset.id, store=store).record
    assert record.best_bits_per_byte < record.start_bits_per_byte
    assert record.trained_parameters < record.parameters


def test_rounding_to_4_bits_is_not_taken_for_forgetting(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, tmp_path: Path
) -> None:
    control = tmp_path / "control.txt"
    control.write_text(
        "\n\n".join(f"What number {i} names is the record of the patient {i + 7}." * 9 for i in range(40))
    )
    recipe = Recipe(start=str(tiny_folder), method="qlora", tokens=1_000, context=64, rank=4, control=str(control))
    record = train(recipe.model_copy(update={"learning_rate": 1e-9}), dataset.id, store=store).record
    assert record.forgetting is not None
    assert record.forgetting.before is not None
    assert record.forgetting.after == pytest.approx(record.forgetting.before, abs=1e-4)  # nothing was learned
    assert any("in 4 bits" in note for note in record.notes)
