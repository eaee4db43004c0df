"""Peak memory of training on large text: `python benchmarks/streaming.py MEGABYTES`.

Writes a dataset of the given size, trains a network of 5M parameters from scratch on it for a few steps, and prints the
peak memory next to that of the same run on a thousandth of the text, as one JSON line.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reporter import StderrReporter
from sizewise import datasets
from sizewise.documents.reading import make_document
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training import Run

DOCUMENT = 50_000  # characters


def write_dataset(store: Store, megabytes: float) -> str:
    """Write numbered, and thus distinct, excerpts of the Python manual as the training text of a dataset."""
    small = datasets.load(store, datasets.read(["demo:python"], store=store).id)
    text = "\n\n".join(document.text for document in small.documents["train"])
    data = "data-streaming"
    folder = store.folder("dataset", data)
    datasets.save(store, data, small)
    with (folder / "train.documents.jsonl").open("w", encoding="utf-8") as file:
        for number in range(max(1, round(megabytes * 1e6 / DOCUMENT))):
            start = number * 7919 % max(1, len(text) - DOCUMENT)
            some = f"Part {number}. " + text[start : start + DOCUMENT]
            file.write(make_document(f"d{number}", "", some, "benchmark").model_dump_json() + "\n")
    return data


def child(megabytes: float) -> None:
    """Write the dataset and train on it for a few steps."""
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name))
        begun = time.monotonic()
        data = write_dataset(store, megabytes)
        made = time.monotonic()
        recipe = Recipe(start="scratch", method="full", tokens=20_000, example_share=0.0)
        run = Run(recipe, data, store, Path(name) / "run", StderrReporter())
        run.prepare()
        ready = time.monotonic()
        run.fit()
        tokens = run.material.mix.prose.tokens
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = {"write": made - begun, "prepare": ready - made, "steps": time.monotonic() - ready}
    print(json.dumps({"peak_bytes": peak, "tokens": tokens, "seconds": seconds}))


def main() -> None:
    """Run both sizes, each in a separate process."""
    megabytes = float(sys.argv[1])
    if len(sys.argv) > 2:
        child(megabytes)
        return
    found = {}
    for size in (megabytes / 1000, megabytes):
        out = subprocess.run(
            [sys.executable, __file__, str(size), "child"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        found[size] = json.loads(out.splitlines()[-1])
    small, large = found.values()
    extra = large["peak_bytes"] - small["peak_bytes"]
    result = {
        "name": "streaming",
        "value": round(extra / 1e9, 2),
        "unit": "GB beyond the same run on little text",
        "megabytes": megabytes,
        "tokens": large["tokens"],
        "seconds": {name: round(value) for name, value in large["seconds"].items()},
        "peak_gb": round(large["peak_bytes"] / 1e9, 2),
    }
    line = json.dumps(result)
    (Path(__file__).parent / "results" / "streaming.json").write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
