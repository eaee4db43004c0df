"""Quality for equal minutes: `python benchmarks/equal_minutes.py` compares LoRA with a loop of transformers and peft.

SmolLM2-135M is fine-tuned on documents with the same rank and targets, and scored on the same unseen passages in bits
per byte. Ours is `train()` with all its own choices; its minutes include compiling and validating. The peer is a
plain loop over packed rows (SDPA, AdamW, warm-up and cosine) in the processor's native precision, with the rate that
was best of four in short trials; it gets `--factor` times the minutes, counted from its first step. Finished arms are
kept in benchmarks/results/equal_minutes.json, so a killed benchmark continues. The two arms may run side by side, each
on its own core: `taskset -c 0 ... --only sizewise` and `taskset -c 1 ... --only peer`. Ends stdout with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock

from loops import BETAS, RANK, pretrained
from reporter import StderrReporter
from sizewise import datasets
from sizewise.evaluation import evaluate
from sizewise.lm.device import machine_precision
from sizewise.lm.hf_format import load_tokenizer
from sizewise.lm.tokenizer import text_ids
from sizewise.models.machine import describe_machine
from sizewise.models.opening import resolve_folder
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training import train

KEPT = Path(__file__).parent / "results" / "equal_minutes.json"
START, CONTEXT, ROWS = "pkg:smollm2-135m", 512, 4
PEER_RATES = (1e-3, 2e-3, 4e-3, 8e-3)
PASSAGES = 300  # of the test documents, the same for all arms
TRIAL_SHARE = 0.1
"""Length of a trial of a rate, as a share of the peer's time; the trials come on top."""


class Plan(NamedTuple):
    """What both arms train on, and for how long."""

    data: str
    rows: Path
    minutes: float
    factor: float
    precision: str
    name: str
    """The peer's time and the machine, as in the name of an arm."""


def peer_step(network: Any, trained: list[Any], optimiser: Any, ids: torch.Tensor, rate: float, bf16: bool) -> float:
    """Take one step of the plain loop; return its loss."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = network(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())


def peer(rows_file: str, seconds: float, rate: float, seed: int, bf16: bool, out: str) -> None:
    """Train the peer for a time, print its tokens and last losses, and save the merged network."""
    saved = np.load(rows_file)
    folder, rows = Path(str(saved["folder"])), saved["rows"]
    torch.manual_seed(seed)
    network = pretrained(folder, "lora")
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate, betas=BETAS, weight_decay=0.0)
    random = np.random.default_rng(seed)
    losses, step, begun, order = [], 0, time.monotonic(), np.array([], dtype=int)
    while (done := (time.monotonic() - begun) / seconds) < 1:
        if len(order) < ROWS:
            order = random.permutation(len(rows))
        chosen, order = order[:ROWS], order[ROWS:]
        warm = min(1.0, done / 0.05) if done < 0.05 else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
        ids = torch.from_numpy(rows[chosen].astype(np.int64))
        losses.append(peer_step(network, trained, optimiser, ids, rate * max(warm, 0.02), bf16))
        step += 1
    last = float(np.mean(losses[-max(1, len(losses) // 5) :]))
    print(json.dumps({"tokens": step * ROWS * CONTEXT, "last_loss": last, "seconds": time.monotonic() - begun}))
    if out:
        network.merge_and_unload().save_pretrained(out)
        load_tokenizer(folder).save_pretrained(out)


def run_peer(rows: Path, seconds: float, rate: float, seed: int, bf16: bool, out: str = "") -> dict[str, Any]:
    """Run the peer in a process of its own, with torch's default memory as in a plain script."""
    command = [sys.executable, __file__, "--peer", str(rows), str(seconds), str(rate), str(seed), str(int(bf16)), out]
    plain = {"THP_MEM_ALLOC_ENABLE": "0"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | plain).stdout
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found


def score(model: str, data: str, store: Store) -> dict[str, Any]:
    """Evaluate a model's bits per byte."""
    found = evaluate(model, data, metrics=["bits_per_byte"], limit=PASSAGES, store=store).record.scores["bits_per_byte"]
    return {"bits_per_byte": found.value, "low": found.ci_low, "high": found.ci_high, "n": found.n}


