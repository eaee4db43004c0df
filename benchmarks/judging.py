"""Blind judging: golden scores, interval coverage, one-sided raters, early stopping, and many raters at once.

1. Bradley-Terry on LLMFAO against its golden scores, and run time against evalica.
2. 1,000 simulated rounds: how often the intervals of win rates and of Bradley-Terry strengths cover the true value.
3. Raters who always choose the same side: detection within 30 votes, and false alarms on honest raters.
4. Stopping as soon as a pair is decided: votes saved, and wrong decisions.
5. 50 concurrent raters, 5,000 votes over HTTP: lost and duplicate votes, p95 latency; and the same with a server
   that is killed halfway.

LLMFAO comes from the folder that SIZEWISE_TEST_DATA names; without it part 1 is skipped. `python
benchmarks/judging.py` ends stdout with one JSON line and writes it to benchmarks/results/judge.json.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.special import logsumexp

HERE = Path(__file__).parent
DATA = Path(os.environ.get("SIZEWISE_TEST_DATA", "/nonexistent"))
PARTS = ("golden", "cover", "sides", "stopping", "crowd")


def golden_part() -> dict[str, Any]:
    """Compare strengths with the golden ones, and run time with evalica's."""
    import evalica

    from sizewise.stats.ranking import bradley_terry, win_matrix

    folder = DATA / "llmfao"
    with (folder / "evalica_llmfao.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "llmfao-golden.csv").open(encoding="utf-8", newline="") as file:
        golden = {
            row["item"]: float(row["score"]) for row in csv.DictReader(file) if row["algorithm"] == "bradley_terry"
        }
    names, index = np.unique([r["left"] for r in rows] + [r["right"] for r in rows], return_inverse=True)
    left, right = index[: len(rows)].astype(np.int64), index[len(rows) :].astype(np.int64)
    share = np.array([{"left": 1.0, "right": 0.0, "tie": 0.5}[row["winner"]] for row in rows])
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        found = bradley_terry(win_matrix(left, right, share, len(names)))
        seconds.append(time.perf_counter() - begun)
    known = np.array([golden[name] for name in names])
    apart = float(np.abs(found / found.sum() - known / known.sum()).max())
    result = {"votes": len(rows), "models": len(names), "apart": apart, "seconds": median(seconds)}
    winners = [
        {"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw}[r["winner"]] for r in rows
    ]
    theirs = []
    for _ in range(5):
        begun = time.perf_counter()
        evalica.bradley_terry([r["left"] for r in rows], [r["right"] for r in rows], winners)
        theirs.append(time.perf_counter() - begun)
    result["evalica_seconds"] = median(theirs)
    print(f"golden: {result}")
    return result


def simulated_votes(rng: np.random.Generator, strengths: np.ndarray, items: int, votes: int) -> list[dict[str, Any]]:
    """Simulate votes with ties, where each item favors one side for all its raters."""
    rows = []
    for item in range(items):
        a, b = rng.choice(len(strengths), 2, replace=False)
        lean = rng.normal(0, 0.5)
        for rater in rng.choice(12, votes, replace=False):
            probability = 1 / (1 + np.exp(-(np.log(strengths[a]) - np.log(strengths[b]) + lean)))
            tie = rng.random() < 0.15
            winner = "tie" if tie else "left" if rng.random() < probability else "right"
            rows.append({"left": str(a), "right": str(b), "winner": winner, "rater": str(rater), "item": str(item)})
    return rows


def cover_part(times: int) -> dict[str, Any]:
    """Count how often intervals cover the true value, taken from a very large sample."""
    from scipy.special import expit

    from sizewise.judging.ranking import rank_rows
    from sizewise.stats.crossed import estimate_share

    strengths = np.array([0.1, 0.15, 0.25, 0.5])
    truth = {
        row.name: row.score.value
        for row in rank_rows(simulated_votes(np.random.default_rng(10**6), strengths, 120_000, 1), "truth").table
    }
    covered, all_ = 0, 0
    for seed in range(times):
        for row in rank_rows(simulated_votes(np.random.default_rng(seed), strengths, 240, 1), "simulated").table:
            all_ += 1
            covered += row.score.ci_low <= truth[row.name] <= row.score.ci_high
    result: dict[str, Any] = {"times": times, "bradley_terry": covered / all_, "win_rate": {}}
    rate = float(expit(0.5 + np.random.default_rng(0).normal(0, np.hypot(0.8, 0.7), 400_000)).mean())
    for raters in (3, 4, 5, 6, 10, 50):
        rng = np.random.default_rng(raters)
        inside = 0
        for _ in range(times):
            lean, ease = rng.normal(0, 0.8, raters), rng.normal(0, 0.7, 60)
            item = np.repeat(np.arange(60), 3)
            rater = np.concatenate([rng.choice(raters, 3, replace=False) for _ in range(60)])
            won = rng.random(180) < expit(0.5 + lean[rater] + ease[item])
            found = estimate_share(won.astype(float), rater, item)
            inside += found.ci_low <= rate <= found.ci_high
        result["win_rate"][f"{raters} raters"] = inside / times
    result["strengths"] = {f"{raters} raters": covered_strengths(raters, times) for raters in (3, 4, 5, 6, 10)}
    print(f"intervals cover the truth: {result}")
    return result


def covered_strengths(raters: int, times: int, documents: int = 120) -> float:
    """Count how often intervals of strengths cover the truth, where raters' tastes differ by 0.8 logits."""
    from scipy.special import expit

    from sizewise.stats.ranking import Votes, fit_strengths

    logs = np.array([0.0, 0.4, 0.8, 1.4])

    def drawn(rng: np.random.Generator, documents: int, raters: int) -> Votes:
        tastes, count = rng.normal(0, 0.8, (raters, len(logs))), len(logs)
        left = np.repeat(rng.integers(0, count, documents), 2)
        right = (left + np.repeat(rng.integers(1, count, documents), 2)) % count
        first = rng.integers(0, raters, documents)
        by = np.column_stack([first, (first + rng.integers(1, raters, documents)) % raters]).ravel()
        chance = expit(logs[left] + tastes[by, left] - logs[right] - tastes[by, right])
        won = (rng.random(len(left)) < chance).astype(np.float64)
        return Votes(left, right, won, by, np.arange(len(left)) // 2)

    truth = fit_strengths(drawn(np.random.default_rng(10**6), 200_000, 20_000), len(logs)).strengths
    rng, inside = np.random.default_rng(raters), 0
    for _ in range(times):
        found = fit_strengths(drawn(rng, documents, raters), len(logs))
        inside += int(((found.ci_low <= truth) & (truth <= found.ci_high)).sum())
    return inside / times / len(logs)


def sides_part(times: int) -> dict[str, Any]:
    """Detect raters who always choose one side, after 30 votes."""
    from scipy.stats import binomtest

    from sizewise.judging.reporting import SIDE_P

    rng = np.random.default_rng(0)
    always = float(binomtest(30, 30).pvalue) < SIDE_P
    votes_needed = next(n for n in range(1, 31) if binomtest(n, n).pvalue < SIDE_P)
    honest = float(np.mean([binomtest(int(rng.binomial(30, 0.5)), 30).pvalue < SIDE_P for _ in range(times)]))
    result = {"found_within_30": always, "votes_needed": votes_needed, "honest_named": honest}
    print(f"one-sided raters: {result}")
    return result


def stopping_part(times: int) -> dict[str, Any]:
    """Compare sequential stopping with the plan's fixed number of votes, at the same error rate."""
    from sizewise.judging import PlanAssumptions, plan

    fixed = plan(0.1, 0.8, assumptions=PlanAssumptions(tie_share=0.15)).votes
    rates = {}
    for win in (0.5, 0.55, 0.6, 0.65, 0.7, 0.8):
        rng, used, decided, wrong = np.random.default_rng(0), [], 0, 0
        for _ in range(times):
            drawn = rng.random(fixed)
            share = win - 0.075  # a tie counts as half a win
            votes = np.where(drawn < 0.15, 0.0, np.where(drawn < 0.15 + share, 1.0, -1.0))
            stopped = first_decision(votes)
            used.append(stopped or fixed)
            decided += stopped is not None
            wrong += stopped is not None and (win == 0.5 or votes[:stopped].mean() < 0)
        rates[f"win rate {win}"] = {
            "votes": float(np.mean(used)),
            "fixed": fixed,
            "saved": 1 - float(np.mean(used)) / fixed,
            "decided": decided / times,
            "wrong": wrong / times,
        }
    for raters, spread in ((3, 0.0), (6, 0.0), (6, 0.4), (6, 0.8), (10, 0.4)):
        for win in (0.5, 0.55, 0.6, 0.65, 0.7):
            row = stopping_of_raters(win, fixed, (raters, spread), times // 10)
            rates[f"win rate {win}, {raters} raters who differ by {spread:g} logits"] = row
    for name, row in rates.items():
        print(f"stopping, {name}: {row}")
    return rates


def stopping_of_raters(win: float, fixed: int, raters: tuple[int, float], times: int) -> dict[str, float]:
    """Stop where a claim about raters in general is made, looking after every five votes, one on each document."""
    from scipy.special import expit, logit

    from sizewise.stats.crossed import estimate_share
    from sizewise.stats.sequential import LOG_WEIGHTS, STAKES

    rng, used, decided, wrong = np.random.default_rng(1), [], 0, 0
    by = np.arange(fixed) % raters[0]
    for _ in range(times):
        lean = rng.normal(0, raters[1], raters[0])[by]
        won = rng.random(fixed) < expit(logit((win - 0.075) / 0.85) + lean)
        shares = np.where(rng.random(fixed) < 0.15, 0.5, won.astype(np.float64))
        wealth = np.cumsum(np.log1p(STAKES[:, None] * (2 * shares - 1)), axis=1)
        stopped = None
        for n in range(10, fixed + 1, 5):
            equal = n - n % raters[0]  # every rater has equally many votes
            if logsumexp(wealth[:, equal - 1] + LOG_WEIGHTS) > -np.log(0.05):
                found = estimate_share(shares[:n], by[:n], np.arange(n), reading="with bets")
                if found.p < 0.05:
                    stopped, wrong = n, wrong + bool(win == 0.5 or found.value < 0.5)
                    break
        used.append(stopped or fixed)
        decided += stopped is not None
    saved = 1 - float(np.mean(used)) / fixed
    return {
        "votes": float(np.mean(used)),
        "fixed": fixed,
        "saved": saved,
        "decided": decided / times,
        "wrong": wrong / times,
    }


def first_decision(votes: np.ndarray, min_votes: int = 8) -> int | None:
    """Return after how many votes `vote_evidence`, read after each, first decides; None if it never does."""
    from sizewise.stats.sequential import LOG_WEIGHTS, STAKES, vote_evidence

    wealth = logsumexp(np.cumsum(np.log1p(STAKES[:, None] * votes), axis=1) + LOG_WEIGHTS[:, None], axis=0)
    past = np.flatnonzero(wealth[min_votes - 1 :] > -np.log(0.05))
    if not len(past):
        return None
    stopped = int(past[0]) + min_votes
    p_values = [vote_evidence(votes[:n].tolist()).p for n in (stopped - 1, stopped)]
    if not (p_values[1] < 0.05 and (stopped == min_votes or p_values[0] >= 0.05)):
        raise RuntimeError(f"the bets disagree after {stopped} votes: {p_values}")
    return stopped


# -- 5. concurrent raters ------------------------------------------------------------------------------------------


def make_round(home: Path, raters: int, items: int) -> tuple[str, dict[str, str]]:
    """Open a round with two recorded candidates; return its id and each rater's token."""
    os.environ["SIZEWISE_HOME"] = str(home)
    from sizewise.evaluation import evaluate
    from sizewise.judging import RoundDesign, open_round
    from sizewise.store import Store

    rng = random.Random(0)
    rows = [
        {"id": f"e{i}", "prompt": f"Question {i}?", "references": [f"right {i}"], "source": f"d{i}"}
        for i in range(items + 250)
    ]
    (home / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ids = []
    for name in ("one", "two"):
        answers = [
            {"id": row["id"], "completion": " ".join(rng.choice(["a", "b", "c"]) for _ in range(40))} for row in rows
        ]
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), encoding="utf-8")
        uri = f"recorded:{home / name}.jsonl"
        ids.append(evaluate(uri, home / "data.jsonl", ["exact_match"], store=Store(home)).id)
    opened = open_round(ids, RoundDesign(raters=[f"r{i}" for i in range(raters)], items=items), store=Store(home))
    return opened.stored.id, {one.rater: one.token for one in opened.invitations}


async def judge(address: str, token: str, wanted: int, seconds: list[float], kept: set[tuple[str, str]]) -> None:
    """Vote like a browser, and collect the acknowledged votes."""
    import httpx2 as httpx

    async with httpx.AsyncClient(base_url=f"{address}/r/{token}", timeout=30) as client:
        try:
            state = (await client.get("/state")).json()
            for number in range(wanted):
                if state["task"] is None:
                    return
                body = {"task": state["task"]["id"], "choice": "left", "nonce": secrets.token_hex(8), "seconds": 1.0}
                begun = time.perf_counter()
                answer = await client.post("/vote", json=body)
                seconds.append(time.perf_counter() - begun)
                answer.raise_for_status()
                kept.add((token, body["task"]))
                if number % 5 == 0:
                    await client.post("/vote", json=body)  # a double click
                state = answer.json()
        except (httpx.HTTPError, KeyError):
            return


def raters_part(raters: int = 50, items: int = 4_400) -> dict[str, Any]:
    """Let 50 raters vote concurrently; then repeat it and kill the server halfway."""
    result = {}
    for name, kill_after in (("whole", None), ("killed", 6.0)):
        with tempfile.TemporaryDirectory() as temporary:
            result[name] = concurrent_raters(Path(temporary), raters, items, kill_after)
        print(f"crowd, {name}: {result[name]}")
    return result


def concurrent_raters(home: Path, raters: int, items: int, kill_after: float | None) -> dict[str, float]:
    """Run one load of raters, and compare acknowledged with stored votes."""
    from sizewise.judging import Ballot
    from sizewise.store import Store

    round_id, tokens = make_round(home, raters, items)
    port = random.randint(20_000, 40_000)
    server = subprocess.Popen(
        [sys.executable, "-m", "sizewise", "judge", "open", round_id, "--port", str(port)],
        env=os.environ | {"SIZEWISE_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    wait_for(address)
    seconds: list[float] = []
    kept: set[tuple[str, str]] = set()

    async def all_raters() -> None:
        if kill_after is not None:
            asyncio.get_running_loop().call_later(kill_after, lambda: server.send_signal(signal.SIGKILL))
        await asyncio.gather(*(judge(address, token, 100, seconds, kept) for token in tokens.values()))

    begun = time.perf_counter()
    asyncio.run(all_raters())
    took = time.perf_counter() - begun
    server.kill()
    server.wait()
    ballot = Ballot(Store(home), round_id)
    stored = [(vote.rater, vote.task) for vote in ballot.votes()]
    ballot.close()
    by_token = {token: name for name, token in tokens.items()}
    acknowledged = {(by_token[token], task) for token, task in kept}
    row: dict[str, float] = {
        "acknowledged": len(acknowledged),
        "stored": len(stored),
        "lost": len(acknowledged - set(stored)),
        "doubled": len(stored) - len(set(stored)),
    }
    if kill_after is None:
        row |= {"p95_ms": 1000 * float(np.quantile(seconds, 0.95)), "votes_per_s": len(acknowledged) / took}
    return row


def wait_for(address: str) -> None:
    """Wait until a server is up."""
    import httpx2 as httpx

    for _ in range(300):
        try:
            httpx.get(f"{address}/health")
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=PARTS)
    parser.add_argument("--times", type=int, default=1_000)
    args = parser.parse_args()
    path = HERE / "results" / "judge.json"
    parts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
    todo = {
        "cover": lambda: cover_part(args.times),
        "sides": lambda: sides_part(20_000),
        "stopping": lambda: stopping_part(args.times),
        "crowd": raters_part,
    }
    if DATA.exists():
        todo["golden"] = golden_part
    for name in PARTS:
        if name in args.only and name in todo:
            parts[name] = todo[name]()
            sys.stdout.flush()
    golden = parts.get("golden", {})
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    theirs, ours = golden.get("evalica_seconds"), golden.get("seconds")
    result = {
        "name": "judge",
        "ratio": ours / theirs if ours and theirs else None,
        "peer": "evalica's Bradley-Terry on LLMFAO: our time over its time",
        "value": parts.get("crowd", {}).get("whole", {}).get("p95_ms"),
        "unit": "ms, p95 latency of a vote with 50 concurrent raters",
        "runs": 5,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "parts": parts,
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
