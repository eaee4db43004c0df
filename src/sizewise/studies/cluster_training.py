"""Train several candidates of a study at once: one on each node of a Ray cluster, or on each graphics card."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from sizewise.errors import SizewiseError
from sizewise.launch import requested_launch
from sizewise.launch.address import ENDING_S
from sizewise.launch.ray_cluster import (
    PULSE_S,
    NodeLostError,
    Place,
    adopt,
    best_places,
    connect,
    failed_job,
    is_here,
    settings_of,
    start_actor,
    wait_until_ready,
)
from sizewise.launch.ray_worker import About, check_nodes, look_around, marked
from sizewise.launch.restarting import ATTEMPTS
from sizewise.lm.placement import requested_device
from sizewise.models.keeping import close_kept
from sizewise.models.on_ray import PASSED
from sizewise.progress import pulse, pulsing
from sizewise.records import Candidate, ClassifierRecipe, Recipe
from sizewise.store import Store
from sizewise.studies.budget import StepReporter
from sizewise.studies.measuring import train_candidate
from sizewise.studies.steps import Steps
from sizewise.training import run_id_of

CALLS, ANSWER_S = 4, 5.0
"""Methods of a node that may run at a time, and the time in which it answers."""
LOCKED_S = 60.0
"""Time in which the process that a lost node ran lets go of the run."""
STAGE = "Training"
MAIN = (STAGE, "fine-tune")
"""How the jobs that take most of a training begin."""


class TrainingJob(NamedTuple):
    """A training of a study."""

    candidate: Candidate
    recipe: Recipe | ClassifierRecipe
    seconds: float
    """Time it may take."""
    words: str
    """Its time in words."""


class NodeProgress:
    """What a training on a node reports until the study asks for it."""

    def __init__(self) -> None:
        self.events: deque[tuple[Any, ...]] = deque()
        self.asked_to_stop = self.interrupted = False

    @property
    def stop_requested(self) -> bool:
        """Whether the training should end with its best weights so far.

        Raises:
            KeyboardInterrupt: it should save and end.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        return self.asked_to_stop

    @property
    def spent_s(self) -> float:
        """Time on this node's clock."""
        return time.monotonic()

    def say(self, line: str) -> None:
        """Keep a line."""
        self.events.append(("say", line))

    def advance(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Keep how far the training is; encoding the text and the like come before it."""
        if what.startswith(MAIN):
            self.events.append(("advance", done / max(total, 1e-9)))

    def add_point(self, seconds: float, value: float) -> None:
        """Keep a point of the curve."""
        self.events.append(("point", seconds, value))


class TrainingHost:
    """Trains one candidate in a process of the cluster.

    Args:
        home: the store's folder, on a disk that all nodes share.
        mark: see `launch.ray_worker.look_around`.
        settings: environment variables and the working folder.
        threads: processor cores of this process.
    """

    def __init__(self, home: str, mark: tuple[str, str], settings: dict[str, str], threads: int) -> None:
        adopt(settings | {"SIZEWISE_HOME": home}, threads)
        self._store, self._mark, self._progress = Store(home), mark, NodeProgress()

    def about(self) -> About:
        """Return what this node says about itself."""
        return look_around(self._mark)

    def train(self, name: str, recipe: Recipe | ClassifierRecipe, data: str, seconds: float) -> str:
        """Train a candidate and return the id of the run; empty if it was interrupted.

        Args:
            name: name of the candidate.
            recipe: settings of the run.
            data: dataset id.
            seconds: time of the training.
        """
        if isinstance(recipe, Recipe):
            self._wait_for_lock(run_id_of(recipe, data))
        reporter = StepReporter(self._progress, seconds)
        try:
            with pulsing(reporter.check):
                add_point = self._progress.add_point
                return train_candidate(name, recipe, data, add_point, store=self._store, reporter=reporter)
        except KeyboardInterrupt:
            return ""

    def _wait_for_lock(self, run_id: str) -> None:
        """Wait until the process of a node that was lost has let go of the run."""
        path = self._store.folder("checkpoint", run_id) / ".lock"
        if path.is_file():
            try:
                FileLock(path).acquire(timeout=LOCKED_S).lock.release()
            except Timeout:
                return  # refused with a clear error

    def news(self) -> list[tuple[Any, ...]]:
        """Return what has happened since the last call."""
        events = self._progress.events
        return [events.popleft() for _ in range(len(events))]

    def stop(self) -> None:
        """End the training with its best weights so far."""
        self._progress.asked_to_stop = True

    def interrupt(self) -> None:
        """Save the training, and end it."""
        self._progress.interrupted = True


class _Cluster(NamedTuple):
    """A cluster on which trainings run."""

    ray: Any
    on_cards: bool


def training_cluster(recipes: Sequence[Recipe | ClassifierRecipe], steps: Steps) -> _Cluster | None:
    """Return the cluster of --launch if it has more to offer than this process on this machine; None otherwise."""
    launch = requested_launch()
    to_do = [one for one in recipes if isinstance(one, ClassifierRecipe) or not _is_done(one, steps)]
    if launch is None or not to_do:
        return None
    on_cards = requested_device() != "cpu" and all(getattr(one, "device", "auto") != "cpu" for one in to_do)
    ray = connect(launch.address)
    found = best_places(ray, on_cards)
    return None if not found or is_here(ray, found, launch.address) else _Cluster(ray, on_cards)


def _is_done(recipe: Recipe, steps: Steps) -> bool:
    return steps.store.exists("checkpoint", run_id_of(recipe, steps.data))


def train_at_once(cluster: _Cluster, steps: Steps, jobs: Sequence[TrainingJob]) -> dict[str, Callable[..., str]]:
    """Train candidates, each on a node of its own as soon as one is free.

    When a node is lost, its training goes on elsewhere from its last checkpoint.

    Args:
        cluster: from `training_cluster`.
        steps: the running study.
        jobs: what is trained; runs that have finished before are left out.

    Returns:
        Candidate -> function that returns the id of its run, or raises the error that ended its training; for those
        that have begun.

    Raises:
        SizewiseError: no node is left, or one can't take part.
    """
    close_kept()  # training needs the memory
    waiting = [job for job in jobs if isinstance(job.recipe, ClassifierRecipe) or not _is_done(job.recipe, steps)]
    with marked(steps.store.home) as mark:
        return _Trainings(cluster, steps, waiting, mark).run()


class _Running(NamedTuple):
    job: TrainingJob
    place: Place
    actor: Any


class _Trainings:
    """The trainings of a study while they run."""

    def __init__(self, cluster: _Cluster, steps: Steps, jobs: Sequence[TrainingJob], mark: tuple[str, str]) -> None:
        self._ray, self._on_cards = cluster
        self._kind = self._ray.remote(TrainingHost)
        self._steps, self._waiting, self._total = steps, deque(jobs), len(jobs)
        self._given = (str(steps.store.home), mark, settings_of(PASSED))
        self._running: dict[Any, _Running] = {}
        self._found: dict[str, Callable[..., str]] = {}
        self._shares: dict[str, float] = {}
        self._lost: Counter[str] = Counter()

    def run(self) -> dict[str, Callable[..., str]]:
        """Train all, and return how each has ended."""
        stopped = False
        try:
            while self._waiting or self._running:
                if self._steps.budget.is_over:
                    self._waiting.clear()
                self._start()
                if self._steps.progress.stop_requested and not stopped:
                    stopped = True
                    self._tell("stop")
                pulse()
                self._wait()
        except KeyboardInterrupt:
            self._tell("interrupt")
            end = time.monotonic() + ENDING_S
            while self._running and time.monotonic() < end:
                self._wait()
            raise
        finally:
            for running in self._running.values():
                self._ray.kill(running.actor)
        return self._found

    def _tell(self, method: str) -> None:
        for running in self._running.values():
            getattr(running.actor, method).remote()

    def _start(self) -> None:
        """Start trainings wherever a place is free."""
        if not self._waiting:
            return
        up = Counter(best_places(self._ray, self._on_cards))
        free = list((up - Counter(running.place for running in self._running.values())).elements())
        if not up:
            raise SizewiseError(
                "All nodes of the Ray cluster are lost.",
                "at least one node that stays up",
                "run the same command again; finished work is kept, and trainings go on from their last checkpoints",
            )
        chosen = free[: len(self._waiting)]
        if not chosen:
            return
        actors = [start_actor(self._ray, self._kind, place, (*self._given, place.threads), CALLS) for place in chosen]
        try:
            check_nodes(chosen, wait_until_ready(self._ray, actors, chosen), self._steps.store.home)
        except BaseException as error:
            for actor in actors:
                self._ray.kill(actor)
            if isinstance(error, NodeLostError):
                return
            raise
        for place, actor in zip(chosen, actors, strict=True):
            self._begin(_Running(self._waiting.popleft(), place, actor))

    def _begin(self, running: _Running) -> None:
        job, steps = running.job, self._steps
        name = job.candidate.name
        steps.progress.say(f"Training {name}{job.words} on {running.place.node.address}")
        seconds = min(steps.budget.left_s, job.seconds)
        answer = running.actor.train.remote(name, job.recipe, steps.data, seconds)
        self._running[answer] = running
        self._shares.setdefault(name, 0.0)

    def _wait(self) -> None:
        """Wait a moment, pass on what has happened, and take over what has ended."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=PULSE_S)
        for running in self._running.values():
            self._pass_on(running)
        for answer in done:
            running = self._running.pop(answer)
            name = running.job.candidate.name
            self._pass_on(running)
            try:
                made = self._ray.get(answer)
                if made:
                    self._found[name] = _returning(made)
                    self._shares[name] = 1.0
            except self._ray.exceptions.RayTaskError as error:
                self._found[name] = _raising(failed_job(error))
            except self._ray.exceptions.RayError as error:
                self._lose(running, str(error))
            self._ray.kill(running.actor)

    def _lose(self, running: _Running, why: str) -> None:
        """Train the candidate of a lost node elsewhere."""
        name = running.job.candidate.name
        self._lost[name] += 1
        if self._lost[name] >= ATTEMPTS:
            error = SizewiseError(
                f"The process that trained {name} was lost {ATTEMPTS} times. {why}",
                "enough memory on a node, and nodes that stay up",
                "run the same command again; the training goes on from its last checkpoint",
            )
            self._found[name] = _raising(error)
            return
        self._waiting.appendleft(running.job)
        self._steps.progress.say(
            f"The node {running.place.node.address} that trained {name} is lost; the training goes on elsewhere from "
            "its last checkpoint"
        )

    def _pass_on(self, running: _Running) -> None:
        """Pass on what a node has reported."""
        name, progress = running.job.candidate.name, self._steps.progress
        try:
            news = self._ray.get(running.actor.news.remote(), timeout=ANSWER_S)
        except self._ray.exceptions.RayError:
            return  # its end is noticed elsewhere
        for kind, *what in news:
            if kind == "say":
                progress.say(what[0] if what[0].startswith(name) else f"{name}: {what[0]}")
            elif kind == "point":
                progress.add_point(name, what[0], what[1], "bits/byte")
            else:
                self._shares[name] = min(1.0, what[0])
        if news:
            details = ", ".join(f"{one} {share:.0%}" for one, share in self._shares.items())
            progress.advance(STAGE, sum(self._shares.values()), self._total, details)


def _returning(made: str) -> Callable[..., str]:
    def result(*given: Any, **settings: Any) -> str:
        return made

    return result


def _raising(error: SizewiseError) -> Callable[..., str]:
    def result(*given: Any, **settings: Any) -> str:
        raise error

    return result