@contextmanager
def kept() -> Iterator[dict[str, Any]]:
    """Read the finished arms, and write them with what was added; a second process waits."""
    KEPT.parent.mkdir(exist_ok=True)
    with FileLock(f"{KEPT}.lock"):
        found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {"arms": {}}
        yield found["arms"]
        about = {"name": "equal_minutes", "unit": "bits per byte", "machine": describe_machine()}
        KEPT.write_text(json.dumps(found | about, indent=1) + "\n", encoding="utf-8")


def train_ours(plan: Plan, seed: int, store: Store) -> dict[str, Any]:
    """Train with all choices of the product."""
    begun = time.monotonic()
    recipe = Recipe(start=START, rank=RANK, minutes=plan.minutes, example_share=0.0, seed=seed)
    run = train(recipe, plan.data, store=store, reporter=StderrReporter())
    seconds = time.monotonic() - begun
    return {"tokens": run.record.tokens, "seconds": seconds} | score(f"run:{run.id}", plan.data, store)


def train_peer(plan: Plan, seed: int, store: Store) -> dict[str, Any]:
    """Train the plain loop at its best rate of four, found in short trials with one seed."""
    seconds, bf16 = 60 * plan.minutes * plan.factor, plan.precision == "bf16"
    with kept() as arms:
        trials = arms.get(f"trials of rates, {plan.name}", {})
    missing = [rate for rate in PEER_RATES if str(rate) not in trials]
    if missing:
        trials |= {str(r): run_peer(plan.rows, TRIAL_SHARE * seconds, r, 0, bf16)["last_loss"] for r in missing}
        with kept() as arms:
            arms[f"trials of rates, {plan.name}"] = trials
    rate = float(min(trials, key=lambda r: trials[r]))
    out = str(plan.rows.parent / f"peer-{seed}")
    told = run_peer(plan.rows, seconds, rate, seed, bf16, out)
    return score(out, plan.data, store) | told | {"rate": rate}


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="demo:fhir", help="documents, enough that no arm reads them often")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--factor", type=float, help="the peer's minutes; by default 1.8 with bf16 and 1.3 without")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=["sizewise", "peer"], help="one arm; run the other at the same time")
    args = parser.parse_args()
    store, precision, cores = Store(), machine_precision(training=True), len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    factor = args.factor or (1.8 if precision == "bf16" else 1.3)
    folder, _, _ = resolve_folder(START, store, lambda line: print(line, file=sys.stderr))
    data = datasets.read([args.data], store=store).id
    tokenizer, documents = load_tokenizer(folder), datasets.load(store, data).documents["train"]
    ids = [i for d in documents for i in [*text_ids(tokenizer, d.text), tokenizer.eos_token_id]]
    with tempfile.TemporaryDirectory() as temporary:
        rows, on = Path(temporary) / "rows.npz", f"{Path(args.data).stem}, {precision}, {cores} core{'s' * (cores > 1)}"
        np.savez(rows, rows=np.array(ids[: len(ids) // CONTEXT * CONTEXT]).reshape(-1, CONTEXT), folder=str(folder))
        plan = Plan(data, rows, args.minutes, factor, precision, f"{factor:g} x {args.minutes:g} min, {on}")
        for seed in args.seeds:
            for arm, name, work in (
                ("sizewise", f"sizewise, {args.minutes:g} min, {on}, seed {seed}", train_ours),
                ("peer", f"transformers + peft, {plan.name}, seed {seed}", train_peer),
            ):
                with kept() as arms:
                    wanted = args.only in (None, arm) and name not in arms
                if wanted:
                    found = work(plan, seed, store) | {"at": datetime.now(UTC).isoformat(timespec="minutes")}
                    with kept() as arms:
                        arms[name] = found
    with kept() as arms:
        print(json.dumps({"benchmark": "equal_minutes", "arms": arms}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "1", sys.argv[7])
    else:
        main()
