"""Early stop with and without a falling learning rate at its end: `python benchmarks/cooling.py FILE...`.

SmolLM2-135M is fine-tuned with LoRA on a little text of each file (`--characters`), with a budget of many passes, so
that validation stops improving while the learning rate is high. Both arms are the same run until then; one keeps its
best weights, the other one goes back to them and brings the rate down (`sizewise.lm.schedule.Cooling`). Both are scored
on the same unseen passages in bits per byte; the difference is paired over documents. Ends stdout with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from reporter import StderrReporter
from sizewise import compare, datasets
from sizewise.evaluation import evaluate
from sizewise.lm import loop
from sizewise.models.machine import describe_machine
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training import train

RESULT = Path(__file__).parent / "results" / "cooling.json"
START, PASSAGES, PATIENCE = "pkg:smollm2-135m", 150, 3


def some_text(file: Path, characters: int, folder: Path) -> Path:
    """Write random rows with text until they have enough characters for training, and half as many more."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    rows = [row for row in rows if len(row.get("text") or "") > 400]
    random.Random(0).shuffle(rows)
    out, size = folder / file.name, 0
    with out.open("w", encoding="utf-8") as written:
        for row in rows:
            if size > 1.5 * characters:
                break
            written.write(json.dumps({"text": row["text"]}) + "\n")
            size += len(row["text"])
    return out


def arm(data: str, tokens: int, seed: int, cooled: bool, store: Store) -> dict[str, Any]:
    """Train and evaluate one arm. A cap on passes that nothing reaches gives each arm a run of its own."""
    recipe = Recipe(
        start=START, tokens=tokens, max_epochs=1000.0 + cooled, example_share=0.0, seed=seed, patience=PATIENCE
    )
    with nullcontext() if cooled else patch.object(loop.Cooling, "after", lambda *_: None):
        run = train(recipe, data, store=store, reporter=StderrReporter())
    found = evaluate(f"run:{run.id}", data, metrics=["bits_per_byte"], limit=PASSAGES, store=store)
    score = found.record.scores["bits_per_byte"]
    return {
        "bits_per_byte": score.value, "low": score.ci_low, "high": score.ci_high, "n": score.n,
        "tokens": run.record.tokens, "evaluation": found.id, "changes": [one.setting for one in run.record.changes],
    }  # fmt: skip


def main() -> None:
    """Run what is missing, and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="JSON Lines with a column `text`")
    parser.add_argument("--characters", type=int, default=60_000)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    kept = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {"name": "cooling", "runs": {}}
    store = Store()
    for file in args.files:
        with tempfile.TemporaryDirectory() as folder:
            data = datasets.read([some_text(file, args.characters, Path(folder))], store=store).id
        for seed in args.seeds:
            name = f"{file.stem}, {args.characters:,} characters, {args.tokens:,} tokens, seed {seed}"
            if name in kept["runs"]:
                continue
            arms = {way: arm(data, args.tokens, seed, way == "cooled", store) for way in ("stopped", "cooled")}
            evaluations = {way: found.pop("evaluation") for way, found in arms.items()}
            pair = compare(evaluations, store=store).record.differences[0]
            sign = 1 if pair.left == "cooled" else -1
            ends = sorted(sign * end for end in (pair.ci_low or 0.0, pair.ci_high or 0.0))
            kept["runs"][name] = arms | {"cooled - stopped": [sign * pair.value, *ends]}
            kept |= {"machine": describe_machine(), "when": datetime.now(UTC).isoformat(timespec="minutes")}
            RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(kept))


if __name__ == "__main__":
    main()
