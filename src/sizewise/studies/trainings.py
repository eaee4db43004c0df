"""Training within the budget of a study: who is trained, and for how long."""

from __future__ import annotations

import math

from sizewise.records import Candidate, ClassifierRecipe, Recipe
from sizewise.studies.budget import training_minutes
from sizewise.studies.plans import StudyPlan
from sizewise.studies.steps import Steps

TRAINING_SHARE = 0.55
"""Share of the time after the first wave that goes to training."""
RESERVED_SHARE = 0.3
"""Share of the time after the first wave that stays for further items and load tests."""


def train_candidates(steps: Steps, plan: StudyPlan, candidates: list[Candidate]) -> str | None:
    """Train the candidates, each as long as the budget allows, and evaluate them on the first wave."""
    minutes = _minutes_of(steps, plan, candidates)
    for candidate in candidates:
        recipe, given = candidate.train, minutes[candidate.name]
        assert recipe is not None
        if steps.budget.limited:
            if given is None or steps.budget.is_over:
                wanted = 60 * max(1.0, recipe.minutes or 1.0) + steps.training_overhead_s(candidate)
                steps.list_unfinished(f"training {candidate.name}", wanted)
                continue
            recipe = recipe.model_copy(update={"minutes": given, **_without_tokens(recipe)})
        steps.progress.say(
            f"Training {candidate.name}" + (f" for {given:g} minutes" if given and steps.budget.limited else "")
        )
        overhead = steps.training_overhead_s(candidate)
        seconds = min(steps.budget.left_s, 60 * given + overhead if given else math.inf)
        uri = steps.train_one(candidate, recipe, seconds if steps.budget.limited else math.inf)
        if uri is not None:
            if steps.budget.limited and given is not None:
                plan.remember({candidate.name: given})
            steps.add(candidate, uri)
        elif candidate.name not in steps.evidence.failed:
            steps.list_unfinished(f"training {candidate.name}", 60 * (given or 1.0) + overhead)
    return None if not steps.budget.limited or any(minutes.values()) else "the time left is too short"


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
