"""Speed of `compare`: 100,000 items, 23 candidates, 8 metrics, from generated evaluations on disk.

    python benchmarks/comparing.py [--items 100000] [--candidates 23]

Ends stdout with one JSON line and writes it to benchmarks/results/compare.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "compare.json"
METRICS = ("bleu", "chrf", "token_f1", "exact_match", "rouge_l", "answer_words", "refusals", "ter")
ANSWERS, WORDS, PER_DOCUMENT = 300, 12, 4


def generate(items: int, candidates: int) -> list[str]:
    """Write evaluations whose answers are drawn from a few hundred measured ones."""
    from sizewise.metrics import METRICS as KNOWN
    from sizewise.metrics import AnswerItem
    from sizewise.records import Evaluation, ModelDescription
    from sizewise.store import Store

    store, draw = Store(), random.Random(0)
    words = [f"word{i}" for i in range(300)]
    pool = []
    for _ in range(ANSWERS):
        reference = draw.choices(words, k=WORDS)
        answer = " ".join(word if draw.random() < 0.5 else draw.choice(words) for word in reference)
        known = (" ".join(reference),)
        item = AnswerItem(answer, known, "What does this part say?")
        stats = {name: list(KNOWN[name].prepared([known]).measure(item)) for name in METRICS}
        pool.append({"references": list(known), "completion": answer, "finish": "stop", "error": None, "stats": stats})
    ids = []
    for number in range(candidates):
        name = f"eval-{number:02}"
        folder = store.folder("evaluation", name)
        folder.mkdir(parents=True)
        with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
            for i in range(items):
                where = {"item": f"i{i}", "kind": "example", "cluster": f"d{i // PER_DOCUMENT}", "uncontaminated": True}
                prompt = {"prompt": "What does this part of the regulation say about the matter at hand?"}
                file.write(json.dumps(where | prompt | draw.choice(pool)) + "\n")
        model = ModelDescription(uri=f"m{number}", origin="x", license="x", engine="test", precision="none")
        record = Evaluation(
            model=model, data="suite:generated", seed=0, limit=None, metrics=METRICS, scores={}, items=items, failed=0,
            seconds=0, versions={},
        )  # fmt: skip
        ids.append(store.write(name, record).id)
    return ids


def main() -> None:
    """Generate evaluations, compare them and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=23)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["SIZEWISE_HOME"] = home
        from sizewise.comparison import compare

        ids = generate(args.items, args.candidates)
        begun, worked = time.time(), time.process_time()
        found = compare(ids)
        seconds, cpu = time.time() - begun, time.process_time() - worked
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    kind = "AVX-512 with bf16" if "avx512_bf16" in flags else "AVX-512" if "avx512f" in flags else "AVX2"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "compare",
        "ratio": None,
        "peer": "no other tool compares so many evaluations with intervals",
        "value": seconds,
        "unit": f"s for {args.items:,} items x {args.candidates} candidates x {len(METRICS)} metrics",
        "runs": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {kind}",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu_seconds": cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "differences": len(found.record.differences),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
