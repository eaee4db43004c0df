"""What a training in several processes needs besides its loop: checks, the steps it has saved, and whole weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sizewise.errors import UsageError
from sizewise.lm.checkpointing import last_step
from sizewise.lm.distributed import Workers
from sizewise.records import Recipe
from sizewise.store import Store


def check_fsdp(recipe: Recipe) -> None:
    """Refuse settings that weights spread over processes don't allow.

    Raises:
        UsageError: the recipe has such settings.
    """
    if recipe.tokens is None:
        raise UsageError(
            "The speed of FSDP can't be measured before the run, so minutes can't be converted to tokens.",
            "a budget in tokens",
            "--tokens N instead of --minutes",
        )
    if recipe.method in ("qlora", "dora") or recipe.optimizer != "adamw":
        found = recipe.method if recipe.optimizer == "adamw" else recipe.optimizer
        raise UsageError(
            f"FSDP doesn't split what {found} needs over processes.",
            "LoRA or full training with adamw",
            "--method lora --optimizer adamw, or the same command without --fsdp",
        )


def steps_saved(store: Store, run_id: str) -> int:
    """Return the steps in the newest checkpoint of a run that isn't finished; -1 without any."""
    return last_step(store.folder("checkpoint", run_id) / "state")


def collect_weights(network: Any, names: Sequence[str], workers: Workers) -> dict[str, Any]:
    """Collect weights of which each process holds a part; empty in all processes but the first."""
    parameters = dict(network.named_parameters())
    return workers.whole({name: parameters[name].detach() for name in names})
