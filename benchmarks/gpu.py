"""Train, resume, merge, score, answer and serve on a graphics card in one run: python benchmarks/gpu.py --size 7B.

Nothing is downloaded: the network has the shape of Mistral 7B and random weights, so losses mean nothing, but memory,
speed and every path through the code are those of the real model. The last line of stdout is one JSON object with the
memory that was computed beside the memory that was measured; it is saved in benchmarks/results/gpu.json. On a machine
without a card, `--size tiny --device cpu` runs the same steps in a few minutes and saves nothing.

Steps: which kernels work; LoRA with 32 rows in a step, killed and resumed; QLoRA; full training of a smaller network
with AdamW in 8 bits; scores and answers in the card's precision and in 4 bits; the service in 4 bits.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import MistralConfig, MistralForCausalLM

from sizewise import datasets
from sizewise.lm import device_kernels
from sizewise.lm.device import (
    choose_device,
    device_name,
    device_peak_bytes,
    free_device_bytes,
    machine_precision,
    reset_device_peak,
)
from sizewise.lm.placement import use_device
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.models import open_model
from sizewise.models.machine import describe_machine
from sizewise.records import Recipe, Request
from sizewise.store import Store
from sizewise.training import run_id_of, train

HERE = Path(__file__).parent
RESULT = HERE / "results" / "gpu.json"
SIZES = {  # width, inner width, blocks, (heads, key heads)
    "7B": (4096, 14336, 32, (32, 8)),
    "1B": (2048, 5632, 22, (32, 4)),
    "tiny": (64, 128, 2, (4, 2)),
}
VOCABULARY = 32_000
WORDS = ("the", "patient", "was", "given", "a", "dose", "of", "drug", "at", "night", "after", "meal", "with", "water")


def write_texts(folder: Path) -> None:
    """Write documents of pseudo-random sentences."""
    state = 1
    for number in range(40):
        words = []
        for _ in range(2_000):
            state = (1_103_515_245 * state + 12_345) % 2**31
            words.append(WORDS[(state >> 8) % len(WORDS)])
        (folder / f"document-{number}.txt").write_text(" ".join(words) + ".\n", encoding="utf-8")


def write_network(size: str, folder: Path, texts: Path, device: str) -> None:
    """Save a network of random weights in bf16, made on the device, with a tokenizer."""
    width, inner, layers, (heads, groups) = SIZES[size]
    tokenizer = train_tokenizer([path.read_text(encoding="utf-8") for path in texts.glob("*.txt")], 400, 4096)
    config = MistralConfig(
        vocab_size=VOCABULARY if size != "tiny" else len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=4096,
        sliding_window=None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        network = MistralForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def memory_of(record: Any) -> dict[str, Any]:
    """Return the computed and the measured memory of a run in GB, and its speed."""
    expected = record.estimate.memory_bytes.expected / 1e9 if record.estimate else None
    return {
        "expected_gb": expected,
        "peak_gb": record.peak_memory_bytes / 1e9,
        "tokens_per_s": record.tokens_per_s,
        "steps": record.steps,
        "sessions": record.sessions,
        "notes": list(record.notes),
    }


def killed_and_resumed(recipe: Recipe, data: str, store: Store) -> dict[str, Any]:
    """Kill a run after its first checkpoint, and finish it."""
    code = (
        "from sizewise.lm import loop; loop.SAVE_EVERY_S = 0.0\n"
        "from sizewise.records import Recipe; from sizewise.training import train\n"
        f"train(Recipe.model_validate_json({recipe.model_dump_json()!r}), {data!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    state = store.folder("checkpoint", run_id_of(recipe, data)) / "state"
    while process.poll() is None and not list(state.glob("state-*.safetensors")):
        time.sleep(0.05)
    killed = process.poll() is None
    if killed:
        process.send_signal(signal.SIGKILL)
    process.wait()
    record = train(recipe, data, store=store).record
    return memory_of(record) | {"killed": killed, "resumed": record.sessions > 1}


def answers_and_scores(uri: str, precision: str | None, device: str) -> dict[str, Any]:
    """Open a model, score a text and answer 16 prompts."""
    reset_device_peak(device)
    begun = time.monotonic()
    model = open_model(uri, precision=precision, device=device)
    opened_s = time.monotonic() - begun
    text = " ".join(WORDS * 40)
    nats = next(iter(model.score([text]))).nats
    requests = [Request(id=str(n), text=" ".join(WORDS[: n + 2]), max_tokens=64) for n in range(16)]
    begun = time.monotonic()
    tokens = sum(answer.completion_tokens or 0 for answer in model.complete(requests))
    seconds = time.monotonic() - begun
    described = model.describe()
    model.close()
    peak = device_peak_bytes(device)
    return {
        "precision": described.precision,
        "opened_s": opened_s,
        "nats_per_token": float(nats.mean()),
        "output_tokens_per_s": tokens / seconds,
        "described_gb": described.memory_bytes / 1e9 if described.memory_bytes else None,
        "peak_gb": None if peak is None else peak / 1e9,
    }


def served(uri: str, precision: str, device: str) -> dict[str, Any]:
    """Start the service with 4-bit weights and measure it with eight users at once."""
    command = [sys.executable, "-m", "sizewise", "serve", uri, "--device", device, "--precision", precision]
    port = "8123"
    process = subprocess.Popen([*command, "--engine", "transformers", "--port", port])
    try:
        test = [sys.executable, "-m", "sizewise", "loadtest", f"http://127.0.0.1:{port}/v1", "--concurrency", "1,8"]
        for _ in range(120):
            done = subprocess.run([*test, "--json"], capture_output=True, text=True, check=False)
            if done.returncode in (0, 3) or process.poll() is not None:
                break
            time.sleep(5)
        found: dict[str, Any] = json.loads(done.stdout)
        return found
    finally:
        process.terminate()
        process.wait()


def attempt(found: dict[str, Any], name: str, step: Callable[[], Any]) -> None:
    """Run a step and keep its result or its error; a failure doesn't end the others."""
    begun = time.monotonic()
    try:
        result = step()
    except Exception:
        result = {"error": traceback.format_exc(limit=-3)}
    found[name] = result
    print(f"{name} ({time.monotonic() - begun:.0f} s): {json.dumps(result)}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all steps, print one JSON line, and save it if there is a card."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="7B")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=200_000)
    args = parser.parse_args(arguments)
    device = choose_device(args.device)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, use_device(device):
        root = Path(name)
        os.environ["SIZEWISE_HOME"] = str(root / "home")
        store, texts, folder = Store(), root / "texts", root / "network"
        texts.mkdir()
        write_texts(texts)
        write_network(args.size, folder, texts, device)
        data = datasets.read(texts, store=store).id
        common = {"start": str(folder), "tokens": args.tokens, "control": "none", "device": device, "context": 1024}
        common |= {"patience": 0} if args.size != "tiny" else {"patience": 0, "context": 64, "tokens": 20_000}

        def run(**changes: Any) -> Any:
            return memory_of(train(Recipe.model_validate(common | changes), data, store=store).record)

        attempt(
            found,
            "kernels",
            lambda: {
                "card": device_name(device),
                "free_gb": (free_device_bytes(device) or 0) / 1e9,
                "precision": machine_precision(device),
                "flex_attention": device == "cuda" and device_kernels.flex_works(),
                "liger": device == "cuda" and device_kernels.liger_loss() is not None,
            },
        )
        lora = Recipe.model_validate(common | {"method": "lora", "rows_per_step": 32})
        attempt(found, "lora, 32 rows, killed and resumed", lambda: killed_and_resumed(lora, data, store))
        if find_spec("bitsandbytes"):
            attempt(found, "qlora", lambda: run(method="qlora", rows_per_step=8))
            attempt(found, "qlora, window", lambda: run(method="qlora", attention="window:256", rows_per_step=2))
            small = {"start": "scratch", "method": "full", "parameters": 100_000_000, "optimizer": "adamw8bit"}
            attempt(found, "full, 8-bit AdamW", lambda: run(**small, rows_per_step=16))
        uri = f"run:{run_id_of(lora, data)}"
        attempt(found, "answers", lambda: answers_and_scores(uri, None, device))
        if args.size == "tiny":
            attempt(found, "answers, fp32 on the CPU", lambda: answers_and_scores(uri, "fp32", "cpu"))
        if find_spec("bitsandbytes"):
            attempt(found, "answers, 4 bits", lambda: answers_and_scores(uri, "nf4", device))
            attempt(found, "service, 4 bits", lambda: served(uri, "nf4", device))
    failed = [name for name, result in found.items() if isinstance(result, dict) and "error" in result]
    result = {
        "name": "gpu",
        "value": len(found) - len(failed),
        "unit": f"of {len(found)} steps done",
        "failed": failed,
        "size": args.size,
        "machine": f"{describe_machine()}, {device_name(device) or device}",
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "steps": found,
    }
    if device != "cpu":
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: part for key, part in result.items() if key != "steps"}))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
