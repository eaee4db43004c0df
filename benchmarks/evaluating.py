"""Evaluation: parity with reference tools, false positives, power, speed.

1. BLEU, chrF, TER and their p-values against sacrebleu, on random and on real systems; CPU time of both.
2. Log-likelihoods against the `hf` model of lm-evaluation-harness, fp32, on local tasks; needs `--lm-eval PYTHON`, an
   interpreter that has the harness (`make bench-eval` makes one).
3. 1,000 comparisons of a model with itself on new samples: two models, eight models, and a sequential test after each
   item; and the power to find a true difference of the size reported as detectable.
4. Contamination planted into held-out text, verbatim and with up to a tenth of the words replaced; and false positives.
5. Resampling 10,000 items x 8 models x 10,000 rounds on one core.
6. Time of an evaluation outside the model.

Real data come from the folder that SIZEWISE_TEST_DATA names. Without it, text of the demo is used and parts that need
more are skipped. `python benchmarks/evaluating.py` ends stdout with one JSON line and writes it to
benchmarks/results/eval.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
MODEL = "pkg:smollm2-135m"
LEVEL = 0.05
PARTS = ("sacrebleu", "harness", "float64", "alarms", "resampling", "overhead")


def jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def demo() -> Any:
    """Load the dataset of the demo."""
    from sizewise import datasets
    from sizewise.store import Store

    store = Store()
    return datasets.load(store, datasets.read(["demo:fhir"], store=store).id)


def sentences() -> list[tuple[str, str]]:
    """Collect (document, sentence) pairs to build answers from."""
    if DATA.exists():
        rows = jsonl(DATA / "sgd_support" / "sgd_bank_payment_service_turns.jsonl")
        return [(row["dialogue_id"], row["reply"]) for row in rows if len(row["reply"].split()) >= 5]
    examples = demo().examples["test"]
    return [(e.source, e.references[0]) for e in examples if len(e.references[0].split()) >= 5]


def item_rows(name: str, stats: Sequence[tuple[float, ...]], clusters: Sequence[str]) -> list[Any]:
    """Build item rows like those of an evaluation."""
    from sizewise.records import ItemRow

    return [
        ItemRow(item=str(i), kind="example", cluster=cluster, uncontaminated=True, stats={name: one})
        for i, (one, cluster) in enumerate(zip(stats, clusters, strict=True))
    ]


# -- 1. sacrebleu --------------------------------------------------------------------------------------------------


def systems() -> dict[str, tuple[list[str], list[str], list[str]]]:
    """Build pairs of systems: name -> (references, left answers, right answers)."""
    found = {}
    texts = [text for _, text in sentences()]
    for seed in range(3):
        rng = random.Random(seed)
        references = rng.sample(texts, 150)
        words = [word for text in references for word in text.split()]
        noisy = [
            [
                " ".join(rng.choice(words) if rng.random() < share else word for word in text.split())
                for text in references
            ]
            for share in (0.30, 0.34)
        ]
        found[f"random {seed}"] = (references, *noisy)
    if DATA.exists():
        folder = DATA / "aci_bench"
        for part in ("test1", "test2"):
            read = {
                name: list(csv.DictReader((folder / f"{part}_{name}.csv").open(encoding="utf-8-sig", newline="")))
                for name in ("gpt-4", "chatgpt")
            }
            short = [
                [row[column][:900] for row in read[name]]
                for name, column in (("gpt-4", "Reference Summaries"), ("gpt-4", "note"), ("chatgpt", "note"))
            ]
            found[f"ACI-Bench {part}, GPT-4 and ChatGPT"] = (short[0], short[1], short[2])
    return found


def sacrebleu_part() -> dict[str, Any]:
    """Compare scores and p-values."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER
    from sacrebleu.significance import PairedTest

    from sizewise.metrics import AnswerItem, find_metric
    from sizewise.stats.classical_tests import bootstrap_p, randomization_p

    rows, ratios = [], []
    for name, (references, left, right) in systems().items():
        for metric_name, theirs in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
            metric = find_metric(metric_name)
            stats = [
                np.array([metric.measure(AnswerItem(a, (r,), "")) for a, r in zip(answers, references, strict=True)])
                for answers in (left, right)
            ]
            ours = [float(metric.value(one.sum(axis=0))) for one in stats]
            known = [theirs.corpus_score(answers, [references]).score for answers in (left, right)]
            begun = time.process_time()
            our_p = [test(stats[0], stats[1], metric.value) for test in (randomization_p, bootstrap_p)]
            used = time.process_time() - begun
            begun = time.process_time()
            their_p = []
            for test in ("ar", "bs"):
                _, scores = PairedTest(
                    [("left", left), ("right", right)], {metric_name: theirs}, [references], test_type=test
                )()
                their_p += [results[1].p_value for key, results in scores.items() if key != "System"]
            ratios.append((time.process_time() - begun) / used)
            row = {
                "systems": name,
                "metric": metric_name,
                "scores": ours,
                "sacrebleu": known,
                "p": our_p,
                "sacrebleu_p": their_p,
                "equal": all(f"{a:.4f}" == f"{b:.4f}" for a, b in zip(ours + our_p, known + their_p, strict=True)),
            }
            rows.append(row)
            p = " ".join(f"{one:.4f}" for one in our_p)
            print(f"{name}, {metric_name}: {ours[0]:.4f} {ours[1]:.4f} p {p} equal {row['equal']}")
    return {"equal": all(row["equal"] for row in rows), "time_ratio": median(ratios), "rows": rows}


