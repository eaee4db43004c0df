"""Write docs/results/decisions.md from the results of `make bench-decisions`.

python scripts/decision_tables.py     write the page again
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
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
        ["Rung", "Processor", "Training", "Parameters", "p50", "p95", "p50, processor time",
         "Decisions/s, batches of 64", "USD per 1,000"],
        [
            [name, one.get("processor", "AVX-512, bf16"), f"{one['train_s']:,.0f} s", f"{one['parameters']:,}",
             f"{one['p50_ms']:,.1f} ms", f"{one['p95_ms']:,.1f} ms",
             f"{one['p50_processor_ms']:,.1f} ms" if "p50_processor_ms" in one else "-",
             f"{one['decisions_per_s']:,.{0 if one['decisions_per_s'] >= 10 else 1}f}", f"{one['usd_per_1000']:.6f}"]
            for name, one in part["rungs"].items()
        ],
    )  # fmt: skip
    chosen = part["chosen_on_validation"]
    alone = "; ".join(
        f"{name} {one['alone']['p50_ms']:.1f} ms and {one['alone']['decisions_per_s']:,.0f} decisions/s"
        for name, one in part["rungs"].items()
        if "alone" in one
    )
    trained = "".join(
        f"\n\n{name}, on a machine that other processes kept busy: {one['notes'][0]}"
        for name, one in part["rungs"].items()
        if name.endswith("head")
    )
    quiet = f"\n\nMeasured again with the machine to itself: {alone}." if alone else ""
    return f"{quality}\n\nThe validation split chooses **{chosen}**.\n\n{effort}{trained}{quiet}"


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
    """Write the learning curves."""
    counts = sorted({int(count) for rungs in part.values() for one in rungs.values() for count in one})
    rows = [
        [data, name, *(percent(one.get(str(count), {}).get("test", {}).get("accuracy")) for count in counts)]
        for data, rungs in part.items()
        for name, one in rungs.items()
    ]
    return table(["Data", "Rung", *(f"{count} per label" for count in counts)], rows)


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
     "the same rungs. Language models decided a random sample of them (n). SmolLM2-135M by option likelihoods "
     "isn't trained: the time is for 100 validation texts, by which the correction of likelihoods was chosen. Cost is "
     "machine time at 0.10 USD an hour. Processor time is what other work on the machine doesn't change.", ladder),
    ("tasks", "Other data, the same recipes", "Nothing was tuned on these.", tasks),
    ("curve", "Few labels", "Accuracy on all test texts after so many labeled examples of each label, a tenth of them "
     "for validation. Fine-tuning had three minutes.", curve),
    ("teacher", "Is the large model needed?", "Published answers of DeepSeek to all questions of Banking77, with "
     "tokens, cost and latency. A cascade keeps the small model's decision where its confidence reaches a threshold, "
     "and asks the large model otherwise. The threshold is chosen on validation, so that at most the stated share of "
     "the decided cases differs from the large model, with 95 % confidence. Break-even counts a machine of its own, "
     "all month at 0.10 USD an hour. The published cascade agrees in 97.6 % and escalates 23.7 %; ours was to escalate "
     "at most 20 %, and doesn't: [the log](../log.md) has the five other confidences that were tried.", teacher),
    ("guarantees", "Are stated risks kept?", "A threshold chosen on a random half of the test answers, 200 times. The "
     "promise is about all cases, so it is checked on all of them; on the other half alone, chance adds to the risk.",
     guarantees),
    ("costs", "Costs of errors", "Text messages: a lost message costs 10, a spam message that arrives costs 1.", costs),
    ("explanations", "Do explanations name what matters?", "The probability of the decided option without those of five"
     " listed words that speak for it, and without as many others drawn at random (mean of five draws). Messages are "
     "spam; questions are of all intents. Texts read include those of this check.", explanations),
)  # fmt: skip


def routing(result: Row) -> str:
    """Write how well prompts are routed, and how often stated risks were kept."""
    found = {name: one for name, one in result["parts"].items() if "apgr" in one}
    lead = table(
        ["Table", "Small model", "Large model", "APGR (random: 50 %)", "n"],
        [
            [name.upper(), percent(one["small_quality"]), percent(one["large_quality"]), percent(one["apgr"]),
             f"{one['apgr']['n']:,}"]
            for name, one in found.items()
        ],
    )  # fmt: skip
    rows = []
    for name, one in found.items():
        for kind in ("random", "each prompt twice", "by subject"):
            for risk, kept in (one.get(kind) or {}).items():
                if not risk.startswith("risk"):
                    continue
                rows.append([
                    name.upper(), kind, f"{float(risk.split()[1]):.0%}", f"{100 * kept['kept_on_all']:.1f} %",
                    f"{100 * kept['kept']:.1f} %", f"{100 * kept['kept_or_detected']:.1f} %",
                    f"{100 * one[kind]['detected_in_replay']:.1f} %", f"{100 * kept['small_share']:.1f} %",
                    str(one[kind]["splits"]),
                ])  # fmt: skip
    headings = ["Table", "Split", "Stated risk", "Kept on all", "Kept on the others", "Kept there, or drift seen",
                "Drift seen by replay", "Small model answers", "Splits"]  # fmt: skip
    return f"{lead}\n\n{table(headings, rows)}"


def gaps(result: Row) -> str:
    """Write how often gaps between groups were found."""
    rows = [
        [" / ".join(f"{size:,}" for size in one["negatives"]),
         " / ".join(f"{100 * rate:.0f} %" for rate in one["rates"]),
         f"{one['items_per_document']}{', groups mixed' if one['mixed'] else ''}", f"{100 * one['found']:.1f} %",
         "-" if one["stated_power"] is None else f"{100 * one['stated_power']:.1f} %",
         f"{100 * one['interval_coverage']:.1f} %", f"{one['repeats']:,}"]
        for one in result["gaps"]
    ]  # fmt: skip
    headings = ["Negatives of each group", "False-positive rates", "Texts per document", "Gap found", "Stated power",
                "Interval holds the true gap", "Simulations"]  # fmt: skip
    return table(headings, rows)


def deciding(result: Row) -> str:
    """Write what a decision costs beside the libraries that compute it."""
    rows = [
        [name, f"{one['decisions_per_processor_s']:,.0f}", f"{one['peer_decisions_per_processor_s']:,.0f}",
         f"{one['ratio']:.2f} [{one['ratio_min']:.2f}, {one['ratio_max']:.2f}]", f"{one['largest_difference']:.1g}",
         f"{one['p50_processor_ms']:.1f} ms"]
        for name, one in result["parts"].items()
    ]  # fmt: skip
    headings = ["Rung", "Decisions per second of processor time", "Libraries called directly",
                "Processor time, ours / theirs [least, most]", "Largest difference of a probability",
                "Processor time of one decision alone, p50"]  # fmt: skip
    return f"{result['machine']}.\n\n{table(headings, rows)}"


def extraction(result: Row) -> str:
    """Write how well fields are extracted."""
    rows = [
        [name, percent(one["field_f1"]), percent(one["field_precision"]), percent(one["field_recall"]),
         percent(one["value_in_source"]), percent(one["json_valid"]), f"{one['field_f1']['n']:,}"]
        for name, one in result["table"].items()
    ]  # fmt: skip
    headings = ["Candidate", "Field F1", "Precision", "Recall", "Value in source", "Valid JSON", "n"]
    found = {name: f"{count:,}" for name, count in result["evidence"].items()}
    evidence = (
        f"Of the {found['values']} gold values, {found['found']} are found on their page. Where a value occurs once, "
        f"the evidence is the published cell or paragraph for {found['single_first_right']} of "
        f"{found['single_located']}; where it occurs several times, the first span is for "
        f"{found['several_first_right']} of {found['several_located']}, and one of the spans for "
        f"{found['several_some_right']}."
    )
    return f"{table(headings, rows)}\n\n{evidence}"


BESIDE = (
    ("deciding", "Beside the libraries called directly", "Batches of 64 through an opened model, by turns with the "
     "same weights in scikit-learn, tokenizers and onnxruntime.", deciding),
    ("routellm", "Routing on RouteLLM's tables", "Mixtral-8x7B and GPT-4. APGR is cross-fitted on the table itself. "
     "Stated risks: a policy learned from 600 prompts, many times; the promise is about all prompts, and on the others "
     "alone their own chance adds to the risk, so the truth is between both columns. Drift is tested on the "
     "others, in service on the first 400 of them.",
     routing),
    ("fair_decisions", "Are gaps between groups found?", "Simulated decisions; a gap counts as found at p < 5 %, "
     "corrected for all pairs. Rows with equal rates are false alarms.", gaps),
    ("extraction", "Fields out of financial reports", "Questions of TAT-QA whose answer is a passage of a report page. "
     "The rule takes the cell or sentence that shares most words with the question.", extraction),
)  # fmt: skip


def main() -> None:
    """Write the page."""
    result = json.loads((RESULTS / "decisions.json").read_text(encoding="utf-8"))
    parts = [
        "# Decisions: the ladder of classifiers\n\n"
        f"Measured with `make bench-decisions` on {result['machine']}, other work beside it; the last part on "
        f"{result['when'][:10]}; `benchmarks/results/decisions.json` holds all figures. Brackets are 95 % intervals."
    ]
    for name, title, text, write in SECTIONS:
        if name in result["parts"]:
            parts.append(f"## {title}\n\n{text}\n\n{write(result['parts'][name])}")
    for name, title, text, write in BESIDE:
        if (RESULTS / f"{name}.json").is_file():
            beside = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
            parts.append(f"## {title}\n\n{text}\n\n{write(beside)}")
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
