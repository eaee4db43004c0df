"""All training methods and attention patterns on one dataset: the table of docs/results/training-methods.md.

    python benchmarks/ways.py NAME SOURCE... [--tokens N] [--limit N] [--only WAY ...]

Each row uses the same token budget and the same held-out items; existing runs are reused. Results go to
benchmarks/results/ways-NAME.json; `python benchmarks/ways.py --table` prints all of them as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from reporter import StderrReporter
from sizewise import datasets
from sizewise.evaluation import evaluate
from sizewise.records import Checkpoint, Evaluation, Recipe
from sizewise.store import Store
from sizewise.training import train

RESULTS = Path(__file__).parent / "results"
METRICS = ("bits_per_byte", "bleu")
SCRATCH = 14  # token multiplier of networks from scratch, which are that much smaller

WAYS: dict[str, dict[str, Any] | None] = {
    "as it is": None,
    "LoRA": {},
    "DoRA": {"method": "dora"},
    "full": {"method": "full"},
    "continued pretraining (text only, LoRA)": {"example_share": 0.0},
    "instruction tuning (answers only, LoRA)": {"example_share": 1.0},
    "LoRA without replay of control text": {"control_share": 0.0},
    "LoRA, replay 10 %": {"control_share": 0.1},
    "LoRA, window 256": {"attention": "window:256"},
    "LoRA, pattern SSSL, window 128": {"attention": "pattern:SSSL:128"},
    "LoRA, taught by TEACHER": {"teacher": "TEACHER"},
    "from scratch, 5M": {"start": "scratch"},
    "from scratch, 5M, window 128": {"start": "scratch", "attention": "window:128"},
    "from scratch, 5M, pattern SSSL": {"start": "scratch", "attention": "pattern:SSSL:64"},
    "from scratch, 17M, distilled from TEACHER": {
        "start": "scratch",
        "teacher": "TEACHER",
        "tokenizer": "pkg:smollm2-135m",
    },
}


def recipe_of(changes: dict[str, Any], tokens: int, teacher: str) -> Recipe:
    """Build the recipe of a row."""
    values: dict[str, Any] = {"start": "pkg:smollm2-135m", "tokens": tokens, "canaries": 8, "patience": 0} | changes
    if values.get("teacher"):
        values["teacher"] = teacher
    if values["start"] == "scratch":
        values |= {"method": "full", "tokens": tokens * (SCRATCH if "tokenizer" not in values else 2)}
    return Recipe.model_validate(values)


def row(made: Checkpoint | None, measured: Evaluation) -> dict[str, Any]:
    """Collect the values of a row."""
    found: dict[str, Any] = {
        name: [measured.scores[name].value, measured.scores[name].ci_low, measured.scores[name].ci_high]
        for name in METRICS
    }
    if made is None:
        return found
    found |= {
        "minutes": made.seconds / 60,
        "tokens": made.tokens,
        "tokens_per_s": made.tokens_per_s,
        "memory_gb": made.peak_memory_bytes / 1e9,
        "parameters": made.parameters,
        "validation": [made.start_bits_per_byte, made.best_bits_per_byte],
        "estimate_error": made.estimate_error,
    }
    if made.attention_tradeoff:
        found["cache_bytes"] = made.attention_tradeoff.cache_bytes
        found["places"] = [[bucket.first, bucket.last, bucket.bits] for bucket in made.attention_tradeoff.positions]
    if made.forgetting:
        report = made.forgetting
        found["control"] = [report.before, report.after]
        found["answers"] = [report.answers_before, report.answers_after]
    if made.memorization:
        found["exposure"] = made.memorization.exposure
        found["extracted"] = made.memorization.extracted
        found["membership_auc"] = made.memorization.membership_auc.value
    return found


HEADINGS = (
    "method",
    "bits per byte",
    "BLEU",
    "control text, before -> after",
    "general questions, before -> after",
    "exposure, once / 16 times",
    "membership AUC",
    "KV cache per user (MB)",
    "bits per token, first to last positions",
    "minutes",
    "tokens/s",
    "memory (GB)",
)


def cells(way: str, found: dict[str, Any]) -> list[str]:
    """Format a row of the table."""

    def score(name: str) -> str:
        value, ci_low, ci_high = found[name]
        return (
            f"{value:.3g} [{ci_low:.3g}, {ci_high:.3g}]" if value is not None and ci_low is not None else f"{value:.3g}"
        )

    def change(name: str) -> str:
        return f"{found[name][0]:.3f} -> {found[name][1]:.3f}" if name in found else ""

    exposure = found.get("exposure", {})
    return [
        way,
        score("bits_per_byte"),
        score("bleu"),
        change("control"),
        change("answers"),
        " / ".join(f"{exposure[times]:.1f}" for times in ("1", "16")) if exposure else "",
        f"{found['membership_auc']:.2f}" if found.get("membership_auc") is not None else "",
        f"{found['cache_bytes'] / 1e6:.1f}" if "cache_bytes" in found else "",
        " / ".join(f"{bits:.2f}" for _, _, bits in found.get("places", ())),
        *(f"{found[name]:.3g}" if name in found else "" for name in ("minutes", "tokens_per_s", "memory_gb")),
    ]


def tables() -> str:
    """Format all results as Markdown."""
    parts = []
    for path in sorted(RESULTS.glob("ways-*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        lines = [f"## {path.stem.removeprefix('ways-')}", "", "| " + " | ".join(HEADINGS) + " |"]
        lines.append("|" + "---|" * len(HEADINGS))
        lines += ["| " + " | ".join(cells(way, found)) + " |" for way, found in results["rows"].items()]
        errors = [abs(f["estimate_error"]["seconds"]) for f in results["rows"].values() if f.get("estimate_error")]
        if errors:
            lines += [
                "",
                f"Pre-flight: in {len(errors)} runs, training time differed from its estimate by {median(errors):.0%} "
                f"(median) and {max(errors):.0%} (maximum).",
            ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    """Measure the selected rows."""
    if sys.argv[1:] == ["--table"]:
        print(tables())
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--tokens", type=int, default=24_000)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--teacher", default="", help="model URI")
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    args = parser.parse_args()
    store = Store()
    data = datasets.read(args.sources, store=store).id
    path = RESULTS / f"ways-{args.name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    for way in args.only:
        changes = WAYS[way]
        made = None
        uri = "pkg:smollm2-135m"
        if changes is not None:
            stored = train(recipe_of(changes, args.tokens, args.teacher), data, store=store, reporter=StderrReporter())
            made, uri = stored.record, f"run:{stored.id}"
        measured = evaluate(uri, data, metrics=METRICS, limit=args.limit, store=store, reporter=StderrReporter())
        rows[way] = row(made, measured.record)
        print(way, json.dumps(rows[way]), flush=True)
        text = {"data": data, "tokens": args.tokens, "limit": args.limit, "teacher": args.teacher, "rows": rows}
        path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