# -- 2. lm-evaluation-harness --------------------------------------------------------------------------------------

TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
output_type: {kind}
doc_to_text: "{text}"
doc_to_target: {target}
{more}
metric_list:
{metrics}
metadata:
  version: 1
"""


def task_rows() -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Read the items of each task: name -> (output type, rows)."""
    tasks: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    spam = [
        line.split("\t", 1) for line in (DATA / "sms_spam" / "SMSSpamCollection").read_text("utf-8").split("\n") if line
    ]
    tasks["local_sms"] = (
        "multiple_choice",
        [
            {"q": f"Message: {text}\nKind:", "choices": ["ham", "spam"], "right": int(kind == "spam")}
            for kind, text in spam
        ],
    )
    pubmed = json.loads((DATA / "pubmedqa" / "ori_pqal.json").read_text("utf-8")).values()
    answers = ["yes", "no", "maybe"]
    tasks["local_pubmedqa"] = (
        "multiple_choice",
        [
            {
                "q": f"{' '.join(one['CONTEXTS'])[:900]}\nQuestion: {one['QUESTION']}\nAnswer:",
                "choices": answers,
                "right": answers.index(one["final_decision"]),
            }
            for one in pubmed
        ],
    )
    tasks["local_bbq"] = (
        "multiple_choice",
        [
            {
                "q": f"{one['context']} {one['question']}\nAnswer:",
                "choices": [one["ans0"], one["ans1"], one["ans2"]],
                "right": one["label"],
            }
            for one in jsonl(DATA / "bbq" / "Age.jsonl")
        ],
    )
    tasks["local_webquestions"] = (
        "loglikelihood",
        [
            {"q": f"Question: {one['question']}\nAnswer:", "a": f" {one['answer'][0]}"}
            for one in jsonl(DATA / "webquestions" / "webq-test.jsonl")
        ],
    )
    law = [
        {"text": row["text"][:1500]} for row in jsonl(DATA / "dc_code" / "dc_code_sections.jsonl") if row.get("text")
    ]
    tasks["local_law"] = ("loglikelihood_rolling", law)
    return tasks


