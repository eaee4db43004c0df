"""Trainings of a study on several nodes at once, some of which are lost; with a stand-in for Ray."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.launch import use_launch
from sizewise.launch.restarting import ATTEMPTS
from sizewise.records import Candidate, Recipe
from sizewise.store import Store
from sizewise.studies import cluster_training
from sizewise.studies.cluster_training import TrainingHost, TrainingJob, train_at_once, training_cluster
from sizewise.studies.progress import StudyProgress
from tests.launch.fake_ray import FakeRay

Train = Callable[..., str]


def job(name: str) -> TrainingJob:
    recipe = Recipe(start=name, tokens=1_000)
    return TrainingJob(Candidate(name=name, model=name, train=recipe), recipe, math.inf, " for 2 minutes")


def trained(name: str, recipe: Recipe, data: str, add_point: Any, *, store: Store, reporter: Any) -> str:
    """Stand in for a training."""
    reporter.advance("Encoding documents", 1, 1)
    reporter.advance(f"Training {name}", 40, 100)
    add_point(1.0, 2.5)
    reporter.say("half way")
    return f"run-of-{name}"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[FakeRay, Any, list[str]]]:
    def make(train: Train = trained, **settings: Any) -> tuple[FakeRay, Any, list[str]]:
        ray, said = FakeRay(**settings), list[str]()
        monkeypatch.setattr(cluster_training, "connect", lambda address: ray)
        monkeypatch.setattr(cluster_training, "adopt", lambda settings, threads: None)
        monkeypatch.setattr(cluster_training, "train_candidate", train)
        progress = StudyProgress()
        progress.start("Training")
        progress.subscribe(lambda kind, text: said.append(text) if kind == "say" else None)
        budget = SimpleNamespace(is_over=False, left_s=math.inf)
        return ray, SimpleNamespace(progress=progress, budget=budget, store=Store(), data="data-1"), said

    return make


def run(steps: Any, *names: str) -> dict[str, Any]:
    jobs = [job(name) for name in names]
    with use_launch("ray:auto"):
        found = training_cluster([one.recipe for one in jobs], steps)
        assert found is not None
        return train_at_once(found, steps, jobs)


def test_candidates_are_trained_on_free_nodes(home: Any, cluster: Any) -> None:
    ray, steps, said = cluster()
    found = run(steps, "a", "b", "c")
    assert {name: result() for name, result in found.items()} == {name: f"run-of-{name}" for name in "abc"}
    assert len(ray.made) == len(ray.killed) == 3
    places = {line for line in said if line.startswith("Training")}
    assert "Training a for 2 minutes on 127.0.0.1" in places
    assert "Training b for 2 minutes on 127.0.0.2" in places
    assert {"a: half way", "b: half way", "c: half way"} <= set(said)
    curves = steps.progress.snapshot()["studies"][0]["curves"]
    assert {(curve["candidate"], curve["points"][0][1]) for curve in curves} == {("a", 2.5), ("b", 2.5), ("c", 2.5)}


def test_the_stage_shows_how_far_all_are(home: Any, cluster: Any) -> None:
    _, steps, _ = cluster()
    seen: list[float] = []
    advance = steps.progress.advance
    steps.progress.advance = lambda what, done, total, detail: (
        seen.append(done / total),
        advance(what, done, total, detail),
    )
    run(steps, "a", "b")
    assert seen[0] == pytest.approx(0.2)  # 40 % of one of two; encoding the text isn't training
    assert seen == sorted(seen)


def test_the_training_of_a_lost_node_goes_on_elsewhere(home: Any, cluster: Any) -> None:
    ray, steps, said = cluster(lose_at=1, lose_node=True)
    found = run(steps, "a", "b")
    assert {name: result() for name, result in found.items()} == {"a": "run-of-a", "b": "run-of-b"}
    assert ray.machines == 1
    assert sum("is lost; the training goes on elsewhere from its last checkpoint" in line for line in said) == 1


def test_without_any_node_the_study_ends(home: Any, cluster: Any) -> None:
    ray, steps, _ = cluster(lose_at=1, lose_node=True)
    nodes = ray.nodes
    ray.nodes = lambda: nodes() if ray.machines == 2 else []
    with pytest.raises(SizewiseError, match="All nodes of the Ray cluster are lost"):
        run(steps, "a", "b", "c")


def test_a_training_that_is_always_lost_fails_alone(home: Any, cluster: Any) -> None:
    ray, steps, _ = cluster()
    lost = cluster_training._Trainings._begin

    def begin(self: Any, running: Any) -> None:
        if running.job.candidate.name == "a":
            ray.lost.append(running.actor)
        lost(self, running)

    cluster_training._Trainings._begin, before = begin, lost  # type: ignore[method-assign]
    try:
        found = run(steps, "a", "b")
    finally:
        cluster_training._Trainings._begin = before  # type: ignore[method-assign]
    assert found["b"]() == "run-of-b"
    with pytest.raises(SizewiseError, match=f"The process that trained a was lost {ATTEMPTS} times"):
        found["a"]()


@pytest.mark.parametrize("kind", [SizewiseError, UsageError])
def test_the_error_of_a_training_is_that_of_one_here(home: Any, cluster: Any, kind: type[SizewiseError]) -> None:
    def fail(name: str, *given: Any, **settings: Any) -> str:
        if name == "a":
            raise kind("too little text")
        return "run-of-b"

    _, steps, _ = cluster(fail)
    found = run(steps, "a", "b")
    with pytest.raises(kind, match="too little text"):
        found["a"]()
    assert found["b"]() == "run-of-b"


def test_nothing_begins_without_time(home: Any, cluster: Any) -> None:
    ray, steps, _ = cluster()
    steps.budget.is_over = True
    assert run(steps, "a", "b") == {}
    assert not ray.made


def test_one_place_on_this_machine_needs_no_cluster(home: Any, cluster: Any) -> None:
    recipes = [job("a").recipe, job("b").recipe]
    _, steps, _ = cluster(machines=1)
    with use_launch("ray:local"):
        assert training_cluster(recipes, steps) is None  # a second process on this machine gains nothing
        assert training_cluster([], steps) is None
    with use_launch("ray:ray://10.0.0.1:10001"):
        assert training_cluster(recipes, steps) is not None  # the node is elsewhere
    assert training_cluster(recipes, steps) is None  # without --launch


def test_a_stop_keeps_the_weights_and_an_interruption_saves(home: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_training, "adopt", lambda settings, threads: None)
        host = TrainingHost(str(home), ("", ""), {}, 1)
        seen: list[bool] = []

        def look(*given: Any, reporter: Any, **settings: Any) -> str:
            seen.append(reporter.is_over)
            return "run-1"

        patch.setattr(cluster_training, "train_candidate", look)
        recipe = job("a").recipe
        assert host.train("a", recipe, "data-1", 60.0) == "run-1"
        host.stop()
        assert host.train("a", recipe, "data-1", 60.0) == "run-1"
        host.interrupt()
        assert host.train("a", recipe, "data-1", 60.0) == ""
    assert seen == [False, True]
