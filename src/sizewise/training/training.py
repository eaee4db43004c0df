"""train(): train a model by a recipe on a dataset; a run that was killed resumes."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import overload

from sizewise.errors import SizewiseError, UsageError
from sizewise.launch import is_first_process
from sizewise.lm.distributed import joined
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Checkpoint,
    Classifier,
    ClassifierRecipe,
    Dataset,
    Recipe,
)
from sizewise.store import Saved, Store, check_writable, id_of, is_free, staged
from sizewise.store.store import RECORD
from sizewise.training import memorization
from sizewise.training.classifier import train_classifier
from sizewise.training.identity import former_run_note, run_id_of
from sizewise.training.processes import check_fsdp
from sizewise.training.run import Run, Watcher

DEFAULT_MINUTES = 5.0
COPIED_RECORD = "sizewise.json"


@overload
def train(
    recipe: Recipe | str,
    data: str | Saved[Dataset],
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
    out: Path | None = None,
    watcher: Watcher | None = None,
    usd_per_hour: float | None = None,
    fsdp: bool = False,
) -> Saved[Checkpoint]: ...
@overload
def train(
    recipe: ClassifierRecipe,
    data: str | Saved[Dataset],
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Saved[Classifier]: ...


def train(
    recipe: Recipe | ClassifierRecipe | str,
    data: str | Saved[Dataset],
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
    out: Path | None = None,
    watcher: Watcher | None = None,
    usd_per_hour: float | None = None,
    fsdp: bool = False,
) -> Saved[Checkpoint] | Saved[Classifier]:
    """Train a language model, or a classifier.

    The same recipe on the same data is the same run: if it has finished, its record is returned; if it was killed, it
    resumes from its last saved state. Under torchrun, its processes train together; how many there are changes neither
    the order of the data nor the loss, and may change when the run resumes.

    Args:
        recipe: settings of the run; a model URI or `scratch` alone trains for five minutes. With a `ClassifierRecipe`,
            only store and reporter apply; see `train_classifier`.
        data: dataset, or its id.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress.
        out: new or empty folder to copy the finished model to.
        watcher: called after each step, for example to update a page; `lm.loop.StopTraining` from it ends the run with
            the best weights so far.
        usd_per_hour: price of the machine, for the estimate.
        fsdp: split weights, gradients and optimizer state over the processes of torchrun (FSDP2).

    Raises:
        SizewiseError: the starting model can't be opened, there is too little text, the run doesn't fit in memory, or
            training keeps diverging, or the weights of a finished run were changed after its memorization test.
    """
    store, reporter = store or Store(), reporter or Silent()
    if isinstance(recipe, ClassifierRecipe):
        return train_classifier(recipe, data, store=store, reporter=reporter)
    recipe = default_recipe(recipe) if isinstance(recipe, str) else recipe
    if not isinstance(recipe, Recipe):
        raise UsageError(f"The recipe is {recipe!r:.60}.", "a Recipe, a model URI or scratch", "")
    if fsdp:
        check_fsdp(recipe)
    data_id = id_of(data)
    run_id = run_id_of(recipe, data_id)
    _check_free(out, store.folder("checkpoint", run_id) / RECORD)
    if not store.exists("checkpoint", run_id):
        if note := former_run_note(recipe, data_id, store):
            reporter.say(note)
        with joined(recipe.device, fsdp, reporter.say) as workers, ExitStack() as held:
            workers.first(lambda: held.enter_context(store.lock("checkpoint", run_id)))
            reporter, watcher = (reporter, watcher) if workers.is_first else (Silent(), None)
            folder = store.folder("checkpoint", run_id)
            run = Run(recipe, data_id, store, folder, reporter, watcher, usd_per_hour, workers)
            workers.in_turn(run.prepare)
            run.fit()
            workers.first(lambda: _write(run, run_id))
    stored = store.get(Checkpoint, run_id)
    memorization.check_tested(stored)
    if out is not None and is_first_process():
        _copy(stored, out)
    return stored


def _write(run: Run, run_id: str) -> None:
    run.store.write(run_id, run.finish(run_id))
    run.clean_up()


def default_recipe(start: str) -> Recipe:
    """Return the default recipe: LoRA for a pretrained model, all weights for training from scratch."""
    return Recipe(start=start, method="full" if start == "scratch" else "lora", minutes=DEFAULT_MINUTES)


def _check_free(out: Path | None, record: Path) -> None:
    """Check that a folder is writable and free for a copy, or has it already: files of two models must not mix.

    Raises:
        UsageError: the folder contains something else.
        SizewiseError: it can't be written.
    """
    if out is None or not is_first_process() or _has_copy(out, record):
        return
    if not is_free(out):
        raise UsageError(
            f"{out} already exists and isn't empty.", "a new or empty folder for the finished model", "--out OTHER"
        )
    check_writable(out)


def _has_copy(out: Path, record: Path) -> bool:
    copied = out / COPIED_RECORD
    return copied.is_file() and record.is_file() and copied.read_bytes() == record.read_bytes()


def _copy(stored: Saved[Checkpoint], out: Path) -> None:
    if _has_copy(out, stored.path):
        return
    try:
        with staged(out) as made:
            shutil.copytree(stored.path.parent / "model", made)
            shutil.copy(stored.path, made / COPIED_RECORD)
    except OSError as error:
        raise SizewiseError(
            f"The model cannot be copied to {out}: {error}.", "a writable folder", "sizewise train ... --out FOLDER"
        ) from error
