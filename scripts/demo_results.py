"""Fix the right pick of the demo's decision task by a long run, and write docs/results/demo.md.

python scripts/demo_results.py measure     all test items; writes benchmarks/results/demo.json and the page
python scripts/demo_results.py             write the page again

The study file holds the rule for the pick: the smallest candidate that loses at most `max_loss` to the large model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "demo.json"
PAGE = ROOT / "docs" / "results" / "demo.md"
RECORDED = ROOT / "src" / "sizewise" / "models" / "recorded_answers"
SLOW = ("SmolLM2-135M",)  # asked on a sample by the study; left out here
Row = dict[str, Any]


def measure() -> Row:
    """Evaluate the candidates of the decision task on all test items, and choose."""
    from sizewise.choice import choose
    from sizewise.comparison import compare
    from sizewise.datasets import read
    from sizewise.evaluation import evaluate
    from sizewise.models.machine import describe_machine
    from sizewise.studies import demo_config
    from sizewise.training import train

    config = demo_config("fhir-types")
    data = read(config.documents, seed=config.seed)
    evaluations = {}
    for candidate in config.candidates:
        if candidate.name in SLOW:
            continue
        uri = candidate.model
        if candidate.train is not None:
            uri = f"run:{train(candidate.train, data.id).id}"
        evaluations[candidate.name] = evaluate(uri, data.id, ("accuracy", "macro_f1")).id
    evaluations["most frequent answer"] = evaluate(f"frequent:{data.id}", data.id, ("accuracy", "macro_f1")).id
    compared = compare(evaluations)
    chosen = choose(compared.id, config.needs).record
    scores = {name: score.model_dump(mode="json") for name, score in compared.record.scores["accuracy"].items()}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "data": data.id,
        "source": data.record.sources[0],
        "labels": len(data.record.question.options) if data.record.question else 0,
        "test_items": data.record.splits["test"].examples,
        "training_items": data.record.splits["train"].examples,
        "needs": config.needs.model_dump(mode="json", exclude_defaults=True),
        "accuracy": scores,
        "differences": [one.model_dump(mode="json") for one in compared.record.differences if one.metric == "accuracy"],
        "right_pick": chosen.pick,
        "outcome": chosen.outcome,
        "decisive": chosen.decisive,
        "summary": chosen.summary,
        "list_prices": list_prices(),
    }


MODELS = (
    ("openai", "gpt-4o", "GPT-4o"),
    ("openai", "gpt-4o-mini", "GPT-4o mini"),
    ("anthropic", "claude-sonnet-4-5", "Claude Sonnet 4.5"),
    ("google", "gemini-2.5-flash", "Gemini 2.5 Flash"),
    ("deepseek", "deepseek-chat", "DeepSeek Chat"),
)
"""Providers and models whose list prices the page shows."""


def list_prices() -> list[Row]:
    """Compute what 1,000 requests of each demo cost at list prices, from the recorded numbers of tokens."""
    from genai_prices import Usage

    from sizewise.models.price_lists import checked_on
    from sizewise.models.spending import cost_of

    found = []
    for path in sorted(RECORDED.glob("*.json")):
        tokens = json.loads(path.read_text(encoding="utf-8"))["mean_tokens"]
        for kind, model, title in MODELS:
            usd = cost_of(kind, model, Usage(input_tokens=tokens["prompt"], output_tokens=tokens["completion"]))
            if usd is not None:
                found.append({"demo": path.stem, "model": title, "usd_per_1000": 1000 * usd, "as_of": checked_on()})
    return found


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(row: Row) -> str:
    """Write a share with its interval."""
    return f"{100 * row['value']:.1f} % [{100 * row['ci_low']:.1f}, {100 * row['ci_high']:.1f}]"


def page(found: Row) -> str:
    """Write the page."""
    accuracy = table(
        ["Candidate", "Accuracy", "n"],
        [[name, percent(one), f"{one['n']:,}"] for name, one in found["accuracy"].items()],
    )
    recordings = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDED.glob("*.json"))]
    recorded = table(
        ["Demo", "Answers", "Recorded", "Prompt", "Tokens in / out", "Latency p50 / p95"],
        [
            [f"`demo:{one['demo']}`", f"{one['answers']:,} of {one['test_items']:,} test items",
             one["recorded"][-1], one["prompt"],
             f"{one['mean_tokens']['prompt']} / {one['mean_tokens']['completion']}",
             f"{one['latency_s']['p50']:.1f} s / {one['latency_s']['p95']:.1f} s"]
            for one in recordings
        ],
    )  # fmt: skip
    prices = table(
        ["Model", *(f"`demo:{one['demo']}`" for one in recordings)],
        [
            [title, *(
                next((f"{row['usd_per_1000']:.3f} USD" for row in found["list_prices"]
                      if (row["demo"], row["model"]) == (one["demo"], title)), "-")
                for one in recordings
            )]
            for _, _, title in MODELS
        ],
    )  # fmt: skip
    checked = max((row["as_of"] for row in found["list_prices"]), default="")
    needs = found["needs"]
    return f"""# The demo: which pick is right

Written by `scripts/demo_results.py` from `benchmarks/results/demo.json`.
Measured {found["date"]} on {found["machine"]}.

## Decisions: which data type a field holds

`{found["source"]}` asks for the data type of a field of a FHIR record, from its title and description. It has
{found["labels"]} labels, {found["training_items"]:,} training items and {found["test_items"]:,} test items, which are
the same for every seed. Copies of a description in other resources are left out, and the name of the field isn't shown.
Accuracy on all test items that share nothing with training, with 95 % intervals:

{accuracy}

The rule of the study: the smallest candidate that loses at most {100 * needs["max_loss"]:.0f} points to
{needs["incumbent"]}. **Right pick: {found["right_pick"]}.** Verdict of the long run: {found["summary"]}

## Recorded answers

The larger model answered the test items once, with `scripts/record_large.py`. Its answers ship with the package and are
labeled "recorded". Items without one are left out, never counted as wrong. Latency is of one request at a time, with
other work on the machine beside it.

{recorded}

## What the same requests cost at list prices

USD for 1,000 requests with the numbers of tokens above (list prices of genai-prices, checked {checked}). Prices only:
none of these models was asked, so nothing is said about their quality.

{prices}
"""


def main() -> None:
    """Measure if asked to, and write the page."""
    if sys.argv[1:] == ["measure"]:
        RESULT.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
