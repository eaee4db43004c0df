"""LoRA training: our loop against the plain transformers + peft loop, interleaved in one run.

Both train SmolLM2-135M with rank 16 on all linear layers, 4 rows of 512 tokens a step, in bf16, on the same
rows without padding. The peer is what a careful user writes: bf16 autocast over fp32 weights, SDPA, peft,
AdamW. Ends stdout with one JSON line and writes it to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from sizewise import dataset as datasets
from sizewise.lm import adapt, loop
from sizewise.lm.folder import load_network, load_tokenizer
from sizewise.lm.kernels import can_compile
from sizewise.lm.optimiser import MasterAdamW
from sizewise.lm.packing import Mix, Rows
from sizewise.models.opening import resolve_folder
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training.rows import make_mix

ROWS, CONTEXT, RANK, RATE = 4, 512, 16, 1e-3


class Ours:
    """The product's own loop."""

    def __init__(self, folder: Path) -> None:
        self.network = adapt.add_lora(load_network(folder, "bf16"), RANK, seed=0)
        loop.prepare(self.network, compiled=can_compile())
        self.optimiser = MasterAdamW(self.network.named_parameters(), 0.0)

    def step(self, rows: Rows) -> float:
        """Take one optimiser step and give the loss."""
        loss = loop.loss_of(self.network, rows)
        loss.backward()
        self.optimiser.step(RATE)
        return float(loss.detach())


class Plain:
    """A plain loop: transformers, peft, autocast, SDPA."""

    def __init__(self, folder: Path) -> None:
        from peft import LoraConfig, get_peft_model

        network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        network.config.use_cache = False
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        torch.manual_seed(0)
        with warnings.catch_warnings():  # peft's, about a name that transformers will drop
            warnings.simplefilter("ignore", FutureWarning)
            self.network = get_peft_model(network, config)
        self.network.train()
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.95), weight_decay=0.0)
        self.trained = trained

    def step(self, rows: Rows) -> float:
        """Take one optimiser step and give the loss."""
        ids = torch.from_numpy(rows.ids)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.network(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return float(loss.detach())


def product_floor() -> float:
    """Measure the machine's bf16 matrix product at the size of the network's own, in GFLOP/s."""
    left, right = torch.randn(2048, 576).bfloat16(), torch.randn(1536, 576).bfloat16()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        times.append(time.perf_counter() - start)
    return 2 * 2048 * 576 * 1536 / median(times) / 1e9


def full_rows(mix: Mix, steps: int) -> list[Rows]:
    """Take rows without padding, one segment each, so that both loops do the same work."""
    full = [i for i in range(len(mix.prose)) if (mix.prose.segments[i] == 1).all()]
    if len(full) < steps * ROWS:
        full = full * (1 + steps * ROWS // len(full))
    return [mix.prose.take(full[i * ROWS : (i + 1) * ROWS]) for i in range(steps)]  # type: ignore[arg-type]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each loop")
    steps = parser.parse_args().steps
    store = Store()
    folder, _, _ = resolve_folder("pkg:smollm2-135m", store, lambda line: print(line, file=sys.stderr))
    data = datasets.read(["demo:fhir"], store=store).id
    recipe = Recipe(start="pkg:smollm2-135m", tokens=1, context=CONTEXT, rows_per_step=ROWS)
    rows = full_rows(make_mix(datasets.load(store, data), load_tokenizer(folder), recipe).mix, steps + 2)
    loops: dict[str, Any] = {"ours": Ours(folder), "plain": Plain(folder)}
    times: dict[str, list[float]] = {name: [] for name in loops}
    losses: dict[str, list[float]] = {name: [] for name in loops}
    warmup = dict.fromkeys(loops, 0.0)
    for number, batch in enumerate(rows):
        for name, one in loops.items():
            gc.collect()
            start = time.perf_counter()
            losses[name].append(one.step(batch))
            took = time.perf_counter() - start
            if number < 2:
                warmup[name] += took
            else:
                times[name].append(took)
            print(f"step {number} {name}: {took:.2f} s, loss {losses[name][-1]:.4f}", file=sys.stderr)
    speed = {name: ROWS * CONTEXT / median(some) for name, some in times.items()}
    ratios = [plain / ours for ours, plain in zip(times["ours"], times["plain"], strict=True)]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "training",
        "ratio": round(median(ratios), 3),
        "peer": "transformers + peft, bf16 autocast, SDPA",
        "value": round(speed["ours"], 1),
        "unit": "tokens/s",
        "runs": steps,
        "peer_value": round(speed["plain"], 1),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "warmup_s": {name: round(seconds, 1) for name, seconds in warmup.items()},
        "last_loss": {name: round(some[-1], 4) for name, some in losses.items()},
        "matrix_product_gflops_bf16": round(product_floor()),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "commit": commit.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
    }
    line = json.dumps(result)
    target = Path(__file__).parent / "results" / "training.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
