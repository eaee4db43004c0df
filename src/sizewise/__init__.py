"""Sizewise: find, train, measure and serve the language model that fits your work.

Every verb is a function here, and every one takes paths, ids and saved records alike:

    import sizewise

    data = sizewise.read("my-documents/")
    small = sizewise.train(sizewise.Recipe(start="pkg:smollm2-135m", minutes=5), data)
    results = [sizewise.evaluate(model, data) for model in (small, "openai:gpt-4o")]
    choice = sizewise.choose(sizewise.compare(results), sizewise.Needs(min_quality=20))
    print(choice.record.summary)

`sizewise.study("my-documents/")` does all of this within a time budget. Everything loads when it is first used:
`import sizewise` loads no torch.
"""

from __future__ import annotations

import os
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from sizewise.network import share_network_settings
from sizewise.privacy import keep_private

if TYPE_CHECKING:
    from sizewise.choice import choose
    from sizewise.comparison import compare
    from sizewise.datasets import read
    from sizewise.evaluation import evaluate
    from sizewise.exporting import export
    from sizewise.judging import open_round as judge
    from sizewise.loadtest import load_test
    from sizewise.models import open_model
    from sizewise.records import Needs, Recipe
    from sizewise.routing import calibrate as route
    from sizewise.service import serve
    from sizewise.store import Saved, Store
    from sizewise.studies import study
    from sizewise.training import train

    __version__: str

# Containers run under users without a home folder, but some libraries look for one when they are imported.
if os.path.expanduser("~") == "~" and os.environ.get("SIZEWISE_HOME"):
    os.environ["HOME"] = os.path.abspath(os.environ["SIZEWISE_HOME"])

keep_private()  # before any library that reports is imported
share_network_settings()

# PyTorch reads it at its first tensor: large tensors lie in huge pages where the system offers them (Linux), which
# spares most page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# OpenMP reads it when torch is imported: threads that wait for each other sleep instead of spinning. Where another
# process keeps the cores busy, spinning threads hold back the very thread they wait for (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Name here -> its module, and its name there where that is another.
_HOMES = {
    "Needs": ("sizewise.records", "Needs"),
    "Recipe": ("sizewise.records", "Recipe"),
    "Saved": ("sizewise.store", "Saved"),
    "Store": ("sizewise.store", "Store"),
    "choose": ("sizewise.choice", "choose"),
    "compare": ("sizewise.comparison", "compare"),
    "evaluate": ("sizewise.evaluation", "evaluate"),
    "export": ("sizewise.exporting", "export"),
    "judge": ("sizewise.judging", "open_round"),
    "load_test": ("sizewise.loadtest", "load_test"),
    "open_model": ("sizewise.models", "open_model"),
    "read": ("sizewise.datasets", "read"),
    "route": ("sizewise.routing", "calibrate"),
    "serve": ("sizewise.service", "serve"),
    "study": ("sizewise.studies", "study"),
    "train": ("sizewise.training", "train"),
}

__all__ = [
    "Needs",
    "Recipe",
    "Saved",
    "Store",
    "__version__",
    "choose",
    "compare",
    "evaluate",
    "export",
    "judge",
    "load_test",
    "open_model",
    "read",
    "route",
    "serve",
    "study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, there = _HOMES[name]
        return getattr(import_module(module), there)
    if name == "__version__":
        return metadata.version("sizewise")
    raise AttributeError(f"module 'sizewise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__doc__", "__name__", "__path__"})
