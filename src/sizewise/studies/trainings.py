"""Training within the budget of a study: who is trained, and for how long."""

from __future__ import annotations

import math

from sizewise.records import Candidate, ClassifierRecipe, Recipe
from sizewise.studies.budget import training_minutes
from sizewise.studies.cluster_training import TrainingJob, train_at_once, training_cluster
from sizewise.studies.plans import StudyPlan
from sizewise.studies.steps import Steps

TRAINING_SHARE = 0.55
"""Share of the time after the first wave that goes to training."""
RESERVED_SHARE = 0.3
"""Share of the time after the first wave that stays for further items and load tests."""


def train_candidates(steps: Steps, plan: StudyPlan, candidates: list[Candidate]) -> str | None:
    """Train the candidates, each as long as the budget allows, and evaluate them on the first wave.

    On a cluster of several places, they are trained at once, one on each; their evaluations follow in the same order.
    """
    minutes = _minutes_of(steps, plan, candidates)
    planned = [(one, _job(steps, one, minutes[one.name])) for one in candidates]
    cluster = training_cluster([job.recipe for _, job in planned if job], steps)
    found = train_at_once(cluster, steps, [job for _, job in planned if job]) if cluster else {}
    for candidate, job in planned:
        given, overhead = minutes[candidate.name], steps.training_overhead_s(candidate)
        if candidate.name not in found and (job is None or (steps.budget.limited and steps.budget.is_over)):
            minimum = (candidate.train.minutes if candidate.train else None) or 1.0
            steps.list_unfinished(f"training {candidate.name}", 60 * max(1.0, minimum) + overhead)
            continue
        assert job is not None
        if candidate.name in found:
            uri = steps.train_one(candidate, job.recipe, math.inf, found[candidate.name])
        else:
            steps.progress.say(f"Training {candidate.name}{job.words}")
            uri = steps.train_one(candidate, job.recipe, min(steps.budget.left_s, job.seconds))
        if uri is not None:
            if steps.budget.limited and given is not None:
                plan.remember({candidate.name: given})
            steps.add(candidate, uri)
        elif candidate.name not in steps.evidence.failed:
            steps.list_unfinished(f"training {candidate.name}", 60 * (given or 1.0) + overhead)
    return None if not steps.budget.limited or any(minutes.values()) else "the time left is too short"


def _job(steps: Steps, candidate: Candidate, given: float | None) -> TrainingJob | None:
    """Return what is to be trained; None where the time isn't enough."""
    recipe = candidate.train
    assert recipe is not None
    if not steps.budget.limited:
        return TrainingJob(candidate, recipe, math.inf, "")
    if given is None:
        return None
    recipe = recipe.model_copy(update={"minutes": given, **_without_tokens(recipe)})
    seconds = 60 * given + steps.training_overhead_s(candidate)
    return TrainingJob(candidate, recipe, seconds, f" for {given:g} minutes")


def _minutes_of(steps: Steps, plan: StudyPlan, candidates: list[Candidate]) -> dict[str, float | None]:
    """Divide the training time; what was trained in an earlier run of this study is kept."""
    shares = [(candidate.train.minutes if candidate.train else None) or 1.0 for candidate in candidates]
    if not steps.budget.limited:
        return {one.name: one.train.minutes if one.train else None for one in candidates}
    overheads = [steps.training_overhead_s(candidate) + steps.first_look_s(candidate) for candidate in candidates]
    left = steps.budget.left_s
    before = [plan.minutes.get(candidate.name) for candidate in candidates]
    found: list[float | None] = [None] * len(candidates)
    for count in range(len(candidates), 0, -1):  # fewer trainings where the time isn't enough for all
        chosen = sorted(range(len(shares)), key=lambda i: -shares[i])[:count]
        seconds = min(TRAINING_SHARE * left, (1 - RESERVED_SHARE) * left - sum(overheads[i] for i in chosen))
        given = training_minutes(max(0.0, seconds), [shares[i] for i in chosen], [before[i] for i in chosen])
        if all(given):
            for i, minutes in zip(chosen, given, strict=True):
                found[i] = minutes
            break
    return dict(zip((candidate.name for candidate in candidates), found, strict=True))


def _without_tokens(recipe: Recipe | ClassifierRecipe) -> dict[str, None]:
    return {"tokens": None} if isinstance(recipe, Recipe) else {}
