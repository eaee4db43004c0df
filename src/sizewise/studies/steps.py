"""The steps of a running study and what they have found so far; each is kept, limited in time, and may fail alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sizewise import datasets
from sizewise.datasets.passages import passages
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions
from sizewise.evaluation.references import data_language
from sizewise.launch import requested_launch
from sizewise.models.keeping import close_kept
from sizewise.progress import pulsing
from sizewise.records import Candidate, ClassifierRecipe, Evaluation, NotMeasured, Recipe
from sizewise.stats import MIN_CLUSTERS
from sizewise.store import Store
from sizewise.studies.budget import Budget, StepEndedError, StepReporter
from sizewise.studies.concluding import Conclusion, Evidence
from sizewise.studies.config import StudyConfig
from sizewise.studies.measuring import (
    answered_by_candidate,
    baselines_of,
    evaluate_candidate,
    metrics_of,
    train_candidate,
)
from sizewise.studies.progress import StudyProgress
from sizewise.studies.waves import ranked, wave_sizes

T = TypeVar("T")
MAX_SHARE = 0.5
"""Share of the time left that one candidate may take for its first look, while others wait for theirs."""
TRAINING_OVERHEAD_S, SCRATCH_OVERHEAD_S = 40.0, 15.0
"""Time of a training beside its minutes: loading, measuring before and after, and saving."""
ANSWERED_SHARE = 0.1
"""Share of an evaluation's time that grows with its items where the answers are there already."""
COUNTING_S, PARTIAL_S, PARTIAL_SHARE = 30.0, 180.0, 0.25
"""Time to count what was answered when an evaluation ran out of time, and to score it, with single requests of a slow
model to time; and the largest share of the time left that this may take."""
PARTIAL_GROWTH = 1.25
"""How many times as many items as before that must be."""
SLOWDOWN_AFTER_S = 10.0
"""Time after which it is known how long this process waits for a processor."""
MAX_SLOWDOWN = 3.0
"""Longest wait for a processor that is planned for, as a multiple of the processor time."""
PROMPT_EXAMPLES = ((3.0, 8), (15.0, 16))
"""Minutes of a study, and the validation examples on which it chooses the prompt form up to there."""


