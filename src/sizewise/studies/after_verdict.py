"""What a study measures after its provisional verdict: load tests, bias and language nuance."""

from __future__ import annotations

from sizewise.evaluation.counterfactuals import MIN_QUESTIONS, mentions
from sizewise.evaluation.suites import COUNTERFACTUALS
from sizewise.records import Evaluation, ModelDescription
from sizewise.report.side_tests import SWAPPED_GROUPS
from sizewise.studies.measuring import (
    BIAS,
    BIAS_BY_PROMPTING,
    KNOWLEDGE,
    NUANCE,
    SideTest,
    bases_of,
    can_be_asked,
    can_be_load_tested,
    has_likelihoods,
    load_test_candidate,
    run_side_test,
    weights_of,
)
from sizewise.studies.steps import Steps
from sizewise.text import language_name

TESTED_SHARE, STOPPED_SHARE = 0.6, 0.1
"""Share of the time left for the load test of a candidate, and of one that was stopped as clearly worse."""
SUITE_SHARE = 0.5
"""Share of the time left at the end for a suite."""
FIRST_SUITE_ITEMS = 32
"""Items of a suite by which its time is estimated."""
TITLES = {"bias": "Bias test", "bias by prompting": "Bias test by prompting"}
"""Test -> its title in the progress, where its name isn't enough."""


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
        stopped = name in steps.evidence.stopped
        if steps.budget.limited and expected > (STOPPED_SHARE if stopped else TESTED_SHARE) * steps.budget.left_s:
            if not stopped:  # more time wouldn't test a candidate that is out
                steps.list_unfinished(f"load test of {name}", expected)
            continue
        steps.progress.say(f"Load test: {name}")
        found = steps.step(f"Load test of {name}", steps.budget.left_s, load_test_candidate, evaluation, steps.config)
        if found is not None:
            steps.evidence.load_tests[name] = found
    return None if tested else "no candidate runs on this machine"


def run_suites(steps: Steps) -> str | None:
    """Measure bias, language nuance, general knowledge and counterfactual fairness, in part if time is short."""
    if steps.language not in ("", "en"):
        return f"they are defined for English, and the data are in {language_name(steps.language)}"
    uris, evidence = steps.evidence.uris, steps.evidence
    models = {name: steps.store.read(Evaluation, evidence.evaluations[name]).model for name in steps.by_rank()}
    scoring = {name: weights_of(uris[name]) for name in models if has_likelihoods(uris[name], models[name])}
    hosted = {name: uris[name] for name, model in models.items() if name not in scoring and can_be_asked(model)}
    bases: dict[str, str] = {}
    for name, base in bases_of(steps.config, uris).items():
        evidence.bases[name] = base
        if base not in scoring:
            bases[base] = next(one.model for one in steps.config.candidates if one.name == name)
    limit = FIRST_SUITE_ITEMS if steps.budget.limited else None
    if scoring:
        _suite(steps, BIAS, scoring | bases, evidence.found(BIAS.title), limit)
        evidence.bias.update({name: one for name, one in evidence.found(BIAS.title).items() if name in scoring})
        nuance = {name: uri for name, uri in (scoring | bases).items() if not _is_wrapped(uris.get(name, ""))}
        _suite(steps, NUANCE, nuance, evidence.nuance, limit)
    if hosted:
        asked_bias = evidence.found(BIAS_BY_PROMPTING.title)
        _suite(steps, BIAS_BY_PROMPTING, hosted | scoring, asked_bias, limit)
        evidence.bias.update({name: one for name, one in asked_bias.items() if name in hosted})
    asked = {name: uri for name, uri in (scoring | bases | hosted).items() if not _is_wrapped(uris.get(name, ""))}
    if len(asked) > 1:
        _suite(steps, KNOWLEDGE, asked, evidence.found(KNOWLEDGE.title), limit)
    swapped = _counterfactuals(steps, models)
    return None if scoring or hosted or swapped else "no candidate can be asked further questions"


def _is_wrapped(uri: str) -> bool:
    """Check whether a candidate is a classifier, or answers from passages, which its weights alone don't."""
    return uri.startswith(("rag:", "run:classifier-"))


def _counterfactuals(steps: Steps, models: dict[str, ModelDescription]) -> bool:
    """Ask the study's own questions about other groups of people, where enough of them mention people."""
    mentioned = mentions(steps.contents.examples["test"], MIN_QUESTIONS)
    names = [name for name, model in models.items() if can_be_asked(model) or "decisions" in model.offers]
    if not mentioned or not names:
        return False
    found = steps.evidence.found(SWAPPED_GROUPS)
    test = SideTest(SWAPPED_GROUPS, COUNTERFACTUALS, data=steps.data)
    for name in names:
        expected = steps.item_s.get(name, 0.0) * sum(mentioned.values())
        if steps.budget.is_over or (steps.budget.limited and expected > SUITE_SHARE * steps.budget.left_s):
            steps.list_unfinished(f"{SWAPPED_GROUPS} of {name}", expected)
            continue
        steps.progress.say(f"Counterfactual fairness: {name}, {', '.join(mentioned)}")
        made = steps.step(
            f"{SWAPPED_GROUPS} of {name}",
            steps.budget.left_s,
            run_side_test,
            steps.evidence.uris[name],
            test,
            MIN_QUESTIONS,
            steps.config.seed,
        )
        if made is not None:
            found[name] = made
    return True


def _suite(steps: Steps, test: SideTest, uris: dict[str, str], found: dict[str, str], limit: int | None) -> None:
    """Evaluate candidates on a suite: all on a small sample, then on as much as the time allows."""
    begun = steps.budget.spent_s
    _suite_round(steps, test, uris, found, limit)
    if limit is None or not found or len(found) < len(uris):
        return
    spent = max(0.5, steps.budget.spent_s - begun)
    times = SUITE_SHARE * steps.budget.left_s / spent
    larger = None if times > 30 else limit * int(times) if times >= 2 else limit
    if larger != limit:
        again: dict[str, str] = {}
        _suite_round(steps, test, uris, again, larger)
        if len(again) == len(uris):
            found.update(again)


def _suite_round(steps: Steps, test: SideTest, uris: dict[str, str], found: dict[str, str], limit: int | None) -> None:
    title = TITLES.get(test.title, test.title.capitalize())
    for name, uri in uris.items():
        if steps.budget.is_over:
            steps.list_unfinished(f"{title[0].lower()}{title[1:]} of {name}")
            continue
        steps.progress.say(f"{title}: {name}" + (f", {limit} items" if limit else ""))
        made = steps.step(f"{title} of {name}", steps.budget.left_s, run_side_test, uri, test, limit, steps.config.seed)
        if made is not None:
            found[name] = made
