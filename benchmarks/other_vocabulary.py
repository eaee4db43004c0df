"""Distillation across tokenizers: `python benchmarks/other_vocabulary.py` trains networks with and without a teacher.

The teacher is SmolLM2-135M, fine-tuned with LoRA on the same training documents; the student is trained from scratch on
them with a small vocabulary of its own, for the same number of tokens with and without the teacher's likeliest tokens.
Both are scored on the same unseen passages in bits per byte, and their difference is paired over documents. Finished
pairs are kept, so a killed benchmark continues. Ends stdout with one JSON line.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reporter import StderrReporter
from sizewise import compare, datasets
from sizewise.evaluation import evaluate
from sizewise.models.machine import describe_machine
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training import train

RESULT = Path(__file__).parent / "results" / "other_vocabulary.json"


def main() -> None:
    """Run what is missing, and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="demo:fhir")
    parser.add_argument("--tokens", type=int, default=450_000, help="of the student")
    parser.add_argument("--teacher-tokens", type=int, default=130_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    store, reporter = Store(), StderrReporter()
    kept = json.loads(RESULT.read_text("utf-8")) if RESULT.is_file() else {"name": "other_vocabulary", "pairs": {}}
    data = datasets.read([args.data], store=store).id
    lora = Recipe(start="pkg:smollm2-135m", rank=16, tokens=args.teacher_tokens, example_share=0.0, seed=0)
    teacher = f"run:{train(lora, data, store=store, reporter=reporter).id}"

    def arm(seed: int, **more: Any) -> dict[str, Any]:
        recipe = Recipe(
            start="scratch", method="full", parameters=5_000_000, tokens=args.tokens, example_share=0.0, seed=seed
        )
        run = train(recipe.model_copy(update=more), data, store=store, reporter=reporter)
        found = evaluate(f"run:{run.id}", data, metrics=["bits_per_byte"], store=store)
        score = found.record.scores["bits_per_byte"]
        return {
            "bits_per_byte": [score.value, score.ci_low, score.ci_high],
            "n": score.n,
            "seconds": run.record.seconds,
            "evaluation": found.id,
        }

    for seed in args.seeds:
        for share in args.shares:
            name = f"{args.data}, {args.tokens:,} tokens, share {share:g}, seed {seed}"
            if name in kept["pairs"]:
                continue
            arms = {"alone": arm(seed), "taught": arm(seed, teacher=teacher, teacher_share=share)}
            pair = compare({way: one["evaluation"] for way, one in arms.items()}, store=store).record.differences[0]
            sign = 1 if pair.left == "taught" else -1
            ends = sorted(sign * end for end in (pair.ci_low or 0.0, pair.ci_high or 0.0))
            kept["pairs"][name] = arms | {"taught - alone": [sign * pair.value, *ends]}
            kept |= {"machine": describe_machine(), "when": datetime.now(UTC).isoformat(timespec="minutes")}
            RESULT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(kept))


if __name__ == "__main__":
    main()
