"""Write docs/results/decisions.md from benchmarks/results/decisions.json.

python scripts/decision_tables.py     write the page again
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "decisions.json"
PAGE = ROOT / "docs" / "results" / "decisions.md"
Row = dict[str, Any]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(score: Row | None) -> str:
    """Write a share with its interval."""
    if not score or score["value"] is None:
        return "-"
    if score["ci_low"] is None:
        return f"{100 * score['value']:.1f} %"
    return f"{100 * score['value']:.1f} % [{100 * score['ci_low']:.1f}, {100 * score['ci_high']:.1f}]"


def number(score: Row | None) -> str:
    """Write a number with its interval."""
    if not score or score["value"] is None:
        return "-"
    return f"{score['value']:.3f} [{score['ci_low']:.3f}, {score['ci_high']:.3f}]"


def ladder(part: Row) -> str:
    """Write the table of rungs."""
    quality = table(
        ["Rung", "Accuracy", "Macro F1", "Log loss", "Calibration error", "n"],
        [
            [name, percent(one["test"]["accuracy"]), percent(one["test"]["macro_f1"]), number(one["test"]["log_loss"]),
             percent(one["test"]["ece"]), f"{one['test']['accuracy']['n']:,}"]
            for name, one in part["rungs"].items()
        ],
    )  # fmt: skip
    effort = table(
        ["Rung", "Training", "Parameters", "p50", "p95", "Decisions/s, batches of 64", "USD per 1,000"],
        [
            [name, f"{one['train_s']:,.0f} s", f"{one['parameters']:,}", f"{one['p50_ms']:.1f} ms",
             f"{one['p95_ms']:.1f} ms", f"{one['decisions_per_s']:,.0f}", f"{one['usd_per_1000']:.6f}"]
            for name, one in part["rungs"].items()
        ],
    )  # fmt: skip
    chosen = part["chosen_on_validation"]
    alone = "; ".join(
        f"{name} {one['alone']['p50_ms']:.1f} ms and {one['alone']['decisions_per_s']:,.0f} decisions/s"
        for name, one in part["rungs"].items()
        if "alone" in one
    )
    quiet = f"\n\nMeasured again with the machine to itself: {alone}." if alone else ""
    return f"{quality}\n\nThe validation split chooses **{chosen}**.\n\n{effort}{quiet}"


def tasks(part: Row) -> str:
    """Write the table of other data."""
    rows = [
        [name, str(found["labels"]), rung, f"{one['n']:,}", percent(one["test"]["accuracy"]),
         percent(one["test"]["macro_f1"]), percent(one["test"]["ece"]), f"{one['test']['accuracy']['n']:,}"]
        for name, found in part.items()
        for rung, one in found["rungs"].items()
    ]  # fmt: skip
    return table(["Data", "Labels", "Rung", "Trained on", "Accuracy", "Macro F1", "Calibration error", "n"], rows)


def curve(part: Row) -> str:
    """Write the learning curve."""
    counts = list(next(iter(part.values())))
    rows = [[name, *(percent(one[count]["accuracy"]) for count in counts)] for name, one in part.items()]
    return table(["Rung", *(f"{count} per label" for count in counts)], rows)


def teacher(part: Row) -> str:
    """Write what small models that learned from the large one's answers do."""
    lead = (
        f"The large model is right on {100 * part['large_model_accuracy']:.1f} % of {part['n']:,} questions, at "
        f"{1e6 * part['usd_per_request']:.2f} USD for a million requests and a median latency of "
        f"{part['p50_latency_s']:.2f} s (p95 {part['p95_latency_s']:.2f} s)."
    )
    rows = []
    for name, one in part["students"].items():
        for cascade in one["cascades"]:
            if cascade["threshold"] is None:
                rows.append([name, f"{cascade['risk']:.0%}", "-", "-", "-", "too few cases"])
                continue
            rows.append([
                name, f"{cascade['risk']:.0%}", f"{100 * cascade['escalated']:.1f} %",
                f"{100 * cascade['wrong_of_decided']:.1f} %", f"{100 * cascade['agreement']:.1f} %",
                f"{cascade['break_even_per_month'] / 1e6:.1f} million",
            ])  # fmt: skip
    alone = table(
        ["Learned from the large model's answers", "Agreement with it", "Correct"],
        [
            [n, f"{100 * one['agreement']:.1f} %", f"{100 * one['accuracy']:.1f} %"]
            for n, one in part["students"].items()
        ],
    )
    headings = ["Small model", "Stated risk", "Escalated", "Differs, of decided", "Agreement", "Break-even per month"]
    return f"{lead}\n\n{alone}\n\n{table(headings, rows)}"


