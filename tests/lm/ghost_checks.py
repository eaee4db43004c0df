"""Run everything that computes with a network on the CPU and on the ghost device, and print both results as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from sizewise.lm import adapt, checking, embed, generate, loop, score, validation
from sizewise.lm.checkpointing import load_state, save_state
from sizewise.lm.execution import execution_of
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.option_scores import Continuation, OptionReader
from sizewise.lm.packing import Unit, pack
from tests.lm import ghost

SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
NETWORKS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=6)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, sliding_window=6, layer_types=["sliding_attention", "full_attention"])
    ),
}
SEQUENCES = [list(range(5, 45)), [*range(5, 30), 7, 8, 9], [9, 8, 7, 6, 5]]
TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token_id=2, decode=lambda ids, **_: " ".join(map(str, ids)))


def make(kind: str, device: str) -> Any:
    torch.manual_seed(0)
    network = NETWORKS[kind]().eval().to(device)
    network.tie_weights()  # moving to a device of another tensor class makes a copy of each
    return network


def scores(network: Any) -> Any:
    return [values.tolist() for values in score.score_ids(network, SEQUENCES, 24)]


def ends(network: Any) -> Any:
    return [one.nats.tolist() for one in score.score_ends(network, SEQUENCES, [10, 10, 2], 64)]


def answers(network: Any) -> Any:
    written: list[list[int]] = [[] for _ in SEQUENCES]

    def taken(number: int) -> Callable[[int, float], bool]:
        def take(token: int, _logprob: float) -> bool:
            written[number].append(token)
            return len(written[number]) >= 3 + number

        return take

    wanted = [
        generate.Wanted(ids, 0.0 if number else 0.7, 0.9, 3, taken(number)) for number, ids in enumerate(SEQUENCES)
    ]
    generate.generate_together(network, TOKENIZER, wanted)
    return written + generate.next_tokens(network, SEQUENCES, [5, 5, 2])


def embeddings(network: Any) -> Any:
    return embed.embed_ids(network, SEQUENCES).tolist()


def options(network: Any) -> Any:
    reader = OptionReader(network, 64)
    prompt = list(range(5, 25))
    items = [[Continuation([*prompt, *option], len(prompt)) for option in ([30, 31], [30, 40, 41])] for _ in range(2)]
    return [values.tolist() for values in reader.nats(items)]


def checked(network: Any) -> Any:
    """The check at opening compares with transformers' own forward pass."""
    before, checking.VERIFIED = checking.VERIFIED, ()
    try:
        checking.check_network(network)
        checking.check_packing(network, lambda: network.set_attn_implementation(loop.attention.NAME))
    finally:
        checking.VERIFIED = before
    return [float(execution_of(network).padded)]  # 0 after a fall back


def trained(network: Any, method: str = "full", micro_rows: int = 0) -> Any:
    """Three steps, a checkpoint on disk, a new optimizer that resumes, two more steps, validation, and the merge."""
    if method != "full":
        network = adapt.add_lora(network, 4, 0)
    loop.prepare(network, compiled=False, checkpointing=method == "lora")
    units = [Unit(ids, 1) for ids in [*SEQUENCES, *SEQUENCES]]
    rows = pack(units, 48, 0).all()
    held = validation.Held.of(SimpleNamespace(pad_token_id=0), units, ["x" * 20] * len(units), 48)
    optimizer = MasterAdamW(network.named_parameters(), 0.1)
    found = []
    for number in range(5):
        if number == 3:
            with tempfile.TemporaryDirectory() as folder:
                save_state(Path(folder), 3, optimizer.tensors(), {})
                saved = load_state(Path(folder))
            assert saved is not None
            optimizer = MasterAdamW(network.named_parameters(), 0.1)
            optimizer.load(saved[0])
        found.append(loop.backward_in_parts(network, rows, None, micro_rows, optimizer.collect))
        optimizer.step(1e-2)
    found.append(validation.validation_bits(network, held))
    loop.finish(network)
    merged = network if method == "full" else adapt.merge_lora(network)
    return found + [float(values.sum()) for values in score.score_ids(merged, SEQUENCES, 64)]


def gradients(network: Any) -> Any:
    loop.prepare(network, compiled=False)
    loop.loss_of(network, pack([Unit(ids, 1) for ids in SEQUENCES], 48, 0).all()).backward()
    return [p.grad.cpu().flatten()[:200].tolist() for p in network.parameters() if p.grad is not None]


def distilled(network: Any) -> Any:
    loop.prepare(network, compiled=False)
    rows = pack([Unit(ids, 1) for ids in SEQUENCES], 48, 0).all()
    soft = loop.teacher_of(network, 0.5, k=8)
    return [float(loop.loss_of(network, rows, soft).detach())]


def run_with_best_weights(network: Any) -> Any:
    """A whole run that diverges once and returns to its best weights, which are in the machine's memory."""
    units = [Unit(ids, 1) for ids in SEQUENCES]
    mix = loop.Mix(pack(units, 48, 0), pack([], 48, 0), 0.0, 2, 0)
    loop.prepare(network, compiled=False)
    plan = loop.Plan(tokens=600, learning_rate=1e-2, weight_decay=0.0, compiled=False, validations=3, micro_rows=1)
    plain, calls = loop.loss_of, iter(range(1000))

    def sometimes(*arguments: Any) -> torch.Tensor:
        return plain(*arguments) * (float("nan") if next(calls) == 9 else 1.0)

    loop.loss_of = sometimes
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = loop.train_network(
                network, mix, plan, lambda: loop.Bits(float(next(calls))), Path(folder), lambda progress: None
            )
    finally:
        loop.loss_of = plain
    assert result.rollbacks
    return [point.loss for point in result.points]


EVERY = tuple(NETWORKS)
CHECKS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "scores": (scores, EVERY),
    "ends": (ends, EVERY),
    "answers": (answers, ("llama", "gemma3")),
    "embeddings": (embeddings, ("llama",)),
    "options": (options, EVERY),
    "checked": (checked, ("gemma3",)),
    "gradients": (gradients, EVERY),
    "full": (trained, ("gemma3",)),
    "lora": (lambda network: trained(network, "lora"), ("mistral",)),
    "lora in parts": (lambda network: trained(network, "lora", 3), ("llama",)),
    "distilled": (distilled, ("llama",)),
    "best weights": (run_with_best_weights, ("llama",)),
}


def main() -> None:
    """Print check -> network -> [result on the CPU, result on the ghost device], or the error."""
    ghost.install()
    found: dict[str, dict[str, Any]] = {}
    for name, (check, kinds) in CHECKS.items():
        for kind in kinds:
            try:
                pair = [check(make(kind, device)) for device in ("cpu", ghost.NAME)]
            except Exception:
                pair = [traceback.format_exc(limit=-6)]
            found.setdefault(name, {})[kind] = pair
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
