"""One domain or several? `python benchmarks/kinds.py` trains small networks on one domain, on another, and on both.

Networks of 5M parameters are trained from scratch on the same number of tokens: of one domain (FHIR), of another (the
Python manual), or of both. They and a pretrained base model are evaluated on held-out text of both domains. Ends stdout
with one JSON line and writes it to benchmarks/results/kinds.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from reporter import StderrReporter
from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.evaluation import evaluate
from sizewise.records import SPLITS, Recipe, fingerprint
from sizewise.store import Store
from sizewise.training import train

RESULTS = Path(__file__).parent / "results"


def both(store: Store, first: str, second: str) -> str:
    """Join two datasets split by split, so that held-out items stay held out."""
    left, right = datasets.load(store, first), datasets.load(store, second)
    contents = DatasetContents(
        left.record,
        {split: left.documents[split] + right.documents[split] for split in SPLITS},
        {split: left.examples[split] + right.examples[split] for split in SPLITS},
        left.contamination_entries | right.contamination_entries,
    )
    return datasets.save(store, f"data-{fingerprint([first, second])}", contents).id


def main() -> None:
    """Train, evaluate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=450_000)
    parser.add_argument("--limit", type=int, default=100)
    args = parser.parse_args()
    store = Store()
    domains = {name: datasets.read([f"demo:{name}"], store=store).id for name in ("fhir", "python")}
    texts = domains | {"both": both(store, *domains.values())}
    models = {"SmolLM2-135M (base)": "pkg:smollm2-135m"}
    for name, data in texts.items():
        recipe = Recipe(start="scratch", method="full", tokens=args.tokens, example_share=0.0, patience=0)
        models[f"5M trained on {name}"] = f"run:{train(recipe, data, store=store, reporter=StderrReporter()).id}"
    table: dict[str, dict[str, list[float | None]]] = {}
    for name, uri in models.items():
        table[name] = {}
        for domain, data in domains.items():
            found = evaluate(
                uri, data, metrics=["bits_per_byte"], limit=args.limit, store=store, reporter=StderrReporter()
            )
            score = found.record.scores["bits_per_byte"]
            table[name][domain] = [score.value, score.ci_low, score.ci_high]
        print(name, json.dumps(table[name]), file=sys.stderr, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "kinds",
        "unit": "bits per byte of held-out text [value, low, high]",
        "tokens": args.tokens,
        "table": table,
        "commit": commit.stdout.strip() or "unknown",
    }
    line = json.dumps(result)
    (RESULTS / "kinds.json").write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
