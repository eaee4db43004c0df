from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sizewise.errors import UsageError
from sizewise.lm import loop
from sizewise.lm.hf_format import load_network
from sizewise.lm.run_files import CURVE_FILE, Changes, CurveFile, request_change
from sizewise.records import Change, Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import adjust_run, run_id_of, train
from tests.lm.test_loop import PLAN, mix
from tests.training.test_training import TINY


def test_a_run_takes_over_changes_and_records_them(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 20_000})
    run_id, asked = run_id_of(recipe, dataset.id), {5: {"learning_rate": 1e-4}, 10: {"tokens": 3_000}}

    def watch(progress: loop.Progress) -> None:
        if progress.step in asked:
            adjust_run(f"run:{run_id}", asked[progress.step], store=store)

    record = train(recipe, dataset.id, store=store, watcher=watch).record
    assert [(change.step, change.setting, change.value) for change in record.changes] == [
        (5, "learning_rate", 1e-4),
        (10, "tokens", 3_000),
    ]
    assert 3_000 <= record.tokens < 3_200
    assert record.curve[5].learning_rate < 0.05 * record.curve[4].learning_rate
    assert sum("was changed to" in note for note in record.notes) == 2
    assert isinstance(record.changes[0], Change)
    with pytest.raises(UsageError, match="has finished"):
        adjust_run(run_id, {"stop": 1}, store=store)


def test_a_stop_keeps_the_best_weights(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 20_000})
    run_id = run_id_of(recipe, dataset.id)

    def watch(progress: loop.Progress) -> None:
        if progress.step == 4:
            adjust_run(run_id, {"stop": 1}, store=store)

    record = train(recipe, dataset.id, store=store, watcher=watch).record
    assert record.steps == 4
    assert record.best_bits_per_byte < record.start_bits_per_byte
    assert any("told to" in note for note in record.notes)


def test_what_cannot_be_changed_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="No training"):
        adjust_run("run-0123456789", {"stop": 1}, store=store)
    for settings in ({}, {"rank": 4.0}):
        with pytest.raises(UsageError, match=r"can't be changed|No change"):
            adjust_run("run-0123456789", settings, store=store)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1e-4])
def test_rates_that_are_no_numbers_are_refused(value: float, store: Store) -> None:
    with pytest.raises(UsageError, match="is no value for learning_rate"):
        adjust_run("run-0000000000", {"learning_rate": value}, store=store)


def test_a_killed_run_repeats_its_changes_at_the_same_steps(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a change whose step isn't in a checkpoint yet, and once more after it is."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)

    def trained(folder: Path, kills: tuple[int, ...]) -> tuple[loop.Result, Any]:
        for kill in (*kills, 10**6):
            network = load_network(tiny_folder, "fp32")
            loop.prepare(network, compiled=False)

            def watch(progress: loop.Progress, kill: int = kill) -> None:
                if progress.step == 6 and not Changes(folder).applied:
                    request_change(folder, {"learning_rate": 1e-2})
                if progress.step == kill:
                    raise RuntimeError("killed")

            def validate(network: Any = network) -> loop.Bits:
                return loop.Bits(float(sum(p.detach().double().sum() for p in network.parameters())))

            try:
                result = loop.train_network(network, mix(), PLAN, validate, folder / "state", watch)
            except RuntimeError:
                continue
            return result, {name: p.detach().clone() for name, p in network.named_parameters()}
        raise AssertionError

    whole, weights = trained(tmp_path / "whole", ())
    again, same = trained(tmp_path / "killed", (7, 9, 8))
    assert [change.step for change in whole.changes] == [change.step for change in again.changes] == [6]
    assert all(weights[name].equal(same[name]) for name in weights)
    assert [point.learning_rate for point in whole.points] == [point.learning_rate for point in again.points]
    curves = [len(CurveFile(tmp_path / name / CURVE_FILE).read(10**6)) for name in ("whole", "killed")]
    assert curves == [len(whole.points)] * 2


def test_the_curve_on_disk_is_cut_where_a_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / CURVE_FILE
    file = CurveFile(path)
    points = [{"step": step, "loss": 1.0} for step in range(1, 11)]
    file.append(points[:4])
    file.append(points)
    with path.open("a", encoding="utf-8") as damaged:
        damaged.write('{"step": 11, "lo')
    resumed = CurveFile(path)
    assert resumed.read(7) == points[:7]
    resumed.append(points)
    assert CurveFile(path).read(100) == points


def test_a_long_curve_keeps_its_validations_and_mean_losses() -> None:
    points = [loop.Point(i, i, float(i), 2.0 if i in (33, 100) else None, 0.1, 1.0) for i in range(1, 101)]
    thin = loop.thinned(points, 10)
    assert len(thin) <= 12
    assert [point.step for point in thin if point.bits_per_byte is not None] == [33, 100]
    assert thin[0].loss == pytest.approx(5.5)
    assert loop.thinned(points, 1_000) == points
    assert loop.thinned([], 10) == []
