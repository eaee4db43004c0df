"""The computed memory of a run on a card is the peak of all tensors of a step, counted on PyTorch's meta device."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from sizewise.lm import adapt, attention, loop
from sizewise.lm import hf_format as folders
from sizewise.lm.execution import execution_of
from sizewise.lm.loss import CHUNK, _ChunkedCrossEntropy
from sizewise.training import preflight

MISTRAL = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 32_000}
SMALL = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 8, "vocab_size": 8_192}


class Peak(TorchDispatchMode):
    """Counts the bytes of living tensors that were made inside the block."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        for held in (*network.parameters(), *network.buffers()):
            self._known[held.untyped_storage()._cdata] = held.untyped_storage()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            storage = made.untyped_storage() if isinstance(made, torch.Tensor) else None
            if storage is not None and storage._cdata not in self._known:
                self._known[storage._cdata] = storage
                self.bytes += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.bytes)
        return result

    def _freed(self, size: int) -> None:
        self.bytes -= size


@pytest.mark.parametrize(
    ("sizes", "method", "rows", "checkpointing", "dtype"),
    [
        (MISTRAL, "lora", 4, False, torch.bfloat16),
        (MISTRAL, "lora", 4, True, torch.bfloat16),
        (MISTRAL, "full", 1, True, torch.bfloat16),
        (SMALL, "lora", 2, False, torch.float32),
        (SMALL, "full", 2, False, torch.float32),
        (SMALL, "dora", 2, False, torch.float32),
    ],
)
def test_computed_memory_is_the_peak_of_all_tensors_of_a_step(
    monkeypatch: pytest.MonkeyPatch,
    sizes: dict[str, int],
    method: str,
    rows: int,
    checkpointing: bool,
    dtype: torch.dtype,
) -> None:
    heads = 32 if sizes is MISTRAL else 4
    config = LlamaConfig(**sizes, num_attention_heads=heads, num_key_value_heads=heads // 4, tie_word_embeddings=False)
    with torch.device("meta"):
        network: Any = LlamaForCausalLM(config).to(dtype)
        if method != "full":
            network = adapt.add_lora(network, 16, 0, dora=method == "dora")
    loop.prepare(network, compiled=False, checkpointing=checkpointing)
    base, tokens = adapt.base_of(network), rows * 512
    ids = torch.zeros((rows, 512), dtype=torch.long, device="meta")
    # Keeps what fused attention keeps: queries, keys, values and one number per query.
    monkeypatch.setattr(
        attention,
        "masked_attention",
        lambda query, key, value, mask, scaling: attention._attend(query, key, value, ids, scaling, 512)[0],
    )
    with Peak(network) as counted:
        embedded = base.get_input_embeddings()(ids)
        hidden = execution_of(base).hidden_states(
            inputs_embeds=embedded if embedded.requires_grad else embedded.requires_grad_(),
            attention_mask=attention.masks_for(config, ids),
            position_ids=ids,
            use_cache=False,
        )
        _ChunkedCrossEntropy.apply(
            hidden.flatten(0, 1), execution_of(base).head.weight, ids.flatten(), None, CHUNK
        ).backward()
        exact = []
        for parameter in network.parameters():  # as MasterAdamW.collect does
            if parameter.grad is not None:
                exact.append(parameter.grad.float())
                parameter.grad = None
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    held = folders.held_bytes(network)
    shape = preflight.Shape.of(folders.settings_of(config), folders.parameters_of(base), trained, held)
    computed = preflight.memory_bytes(shape, method, tokens, checkpointing, dtype.itemsize, on_card=True)
    optimizer = trained * (preflight.MASTER_BYTES + preflight.MOMENT_BYTES["adamw"])
    assert computed - held - optimizer == pytest.approx(counted.peak, rel=0.12)
