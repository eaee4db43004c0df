from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sizewise.records import Dataset, LearningCurve, Recipe, Tuning
from sizewise.store import Saved, Store
from sizewise.training import train_learning_curve, tune, tuning
from sizewise.training.held_out import Measured
from sizewise.training.learning_curve import expected_gain, extrapolate
from tests.training.test_training import TINY


class Stop(Exception):
    """A kill in the middle of a search."""


def test_a_search_goes_on_after_a_kill_and_finds_no_worse_recipe(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 8_000})
    plain, calls = tuning._run_trial, iter(range(100))

    def killed(*arguments: object) -> float:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return float(plain(*arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "_run_trial", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, dataset.id, 3, store=store)
    monkeypatch.setattr(tuning, "_run_trial", plain)
    stored = tune(recipe, dataset.id, 3, store=store)
    record = stored.record
    assert len(record.trials) == 3
    assert record.trials[0].settings["rate_factor"] == 1.0  # the recipe as it stands comes first
    assert record.tokens_each == 2_000
    assert "held-out" in record.validation
    assert record.trials[0].change is None
    changes = [trial.change for trial in record.trials[1:] if not trial.pruned]
    assert all(change is not None and change.n > 0 for change in changes)
    values = [trial.bits_per_byte for trial in record.trials if trial.bits_per_byte is not None]
    best = min(record.trials, key=lambda t: t.bits_per_byte if t.bits_per_byte is not None else 99)
    assert best.bits_per_byte == min(values)
    assert record.recipe.learning_rate == pytest.approx(3e-3 * best.settings["rate_factor"])
    assert record.recipe.tokens == 8_000
    assert store.read(Tuning, stored.id) == record
    assert tune(recipe, dataset.id, 3, store=store) == stored
    assert not list(stored.path.parent.glob("trial-*"))


def test_a_changed_start_is_searched_and_measured_again(
    tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []

    def seen(kind: str, name: str) -> bool:
        ids.append(name)
        raise Stop

    monkeypatch.setattr(store, "exists", seen)
    recipe = Recipe(start=str(tiny_folder), tokens=500)
    for _ in range(2):
        with pytest.raises(Stop):
            train_learning_curve(recipe, "data-1", store=store)
        with pytest.raises(Stop):
            tune(recipe, "data-1", 2, store=store)
        (tiny_folder / "model.safetensors").write_bytes(b"other weights")
    assert [name.partition("-")[0] for name in ids] == ["curve", "tuning"] * 2
    assert len(set(ids)) == 4


def test_text_only_and_answers_only_stay_what_they_are() -> None:
    for share, searched in ((0.0, False), (0.5, True), (1.0, False)):
        recipe = Recipe.model_validate(TINY | {"tokens": 8_000, "example_share": share})
        settings = tuning._base_settings(recipe)
        assert ("example_share" in settings) == searched
        assert tuning._apply(recipe, settings).example_share == share


def test_what_more_documents_would_bring_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    base, sources = rng.uniform(80, 120, 90), [f"s{i // 3}" for i in range(90)]
    steps = [Measured((base * share + rng.normal(0, 1, 90)).tolist(), [50] * 90, sources) for share in (1.2, 1.0, 0.9)]
    gain = expected_gain([*steps])
    assert gain is not None
    assert gain.ci_low is not None
    assert gain.ci_high is not None
    assert gain.ci_low < gain.value < gain.ci_high < 0  # type: ignore[operator]
    assert expected_gain([*steps[:2], None]) is None
    assert expected_gain([*steps[:2], steps[2]._replace(sources=["x"] * 90)]) is None
    few = expected_gain([one._replace(sources=["a"] * 90) for one in steps])
    assert few is not None
    assert few.ci_low is None
    assert "1 sources" in few.ci_missing_reason


def test_looking_ahead_is_cautious() -> None:
    more = extrapolate([1.2, 1.0, 0.9])
    assert (more.lower, more.expected, more.upper) == pytest.approx((0.8, 0.85, 0.9))
    none = extrapolate([1.0, 0.9, 0.95])
    assert none.lower == none.expected == none.upper == 0.95


def test_a_learning_curve_trains_on_shares_of_the_documents(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 4_000})
    stored = train_learning_curve(recipe, dataset.id, store=store)
    record = stored.record
    assert [step.share for step in record.steps] == [0.25, 0.5, 1.0]
    assert len({step.run for step in record.steps}) == 3
    assert "documents" in record.summary
    assert [step.change is None for step in record.steps] == [True, False, False]
    assert record.gain is not None
    assert record.validation in ("answers", "text")
    assert store.read(LearningCurve, stored.id) == record


KILLED = """
import os, sys
from sizewise.records import Recipe
from sizewise.training import tune, tuning

end = int(sys.argv[3])

def run(trial, recipe, *others):
    settings = {"rate_factor": trial.suggest_float("rate_factor", 0.25, 2.0, log=True)}
    settings["rank"] = trial.suggest_categorical("rank", [4, 8, 16, 32])
    print(settings["rate_factor"], settings["rank"], flush=True)
    if trial.number == end:
        os._exit(9)
    trial.set_user_attr("items", {"nats": [1.0], "sizes": [1], "sources": ["a"]})
    return settings["rate_factor"]

tuning._run_trial = run
tune(Recipe(start="pkg:x", tokens=8_000, example_share=1.0, rank=16), sys.argv[1], int(sys.argv[2]))
"""


def test_a_killed_process_is_followed_by_its_own_trial_and_by_new_ones(store: Store) -> None:
    def settings(end: int) -> list[str]:
        command = [sys.executable, "-c", KILLED, "data-1", "5", str(end)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()

    assert settings(0) == ["1.0 16"]  # the recipe itself, killed
    first = settings(3)
    assert first[0] == "1.0 16"
    assert len(first) == 3
    second = settings(-1)
    assert second[0] == first[2]  # the one that was killed
    assert len(second) == 3
    tried = [*first[:2], *second]
    assert len(set(tried)) == 5  # none twice
