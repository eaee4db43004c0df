"""Compare the memory that the pre-flight check computes with the memory that training takes: make bench-preflight.

Each case trains a network of random weights for a few steps in a process of its own, forked from one that has loaded
the libraries. Measured is the peak of resident memory beyond that of the process before it had a network. The check
knows the shape and the loaded weights; it takes no step.
QLoRA and 8-bit AdamW need bitsandbytes (pip install "sizewise[qlora]"), which runs on the CPU, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sizewise.lm import adapt, loop
from sizewise.lm import hf_format as folders
from sizewise.lm.device import BYTES, PRECISIONS
from sizewise.lm.packing import Mix, Unit, pack
from sizewise.models.machine import describe_machine
from sizewise.training import preflight

FORK = multiprocessing.get_context("fork")
HERE = Path(__file__).parent
RESULT = HERE / "results" / "preflight.json"
SHAPES = {  # width, inner width, blocks, (heads, key heads), vocabulary; 135M is SmolLM2's
    "warm-up": (64, 128, 1, (2, 1), 512),
    "10M": (256, 704, 8, (4, 2), 8_192),
    "30M": (384, 1024, 10, (6, 2), 16_384),
    "135M": (576, 1536, 30, (9, 3), 49_152),
}
CASES: list[dict[str, Any]] = [
    {"shape": shape, "method": method, "rows": rows, "context": context} | more
    for shape, method, rows, context, more in (
        ("10M", "lora", 2, 512, {}),
        ("10M", "lora", 4, 512, {"checkpointing": True}),
        ("10M", "lora", 8, 256, {"micro_rows": 2}),
        ("10M", "lora", 2, 512, {"precision": "bf16"}),
        ("10M", "dora", 2, 512, {}),
        ("10M", "qlora", 2, 512, {}),
        ("10M", "qlora", 4, 512, {"checkpointing": True}),
        ("10M", "full", 2, 512, {}),
        ("10M", "full", 2, 512, {"checkpointing": True}),
        ("10M", "full", 2, 512, {"optimizer": "adamw8bit"}),
        ("30M", "lora", 2, 512, {}),
        ("30M", "lora", 4, 512, {}),
        ("30M", "lora", 2, 512, {"checkpointing": True}),
        ("30M", "qlora", 2, 512, {}),
        ("30M", "qlora", 4, 512, {}),
        ("30M", "qlora", 2, 512, {"checkpointing": True}),
        ("30M", "full", 2, 512, {}),
        ("30M", "full", 1, 256, {}),
        ("135M", "lora", 1, 512, {}),
        ("135M", "lora", 1, 512, {"checkpointing": True}),
        ("135M", "qlora", 1, 512, {}),
        ("135M", "qlora", 1, 512, {"checkpointing": True}),
        ("135M", "full", 1, 256, {}),
    )
]
STEPS = 2


def resident(field: str) -> int:
    """Read VmRSS or VmHWM of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def random_network(case: dict[str, Any]) -> Any:
    """Build the network of a case with random weights."""
    width, inner, layers, (heads, groups), vocabulary = SHAPES[case["shape"]]
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(PRECISIONS[case.get("precision", "fp32")])
    network = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return network


def save(case: dict[str, Any], folder: str) -> None:
    """Save the network of a case, in a process of its own: memory that it has freed would count as that of training."""
    random_network(case | {"precision": "bf16"}).save_pretrained(folder)


def build(case: dict[str, Any], folder: str) -> Any:
    """Build the network of a case, with adapters where it has them; weights in 4 bits are read from a folder."""
    if case["method"] == "qlora":
        network = adapt.load_in_4_bits(Path(folder), "cpu", case.get("precision", "fp32"))
    else:
        network = random_network(case)
    return network if case["method"] == "full" else adapt.add_lora(network, 16, 0, dora=case["method"] == "dora")


def measure(case: dict[str, Any], folder: str = "") -> dict[str, Any]:
    """Train for a few steps, and return the computed and the measured memory in bytes."""
    before = resident("VmRSS")
    network = build(case, folder)
    held = resident("VmRSS") - before
    base = adapt.base_of(network)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    shape = preflight.Shape.of(
        folders.settings_of(base.config), folders.parameters_of(base), trained, folders.held_bytes(network)
    )
    rows, context, micro = case["rows"], case["context"], case.get("micro_rows", case["rows"])
    width, again = BYTES[case.get("precision", "fp32")], case.get("checkpointing", False)
    optimizer = case.get("optimizer", "adamw")
    computed = preflight.memory_bytes(shape, case["method"], micro * context, again, width, optimizer, context=context)
    computed += trained * preflight.MASTER_BYTES if micro < rows else 0
    loop.prepare(network, compiled=False, checkpointing=again)
    generator = np.random.default_rng(0)
    units = [Unit(generator.integers(1, base.config.vocab_size, context).tolist(), 1) for _ in range(rows * STEPS)]
    mix = Mix(pack(units, context, 0), pack([], context, 0), 0.0, rows, 0)
    tokens = rows * STEPS * context
    plan = loop.Plan(tokens, 1e-4, 0.0, False, 1, checkpointing=again, micro_rows=micro, optimizer=optimizer)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    with tempfile.TemporaryDirectory() as folder:
        loop.train_network(network, mix, plan, lambda: loop.Bits(1.0), Path(folder), lambda progress: None)
    return case | {
        "computed": round(computed),
        "measured": resident("VmHWM") - before,
        "weights_computed": round(shape.held),
        "weights_measured": held,
    }


def in_child(case: dict[str, Any], folder: str, answers: Any) -> None:
    """Measure a case after a small one, which loads what PyTorch loads at the first step, and pages of its code."""
    measure({"shape": "warm-up", "method": "full" if case["method"] == "full" else "lora", "rows": 2, "context": 64})
    answers.put(measure(case, folder))


def run(work: Any, case: dict[str, Any], *more: Any) -> None:
    """Run work on a case in a process of its own."""
    child = FORK.Process(target=work, args=(case, *more))
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"{case} ended with exit code {child.exitcode}")


def main() -> None:
    """Run all cases, print one JSON line, and save it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="shapes to run, separated by commas")
    args = parser.parse_args()
    found = []
    for case in CASES:
        needs_bitsandbytes = case["method"] == "qlora" or "optimizer" in case
        if needs_bitsandbytes and find_spec("bitsandbytes") is None:
            print(f"left out, because bitsandbytes is not installed: {case}", file=sys.stderr)
            continue
        if args.only and case["shape"] not in args.only.split(","):
            continue
        answers = FORK.SimpleQueue()
        with tempfile.TemporaryDirectory() as folder:
            if case["method"] == "qlora":
                run(save, case, folder)
            run(in_child, case, folder, answers)
        row = answers.get()
        row["error"] = row["computed"] / row["measured"] - 1
        print(json.dumps(row), file=sys.stderr, flush=True)
        found.append(row)
    value = median(abs(row["error"]) for row in found)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=False
    ).stdout.strip()
    result = {
        "name": "preflight",
        "ratio": median(row["computed"] / row["measured"] for row in found),
        "peer": "resident memory measured",
        "value": value,
        "unit": "median relative error of the computed memory",
        "runs": len(found),
        "machine": describe_machine(),
        "commit": commit,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cases": found,
    }
    if not args.only:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: part for key, part in result.items() if key != "cases"}))


if __name__ == "__main__":
    main()
