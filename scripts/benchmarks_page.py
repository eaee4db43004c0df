"""Write the page of benchmarks from benchmarks/results/*.json, and mark results that the code has moved past.

    python scripts/benchmarks_page.py     list stale results

A result is stale if git knows of a later change to the code that it measures. MEASURES maps each result to that code; a
result that it does not list is compared with all code.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SRC = "src/sizewise"


class Measured(NamedTuple):
    """What a result is of."""

    title: str
    """What it measures."""
    code: tuple[str, ...]
    """Packages of sizewise that it measures."""
    command: str
    """How to measure it again."""


MEASURES = {
    "training": Measured(
        "Training speed against plain transformers + peft and the Hugging Face Trainer",
        ("lm", "training"),
        "make bench-training",
    ),
    "equal_minutes": Measured(
        "Bits per byte of LoRA against transformers + peft, which gets more minutes",
        ("lm", "training"),
        "make bench-training",
    ),
    "cooling": Measured(
        "How a training that stalled at a high learning rate should end",
        ("lm", "training"),
        "python benchmarks/cooling.py RUN",
    ),
    "other_vocabulary": Measured(
        "Distillation across tokenizers: a small network from scratch, with and without a teacher",
        ("lm", "training"),
        "python benchmarks/other_vocabulary.py",
    ),
    "scale": Measured(
        "Training in several processes against one, also with kills; evaluation over two nodes",
        ("lm", "training", "launch"),
        "make bench-scale",
    ),
    "scale_service": Measured(
        "Two gateways on one PostgreSQL, of which one ends under load together with a backend",
        ("service", "store"),
        "make bench-scale",
    ),
    "preflight": Measured(
        "Memory computed before a run against memory that training takes",
        ("training", "lm"),
        "make bench-preflight",
    ),
    "from_scratch": Measured(
        "A network from scratch against a byte 5-gram and a word 5-gram with Kneser-Ney smoothing",
        ("lm", "training"),
        "make bench-training",
    ),
    "seven_billion": Measured(
        "Shapes of 7B and 1.5B in 4 bits: memory and speed behind the service, and of llama.cpp's own server",
        ("models", "service"),
        "make bench-versus",
    ),
    "models": Measured(
        "Calling models, against the provider's SDK, openvino-genai and lm-evaluation-harness",
        ("models", "lm"),
        "make bench-models",
    ),
    "eval": Measured(
        "Parity with sacrebleu and lm-evaluation-harness, false alarms",
        ("metrics", "evaluation", "stats", "comparison", "datasets"),
        "make bench-eval",
    ),
    "scoring": Measured(
        "Multiple choice and tasks of lm-evaluation-harness: time beside the harness at its best batch",
        ("lm", "models", "evaluation"),
        "make bench-eval",
    ),
    "architectures": Measured(
        "Every architecture of transformers: scores, answers and gradients against its own forward pass",
        ("lm",),
        "python -m benchmarks.architectures",
    ),
    "families": Measured(
        "Known families, as tiny checkpoints: open, chat, evaluate, train, export and serve",
        ("lm", "models", "exporting", "service"),
        "python -m benchmarks.families",
    ),
    "knowledge": Measured(
        "Search by words and by meaning: the right article first, time in 100,000 passages",
        ("retrieval",),
        "make bench-knowledge",
    ),
    "closed_book": Measured(
        "Knowledge of documents: closed book after training, with passages, and both",
        ("training", "lm", "synthesis", "retrieval"),
        "python benchmarks/closed_book.py --work FOLDER",
    ),
    "validity": Measured(
        "Whether claims on measures of quality hold on people's grades",
        ("metrics", "comparison", "choice"),
        "make bench-eval",
    ),
    "measures": Measured(
        "How far groundedness and a small local judge follow people's view of facts",
        ("metrics", "evaluation"),
        "make bench-eval",
    ),
    "stats": Measured(
        "False claims, coverage, widths and power of comparisons over a grid of simulated test sets",
        ("stats",),
        "make bench-stats",
    ),
    "data": Measured(
        "Planted leaks in seven languages, label tasks, many files, a gigabyte of text",
        ("documents", "datasets", "text"),
        "make bench-data",
    ),
    "decisions": Measured(
        "Classifiers from class frequencies to a fine-tuned encoder; a large model's answers beside them",
        ("decisions", "retrieval", "training", "stats"),
        "make bench-decisions",
    ),
    "deciding": Measured(
        "One decision beside scikit-learn and onnxruntime called directly, and over HTTP",
        ("decisions", "retrieval", "models", "service"),
        "python benchmarks/deciding.py",
    ),
    "fair_decisions": Measured(
        "Simulated gaps between groups and calibration errors: false alarms, power, coverage",
        ("stats",),
        "python benchmarks/fair_decisions.py",
    ),
    "extraction": Measured(
        "Fields extracted from pages of reports", ("metrics", "evaluation"), "python benchmarks/extraction.py"
    ),
    "routellm": Measured(
        "Routing on RouteLLM's tables of MMLU and GSM8K: APGR, stated risks",
        ("routing", "stats"),
        "make bench-decisions",
    ),
    "early_stopping": Measured(
        "False winners among equal candidates, where test items come in waves and candidates are stopped",
        ("studies", "stats"),
        "python benchmarks/early_stopping.py",
    ),
    "demo": Measured(
        "The demo's decision task on all its test items: which candidate is the right pick",
        ("decisions", "studies", "documents"),
        "python scripts/demo_results.py measure",
    ),
    "judge": Measured(
        "Blind judging: ranking, coverage, early stopping, concurrent raters", ("judging", "stats"), "make bench-judge"
    ),
    "judges": Measured(
        "People's votes combined with those of judge models, and judge validation",
        ("judging", "stats"),
        "make bench-judges",
    ),
    "compare": Measured(
        "Comparison of many evaluations with many items", ("comparison", "stats"), "make bench-compare"
    ),
    "choose": Measured(
        "Time of a decision, and simulated worlds with a known best model",
        ("choice", "comparison", "stats"),
        "make bench-choose",
    ),
    "sizes": Measured(
        "Quality against size and cost on real jobs: where a smaller candidate keeps up",
        ("studies", "choice", "comparison", "metrics"),
        "make bench-domains",
    ),
    "domains": Measured(
        "Whole studies on real data",
        ("studies", "training", "evaluation", "choice", "comparison", "metrics", "lm"),
        "make bench-domains",
    ),
    "route": Measured(
        "Routing: risk kept, calls saved, drift; masking of personal data", ("routing", "guard"), "make bench-route"
    ),
    "guard_signals": Measured(
        "Signs of attacks: the guard's rules and trained classifiers on attacks and texts of other kinds",
        ("guard", "decisions"),
        "python benchmarks/guard_signals.py --out FOLDER",
    ),
    "serve_bf16": Measured(
        "The same requests to our engines and to llama.cpp's own server, on a processor with bf16",
        ("service", "models"),
        "make bench-serve",
    ),
    "serve_avx2": Measured(
        "The same requests to our engines and to llama.cpp's own server, without bf16",
        ("service", "models"),
        "make bench-serve",
    ),
    "forwarding": Measured(
        "What the gateway costs in front of a server, against asking the server directly",
        ("service",),
        "make bench-serve",
    ),
    "serve": Measured(
        "The gateway's overhead, vLLM and llama.cpp next to it, overload",
        ("service", "models", "loadtest"),
        "make bench-serve",
    ),
    "support": Measured(
        "The support agent on real troubleshooting articles",
        ("retrieval", "service"),
        "python benchmarks/support.py",
    ),
    "kinds": Measured("Small networks of one domain or of two", ("lm", "training"), "python benchmarks/kinds.py"),
    "ways-fhir": Measured("Training methods on FHIR definitions", ("lm", "training"), "python benchmarks/ways.py"),
    "ways-regulations": Measured(
        "Training methods on consumer-finance law", ("lm", "training"), "python benchmarks/ways.py"
    ),
}
HEAD = ("name", "value", "unit", "ratio", "peer", "runs", "machine", "commit", "when", "date", "cells")


@dataclass(frozen=True)
class Freshness:
    """How a result stands to the code of today.

    Attributes:
        commit: the commit that was measured; where the result names none, the one that added it.
        later: number of later commits that changed the measured code; None where git cannot say.
    """

    commit: str | None
    later: int | None

    @property
    def label(self) -> str:
        """State in a few words."""
        if self.later is None:
            return "unknown (the commit isn't in this copy of the history)"
        return "current" if self.later == 0 else f"**stale**: {self.later} later commits changed the measured code"


def git(*arguments: str) -> str | None:
    """Run git in this repository; None where it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def freshness(name: str, result: dict[str, Any]) -> Freshness:
    """Count the commits since a result that changed what it measures."""
    commit = result.get("commit") or git("log", "-1", "--format=%h", "--", f"benchmarks/results/{name}.json")
    if not commit or git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        return Freshness(commit or None, None)
    paths = [f"{SRC}/{part}" for part in measured(name).code]
    changed = git("rev-list", "--count", f"{commit}..HEAD", "--", *paths)
    return Freshness(commit, None if changed is None else int(changed))


