"""Change a training while it runs."""

from __future__ import annotations

import math

from sizewise.errors import UsageError
from sizewise.lm.run_files import Applied, request_change
from sizewise.store import Store

SETTINGS = ("learning_rate", "tokens", "stop")


def adjust_run(run: str, settings: dict[str, float], *, store: Store | None = None) -> str:
    """Ask a running training to change settings before its next step; its record lists the changes.

    A run that was interrupted takes them over when it resumes.

    Args:
        run: id of the run, with or without `run:`.
        settings: `learning_rate` (new peak), `tokens` (new budget), or `stop` with any value.
        store: where runs are kept.

    Returns:
        Id of the run.

    Raises:
        UsageError: there is no such run, it has finished, or a setting can't be changed.
    """
    store, run_id = store or Store(), run.removeprefix("run:")
    for name, value in settings.items():
        if name in SETTINGS and not 0 < value < math.inf:  # NaN is neither
            raise UsageError(
                f"{value:g} is no value for {name}.", "a number above 0", f"sizewise adjust {run_id} --help"
            )
    if not settings or any(name not in SETTINGS for name in settings):
        raise UsageError(
            f"{settings} can't be changed while a run goes on." if settings else "No change was given.",
            "a learning rate, a token budget, or a stop",
            f"sizewise adjust {run_id} --learning-rate 1e-4",
        )
    if store.exists("checkpoint", run_id):
        raise UsageError(f"{run_id} has finished.", "a run that is being trained", "sizewise train --help")
    folder = store.folder("checkpoint", run_id)
    if not (folder / "plan.json").is_file():
        raise UsageError(
            f"No training with the id {run_id} has begun.",
            "the id that `sizewise train` names in its first lines",
            f"ls {folder.parent}",
        )
    request_change(folder, settings)
    return run_id


def describe_change(change: Applied) -> str:
    """Describe a change that a run has taken over, as a note of its record."""
    if change.setting == "time":
        return (
            f"the token budget was set to {change.value:,.0f} after {change.step:,} steps ({change.tokens:,} tokens), "
            "which fit into the time at the speed until then"
        )
    what = "the token budget" if change.setting == "tokens" else "the peak learning rate"
    return f"{what} was changed to {change.value:,.10g} after {change.step:,} steps ({change.tokens:,} tokens)"
