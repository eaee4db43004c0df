"""Hyperparameter search on part of the budget: bad trials are pruned, and a killed search resumes."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from sizewise.errors import MissingExtraError
from sizewise.lm import loop
from sizewise.lm.packing import ROWS_VERSION
from sizewise.progress import Reporter, Silent
from sizewise.records import Recipe, Score, Trial, Tuning, fingerprint
from sizewise.seeds import MAX_SEED
from sizewise.store import Saved, Store
from sizewise.training.held_out import Measured, describe, score_difference
from sizewise.training.identity import inputs_of
from sizewise.training.planning import LEARNING_RATES
from sizewise.training.run import Run

TRIAL_SHARE = 0.25  # of the token budget
RANKS = (4, 8, 16, 32)
EXAMPLE_SHARES = (0.25, 0.5, 0.75)
SEARCH_VERSION = 2
"""Part of the id of a search. Increase it when trials are searched or measured in another way."""


def tune(
    recipe: Recipe, data: str, trials: int, *, store: Store | None = None, reporter: Reporter | None = None
) -> Saved[Tuning]:
    """Search for the rank, learning rate and mix with the best validation bits per byte (TPE; Akiba et al., 2019).

    All trials are measured on the same held-out items: answers if examples are trained on, otherwise text. A recipe
    for text only or for answers only keeps its share of examples.

    Args:
        recipe: base settings, with a token budget; each trial gets a quarter of it.
        data: dataset id.
        trials: number of trials.
        store: where records live.
        reporter: receives progress.

    Raises:
        MissingExtraError: optuna isn't installed.
        SizewiseError: a trial can't run at all.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
    store, reporter = store or Store(), reporter or Silent()
    made_from = [*inputs_of(recipe, data), trials, ROWS_VERSION, SEARCH_VERSION]
    tuning_id = f"tuning-{fingerprint(made_from)}"
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
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1),
            load_if_exists=True,
        )
        # From the same seed again, a resumed search would suggest what was tried already.
        search.sampler = optuna.samplers.TPESampler(seed=(recipe.seed + len(_finished(search))) % (MAX_SEED + 1))
        _enqueue_waiting(search, recipe)
        while len(_finished(search)) < trials:
            reporter.say(f"Tuning: trial {len(_finished(search)) + 1} of {trials}")
            search.optimize(lambda trial: _run_trial(trial, recipe, data, store, folder, reporter), n_trials=1)
        return store.write(tuning_id, _record(search, recipe, data))


def _record(search: Any, recipe: Recipe, data: str) -> Tuning:
    finished = _finished(search)
    return Tuning(
        data=data,
        recipe=_apply(recipe, search.best_trial.params),
        tokens_each=_trial_tokens(recipe),
        trials=tuple(
            Trial(
                settings={name: float(value) for name, value in trial.params.items()},
                bits_per_byte=trial.value if trial.state.name == "COMPLETE" else None,
                pruned=trial.state.name == "PRUNED",
                change=_change(finished[0], trial),
            )
            for trial in finished
        ),
        validation=next((t.user_attrs["validation"] for t in finished if "validation" in t.user_attrs), ""),
    )


def _enqueue_waiting(search: Any, recipe: Recipe) -> None:
    """Enqueue the recipe itself if it is still to be tried, and what a killed process left unfinished.

    The search is locked, so a trial that is running belongs to a process that is gone.
    """
    wanted, known = [_base_settings(recipe)], [trial.params for trial in _finished(search)]
    for trial in search.trials:
        given = trial.system_attrs.get("fixed_params", {})
        if trial.state.name == "WAITING":
            known.append(given)
        elif trial.state.name == "RUNNING":
            search.tell(trial.number, state=_failed_state())
            wanted.append({**given, **trial.params})
    for settings in wanted:
        if settings and settings not in known:
            search.enqueue_trial(settings)
            known.append(settings)


def _failed_state() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _finished(search: Any) -> list[Any]:
    """Return the trials that finished; a killed one is repeated under another number."""
    return [trial for trial in search.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _change(first: Any, trial: Any) -> Score | None:
    """Score how a trial differs from the first one; None if either was pruned."""
    if trial.number == first.number or not all("items" in one.user_attrs for one in (first, trial)):
        return None
    one, other = (Measured(**some.user_attrs["items"]) for some in (first, trial))
    return score_difference(one, other, "change of bits_per_byte")


def _searches_share(recipe: Recipe) -> bool:
    """Check whether the share of examples may change: not if only text or only answers were asked for."""
    return 0 < recipe.example_share < 1


def _base_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of the recipe itself, which are tried first."""
    settings: dict[str, Any] = {"rate_factor": 1.0}
    if _searches_share(recipe):
        settings["example_share"] = recipe.example_share
    if recipe.method != "full":
        settings["rank"] = recipe.rank
    return settings


def _trial_tokens(recipe: Recipe) -> int:
    return max(1, int((recipe.tokens or 0) * TRIAL_SHARE))


def _apply(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    mode = "scratch" if recipe.start == "scratch" else "full" if recipe.method == "full" else "lora"
    rate = recipe.learning_rate or LEARNING_RATES[mode][0]
    changes: dict[str, Any] = {"learning_rate": rate * settings["rate_factor"]}
    if "example_share" in settings:
        changes["example_share"] = settings["example_share"]
    if "rank" in settings:
        changes["rank"] = int(settings["rank"])
    return recipe.model_copy(update=changes)


def _run_trial(trial: Any, recipe: Recipe, data: str, store: Store, folder: Path, reporter: Reporter) -> float:
    import optuna

    settings = {"rate_factor": trial.suggest_float("rate_factor", 0.25, 2.0, log=True)}
    if _searches_share(recipe):
        shares = sorted({*EXAMPLE_SHARES, recipe.example_share})
        settings["example_share"] = trial.suggest_categorical("example_share", shares)
    if recipe.method != "full":
        settings["rank"] = trial.suggest_categorical("rank", sorted({*RANKS, recipe.rank}))
    tried = _apply(recipe, settings).model_copy(update={"tokens": _trial_tokens(recipe), "minutes": None})
    measured = 0

    def watch(progress: loop.Progress) -> None:
        nonlocal measured
        if progress.bits_per_byte is None:
            return
        measured += 1
        trial.report(progress.bits_per_byte, measured)
        if trial.should_prune():
            raise optuna.TrialPruned

    trial_folder = folder / f"trial-{trial.number}"
    run = Run(tried, data, store, trial_folder, reporter, watch)
    try:
        run.prepare()
        run.fit()
        trial.set_user_attr("items", run.measured._asdict())
        trial.set_user_attr("validation", describe(run.out))
        reporter.say(f"Tuning: {settings} reached {run.result.best.domain:.4f} bits/byte")
        return run.result.best.domain
    finally:
        shutil.rmtree(trial_folder, ignore_errors=True)
