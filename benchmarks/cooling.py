"""How a run that stalled should end: `python benchmarks/cooling.py RUN [SHARE,FACTOR ...]`.

RUN was trained with LoRA and stopped early, while its learning rate was high. From its best weights, the rate comes
down over SHARE of the tokens that they have seen, from FACTOR of their rate. Each end is scored on the same unseen
passages in bits per byte, beside the best weights as they are. Ends stdout with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from reporter import StderrReporter
from sizewise import datasets
from sizewise.evaluation import evaluate
from sizewise.lm import adapt, hf_format, loop
from sizewise.lm.optimizer import MasterAdamW
from sizewise.lm.schedule import COOL_RATE, COOL_SHARE, Cooling
from sizewise.models.machine import describe_machine
from sizewise.records import Checkpoint
from sizewise.store import Store
from sizewise.training.batches import make_mix
from sizewise.training.starts import Start, open_start

RESULT = Path(__file__).parent / "results" / "cooling.json"


def score(model: str, data: str, store: Store) -> dict[str, Any]:
    """Evaluate a model's bits per byte."""
    found = evaluate(model, data, metrics=["bits_per_byte"], store=store).record.scores["bits_per_byte"]
    return {"value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n}


def load_adapters(network: Any, folder: Path) -> None:
    """Load a run's adapters into a network from `open_start`."""
    parameters, saved = dict(network.named_parameters()), load_file(folder / "adapter" / "adapter_model.safetensors")
    with torch.no_grad():
        for name, weight in saved.items():
            parameters[name.replace(".weight", ".default.weight")].copy_(weight)


def end(start: Start, mix: Any, step: int, cooling: Cooling) -> None:
    """Train from the weights on until the cooling ends."""
    loop.prepare(start.network, compiled=False)
    optimizer, tokens = MasterAdamW(start.network.named_parameters(), 0.0), cooling.start
    while tokens < cooling.end:
        rows = mix.step(step)
        loop.backward_in_parts(start.network, rows, None, 0, optimizer.collect)
        optimizer.step(cooling.rate(tokens, 0))
        tokens, step = tokens + int((rows.segments > 0).sum()), step + 1
    loop.finish(start.network)


def main() -> None:
    """Try each end, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("ends", nargs="*", default=[f"{COOL_SHARE},{COOL_RATE}", "0.3,1", "1,0.5"])
    args = parser.parse_args()
    store, reporter = Store(), StderrReporter()
    folder = store.folder("checkpoint", args.run)
    record = store.get(Checkpoint, args.run).record
    contents = datasets.load(store, record.data)
    best = min((point for point in record.curve if point.bits_per_byte), key=lambda point: point.bits_per_byte or 0)
    last = record.curve[-1]
    result: dict[str, Any] = {
        "name": "cooling", "machine": describe_machine(), "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "best after tokens": best.tokens, "stopped after tokens": last.tokens, "rate of the best": best.learning_rate,
        "bits per byte": {"as they are": score(f"run:{args.run}", record.data, store)},
    }  # fmt: skip
    for share, factor in (map(float, one.split(",")) for one in args.ends):
        start = open_start(record.recipe, contents, store, reporter)
        load_adapters(start.network, folder)
        material = make_mix(contents, start.tokenizer, record.recipe, store.encoded_folder(), None, reporter)
        tokens = last.tokens + round(share * best.tokens)
        end(start, material.mix, last.step, Cooling(last.tokens, tokens, factor * best.learning_rate, 0))
        with tempfile.TemporaryDirectory() as out:
            hf_format.save_model(adapt.merge_lora(start.network), start.tokenizer, Path(out))
            name = f"{share:g} of the tokens, from {factor:g} of the rate"
            result["bits per byte"][name] = score(out, record.data, store)
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