def measured(name: str) -> Measured:
    """Look a result up; one that is not listed is of all code."""
    return MEASURES.get(name, Measured(name, (".",), f"make bench-{name}"))


def results() -> dict[str, dict[str, Any]]:
    """Read all results by name, in the order of MEASURES."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    known = [name for name in MEASURES if name in found]
    return {name: found[name] for name in [*known, *(name for name in found if name not in MEASURES)]}


def number(value: Any) -> str:
    """Write a value of a result in a table's cell."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value):
        return f"{value[0]:.3g} [{value[1]:.3g}, {value[2]:.3g}]"
    if isinstance(value, list):
        return ", ".join(number(one) for one in value[:6]) + (", ..." if len(value) > 6 else "")
    if isinstance(value, dict):
        low, high = value.get("ci_low", value.get("low")), value.get("ci_high", value.get("high"))
        if isinstance(value.get("value"), int | float):
            interval = f" [{low:.3g}, {high:.3g}]" if low is not None and high is not None else ""
            return f"{value['value']:.3g}{interval}" + (f", n = {value['n']:,}" if value.get("n") else "")
        return "; ".join(f"{key} {number(one)}" for key, one in value.items())
    return " ".join(str(value).split()).replace("|", "\\|")


def is_plain(value: Any) -> bool:
    """Return whether a value fits into one cell."""
    if isinstance(value, dict):
        return isinstance(value.get("value"), int | float)
    return not (isinstance(value, list) and any(isinstance(one, dict) for one in value))


