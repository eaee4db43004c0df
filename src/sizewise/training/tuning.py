"""Search for a recipe on a part of the budget: bad ones are stopped early, a killed search goes on."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from sizewise.errors import MissingExtraError
from sizewise.lm import loop
from sizewise.progress import Reporter, Silent
from sizewise.records import Recipe, Trial, Tuning, fingerprint
from sizewise.store import Saved, Store
from sizewise.training.planning import LEARNING_RATES
from sizewise.training.training import Run

SHARE = 0.25  # of the budget, for one trial
RANKS = (4, 8, 16, 32)
EXAMPLE_SHARES = (0.25, 0.5, 0.75)


def tune(
    recipe: Recipe, data: str, trials: int, *, store: Store | None = None, reporter: Reporter | None = None
) -> Saved[Tuning]:
    """Search rank, learning rate and mix by validation bits per byte (TPE; Akiba et al., 2019).

    Args:
        recipe: with a token budget; each trial gets a quarter of it.
        data: dataset id.
        trials: recipes to try.
        store: where records live.
        reporter: told how far it is.

    Raises:
        MissingExtraError: optuna is not installed.
        SizewiseError: a trial cannot be run at all.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
    store, reporter = store or Store(), reporter or Silent()
    tuning_id = f"tuning-{fingerprint([recipe.model_dump(mode='json'), data, trials])}"
    if store.exists("tuning", tuning_id):
        return store.get(Tuning, tuning_id)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    with store.lock("tuning", tuning_id):
        folder = store.folder("tuning", tuning_id)
        search = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
            study_name=tuning_id,
            direction="minimize",
            sampler=optuna.samplers.TPESampler(seed=recipe.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1),
            load_if_exists=True,
        )
        search.enqueue_trial(_usual(recipe), skip_if_exists=True)
        while len(_ended(search)) < trials:
            reporter.say(f"trial {len(_ended(search)) + 1} of {trials}")
            search.optimize(lambda trial: _try(trial, recipe, data, store, folder, reporter), n_trials=1)
        best = search.best_trial
        record = Tuning(
            data=data,
            recipe=_with(recipe, best.params),
            tokens_each=_tokens(recipe),
            trials=tuple(
                Trial(
                    settings={name: float(value) for name, value in trial.params.items()},
                    bits_per_byte=trial.value if trial.state.name == "COMPLETE" else None,
                    pruned=trial.state.name == "PRUNED",
                )
                for trial in _ended(search)
            ),
        )
        return store.write(tuning_id, record)


def _ended(search: Any) -> list[Any]:
    """Give the trials that came to an end: one that was killed is tried again under another number."""
    return [trial for trial in search.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _usual(recipe: Recipe) -> dict[str, Any]:
    """Give the settings of the recipe as it stands, which are tried first."""
    usual: dict[str, Any] = {"rate_factor": 1.0, "example_share": recipe.example_share}
    if recipe.method != "full":
        usual["rank"] = recipe.rank
    return usual


def _tokens(recipe: Recipe) -> int:
    return max(1, int((recipe.tokens or 0) * SHARE))


def _with(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    way = "scratch" if recipe.start == "scratch" else "full" if recipe.method == "full" else "lora"
    rate = recipe.learning_rate or LEARNING_RATES[way][0]
    changes: dict[str, Any] = {
        "learning_rate": rate * settings["rate_factor"],
        "example_share": settings["example_share"],
    }
    if "rank" in settings:
        changes["rank"] = int(settings["rank"])
    return recipe.model_copy(update=changes)


def _try(trial: Any, recipe: Recipe, data: str, store: Store, folder: Path, reporter: Reporter) -> float:
    import optuna

    settings = {
        "rate_factor": trial.suggest_float("rate_factor", 0.25, 2.0, log=True),
        "example_share": trial.suggest_categorical("example_share", sorted({*EXAMPLE_SHARES, recipe.example_share})),
    }
    if recipe.method != "full":
        settings["rank"] = trial.suggest_categorical("rank", sorted({*RANKS, recipe.rank}))
    tried = _with(recipe, settings).model_copy(update={"tokens": _tokens(recipe), "minutes": None})
    measured = 0

    def watch(progress: loop.Progress) -> None:
        nonlocal measured
        if progress.bits_per_byte is None:
            return
        measured += 1
        trial.report(progress.bits_per_byte, measured)
        if trial.should_prune():
            raise optuna.TrialPruned

    place = folder / f"trial-{trial.number}"
    run = Run(tried, data, store, place, reporter, watch)
    try:
        run.prepare()
        run.fit()
        reporter.say(f"{settings}: {run.result.best_bits_per_byte:.4f} bits/byte")
        return run.result.best_bits_per_byte
    finally:
        shutil.rmtree(place, ignore_errors=True)
