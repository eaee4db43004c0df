"""Training speed: our loop against common alternatives, each in a separate process, stepped in turns.

LoRA (rank 16 on all linear layers) and full fine-tuning of SmolLM2-135M on 4 rows of 512 tokens, bf16, real text
without padding, against a plain transformers (+ peft) loop (bf16 autocast over fp32 weights, SDPA, AdamW) and the
Hugging Face Trainer; networks of 5M and 20M parameters from scratch against a plain compiled loop; and sliding windows
of 512 at 4,096 tokens against our fastest full attention. Ends stdout with one JSON line and writes it to
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from sizewise import datasets
from sizewise.lm import attention
from sizewise.lm.architecture import shape_for
from sizewise.lm.hf_format import load_tokenizer
from sizewise.lm.kernels import enable_kernels
from sizewise.lm.tokenizer import text_ids
from sizewise.models.opening import resolve_folder
from sizewise.store import Store

HERE = Path(__file__).parent
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_ARENA_MAX": "1"}
WARMUP = 2
# Loops to compare with; the headline ratio is against the first.
PEERS = {
    "lora": ["plain", "trainer", "plain, memory kept"],
    "full": ["plain", "trainer", "plain, memory kept"],
    "scratch-5000000": ["plain"],
    "scratch-20000000": ["plain"],
    "window-lora": ["window"],
    "window-scratch-5000000": ["window"],
}


class Process:
    """A training loop in a separate process."""

    def __init__(self, task: str, who: str, rows: Path, folder: Path) -> None:
        # Sizewise enables huge pages (sizewise/__init__.py); plain loops run without them unless memory is kept.
        kept = {"THP_MEM_ALLOC_ENABLE": "0"} if who in ("plain", "trainer") else {"THP_MEM_ALLOC_ENABLE": "1"}
        if who.endswith("memory kept"):
            kept |= KEEP
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "loops.py"), task, who, str(rows), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **kept},
        )
        if self._line() != "ready":
            raise RuntimeError(f"{who} did not get ready for {task}")

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):  # other lines are printed by libraries
                return line[1:].strip()
        raise RuntimeError("A loop exited early.")

    def step(self, number: int) -> tuple[float, float]:
        """Run a step; return its seconds and loss."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        seconds, loss = self._line().split()
        return float(seconds), float(loss)

    def end(self) -> None:
        """Stop the process."""
        self.process.kill()
        self.process.wait()