def guarantees(part: Row) -> str:
    """Write how often stated risks were kept."""
    rows = []
    for name, risks in part.items():
        for risk, one in risks.items():
            kept, beside = f"{one['kept']} of {one['claimed']}", f"{one['kept_on_other_half']} of {one['claimed']}"
            share = "-" if one["coverage"] is None else f"{100 * one['coverage']:.1f} %"
            rows.append([name, f"{float(risk):.0%}", f"{one['claimed']} of 200", kept, beside, share])
    headings = ["Rung", "Stated risk", "Splits with a threshold", "Kept", "Kept on the other half", "Decided"]
    return table(headings, rows)


def costs(part: Row) -> str:
    """Write the costs of errors."""
    rows = [
        [name, what, f"{one['threshold']:.3f}", f"{one['cost_per_1000']:.1f}", str(one["lost_messages"]),
         str(one["spam_delivered"]), f"{one['n']:,}"]
        for name, found in part.items() if name != "costs"
        for what, one in found.items()
    ]  # fmt: skip
    headings = ["Rung", "Threshold", "Probability from", "Cost of 1,000", "Messages lost", "Spam delivered", "n"]
    return table(headings, rows)


def explanations(part: Row) -> str:
    """Write how much the words of an explanation matter."""
    rows = [
        [name, one["method"], f"{100 * one['probability']:.1f} %", f"{100 * one['fall']:.1f} points",
         f"{100 * one['fall_by_chance']:.1f} points", f"{100 * one['more_than_chance']:.1f} %",
         f"{one['texts']:.0f}", f"{one['n']:,}"]
        for name, one in part.items()
    ]  # fmt: skip
    headings = ["Classifier", "Method", "Probability", "Falls without the listed words", "Without random ones",
                "More than chance", "Texts read", "n"]  # fmt: skip
    return table(headings, rows)


SECTIONS = (
    ("ladder", "Banking77: the ladder", "77 intents, 10,003 training questions (a part of them for validation), 3,080 "
     "test questions. The choice is made on validation; the test questions had been looked at in one earlier round of "
     "the same rungs. Cost is machine time at 0.10 USD an hour.", ladder),
    ("tasks", "Other data, the same recipes", "Nothing was tuned on these.", tasks),
    ("curve", "Few labels", "Accuracy on the test questions of Banking77.", curve),
    ("teacher", "Is the large model needed?", "Published answers of DeepSeek to all questions of Banking77, with "
     "tokens, cost and latency. A cascade keeps the small model's decision where its confidence reaches a threshold, "
     "and asks the large model otherwise. The threshold is chosen on validation, so that at most the stated share of "
     "the decided cases differs from the large model, with 95 % confidence. Break-even counts a machine of its own, "
     "all month at 0.10 USD an hour.", teacher),
    ("guarantees", "Are stated risks kept?", "A threshold chosen on a random half of the test answers, 200 times. The "
     "promise is about all cases, so it is checked on all of them; on the other half alone, chance adds to the risk.",
     guarantees),
    ("costs", "Costs of errors", "Text messages: a lost message costs 10, a spam message that arrives costs 1.", costs),
    ("explanations", "Do explanations name what matters?", "The probability of the decided option without those of five"
     " listed words that speak for it, and without as many others drawn at random (mean of five draws). Messages are "
     "spam; questions are of all intents. Texts read include those of this check.", explanations),
)  # fmt: skip


def main() -> None:
    """Write the page."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    parts = [
        "# Decisions: the ladder of classifiers\n\n"
        f"Measured with `make bench-decisions` on {result['machine']} (AVX-512, bf16), other work beside it, "
        f"{result['when'][:10]}; `benchmarks/results/decisions.json` holds all figures. Brackets are 95 % intervals."
    ]
    for name, title, text, write in SECTIONS:
        if name in result["parts"]:
            parts.append(f"## {title}\n\n{text}\n\n{write(result['parts'][name])}")
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
