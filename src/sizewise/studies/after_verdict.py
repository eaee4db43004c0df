"""What a study measures after its provisional verdict: load tests, bias and language nuance."""

from __future__ import annotations

from sizewise.records import Evaluation
from sizewise.studies.measuring import (
    bases_of,
    can_be_load_tested,
    has_likelihoods,
    load_test_candidate,
    suite_of_candidate,
    weights_of,
)
from sizewise.studies.steps import Steps
from sizewise.text import language_name

SUITE_SHARE = 0.5
"""Share of the time left at the end for a suite."""
FIRST_SUITE_ITEMS = 32
"""Items of a suite by which its time is estimated."""


def load_test_all(steps: Steps) -> str | None:
    """Run a load test on every candidate that runs on this machine, the best one first."""
    tested = 0
    for name in steps.by_rank():
        evaluation = steps.evidence.evaluations[name]
        measured = steps.store.read(Evaluation, evaluation)
        if not can_be_load_tested(measured):
            continue
        tested += 1
        latency = measured.scores["latency_s"].value if "latency_s" in measured.scores else None
        expected = 30.0 * (latency or 1.0)  # 12 requests one by one, and 32 by several users at once
        if steps.budget.limited and (name in steps.evidence.stopped or expected > 0.6 * steps.budget.left_s):
            steps.list_unfinished(f"load test of {name}", expected)
            continue
        steps.progress.say(f"Load test: {name}")
        found = steps.step(f"Load test of {name}", steps.budget.left_s, load_test_candidate, evaluation, steps.config)
        if found is not None:
            steps.evidence.load_tests[name] = found
    return None if tested else "no candidate runs on this machine"


def run_suites(steps: Steps) -> str | None:
    """Measure bias and language nuance, on a random part of the suites if time is short."""
    if steps.language not in ("", "en"):
        return f"they are defined for English, and the data are in {language_name(steps.language)}"
    names = steps.by_rank()
    scoring = [
        name
        for name in names
        if has_likelihoods(
            steps.evidence.uris[name], steps.store.read(Evaluation, steps.evidence.evaluations[name]).model
        )
    ]
    uris = {name: weights_of(steps.evidence.uris[name]) for name in scoring}
    for name, base in bases_of(steps.config, steps.evidence.uris).items():
        steps.evidence.bases[name] = base
        uris.setdefault(base, next(one.model for one in steps.config.candidates if one.name == name))
    if not uris:
        return "no candidate returns log-likelihoods"
    limit = FIRST_SUITE_ITEMS if steps.budget.limited else None
    _suite(steps, "bias", {name: uris[name] for name in scoring}, steps.evidence.bias, limit)
    nuance = {
        name: uri
        for name, uri in uris.items()
        if not steps.evidence.uris.get(name, "").startswith(("rag:", "run:classifier-"))
    }
    _suite(steps, "language-nuance", nuance, steps.evidence.nuance, limit)
    return None


def _suite(steps: Steps, suite: str, uris: dict[str, str], found: dict[str, str], limit: int | None) -> None:
    """Evaluate candidates on a suite: all on a small sample, then on as much as the time allows."""
    begun = steps.budget.spent_s
    _suite_round(steps, suite, uris, found, limit)
    if limit is None or not found or len(found) < len(uris):
        return
    spent = max(0.5, steps.budget.spent_s - begun)
    times = SUITE_SHARE * steps.budget.left_s / spent
    larger = None if times > 30 else limit * int(times) if times >= 2 else limit
    if larger != limit:
        again: dict[str, str] = {}
        _suite_round(steps, suite, uris, again, larger)
        if len(again) == len(uris):
            found.update(again)


def _suite_round(steps: Steps, suite: str, uris: dict[str, str], found: dict[str, str], limit: int | None) -> None:
    title = {"bias": "Bias test", "language-nuance": "Language nuance"}[suite]
    for name, uri in uris.items():
        if steps.budget.is_over:
            steps.list_unfinished(f"{title[0].lower()}{title[1:]} of {name}")
            continue
        steps.progress.say(f"{title}: {name}" + (f", {limit} items" if limit else ""))
        made = steps.step(
            f"{title} of {name}", steps.budget.left_s, suite_of_candidate, uri, suite, limit, steps.config.seed
        )
        if made is not None:
            found[name] = made