def write_tasks(folder: Path, count: int) -> list[str]:
    """Write local tasks from real data, with `count` items each."""
    rng = random.Random(0)
    tasks = task_rows()
    means = "  - metric: {0}\n    aggregation: mean\n    higher_is_better: true"
    weighted = "  - metric: {0}\n    aggregation: {1}\n    higher_is_better: false"
    for name, (kind, rows) in tasks.items():
        some = rng.sample(rows, min(count, len(rows)))
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
        if kind == "multiple_choice":
            text, target, more = "{{q}}", "right", 'doc_to_choice: "{{choices}}"\ntarget_delimiter: " "'
            metrics = "\n".join(means.format(one) for one in ("acc", "acc_norm"))
        elif kind == "loglikelihood":
            text, target, more = "{{q}}", '"{{a}}"', 'target_delimiter: ""'
            metrics = "\n".join([weighted.format("perplexity", "perplexity"), means.format("acc")])
        else:
            text, target, more = "", '"{{text}}"', ""
            pairs = [("word_perplexity", "weighted_perplexity"), ("bits_per_byte", "bits_per_byte")]
            metrics = "\n".join(weighted.format(*pair) for pair in pairs)
        (folder / f"{name}.yaml").write_text(
            TASK.format(name=name, path=path, kind=kind, text=text, target=target, more=more, metrics=metrics),
            encoding="utf-8",
        )
    return list(tasks)


