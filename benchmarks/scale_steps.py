"""One of several processes that train a tiny network by fixed settings; started by torchrun, see benchmarks/scale.py.

    torchrun --nproc-per-node 2 benchmarks/scale_steps.py FOLDER --method lora --fsdp --steps 50

The first process writes FOLDER/weights.safetensors, and FOLDER/run.json with losses, batch ids and bytes per process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from sizewise.errors import WorkerStopped
from sizewise.launch.address import end_with_launcher
from sizewise.lm import adapt, loop
from sizewise.lm.distributed import Workers, joined
from sizewise.lm.packing import Mix, Rows, Unit, pack
from sizewise.lm.validation import Held, bits_per_byte, validation_nats

CONTEXT, VOCABULARY = 64, 512


class Tokens:
    """The padding of a network without words."""

    pad_token_id = 0


def made(method: str, width: int = 64) -> Any:
    """Make a network with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    network = LlamaForCausalLM(config).float()
    return adapt.add_lora(network, rank=4, seed=0) if method == "lora" else network


def rows(count: int = 60) -> Mix:
    """Make rows of random units of uneven lengths, so that rows differ in predicted tokens; a learnable pattern."""
    generator = np.random.default_rng(0)
    units = []
    for length in generator.integers(8, CONTEXT, count):
        start, stride = generator.integers(3, VOCABULARY), generator.integers(1, 5)
        ids = [int(3 + (start + stride * place) % (VOCABULARY - 3)) for place in range(length)]
        units.append(Unit(ids, int(generator.integers(1, max(2, length // 2)))))
    return Mix(pack(units, CONTEXT, 0), pack([], CONTEXT, 0), 0.0, 4, 0)


def batch_id(batch: Rows) -> str:
    """Identify the rows of a step."""
    return hashlib.sha256(b"".join(array.tobytes() for array in batch.arrays())).hexdigest()[:16]


def bytes_held(workers: Workers, tensors: list[torch.Tensor]) -> list[int]:
    """Return the bytes of tensors that each process holds."""
    local = sum(
        part.numel() * part.element_size()
        for part in (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    )
    own = np.zeros(workers.size)
    own[workers.rank] = local
    return [int(number) for number in workers.total(own)]


def train(workers: Workers, given: argparse.Namespace) -> None:
    """Train and write what the first process found; wait after each step, so that a kill can hit any moment."""
    network, mix, seen, folder = made(given.method), rows(), list[str](), given.folder
    tokens = sum(int((mix.step(number).segments > 0).sum()) for number in range(given.steps))
    plan = loop.Plan(tokens, 3e-3, 0.1, False, 5, micro_rows=given.micro_rows)
    units = [Unit([3 + (number + place) % 400 for place in range(40)], 1) for number in range(0, 200, 10)]
    held = Held.of(Tokens, units, ["x" * 40 for _ in units], CONTEXT)
    loop.prepare(network, compiled=False)
    loop.SAVE_EVERY_S, loop.SAVE_SHARE = 0.0, 1e9
    peak: dict[str, list[int]] = {}

    def validate() -> loop.Bits:
        nats = validation_nats(network, held, workers)
        return loop.Bits(bits_per_byte(nats, held), None, tuple(nats.tolist()))

    plain = loop.MasterAdamW.step

    def step(optimizer: Any, rate: float, clip: float = 1.0) -> float:
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        found = plain(optimizer, rate, clip)
        held_here = [*network.parameters(), *gradients, *optimizer.tensors().values()]
        peak["bytes"] = bytes_held(workers, [tensor.detach() for tensor in held_here])
        return found

    loop.MasterAdamW.step = step

    def after(progress: loop.Progress) -> None:
        seen.append(batch_id(mix.step(progress.step - 1)))
        if progress.step == given.stop_at:
            signal.raise_signal(signal.SIGINT)

        time.sleep(given.step_s)

    result = loop.train_network(network, mix, plan, validate, folder / "state", after, None, workers)
    trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    weights = workers.whole(trained)
    if workers.is_first:
        save_file(
            {name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "weights.safetensors"
        )
        found = {"losses": [point.loss for point in result.points], "batches": seen, "sessions": result.sessions}
        found |= {"best": result.best.domain, "bytes": peak.get("bytes", []), "best_step": result.best_step}
        (folder / "run.json").write_text(json.dumps(found), encoding="utf-8")


def main() -> None:
    """Train with the processes of torchrun."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="full", choices=["full", "lora"])
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--micro-rows", type=int, default=0)
    parser.add_argument("--step-s", type=float, default=0.0, help="seconds to wait after each step")
    parser.add_argument("--stop-at", type=int, default=0, help="step after which the run is stopped as by Ctrl-C")
    parser.add_argument("--fsdp", action="store_true")
    given = parser.parse_args()
    end_with_launcher()
    (given.folder / "pids").mkdir(parents=True, exist_ok=True)
    (given.folder / "pids" / os.environ.get("RANK", "0")).write_text(str(os.getpid()), encoding="ascii")
    try:
        with joined("cpu", given.fsdp) as workers:
            train(workers, given)
    except KeyboardInterrupt:
        sys.exit(130)
    except WorkerStopped as error:
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