def render(name: str, value: Any, level: int) -> list[str]:
    """Write a part of a result: a table of rows, or a table of numbers and further parts."""
    if isinstance(value, list):
        value = {str(place + 1): row for place, row in enumerate(value)}
    nested = {key: one for key, one in value.items() if not is_plain(one)}
    plain = {key: one for key, one in value.items() if key not in nested}
    parts = [f"{'#' * min(level, 5)} {name}"] if name else []
    rows_of = [one for one in nested.values() if isinstance(one, dict)]
    if (
        nested
        and not plain
        and len(rows_of) == len(nested)
        and all(all(map(is_plain, one.values())) for one in rows_of)
    ):
        columns = list(dict.fromkeys(key for one in rows_of for key in one))[:9]
        lines = [" | ".join(["", *columns]), " | ".join(["---"] * (len(columns) + 1))]
        lines += [" | ".join([key, *(number(one.get(column)) for column in columns)]) for key, one in nested.items()]
        return [*parts, "\n".join(f"| {line} |" for line in lines)]
    if plain:
        lines = ["| | |", "|---|---|", *(f"| {key} | {number(one)} |" for key, one in plain.items())]
        parts.append("\n".join(lines))
    for key, one in nested.items():
        parts += render(key, one, level + 1)
    return parts


INTRODUCTION = """# Benchmarks

This page is generated from `benchmarks/results/`. Speed is always a ratio to the named peer, measured in the same run
on the same machine. A result is *stale* if the code that it measures changed after its commit: read it as what that
commit did.

| result | status | value | ratio to the peer | peer | runs | date | commit |
|---|---|---|---|---|---|---|---|
"""


def page() -> str:
    """Write the page."""
    rows, parts = [], []
    for name, result in results().items():
        state, about = freshness(name, result), measured(name)
        cells = (
            f"[{name}](#{name})",
            state.label,
            f"{number(result.get('value'))} {result.get('unit', '')}",
            number(result.get("ratio")),
            number(result.get("peer", "")),
            number(result.get("runs")),
            str(result.get("when", result.get("date", "")))[:10],
            state.commit or "",
        )
        rows.append(f"| {' | '.join(cells)} |")
        parts += [f"## {name}", f"{about.title}. Measure it again with `{about.command}`. Status: {state.label}."]
        parts += render("", {key: one for key, one in result.items() if key not in HEAD}, 3)
    return INTRODUCTION + "\n".join(rows) + "\n\n" + "\n\n".join(parts) + "\n"


def main() -> None:
    """List stale results."""
    for name, result in results().items():
        state = freshness(name, result)
        if state.later != 0:
            print(f"{name}: {state.label.replace('**', '')}; since {state.commit}")


if __name__ == "__main__":
    main()
