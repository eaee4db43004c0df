"""study(): from documents to a verdict within a time budget.

Cheap candidates come first, then models off the shelf, then trained ones. Test items come in waves. Each stage is a
record that is written once; after each one, the report is written again with the verdict so far.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation.explaining import keep_explanations
from sizewise.models.keeping import keep_models
from sizewise.progress import Reporter, Silent
from sizewise.records import Candidate, ClassifierRecipe, Study, fingerprint
from sizewise.report import STUDY_FILE, load_view, write_study_report
from sizewise.store import Saved, Store, same_facts, write_atomically
from sizewise.studies.after_verdict import load_test_all, run_suites
from sizewise.studies.budget import Budget, StepReporter
from sizewise.studies.concluding import Conclusion, conclude, record_of
from sizewise.studies.config import StudyConfig, config_text, find_config
from sizewise.studies.data import read_data
from sizewise.studies.measuring import (
    is_quick,
    is_trained,
    needs_an_encoder,
)
from sizewise.studies.plans import StudyPlan, usual_minutes
from sizewise.studies.progress import BoardRow, StudyProgress
from sizewise.studies.steps import MAX_SHARE, Steps
from sizewise.studies.trainings import TRAINING_SHARE, train_candidates
from sizewise.studies.waves import affordable_size, beaten, ranked
from sizewise.training.preflight import peak_memory_bytes

VERDICT_EVERY_S = 15.0
"""Time between two verdicts within a stage."""
CHEAP_SHARE = 0.1
"""Share of the time left below which a wave is skipped in favor of the next larger one."""
EXPLANATION_S = 2.0
"""Time in which decisions of a classifier are explained for the report."""
MIN_MINUTES = 0.2
"""Time of a study whose predecessors have used up the budget: enough for rules and a verdict."""
STAGES = {
    "Rules and quick classifiers": 0.08,
    "Models off the shelf": 0.17,
    "Training": TRAINING_SHARE,
    "More test items": 0.1,
    "Load tests": 0.08,
    "Bias and language nuance": 0.1,
}
"""Stages in their order, and the share of the time that each is expected to take."""


def study(
    config: StudyConfig | str | Path,
    *,
    minutes: float | None = None,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Saved[Study]:
    """Run a study from documents to a recommendation and its evidence.

    Each stage writes a record and is skipped if that record exists. An interrupted study therefore resumes, and a
    study that runs again with more time goes on where it ended.

    Args:
        config: a study file, a folder of documents, `demo:fhir`, or the contents of a study file.
        minutes: time for everything; by default that of the study file, or as long as it takes.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress; a `StudyProgress` may also stop the study.

    Raises:
        SizewiseError: the data can't be read, or fewer than two candidates could be measured; the records of earlier
            stages are kept.
    """
    store = store or Store()
    progress = reporter if isinstance(reporter, StudyProgress) else StudyProgress(reporter or Silent())
    config = config if isinstance(config, StudyConfig) else find_config(config)
    minutes = config.minutes if minutes is None else minutes
    if minutes is not None and minutes <= 0:
        raise UsageError(f"minutes is {minutes:g}.", "a time above 0", "sizewise study --minutes 10")
    progress.begin(config.name)
    budget = Budget(minutes, progress)
    if minutes is not None and progress.budget_s is None:
        progress.budget_s = progress.begun_s + 60 * minutes
    begun = time.monotonic()
    data = read_data(config, store, StepReporter(progress, math.inf))
    identity = config.model_dump(mode="json", exclude={"minutes"})
    study_id = f"study-{fingerprint([identity, data.id])}"
    with store.lock("study", study_id), keep_models():
        run = _StudyRun(config, data.id, study_id, store, progress, budget)
        run.measure()
        return run.finish(time.monotonic() - begun)


def study_all(
    configs: Sequence[StudyConfig],
    *,
    minutes: float | None = None,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> list[Saved[Study]]:
    """Run several studies, one after the other, within one budget; what one leaves of its time goes to the next.

    Args:
        configs: the studies; the budget is divided by their own minutes.
        minutes: time for all of them; by default the sum of theirs.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress.

    Raises:
        SizewiseError: see `study`.
    """
    progress = reporter if isinstance(reporter, StudyProgress) else StudyProgress(reporter or Silent())
    own = [config.minutes for config in configs]
    budgets = [one for one in own if one is not None]
    if len(budgets) < len(own):
        return [study(config, minutes=minutes, store=store, reporter=progress) for config in configs]
    total = sum(budgets) if minutes is None else minutes
    begun, done = progress.begun_s, []
    progress.budget_s = begun + 60 * total
    for number, config in enumerate(configs):
        left = total - (progress.spent_s - begun) / 60
        share = budgets[number] / sum(budgets[number:])
        done.append(study(config, minutes=max(MIN_MINUTES, left * share), store=store, reporter=progress))
    return done


class _StudyRun(Steps):
    """A study while it runs: the order of its stages, and the verdict after each of them."""

    def __init__(
        self, config: StudyConfig, data: str, study_id: str, store: Store, progress: StudyProgress, budget: Budget
    ) -> None:
        super().__init__(config, data, store, progress, budget)
        self.study_id, self.place = study_id, _free_id(store, study_id)
        self.plan = StudyPlan(store.folder("study", study_id))
        self.concluded_s = 0.0
        """When the last verdict was written."""
        progress.show_folder(store.folder("study", study_id))
        parts = ((split, self.contents.record.splits[split]) for split in ("train", "test"))
        sizes = (f"{found.documents:,} documents and {found.examples:,} examples for {split}" for split, found in parts)
        progress.say(f"{data}: {', '.join(sizes)}")

    # -- the order of a study -----------------------------------------------------------------------

    def measure(self) -> None:
        """Run all stages that fit into the time."""
        candidates = self.config.candidates
        quick = sorted(filter(is_quick, candidates), key=needs_an_encoder)
        trained = [candidate for candidate in candidates if is_trained(candidate)]
        shelf = [candidate for candidate in candidates if not is_quick(candidate) and not is_trained(candidate)]
        self._show_plan()
        self._stage("Rules and quick classifiers", lambda: self._first_look(quick, self.baselines))
        self._conclude()
        if shelf:
            if trained:
                self.looks_until_s = self.budget.spent_s + (1 - TRAINING_SHARE) * self.budget.left_s
            self._stage("Models off the shelf", lambda: self._first_look(shelf, {}))
            self.looks_until_s = math.inf
            self._conclude()
        if trained:
            self._stage("Training", lambda: train_candidates(self, self.plan, trained))
            self._conclude()
        if len(self.sizes) > 1:
            self._stage("More test items", self._more_items)
        self._stage("Load tests", lambda: load_test_all(self))
        self._stage("Bias and language nuance", lambda: run_suites(self))

    def _stage(self, name: str, work: Callable[[], str | None]) -> None:
        """Run a stage, or skip it if the time is up; its result is a reason to skip it, or nothing."""
        if self.budget.is_over:
            self.progress.skip(name, "stopped" if self.progress.stop_requested else "no time left")
            self.list_unfinished(name)
            return
        self.progress.start(name)
        reason = work()
        if reason:
            self.progress.skip(name, reason)
        else:
            self.progress.finish(name)
        self._show_plan()

    def _show_plan(self) -> None:
        """Plan the stages that are still to come with the time they may take."""
        left = self.budget.left_s
        known = {view.name for view in self.progress.stages if view.state != "waiting"}
        trains = any(map(is_trained, self.config.candidates))
        waiting = [
            (name, share) for name, share in STAGES.items() if name not in known and (trains or name != "Training")
        ]
        total = sum(share for _, share in waiting) or 1.0
        scale = left if math.isfinite(left) else 60 * usual_minutes(self.config)
        self.progress.plan([(name, scale * share / total) for name, share in waiting])

    # -- stages -------------------------------------------------------------------------------------

    def _first_look(self, candidates: list[Candidate], baselines: dict[str, str]) -> None:
        """Train what trains in seconds, and evaluate everything on the first wave, or on all items if that is cheap."""
        for name, uri in baselines.items():
            if self.evaluate(name, uri, self.sizes[0]):
                self._ask_all_if_cheap(name, uri)
        for candidate in candidates:
            uri = candidate.model
            if isinstance(candidate.train, ClassifierRecipe):
                self.progress.say(f"Training {candidate.name}")
                made = self.train_one(candidate, candidate.train, MAX_SHARE * self.budget.left_s)
                if made is None:
                    self.list_unfitted(candidate)
                    continue
                uri = made
            self.add(candidate, uri)
            if candidate.name in self.evidence.evaluations:
                self._ask_all_if_cheap(candidate.name, self.evidence.uris[candidate.name])
            if candidate is not candidates[-1] and self.budget.spent_s - self.concluded_s > VERDICT_EVERY_S:
                self._conclude()

    def _ask_all_if_cheap(self, name: str, uri: str) -> None:
        """Ask a candidate all items at once where that takes a small part of the time left."""
        price = self.price(name)
        if len(self.sizes) > 1 and price is not None and price < CHEAP_SHARE * self.budget.left_s:
            self.evaluate(name, uri, self.sizes[-1])

    def _more_items(self) -> None:
        """Ask further items in waves, until all are asked, one candidate is left, or the time is up."""
        first = self.sizes[0] or self.items
        for name, uri in self.evidence.uris.items():
            if (
                self.evidence.measured.get(name, 0) < first and name not in self.evidence.failed
            ):  # others took their turn
                self.evaluate(name, uri, self.sizes[0])
        for size in self.sizes[1:]:
            if self._next_is_cheap(size):
                continue
            self._stop_beaten()
            live = [name for name in self.evidence.evaluations if name not in self.evidence.stopped]
            if len(live) < 2:
                return
            target = self.items if size is None else size
            behind = [name for name in live if self.evidence.measured.get(name, 0) < target]
            if not behind:
                continue
            measured = min(self.evidence.measured.get(name, 0) for name in behind)
            room = 0.7 * self.budget.left_s
            per_item = sum(self.item_s.get(name, 0.0) for name in behind)
            fitting = affordable_size(target, measured, room, per_item) if self.budget.limited else target
            if fitting <= measured:
                self.list_unfinished(f"{target - measured} further test items", per_item * (target - measured))
                return
            limit = size if fitting == target else fitting
            for name in behind:
                if self.evidence.measured.get(name, 0) < fitting:
                    self.evaluate(name, self.evidence.uris.get(name) or self.baselines[name], limit)
            self._conclude()
            if fitting < target or self.budget.is_over:
                rest = self.items - fitting
                if rest > 0:
                    self.list_unfinished(f"{rest} further test items", per_item * rest)
                return

    def _next_is_cheap(self, size: int | None) -> bool:
        """Check whether the wave after this one takes so little time that this one needs no verdict of its own."""
        if size is None or size == self.sizes[-1]:
            return False
        following = self.sizes[self.sizes.index(size) + 1]
        target, measured = self.items if following is None else following, self.evidence.measured
        behind = {name: target - items for name, items in measured.items() if items < target and name in self.item_s}
        seconds = sum(self.fixed_s[name] + self.item_s[name] * items for name, items in behind.items())
        return seconds < CHEAP_SHARE * self.budget.left_s

    def _stop_beaten(self) -> None:
        """Spend no further items on candidates that can't win any more."""
        if self.conclusion is None:
            return
        live = [name for name in self.evidence.evaluations if name not in self.evidence.stopped]
        found = beaten(self.conclusion.compared.record, self.config.needs, self.conclusion.quality, live)
        for name, reason in found.items():
            if name in self.evidence.uris:
                self.progress.say(f"{name}: {reason}")
                self.evidence.stopped[name] = reason

    # -- verdicts -----------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """Compare what was measured, choose, and write the report of the verdict so far."""
        measured = self.evidence.evaluations
        if len(measured) < 2 or not self.evidence.uris.keys() & measured.keys() or self.budget.is_over:
            return
        begun, self.concluded_s = self.progress.spent_s, self.budget.spent_s
        try:
            self.conclusion = conclude(self.config, self.evidence, self.store, self.progress)
        except SizewiseError as error:
            self.progress.say(f"No verdict yet. {error.what}")
            return
        self._show(self.conclusion, provisional=True)
        record = record_of(self.config, self.evidence, self.conclusion, self.budget.minutes, self.store)
        self.progress.show_report(self._write_report(record, self.place, running=True))
        self.budget.closing_s = max(self.budget.closing_s, 3 * (self.progress.spent_s - begun))

    def _show(self, conclusion: Conclusion, *, provisional: bool) -> None:
        """Show the verdict so far, the board and one test example."""
        compared, chosen = conclusion.compared.record, conclusion.chosen.record
        scores = compared.scores.get(conclusion.quality, {})
        rows = [
            BoardRow(
                name,
                conclusion.quality,
                scores.get(name),
                self.evidence.stopped.get(name, ""),
                compared.models[name].role == "baseline",
            )
            for name in ranked(compared, conclusion.quality, list(compared.evaluations))
        ]
        self.progress.show_board(rows)
        self.progress.show_verdict(chosen.summary, chosen.outcome, provisional)
        prompt, answers = self.evidence.sample(self.store, [row.name for row in rows])
        if answers:
            self.progress.show_sample(prompt, answers)

    def _write_report(self, record: Study, study_id: str, *, running: bool = False) -> Path:
        folder = self.store.record_path("study", study_id).parent
        write_atomically(folder / STUDY_FILE, config_text(self.config))
        return write_study_report(load_view(self.store, study_id, record), folder, running=running)

    def finish(self, seconds: float) -> Saved[Study]:
        """Decide on all evidence, and write the record and the report.

        Raises:
            SizewiseError: no candidate could be measured, or there is nothing to compare it with.
        """
        measured = self.evidence.evaluations
        if len(measured) < 2 or not self.evidence.uris.keys() & measured.keys():
            self._fail()
        self.progress.say("Comparing the candidates")
        self.conclusion = conclude(self.config, self.evidence, self.store, self.progress, final=True)
        record = record_of(self.config, self.evidence, self.conclusion, self.budget.minutes, self.store)
        record = record.model_copy(update={"seconds": seconds, "peak_memory_bytes": peak_memory_bytes()})
        saved, is_new = _place(self.store, self.study_id, record)
        if is_new:  # the record first: a report can be written again
            saved = self.store.write(saved.id, saved.record)
        self.progress.say("Writing the report")
        for evaluation in record.evaluations.values():
            keep_explanations(evaluation, self.store, EXPLANATION_S)
        self._show(self.conclusion, provisional=False)
        self.progress.show_report(self._write_report(saved.record, saved.id))
        self.store.push("study", saved.id)
        if not is_new and saved.id != self.place:
            self._remove_interim()
        return saved

    def _remove_interim(self) -> None:
        """Remove the report of the verdict so far where the study ended in the result of an earlier run."""
        folder = self.store.record_path("study", self.place).parent
        for name in (STUDY_FILE, "report.html", "report.md"):
            (folder / name).unlink(missing_ok=True)

    def _fail(self) -> NoReturn:
        if self.failures:
            raise self.failures[0]
        if self.progress.stop_requested:
            raise SizewiseError(
                "The study was stopped before a candidate was measured.",
                "at least one candidate measured; the answers so far are kept",
                "run the same command again",
            )
        if self.budget.limited:
            raise SizewiseError(
                "The study ended before a candidate was measured.",
                "more time, or smaller candidates; what was measured is kept",
                f"the same command with --minutes {math.ceil(2 * (self.budget.minutes or 5))}",
            )
        raise SizewiseError(
            "The study has only one candidate and no baseline to compare it with.",
            "two candidates, or one and the baselines",
            "add a [[candidates]] table to the study file",
        )


def _free_id(store: Store, study_id: str) -> str:
    """Return the first id of this study that has no record yet."""
    names = itertools.chain([study_id], (f"{study_id}.{number}" for number in itertools.count(2)))
    return next(name for name in names if not store.record_path("study", name).is_file())


def _place(store: Store, study_id: str, record: Study) -> tuple[Saved[Study], bool]:
    """Find the record of an earlier run with the same result, or a free id: `study-ID`, then `study-ID.2`, ...

    A study whose result has changed (more votes, more time, another measurement) never replaces its first record.
    """
    for number in itertools.count(1):
        name = study_id if number == 1 else f"{study_id}.{number}"
        path = store.record_path("study", name)
        record = record.model_copy(update={"report": str(path.with_name("report.html"))})
        if not path.is_file():
            return Saved(name, path, record), True
        before = store.get(Study, name)
        if same_facts(before.record, record):
            return before, False
    raise AssertionError
