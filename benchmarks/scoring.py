"""Speed of scoring choices, against lm-evaluation-harness and against scoring each choice by itself.

1. Four choices after one context of about 100 tokens against one choice, in processor time; and how far the
   log-likelihoods are from those of each text alone, fp32 and bf16, with the distance of both from fp32 for bf16.
2. Multiple choice against the `hf` model of lm-evaluation-harness at its best batch size: same weights, precision,
   items and number of threads; needs `--lm-eval PYTHON`, an interpreter that has the harness (`make bench-eval` makes
   one).
3. Seconds of the suites bias and language-nuance per model, with the processor's own instructions and limited to AVX2.

`python benchmarks/scoring.py` ends stdout with one JSON line and writes it to benchmarks/results/scoring.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MODEL = "pkg:smollm2-135m"
SUITES = ("bias", "language-nuance")
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PARTS = ("choices", "harness", "suites")
CONTEXT_TOKENS, CHOICES = 100, 4
BATCHES = (1, 8, 32)
TEXT = (
    "the patient was asked whether a plan of the doctor had been read after lunch and blood pressure measured again "
    "because she had not taken her medication for weeks while nobody at home could remember which of them it was"
)


def items(tokenizer: Any, count: int) -> list[tuple[str, list[str]]]:
    """Write contexts of about CONTEXT_TOKENS tokens with four short choices each."""
    rng, vocabulary = random.Random(0), TEXT.split()
    found = []
    for _ in range(count):
        words, tokens = ["Question:"], CONTEXT_TOKENS + rng.randint(-20, 20)
        while len(tokenizer(" ".join(words)).input_ids) < tokens - 4:
            words.append(rng.choice(vocabulary))
        choices = [" " + " ".join(rng.sample(vocabulary, rng.randint(1, 4))) for _ in range(CHOICES)]
        found.append((f"{' '.join(words)}?\nAnswer:", choices))
    return found


def cpu_seconds(work: Callable[[], Any], times: int) -> float:
    """Return the median processor time of some repeats."""
    seconds = []
    for _ in range(times):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return median(seconds)


def weights() -> str:
    """Return the folder of the model."""
    from sizewise.models.opening import resolve_folder
    from sizewise.store import Store

    return str(resolve_folder(MODEL, Store())[0])


# -- 1. four choices and one -------------------------------------------------------------------------------------------


def job_choices(folder: str, times: str, count: str) -> dict[str, Any]:
    """Compare four choices with one, and shared with unshared scores."""
    from sizewise.lm.hf_format import load_network, load_tokenizer
    from sizewise.lm.score import score_texts, score_texts_after

    tokenizer = load_tokenizer(Path(folder))
    known = items(tokenizer, int(count))
    found: dict[str, Any] = {}
    exact: list[Any] = []
    for precision in ("fp32", "bf16"):
        network = load_network(Path(folder), precision)

        def shared(count: int, network: Any = network) -> list[Any]:
            texts = [context + choice for context, choices in known for choice in choices[:count]]
            after = [len(context) for context, choices in known for _ in choices[:count]]
            return [one.nats for one in score_texts_after(network, tokenizer, texts, after, 2048)]

        def alone(network: Any = network) -> list[Any]:
            pairs = [(context, choice) for context, choices in known for choice in choices]
            scored = score_texts(network, tokenizer, [a + b for a, b in pairs], 2048)
            return [one.nats[one.starts >= len(a)] for one, (a, _) in zip(scored, pairs, strict=True)]

        together, apart = np.concatenate(shared(CHOICES)), np.concatenate(alone())
        exact = exact or [apart]
        one = cpu_seconds(partial(shared, 1), int(times))
        four = cpu_seconds(partial(shared, CHOICES), int(times))
        found[precision] = {
            "four_over_one": four / one,
            "unshared_over_shared": cpu_seconds(alone, 1) / four,
            "relatively_apart": float(np.abs(together / apart - 1).max()),
            "nats_apart": float(np.abs(together - apart).max()),
            "rms_from_fp32": [float(np.sqrt(((x - exact[0]) ** 2).mean())) for x in (together, apart)],
        }
    return found


# -- 2. lm-evaluation-harness ------------------------------------------------------------------------------------------

TASK = """task: speed_choices
dataset_path: json
dataset_kwargs:
  data_files: {{test: {path}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def job_harness(folder: str, times: str, count: str, precision: str) -> dict[str, Any]:
    """Answer the same requests with the harness' model at several batch sizes, and with ours."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from sizewise.evaluation import asking
    from sizewise.evaluation.harness_model import adapter_for
    from sizewise.lm import device
    from sizewise.models import open_model
    from sizewise.progress import Silent
    from sizewise.store import Ledger, Store

    device.machine_precision = lambda *_: precision  # type: ignore[assignment]
    ours = open_model(MODEL, store=Store())
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "items.jsonl"
        known = items(ours.tokenizer, int(count))  # type: ignore[attr-defined]
        data.write_text("".join(json.dumps({"q": q, "choices": c}) + "\n" for q, c in known), encoding="utf-8")
        (Path(temporary) / "task.yaml").write_text(TASK.format(path=data), encoding="utf-8")
        task = TaskManager(include_path=temporary, include_defaults=False).load(["speed_choices"])["tasks"]
        (one,) = task.values()
        one.build_all_requests(rank=0, world_size=1)
        requests = one.instances
        numbers = iter(range(1_000))

        def answer() -> list[tuple[float, bool]]:
            with Ledger(Path(temporary) / f"{next(numbers)}.db") as ledger:
                adapter: Any = adapter_for(ours, asking.inquire(ours, ledger, Silent()), ())
                found: list[tuple[float, bool]] = adapter.loglikelihood(requests)
                return found

        mine = answer()
        ours_s = cpu_seconds(answer, int(times))
        dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
        by_batch, apart = {}, 0.0
        for size in BATCHES:
            theirs = HFLM(pretrained=folder, dtype=dtype, batch_size=size, device="cpu")
            kept: list[Any] = []

            def ask(theirs: Any = theirs, kept: list[Any] = kept) -> None:
                kept[:] = theirs.loglikelihood(requests, disable_tqdm=True)

            by_batch[size] = cpu_seconds(ask, int(times))
            apart = max(apart, *(abs(a[0] / b[0] - 1) for a, b in zip(mine, kept, strict=True)))
        best = min(by_batch, key=lambda size: by_batch[size])
    return {"ratio": by_batch[best] / ours_s, "best_batch": best, "seconds": ours_s, "theirs": by_batch, "apart": apart}


# -- 3. suites ---------------------------------------------------------------------------------------------------------


def job_suites() -> dict[str, Any]:
    """Measure the seconds of the packaged suites with a model that is already fetched, loading included."""
    from sizewise.evaluation import evaluate_suite
    from sizewise.lm.device import machine_precision
    from sizewise.store import Store

    folder = weights()
    found: dict[str, Any] = {"precision": machine_precision()}
    with tempfile.TemporaryDirectory() as temporary:
        for suite in SUITES:
            begun, used = time.perf_counter(), time.process_time()
            saved = evaluate_suite(folder, suite, store=Store(Path(temporary)))
            seconds, cpu = time.perf_counter() - begun, time.process_time() - used
            found[suite] = {"seconds": seconds, "cpu_seconds": cpu, "items": saved.record.items}
    return found


def run_job(interpreter: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """Run a job in a process of its own."""
    done = subprocess.run(
        [interpreter, __file__, "--job", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    return found


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", nargs="+")
    parser.add_argument("--only", nargs="*", default=PARTS)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--lm-eval", default="", help="interpreter that has lm-evaluation-harness")
    args = parser.parse_args()
    if args.job:
        name, *rest = args.job
        print(json.dumps(globals()[f"job_{name}"](*rest)))
        return
    path = HERE / "results" / "scoring.json"
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    size = (str(args.times), str(args.items))
    todo: dict[str, Callable[[], dict[str, Any]]] = {
        "choices": lambda: run_job(sys.executable, "choices", weights(), *size),
        "suites": lambda: {
            "native": run_job(sys.executable, "suites"),
            "avx2": run_job(sys.executable, "suites", **AVX2),
        },
    }
    if args.lm_eval:
        todo["harness"] = lambda: {
            precision: run_job(args.lm_eval, "harness", weights(), *size, precision) for precision in ("fp32", "bf16")
        }
    for name in PARTS:
        if name in args.only and name in todo:
            parts[name] = todo[name]()
            print(f"{name}: {json.dumps(parts[name])}", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "scoring",
        "ratio": parts.get("harness", {}).get("fp32", {}).get("ratio"),
        "peer": "lm-evaluation-harness, hf model at its best batch size, fp32, multiple choice: its CPU time over ours",
        "value": parts.get("choices", {}).get("fp32", {}).get("four_over_one"),
        "unit": "processor time of four choices over one, fp32",
        "runs": args.times,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
