"""Few people, many judges: people's votes combined with those of judge models, and which judges are validated.

1. LLMFAO: a few people's votes and GPT's votes on all tasks, 2,000 resamples for each number of people's votes. How
   often the interval covers the share that all people's votes have, and its width relative to people alone.
2. Simulated judges: a good one (correlation 0.8, ten judged tasks for each vote of people), a useless one, one that
   always takes the same side, and several at once.
3. Judge validation: how often judges without any knowledge are validated, and how often good ones are.

LLMFAO comes from the folder that SIZEWISE_TEST_DATA names; without it part 1 is skipped. `python benchmarks/judges.py`
ends stdout with one JSON line and writes it to benchmarks/results/judges.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from sizewise.judging import validate_judges
from sizewise.judging.judge_validation import SWAPPED
from sizewise.records import JudgeTask, Vote
from sizewise.stats.prediction_powered import Judgments, combine

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
SHARES = {"left": 1.0, "right": 0.0, "tie": 0.5}
JUDGES = ("gpt4", "gpt3")
Draw = Callable[[np.random.Generator], Judgments]


def covered(draw: Draw, truth: float, times: int) -> dict[str, float]:
    """Draw votes again and again; count how often the intervals cover the truth, and compare their widths."""
    rng = np.random.default_rng(0)
    hits, hits_of_people, wrong, ratios, correlations = 0, 0, 0, [], []
    for _ in range(times):
        found = combine(draw(rng))
        both, people = found.estimate, found.people
        hits += both.ci_low <= truth <= both.ci_high
        hits_of_people += people.ci_low <= truth <= people.ci_high
        wrong += both.p < 0.05
        ratios.append((both.ci_high - both.ci_low) / (people.ci_high - people.ci_low))
        correlations.append(found.correlation)
    mean_correlation = float(np.nanmean(correlations)) if not np.isnan(correlations).all() else 0.0
    return {
        "coverage": hits / times,
        "coverage_of_people": hits_of_people / times,
        "width_ratio": float(np.mean(ratios)),
        "widest": float(np.max(ratios)),
        "correlation": mean_correlation,
        "floor": float(np.sqrt(1 - max(0.0, mean_correlation) ** 2)),
        "significant": wrong / times,
    }


def llmfao() -> tuple[list[list[float]], np.ndarray]:
    """Read people's votes on each task, and GPT's votes on it (tasks, judges)."""
    rows = {}
    for name in ("crowd", *JUDGES):
        with (DATA / "llmfao" / f"{name}-comparisons.csv").open(encoding="utf-8", newline="") as file:
            rows[name] = list(csv.DictReader(file))
    tasks = {name: number for number, name in enumerate(dict.fromkeys(row["id"] for row in rows["crowd"]))}
    people: list[list[float]] = [[] for _ in tasks]
    for row in rows["crowd"]:
        people[tasks[row["id"]]].append(SHARES[row["winner"]])
    judges = np.full((len(tasks), len(JUDGES)), np.nan)
    for column, name in enumerate(JUDGES):
        for row in rows[name]:
            if row["id"] in tasks:
                judges[tasks[row["id"]], column] = SHARES[row["winner"]]
    return people, judges


def llmfao_part(times: int) -> dict[str, Any]:
    """Draw tasks with replacement, one vote of people on each, and 2,000 further tasks that GPT judged."""
    people, judges = llmfao()
    counts = np.array([len(votes) for votes in people])
    table = np.array([votes + [np.nan] * (counts.max() - len(votes)) for votes in people])
    truth = float(np.mean([np.mean(votes) for votes in people]))
    result = {}
    for used in (1, 2):
        for n in (30, 100, 300):

            def draw(rng: np.random.Generator, n: int = n, used: int = used) -> Judgments:
                own, further = rng.integers(0, len(people), n), rng.integers(0, len(people), 2_000)
                votes = table[own, (rng.random(n) * counts[own]).astype(int)]
                documents = np.arange(n + 2_000)
                return Judgments(
                    votes, None, documents[:n], judges[own][:, :used], judges[further][:, :used], documents[n:]
                )

            name = f"{n} votes of people, {' and '.join(JUDGES[:used])}"
            result[name] = covered(draw, truth, times)
            print(f"LLMFAO, {name}: {result[name]}", flush=True)
    return result


def simulated(kinds: tuple[str, ...], n: int, share: float = 0.5) -> Draw:
    """Simulate n votes of people on decided pairs, and judges' votes on these and on ten times as many pairs."""

    def draw(rng: np.random.Generator) -> Judgments:
        total = 11 * n
        people = (rng.random(total) < share).astype(float)
        by_kind = {
            "good": lambda: np.where(rng.random(total) < 0.9, people, 1 - people),
            "random": lambda: (rng.random(total) < 0.5).astype(float),
            "opposite": lambda: 1 - people,
            "one side": lambda: np.full(total, 0.5),  # its choices change with the sides, so they count as ties
        }
        judges = np.column_stack([by_kind[kind]() for kind in kinds])
        documents = np.arange(total)
        return Judgments(people[:n], None, documents[:n], judges[:n], judges[n:], documents[n:])

    return draw


