"""Kills at random moments, many of them: slow."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from sizewise.datasets import read
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import run_id_of, train
from tests.training.test_training import TINY, start_run


def kill_and_finish(store: Store, data: str, recipe: Recipe, wait_s: float) -> bytes:
    """Start a run, kill it after its first step and a while, and finish it here."""
    process = start_run(store.home, data, recipe)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(wait_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    train(recipe, data, store=store)
    folder = store.folder("checkpoint", run_id_of(recipe, data))
    weights = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    return weights


@pytest.mark.slow
def test_fifty_kills_end_in_the_same_weights(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 6_000})
    train(recipe, dataset.id, store=store)
    folder = store.folder("checkpoint", run_id_of(recipe, dataset.id))
    whole = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    probability = random.Random(0)
    same = [kill_and_finish(store, dataset.id, recipe, probability.uniform(0, 0.8)) == whole for _ in range(50)]
    assert same == [True] * 50


@pytest.mark.slow
@pytest.mark.weights
def test_five_kills_on_real_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIZEWISE_OFFLINE")
    store = Store(tmp_path / "home")
    data = read(["demo:fhir"], store=store).id
    recipe = Recipe(start="pkg:smollm2-135m", tokens=8_000)
    train(recipe, data, store=store)
    folder = store.folder("checkpoint", run_id_of(recipe, data))
    whole = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    probability = random.Random(1)
    assert [kill_and_finish(store, data, recipe, probability.uniform(0, 20)) == whole for _ in range(5)] == [True] * 5
