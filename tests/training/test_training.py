from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm import loop
from sizewise.lm.tokenizer import train_tokenizer
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.training import held_out, planning, run, train

IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ
TINY = {"start": "scratch", "method": "full", "parameters": 500_000, "context": 64, "rows_per_step": 2}


def test_training_from_scratch_learns(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 12_000, "attention": "window:16"})
    stored = train(recipe, dataset.id, store=store, out=tmp_path / "copy")
    record = stored.record
    assert record.best_bits_per_byte < 0.8 * record.start_bits_per_byte
    assert record.attention == "window 16"
    assert record.attention_tradeoff is not None
    assert (
        record.attention_tradeoff.full_cache_bytes == 4 * record.attention_tradeoff.cache_bytes
    )  # 64 tokens and a window of 16
    assert [(some.first, some.last) for some in record.attention_tradeoff.positions] == [(0, 63)]
    assert 0 < record.attention_tradeoff.positions[0].bits < 20
    assert record.tokens >= 12_000
    assert record.curve[-1].bits_per_byte is not None
    assert (tmp_path / "copy" / "model.safetensors").is_file()
    assert (tmp_path / "copy" / "sizewise.json").is_file()
    assert train(recipe, dataset.id, store=store, out=tmp_path / "copy") == stored
    with pytest.raises(UsageError, match="already exists"):  # files of two models would mix
        train(recipe.model_copy(update={"seed": 5}), dataset.id, store=store, out=tmp_path / "copy")


def test_the_finished_model_fills_an_empty_folder_wherever_it_is(
    dataset: Saved[Dataset], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 500})
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SizewiseError, match="can't be written"):  # before it trains
        train(recipe, dataset.id, store=store, out=tmp_path / "file" / "out")
    assert not list(store.home.glob("checkpoint/*"))
    for name in ("here", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    monkeypatch.chdir(tmp_path / "here")
    stored = train(recipe, dataset.id, store=store, out=Path("."))
    assert train(recipe, dataset.id, store=store, out=tmp_path / "link") == stored
    assert (tmp_path / "link").is_symlink()
    for folder in (Path("."), tmp_path / "target"):
        assert (folder / "model.safetensors").is_file()
        assert (folder / "sizewise.json").read_bytes() == stored.path.read_bytes()
    assert train(recipe, dataset.id, store=store, out=Path(".")) == stored


def test_where_only_answers_count_they_are_watched(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 2_000})
    text = train(recipe.model_copy(update={"example_share": 0.0}), dataset.id, store=store).record
    answers = train(recipe.model_copy(update={"example_share": 1.0}), dataset.id, store=store).record
    assert any("held-out answers" in note for note in answers.notes)
    assert any("held-out text" in note for note in text.notes)
    assert answers.start_bits_per_byte != text.start_bits_per_byte
    assert answers.best_bits_per_byte < answers.start_bits_per_byte