def simulated_part(times: int) -> dict[str, Any]:
    """Combine votes with simulated judges."""
    result = {}
    for kinds in (("good",), ("random",), ("opposite",), ("one side",), ("good", "random", "random")):
        for n, share in ((30, 0.5), (100, 0.5), (100, 0.7)):
            name = f"{n} votes of people, win rate {share}, judges: {', '.join(kinds)}"
            result[name] = covered(simulated(kinds, n, share), share, times)
            print(f"simulated, {name}: {result[name]}", flush=True)
    return result


def round_of(rng: np.random.Generator, kinds: tuple[str, ...], ties: float, tasks: int = 60) -> list[Any]:
    """Simulate a closed round: two people and judge models vote on each task, one task for each document."""
    judged = []
    for number in range(tasks):
        task = JudgeTask(
            id=f"t{number}", item=f"i{number}", cluster=f"d{number}", prompt="?", left="a", right="b",
            left_text="one", right_text="two",
        )  # fmt: skip
        truth = "tie" if rng.random() < ties else "left" if rng.random() < 0.5 else "right"
        for rater in ("x", "y"):
            choice = truth if rng.random() < 0.9 else str(rng.choice(["left", "right", "tie"]))
            judged.append((task, Vote(task=task.id, rater=rater, origin="person", choice=choice)))
        for position, kind in enumerate(kinds):
            choice, comment = truth, ""
            if kind == "always 1":
                choice, comment = "tie", f"{SWAPPED}: left, then right"
            elif kind == "random" or (kind == "good" and rng.random() > 0.9):
                choice = str(rng.choice(["left", "right", "tie"], p=[(1 - ties) / 2, (1 - ties) / 2, ties]))
            elif kind == "always tie":
                choice = "tie"
            vote = Vote(task=task.id, rater=f"{kind} {position}", origin="model", choice=choice, comment=comment)
            judged.append((task, vote))
    return judged


def validation_part(times: int) -> dict[str, Any]:
    """Count how often some judge of a round is validated."""
    result = {}
    for ties in (0.2, 0.82):
        for kinds in (("good",), ("always 1",), ("always tie",), ("random",), ("random",) * 5):
            rng = np.random.default_rng(0)
            rounds = [validate_judges(round_of(rng, kinds, ties), 0.7, closed=True) for _ in range(times)]
            name = f"{len(kinds)} x {kinds[0]}, {100 * ties:.0f}% ties"
            result[name] = float(np.mean([any(judge.validated for judge in found) for found in rounds]))
            print(f"validated: {name}: {result[name]}", flush=True)
    return result


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2_000)
    args = parser.parse_args()
    begun = time.perf_counter()
    parts = {"simulated": simulated_part(args.times), "validation": validation_part(max(1, args.times // 10))}
    if DATA.exists():
        parts["llmfao"] = llmfao_part(args.times)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    ratio = parts["simulated"]["100 votes of people, win rate 0.5, judges: good"]["width_ratio"]
    result = {
        "name": "judges",
        "ratio": ratio,
        "peer": "people alone: width of the interval with a judge of correlation 0.8 and ten judged pairs a vote",
        "value": max((row["widest"] for row in parts.get("llmfao", {}).values()), default=None),
        "unit": "largest width on LLMFAO relative to people alone",
        "runs": args.times,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - begun,
        "parts": parts,
    }
    path = HERE / "results" / "judges.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