class Steps:
    """What a running study knows, and its steps for single candidates.

    Args:
        config: the study.
        data: dataset id.
        store: where records live.
        progress: progress of the study.
        budget: its time.
    """

    def __init__(self, config: StudyConfig, data: str, store: Store, progress: StudyProgress, budget: Budget) -> None:
        self.config, self.data, self.store = config, data, store
        self.progress, self.budget = progress, budget
        self.contents = datasets.load(store, data)
        self.metrics = metrics_of(config, data, store)
        self.baselines = baselines_of(config, data, self.metrics)
        self.language = data_language(self.contents, "test")
        tests = self.contents.examples["test"]
        found = len(tests) or sum(map(len, map(passages, self.contents.documents["test"])))
        self.items = min(config.limit or found, found)
        """Test items that may be asked."""
        self.evidence = Evidence(data)
        self.conclusion: Conclusion | None = None
        self.failures: list[SizewiseError] = []
        self.sizes = self._wave_sizes()
        self.item_s: dict[str, float] = {}
        """Candidate or baseline -> seconds for one item."""
        self.fixed_s: dict[str, float] = {}
        """Candidate or baseline -> seconds of an evaluation beside its items."""
        self.looks_until_s = math.inf
        """Time on the budget's clock when first looks end, so that training gets its share."""
        self._begun_s, self._begun_cpu_s = time.monotonic(), time.process_time()

    def step(self, name: str, seconds: float, work: Callable[..., T], *given: Any) -> T | None:
        """Run one step of a candidate; a failure is listed, and the study goes on.

        Args:
            name: name of the candidate or the step.
            seconds: time of the step.
            work: called with `given`, the store and a reporter.
            given: its arguments.

        Returns:
            Its result, or None if it failed or ran out of time.
        """
        try:
            reporter = StepReporter(self.progress, seconds)
            with pulsing(reporter.check, lambda: reporter.left_s):
                return work(*given, store=self.store, reporter=reporter)
        except StepEndedError as error:
            self.progress.say(f"{name}: {error.what}")
            return None
        except UsageError:
            raise  # a mistake in the study file
        except SizewiseError as error:
            self.progress.say(f"{name}: skipped. {error.what}")
            self.failures.append(error)
            if name not in self.baselines:
                self.evidence.failed[name] = error
            return None

    def list_unfinished(self, what: str, seconds: float | None = None) -> None:
        """List a part that had no room, with its price in minutes."""
        price = None if seconds is None or not math.isfinite(seconds) else max(0.1, round(seconds / 60, 1))
        total = math.ceil((self.budget.minutes or 0.0) + (price or 0.0) + 0.5)
        self.evidence.unfinished[what] = NotMeasured(
            what=what, command=f"the same command with --minutes {total}", minutes=price
        )

    def list_unfitted(self, candidate: Candidate) -> None:
        """List a classifier that had no time to be fitted, unless it failed."""
        if candidate.name not in self.evidence.failed:
            self.list_unfinished(f"training {candidate.name}")

    def add(self, candidate: Candidate, uri: str) -> None:
        """Add a candidate whose model exists, and evaluate it on the first wave."""
        uri = f"rag:{self.data}:{uri}" if candidate.retrieve else uri
        self.evidence.uris[candidate.name] = uri
        if not self.evaluate(candidate.name, uri, self.sizes[0]) and candidate.name not in self.evidence.failed:
            self.list_unfinished(f"evaluating {candidate.name}", self.price(candidate.name))

    def evaluate(self, name: str, uri: str, limit: int | None) -> bool:
        """Evaluate a candidate or baseline on the first `limit` items; return whether that was finished."""
        first = self.budget.limited and name not in self.evidence.measured
        if self.budget.is_over or (first and self.budget.spent_s >= self.looks_until_s):
            return False
        self.progress.say(
            f"Evaluating {name}" + (f" on {min(limit, self.items)} items" if limit and len(self.sizes) > 1 else "")
        )
        minutes = self.budget.minutes
        number = next((count for most, count in PROMPT_EXAMPLES if minutes is not None and minutes <= most), 30)
        options = EvaluationOptions(seed=self.config.seed, prompt_examples=number)
        begun = self.budget.spent_s
        seconds = self.budget.left_s
        if first:
            share = MAX_SHARE if self._others_wait(name) else 1.0
            seconds = min(share * seconds, self.looks_until_s - begun)
        before = self.evidence.measured.get(name, 0)
        found = self.step(name, seconds, evaluate_candidate, uri, self.data, self.metrics, limit, options)
        if found is None and name not in self.evidence.failed:
            found, limit = self._answered_part(name, uri, before, options)
        if found is None:
            return False
        self.evidence.unfinished.pop(f"evaluating {name}", None)
        self.evidence.evaluations[name] = found
        self.evidence.measured[name] = items = self.items if limit is None else min(limit, self.items)
        if items > before:
            self._learn_time(name, items - before, self.budget.spent_s - begun)
        return True

    def _answered_part(
        self, name: str, uri: str, before: int, options: EvaluationOptions
    ) -> tuple[str | None, int | None]:
        """Evaluate a candidate whose time was up on what it had answered until then, which is a smaller sample."""
        count = self.step(name, COUNTING_S, answered_by_candidate, uri, self.data, self.metrics, options) or 0
        if count < max(MIN_CLUSTERS, PARTIAL_GROWTH * before):
            return None, None
        self.progress.say(f"{name}: the {count} items that were answered count")
        seconds = max(COUNTING_S, min(PARTIAL_S, PARTIAL_SHARE * self.budget.left_s))
        return self.step(name, seconds, evaluate_candidate, uri, self.data, self.metrics, count, options), count

    def _others_wait(self, name: str) -> bool:
        """Return whether other candidates are still to have their first look."""
        seen = {name, *self.evidence.measured, *self.evidence.failed}
        return any(one.name not in seen for one in self.config.candidates)

    def _learn_time(self, name: str, items: int, seconds: float) -> None:
        """Learn from an evaluation how long an item takes, apart from opening the model and choosing the prompt."""
        measured = self.store.read(Evaluation, self.evidence.evaluations[name])
        speed, text = measured.scores.get("requests_per_s"), measured.scores.get("bits_per_byte")
        each = seconds / items
        if measured.model.engine in ("recorded", "rule"):  # its answers take no time; reading and scoring them does
            each *= ANSWERED_SHARE
        elif speed is not None and speed.value and (text is None or text.value is None):
            each = min(each, 1 / speed.value)
        self.item_s[name], self.fixed_s[name] = each, seconds - each * items

    def price(self, name: str) -> float | None:
        """Estimate the seconds of a candidate's remaining items."""
        per_item = self.item_s.get(name)
        if per_item is None:
            return None
        return self.fixed_s[name] + per_item * (self.items - self.evidence.measured.get(name, 0))

    def first_look_s(self, candidate: Candidate) -> float:
        """Estimate the seconds in which a candidate is evaluated on the first wave, from others like it."""
        first = self.sizes[0] or self.items
        like = {one.name: one for one in self.config.candidates if one.name in self.item_s}
        kinds = (
            [name for name, one in like.items() if (one.model, one.retrieve) == (candidate.model, candidate.retrieve)],
            [name for name, one in like.items() if one.retrieve == candidate.retrieve],
            list(self.item_s),
        )
        known = next(filter(None, kinds), [])
        return max((self.item_s[name] * first + self.fixed_s[name] for name in known), default=float(first))

    def train_one(
        self,
        candidate: Candidate,
        recipe: Recipe | ClassifierRecipe,
        seconds: float,
        train: Callable[..., str] | None = None,
    ) -> str | None:
        """Train a candidate, and return the URI of the model; None if it failed.

        Args:
            candidate: the candidate.
            recipe: settings of the run.
            seconds: time of the training.
            train: trains it and returns the id of the run; by default in this process.
        """
        close_kept()  # training needs the memory
        progress = self.progress

        def add_point(at_s: float, value: float) -> None:
            progress.add_point(candidate.name, at_s, value, "bits/byte")

        made = self.step(
            candidate.name, seconds, train or train_candidate, candidate.name, recipe, self.data, add_point
        )
        if made is None:
            return None
        kind = self.evidence.classifiers if isinstance(recipe, ClassifierRecipe) else self.evidence.checkpoints
        kind[candidate.name] = made
        return f"run:{made}"

    def training_overhead_s(self, candidate: Candidate) -> float:
        """Return the time of a training beside its minutes, on this machine as busy as it is."""
        passed, worked = time.monotonic() - self._begun_s, time.process_time() - self._begun_cpu_s
        known = passed > SLOWDOWN_AFTER_S and requested_launch() is None  # on a cluster, others do the work
        waiting = passed / max(0.1, worked) if known else 1.0
        plain = SCRATCH_OVERHEAD_S if candidate.model == "scratch" else TRAINING_OVERHEAD_S
        return plain * min(MAX_SLOWDOWN, max(1.0, waiting))

    def by_rank(self) -> list[str]:
        """Return the candidates, baselines left out, best first, and stopped ones last."""
        names = [name for name in self.evidence.uris if name in self.evidence.evaluations]
        if self.conclusion is None:
            return names
        order = ranked(self.conclusion.compared.record, self.conclusion.quality, names)
        return sorted(order, key=lambda name: name in self.evidence.stopped)

    def _wave_sizes(self) -> list[int | None]:
        """Return the sample sizes of the waves; a single one without a budget."""
        if not self.budget.limited:
            return [self.config.limit]
        *smaller, _ = wave_sizes(self.items)
        return [*smaller, self.config.limit]