def test_lora_changes_adapters_only_and_learns(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    recipe = Recipe(start=str(tiny_folder), tokens=6_000, context=64, rank=4, learning_rate=1e-2)
    record = train(recipe, dataset.id, store=store).record
    assert record.best_bits_per_byte < record.start_bits_per_byte
    assert 0 < record.trained_parameters < record.parameters / 3
    folder = store.folder("checkpoint", next(store.home.glob("checkpoint/*")).name)
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    before = load_file(tiny_folder / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed
    assert not any("embed" in name or "norm" in name for name in changed)


def test_best_weights_are_kept(
    dataset: Saved[Dataset], store: Store, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([9.0, 3.0, 2.0, 1.0, 5.0, 6.0])  # the first only times a validation
    monkeypatch.setattr(run, "bits_per_byte", lambda *arguments: next(values))
    recipe = Recipe(start=str(tiny_folder), tokens=4_000, context=64, rank=4, control="none")
    record = train(recipe, dataset.id, store=store).record
    assert record.best_bits_per_byte == 1
    assert record.best_step < record.steps
    assert any("were kept" in note for note in record.notes)


def start_run(home: Path, data: str, recipe: Recipe) -> subprocess.Popen[str]:
    code = (
        "from sizewise.lm import loop; loop.SAVE_EVERY_S = 0.0\n"
        "from sizewise.records import Recipe\nfrom sizewise.training import train\n"
        "class Tell:\n"
        "    def say(self, line): pass\n"
        "    def advance(self, *arguments): print(arguments[1], flush=True)\n"
        f"print('done', train(Recipe.model_validate_json({recipe.model_dump_json()!r}), {data!r}, reporter=Tell()).id)"
    )
    environment = os.environ | {"SIZEWISE_HOME": str(home)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_ends_in_the_same_weights(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 3_000})
    run_id = train(recipe, dataset.id, store=store).id
    folder = store.folder("checkpoint", run_id)
    whole = (folder / "model" / "model.safetensors").read_bytes()
    (folder / "record.json").unlink()
    (folder / "model" / "model.safetensors").unlink()
    for kill_after in (3, 9):
        process = start_run(store.home, dataset.id, recipe)
        assert process.stdout is not None
        for _ in range(kill_after):
            process.stdout.readline()
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert not (folder / "record.json").exists()
    again = train(recipe, dataset.id, store=store)
    assert again.id == run_id
    assert again.record.sessions > 1
    assert (folder / "model" / "model.safetensors").read_bytes() == whole
    assert not list((folder / "state").glob("*.safetensors"))


@pytest.mark.skipif(IN_WORKER, reason="a worker of pytest-xdist may die of it; the next test runs this one")
@pytest.mark.parametrize("where", ["validation", "step", "loss"])
def test_ctrl_c_at_any_place_leaves_the_same_end(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 3_000})
    run_id = train(recipe, dataset.id, store=store).id
    folder = store.folder("checkpoint", run_id)
    whole = (folder / "model" / "model.safetensors").read_bytes()
    (folder / "record.json").unlink()
    owner, name = {
        "validation": (run, "validation_nats"),
        "step": (loop.MasterAdamW, "copy_to_network"),
        "loss": (loop, "loss_of"),
    }[where]
    plain = getattr(owner, name)
    calls = iter(range(1000))

    def interrupted(*arguments: object) -> object:
        if next(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return plain(*arguments)

    monkeypatch.setattr(owner, name, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, dataset.id, store=store)
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(owner, name, plain)
    assert train(recipe, dataset.id, store=store).id == run_id
    assert (folder / "model" / "model.safetensors").read_bytes() == whole


@pytest.mark.skipif(not IN_WORKER, reason="the test before this one ran")
def test_ctrl_c_at_any_place_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", __file__]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, "-k", "ctrl_c_at_any_place_leaves"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("...")  # none was skipped


def test_minutes_become_tokens_once_and_epochs_are_capped(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[int] = []

    def probe(*arguments: object) -> tuple[float, float]:
        probes.append(1)
        return 1.0, 100.0

    monkeypatch.setattr(loop, "probe_speed", probe)
    monkeypatch.setattr(loop, "REFIT_SHARES", ())
    monkeypatch.setattr(run, "MIN_TOKENS", 100)
    monkeypatch.setattr(held_out, "MIN_ITEMS", 1)
    monkeypatch.setattr(held_out, "SHARE_OF_TIME", 0.0)
    recipe = Recipe.model_validate(TINY | {"minutes": 0.2})
    record = train(recipe, dataset.id, store=store).record
    # 12 s less a moment of validation, at 100 tokens/s.
    assert record.tokens == pytest.approx(1_200, abs=2 * 64)
    assert train(recipe, dataset.id, store=store).record == record
    assert len(probes) == 1
    capped = train(recipe.model_copy(update={"max_epochs": 0.02}), dataset.id, store=store).record
    assert any("capped" in note for note in capped.notes)


def test_divergence_is_an_error_with_advice(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "rate_at", lambda done, peak: float("nan"))
    with pytest.raises(SizewiseError, match="diverged") as error:
        train(Recipe.model_validate(TINY | {"tokens": 2_000}), dataset.id, store=store)
    assert "learning-rate" in error.value.next_step


def test_a_pretrained_model_can_be_given_windows(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    recipe = Recipe(start=str(tiny_folder), tokens=2_000, context=64, attention="pattern:SL:8")
    assert train(recipe, dataset.id, store=store).record.attention == "window 8 in 1 of 2 blocks, full in 1"


def test_a_tokenizer_of_another_network_is_refused(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    words = " ".join(f"word{i} {i * 7919}" for i in range(3_000))
    train_tokenizer([words], 1_500, 64).save_pretrained(tiny_folder)
    with pytest.raises(SizewiseError, match="tokenizer"):
        train(Recipe(start=str(tiny_folder), tokens=1_000, context=64), dataset.id, store=store)


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"plan.json is damaged, so the run can't resume") as refused:
        planning.read_saved(tmp_path / "plan.json")
    assert f"remove {tmp_path}" in refused.value.next_step


def test_a_recipe_needs_a_dial() -> None:
    with pytest.raises(ValueError, match="tokens or minutes"):
        Recipe(start="scratch")


def test_without_a_compiler_it_is_said(dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "can_compile", lambda device: False)
    monkeypatch.setattr(planning, "COMPILE_FROM_TOKENS", {"scratch": 1})
    record = train(Recipe.model_validate(TINY | {"tokens": 1_000}), dataset.id, store=store).record
    assert not record.compiled
    assert any("no C++ compiler" in note for note in record.notes)


def test_a_run_that_stalls_early_says_how_it_ended(
    dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = property(lambda run: run.step >= 30 and not run.cooling)
    monkeypatch.setattr(loop._Run, "_has_stalled", stalled)
    record = train(Recipe.model_validate(TINY | {"tokens": 12_000}), dataset.id, store=store).record
    assert record.tokens < 9_000
    assert any("brought the rate down over" in note for note in record.notes)
    assert not any("stopped early" in note for note in record.notes)
    assert record.curve[-1].learning_rate < 0.1 * max(point.learning_rate for point in record.curve)


def test_runs_share_the_encoded_text_and_the_plan_tells_its_space(dataset: Saved[Dataset], store: Store) -> None:
    recipe = Recipe.model_validate(TINY | {"tokens": 4_000})
    record = train(recipe, dataset.id, store=store).record
    files = {path: path.stat().st_mtime_ns for path in store.encoded_folder().rglob("*.tokens")}
    assert len(files) == 2
    assert record.estimate is not None
    assert record.estimate.encoded_bytes >= sum(path.stat().st_size for path in files)
    assert "MB of encoded text on disk" in planning.format_estimate(record.estimate)
    train(recipe.model_copy(update={"context": 32, "learning_rate": 1e-3}), dataset.id, store=store)
    assert {path: path.stat().st_mtime_ns for path in store.encoded_folder().rglob("*.tokens")} == files
    assert store.clear_encoded() > 0
    assert list(store.encoded_folder().iterdir()) == []
    assert store.clear_encoded() == 0