def job_harness(folder: str, names: str) -> dict[str, Any]:
    """Score the same tasks with the harness' model and with ours, both in fp32."""
    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from sizewise.evaluation import asking, harness
    from sizewise.evaluation.harness_model import adapter_for
    from sizewise.evaluation.options import EvaluationOptions
    from sizewise.lm import device
    from sizewise.models import open_model
    from sizewise.models.opening import resolve_folder
    from sizewise.progress import Silent
    from sizewise.store import Ledger, Store

    device.machine_precision = lambda *_: "fp32"  # type: ignore[assignment]
    weights = str(resolve_folder(MODEL, Store())[0])
    manager, task_names = harness._manager(names.split(","), Path(folder))
    theirs_model = HFLM(pretrained=weights, dtype=torch.float32, batch_size=1, device="cpu")
    theirs = simple_evaluate(
        model=theirs_model, tasks=task_names, task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    del theirs_model
    ours_model = open_model(MODEL, store=Store())
    tasks, groups = harness._load(manager, task_names)
    with Ledger(Path(folder) / "ledger.db") as ledger:
        adapter = adapter_for(ours_model, asking.inquire(ours_model, ledger, Silent()), harness._matched(tasks))
        ours = harness.run_tasks(adapter, manager, tasks, groups, None, EvaluationOptions())
    rows = {}
    for name in task_names:
        pairs = []
        for mine, known in zip(ours["samples"][name], theirs["samples"][name], strict=True):
            if mine["doc_hash"] != known["doc_hash"]:
                raise RuntimeError("the items differ")
            pairs += list(zip(numbers(mine["resps"]), numbers(known["resps"]), strict=True))
        mine, known = (np.array(column) for column in zip(*pairs, strict=True))
        scores = {
            key: [ours["results"][name][key], value]
            for key, value in theirs["results"][name].items()
            if "," in key and "stderr" not in key
        }
        rows[name] = {
            "likelihoods": len(pairs),
            "apart": float(np.abs(mine / known - 1).max()),
            "nats_apart": float(np.abs(mine - known).max()),
            "median_apart": float(np.median(np.abs(mine / known - 1))),
            "scores": scores,
        }
    return rows


def numbers(nested: Any) -> list[float]:
    """Flatten the log-likelihoods in nested answers."""
    if isinstance(nested, bool):
        return []
    if isinstance(nested, (int, float)):
        return [float(nested)]
    if isinstance(nested, str):
        return [float(nested)] if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", nested) else []
    return [number for part in nested for number in numbers(part)]


def harness_part(interpreter: str, count: int) -> dict[str, Any]:
    """Compare log-likelihoods in the environment of the harness."""
    with tempfile.TemporaryDirectory() as temporary:
        names = write_tasks(Path(temporary), count)
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{temporary}/cache"}
        done = subprocess.run(
            [interpreter, __file__, "--job", "harness", temporary, ",".join(names)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    rows = json.loads(done.stdout.strip().split("\n")[-1])
    for name, row in rows.items():
        print(
            f"{name}: {row['likelihoods']} log-likelihoods, relatively at most {row['apart']:.1e} apart (median "
            f"{row['median_apart']:.1e}), {row['nats_apart']:.1e} nats; {row['scores']}"
        )
    return {"apart": max(row["apart"] for row in rows.values()), "tasks": rows}


def float64_part() -> dict[str, Any]:
    """Measure the error of our fp32 scores, and of transformers', against float64."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sizewise.lm import device
    from sizewise.models import open_model
    from sizewise.models.opening import resolve_folder
    from sizewise.store import Store

    device.machine_precision = lambda *_: "fp32"  # type: ignore[assignment]
    weights = str(resolve_folder(MODEL, Store())[0])
    texts = [text for _, text in sentences()[:24]]
    tokenizer = AutoTokenizer.from_pretrained(weights)

    def sums(precision: torch.dtype) -> np.ndarray:
        network = AutoModelForCausalLM.from_pretrained(weights, dtype=precision).eval()
        found = []
        with torch.no_grad():
            for text in texts:
                ids = tokenizer(text, return_tensors="pt").input_ids
                likely = network(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
                found.append(-float(likely.double().sum()))
        return np.array(found)

    exact = sums(torch.float64)
    ours = np.array([one.nats.sum() for one in open_model(MODEL, store=Store()).score(texts, prefix=False)])
    apart = {
        "ours": float(np.abs(ours / exact - 1).max()),
        "transformers": float(np.abs(sums(torch.float32) / exact - 1).max()),
    }
    print(f"log-likelihoods beside float64, relatively at most: {apart}")
    return apart


# -- 3. false positives and power ----------------------------------------------------------------------------------


class SimulatedModel:
    """A model whose answers are sampled; difficulty varies by document and by item."""

    def __init__(self, seed: int, documents: int = 60, each: int = 4) -> None:
        rng = np.random.default_rng(seed)
        self.clusters = [str(i // each) for i in range(documents * each)]
        hardness = np.repeat(rng.normal(0, 1, documents), each) + rng.normal(0, 1, documents * each)
        self.probability = 1 / (1 + np.exp(-hardness))

    def correct(self, rng: np.random.Generator, gain: float = 0.0) -> np.ndarray:
        """Sample which answers are correct; `gain` is added to each probability, clipped at 1."""
        return (rng.random(len(self.probability)) < np.clip(self.probability + gain, 0, 1)).astype(float)


def found_better(
    names: Sequence[str], stats: Sequence[Any], clusters: Sequence[str], metric: str, seed: int
) -> list[Any]:
    """Compare like `sizewise compare`."""
    from sizewise.comparison import differences
    from sizewise.comparison.tables import ItemTable

    records: Any = {name: SimpleNamespace(metrics=(metric,), model=SimpleNamespace(role="candidate")) for name in names}
    rows = {name: item_rows(metric, one, clusters) for name, one in zip(names, stats, strict=True)}
    tables = {name: ItemTable.of(some) for name, some in rows.items()}
    return differences(records, tables, seed).differences


def exact(right: np.ndarray) -> list[tuple[float, float]]:
    """Return the statistics of exact match."""
    return [(float(one), 1.0) for one in right]


def noisy_bleu(rng: np.random.Generator, texts: Sequence[str], vocabulary: Sequence[str], share: float) -> list[Any]:
    """Compute BLEU statistics of reference answers with a share of the words replaced."""
    from sizewise.metrics import AnswerItem, find_metric

    metric = find_metric("bleu")
    found = []
    for text in texts:
        words = text.split()
        wrong = rng.random(len(words)) < share
        said = [
            vocabulary[rng.integers(len(vocabulary))] if bad else word for word, bad in zip(words, wrong, strict=True)
        ]
        found.append(metric.measure(AnswerItem(" ".join(said), (text,), "")))
    return found


def alarms_part(times: int) -> dict[str, Any]:
    """Count false positives, and true differences found."""
    from sizewise.stats import PairedBet

    said = sentences()
    documents = list(dict.fromkeys(document for document, _ in said))[:50]
    pool = [(document, text) for document, text in said if document in set(documents)][:160]
    texts, text_clusters = [text for _, text in pool], [document for document, _ in pool]
    vocabulary = sorted({word for text in texts for word in text.split()})
    counts = dict.fromkeys(
        (
            "exact match, two models",
            "BLEU, two models",
            "exact match, eight models",
            "exact match, looking after each item",
        ),
        0,
    )
    detectable = []
    for seed in range(times):
        rng = np.random.default_rng(seed)
        model = SimulatedModel(seed)
        two = found_better("ab", [exact(model.correct(rng)) for _ in "ab"], model.clusters, "exact_match", seed)
        counts["exact match, two models"] += two[0].better is not None
        detectable.append(two[0].detectable)
        eight = found_better(
            "abcdefgh", [exact(model.correct(rng)) for _ in range(8)], model.clusters, "exact_match", seed
        )
        counts["exact match, eight models"] += any(one.better for one in eight)
        bleu = [noisy_bleu(rng, texts, vocabulary, 0.3) for _ in "ab"]
        counts["BLEU, two models"] += found_better("ab", bleu, text_clusters, "bleu", seed)[0].better is not None
        bet = PairedBet()
        differences = model.correct(rng) - model.correct(rng)
        bet.add(by_document(differences, model.clusters, rng))
        counts["exact match, looking after each item"] += bet.p < LEVEL
    claimed = float(np.median(detectable))
    power, read = power_of(claimed, times)
    rates = {name: count / times for name, count in counts.items()}
    for name, rate in rates.items():
        print(f"{name}: false positives in {rate:.1%} of {times} comparisons")
    print(f"true difference of {claimed:.3f}, detectable with a nominal power of 80 %: found in {power:.1%}")
    return {
        "times": times,
        "false_better": rates,
        "claimed_difference": claimed,
        "power": power,
        "read_before_decided": read,
    }


def power_of(claimed: float, times: int) -> tuple[float, float]:
    """Return how often a true difference is found, and the share of items that the sequential test needs."""
    from sizewise.stats import PairedBet

    found, stopped = 0, []
    for seed in range(times):
        rng = np.random.default_rng(10**6 + seed)
        model = SimulatedModel(seed)
        # Probabilities are clipped at 1, so the gain must exceed the wanted difference.
        gain = required_gain(model.probability, claimed)
        stats = [exact(model.correct(rng, gain)), exact(model.correct(rng))]
        found += found_better("ab", stats, model.clusters, "exact_match", seed)[0].better == "a"
        bet, order = PairedBet(), by_document(model.correct(rng, gain) - model.correct(rng), model.clusters, rng)
        for one in order:
            bet.add([one])
            if bet.p < LEVEL:
                break
        stopped.append(bet.n / len(order))
    return found / times, float(np.mean(stopped))


def required_gain(probability: np.ndarray, wanted: float) -> float:
    """Find the gain that raises the mean of the probabilities, clipped at 1, by `wanted`."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if (np.clip(probability + middle, 0, 1) - probability).mean() < wanted:
            low = middle
        else:
            high = middle
    return high


def by_document(differences: np.ndarray, clusters: Sequence[str], rng: np.random.Generator) -> list[float]:
    """Compute the mean difference per document, in random order: items within a document are dependent."""
    names = np.array(clusters)
    means = [float(differences[names == name].mean()) for name in dict.fromkeys(clusters)]
    return [means[i] for i in rng.permutation(len(means))]


# -- 4. and 5. speed -----------------------------------------------------------------------------------------------


def resampling_part(runs: int) -> dict[str, Any]:
    """Time the resampling of 10,000 items x 8 models x 10,000 rounds on one core."""
    from sizewise.stats import Systems

    rng = np.random.default_rng(0)
    stats = np.stack([rng.random((10_000, 8)), np.ones((10_000, 8))], axis=2)
    names = [str(i) for i in range(10_000)]
    seconds = []
    for _ in range(runs):
        begun = time.process_time()
        systems = Systems(stats, names, lambda s: s[..., 0] / s[..., 1])
        for left, right in combinations(range(8), 2):
            systems.difference(left, right)
        seconds.append(time.process_time() - begun)
    print(f"resampling: {median(seconds):.2f} s of one core")
    return {"cpu_seconds": median(seconds)}


def overhead_part() -> dict[str, Any]:
    """Measure the share of an evaluation's time that is spent outside the model."""
    from sizewise.evaluation import run
    from sizewise.store import Store

    inside = [0.0]
    opened = run.open_model

    class Timed:
        """Wraps a model and adds up the time spent in it."""

        def __init__(self, model: Any) -> None:
            self.model = model

        def __getattr__(self, name: str) -> Any:
            return getattr(self.model, name)

        def _timed(self, answers: Iterator[Any]) -> Iterator[Any]:
            while True:
                begun = time.perf_counter()
                try:
                    one = next(answers)
                except StopIteration:
                    return
                finally:
                    inside[0] += time.perf_counter() - begun
                yield one

        def complete(self, requests: Any) -> Iterator[Any]:
            return self._timed(iter(self.model.complete(requests)))

        def score(self, texts: Any, **rest: Any) -> Iterator[Any]:
            return self._timed(iter(self.model.score(texts, **rest)))

    def open_timed(*args: Any, **rest: Any) -> Any:
        begun = time.perf_counter()
        model = Timed(opened(*args, **rest))
        inside[0] += time.perf_counter() - begun
        return model

    with tempfile.TemporaryDirectory() as temporary:
        store = Store(Path(temporary))
        from sizewise import datasets

        data_id = datasets.read(["demo:fhir"], store=store).id
        run.open_model = open_timed  # type: ignore[assignment]
        begun = time.perf_counter()
        run.evaluate(MODEL, data_id, store=store, limit=60)
        seconds = time.perf_counter() - begun
        run.open_model = opened
    share = 1 - inside[0] / seconds
    print(f"overhead beyond the model: {share:.2%} of {seconds:.1f} s")
    return {"share": share, "seconds": seconds}


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", nargs="+")
    parser.add_argument("--only", nargs="*", default=PARTS)
    parser.add_argument("--times", type=int, default=1_000)
    parser.add_argument("--lm-eval", default="", help="interpreter that has lm-evaluation-harness")
    args = parser.parse_args()
    if args.job:
        name, *rest = args.job
        print(json.dumps(globals()[f"job_{name}"](*rest)))
        return
    path = HERE / "results" / "eval.json"
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    todo = {
        "sacrebleu": sacrebleu_part,
        "float64": float64_part,
        "alarms": lambda: alarms_part(args.times),
        "resampling": lambda: resampling_part(3),
        "overhead": overhead_part,
    }
    if args.lm_eval and DATA.exists():
        todo["harness"] = lambda: harness_part(args.lm_eval, 30)
    for name in PARTS:
        if name in args.only and name in todo:
            parts[name] = todo[name]()
            sys.stdout.flush()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "name": "eval",
        "ratio": parts.get("sacrebleu", {}).get("time_ratio"),
        "peer": "sacrebleu's paired tests with identical p-values: its CPU time over ours",
        "value": parts.get("resampling", {}).get("cpu_seconds"),
        "unit": "s for 10,000 items x 8 models x 10,000 rounds",
        "runs": 3,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