def compare(task: str, batches: np.ndarray, folder: Path, scratch: Path) -> dict[str, Any]:
    """Step all loops of a task in turns; return speeds and ratios."""
    rows = scratch / f"{task}.npz"
    np.savez(rows, batches=batches)
    way = task.removeprefix("window-")
    loops = {who: Process(way, who, rows, folder) for who in ["ours", *PEERS[task]]}
    times: dict[str, list[float]] = {who: [] for who in loops}
    losses: dict[str, list[float]] = {who: [] for who in loops}
    warmup = dict.fromkeys(loops, 0.0)
    for number in range(len(batches)):
        for who, one in loops.items():
            seconds, loss = one.step(number)
            losses[who].append(loss)
            if number < WARMUP:
                warmup[who] += seconds
            else:
                times[who].append(seconds)
        told = ", ".join(f"{who} {(times[who] or [warmup[who]])[-1]:.2f} s" for who in loops)
        print(f"{task} step {number}: {told}", file=sys.stderr)
    for one in loops.values():
        one.end()
    tokens = batches[0].size
    measured: dict[str, Any] = {"tokens_per_s": {who: round(tokens / median(times[who]), 1) for who in loops}}
    fast, slow = ("window", "ours") if task.startswith("window") else ("ours", None)
    for who in loops:
        if who != fast and (slow is None or who == slow):
            ratios = [other / one for one, other in zip(times[fast], times[who], strict=True)]
            measured[f"ratio to {who if slow is None else 'full attention'}"] = round(median(ratios), 3)
            measured[f"range to {who if slow is None else 'full attention'}"] = [
                round(min(ratios), 2),
                round(max(ratios), 2),
            ]
    last = max(1, len(batches) // 4)
    measured["last_loss"] = {who: round(float(np.mean(some[-last:])), 4) for who, some in losses.items()}
    measured["warmup_s"] = {who: round(seconds, 1) for who, seconds in warmup.items()}
    return measured


def product_floor() -> float:
    """Measure the bf16 matrix product of the machine at the network's layer size, in GFLOP/s."""
    left, right = torch.randn(2048, 576).bfloat16(), torch.randn(1536, 576).bfloat16()
    return 2 * 2048 * 576 * 1536 / _median_s(lambda: torch.nn.functional.linear(left, right), 20) / 1e9


def _median_s(function: Any, runs: int) -> float:
    times = []
    for _ in range(runs + 2):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return median(times[2:])


def attention_alone(runs: int) -> dict[str, Any]:
    """Time forward and backward attention at 4,096 tokens in SmolLM2's shape: full (ours, PyTorch's) and window 512."""
    enable_kernels(True)
    query, key, value = (torch.randn(1, heads, 4096, 64).bfloat16().requires_grad_() for heads in (9, 3, 3))
    wide = [torch.randn(1, 9, 4096, 64).bfloat16().requires_grad_() for _ in range(2)]
    segments = torch.ones((1, 4096), dtype=torch.long)

    def own(window: int) -> None:
        attention._attend(query, key, value, segments, 0.125, window)[0].sum().backward()

    def fused() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, *wide, is_causal=True).sum().backward()

    seconds = {
        "full": _median_s(lambda: own(4096), runs),
        "PyTorch's fused": _median_s(fused, runs),
        "window 512": _median_s(lambda: own(512), runs),
    }
    best = min(seconds["full"], seconds["PyTorch's fused"])
    visited = {
        window: sum((b.end - b.first) * (b.end - b.start) for b in attention._blocks(segments, window))
        for window in (4096, 512)
    }
    return {
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "ratio to the fastest full attention": round(best / seconds["window 512"], 2),
        "ratio to PyTorch's fused": round(seconds["PyTorch's fused"] / seconds["window 512"], 2),
        "pairs of tokens, full to window": round((4096 * 4097 / 2) / (512 * 513 / 2 + (4096 - 512) * 512), 2),
        "pairs computed, full to window": round(visited[4096] / visited[512], 2),
    }


def batches_of(ids: np.ndarray, steps: int, rows: int, context: int) -> np.ndarray:
    """Cut text into (steps, rows, context) without padding, and repeat it as needed."""
    return np.resize(ids, (steps, rows, context)).astype(np.int64)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each loop")
    parser.add_argument("--tasks", nargs="*", default=list(PEERS), choices=list(PEERS), help="tasks to run")
    args = parser.parse_args()
    store = Store()
    folder, _, _ = resolve_folder("pkg:smollm2-135m", store, lambda line: print(line, file=sys.stderr))
    contents = datasets.load(store, datasets.read(["demo:fhir"], store=store).id)
    tokenizer = load_tokenizer(folder)
    ids = np.array([i for d in contents.documents["train"] for i in text_ids(tokenizer, d.text)])
    results: dict[str, Any] = {}
    floor = round(product_floor())
    with tempfile.TemporaryDirectory() as name:
        for task in args.tasks:
            rows, context = (1, 4096) if task.startswith("window") else (4, 512)
            some = ids
            if "scratch" in task:
                some = ids % shape_for(int(task.rpartition("-")[2])).vocabulary
            steps = (args.steps if "scratch" not in task else 2 * args.steps) + WARMUP
            results[task] = compare(task, batches_of(some, steps, rows, context), folder, Path(name))
            print(f"{task}: {json.dumps(results[task])}", file=sys.stderr)
    results["attention, 4096 tokens"] = attention_alone(args.steps)
    main_task = results.get("lora", results[args.tasks[0]])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "training",
        "ratio": main_task.get("ratio to plain"),
        "peer": "transformers + peft, bf16 autocast, SDPA",
        "value": main_task["tokens_per_s"]["ours"],
        "unit": "tokens/s",
        "runs": args.steps,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "matrix_product_gflops_bf16": floor,
        "commit": commit.stdout.strip() or "unknown",
        "date": datetime.now(UTC).date().isoformat(),
        "tasks": results,
    }
    line = json.dumps(result)
    if set(args.tasks) == set(PEERS):
        target = HERE / "results" / "training.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
