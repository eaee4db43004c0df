"""Sizewise: find, make, prove and serve the language model that is the right size for your work.

The verbs are functions here, loaded when first used: `import sizewise` loads no torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sizewise.privacy import keep_private

if TYPE_CHECKING:
    from sizewise.choice import choose
    from sizewise.comparison import compare
    from sizewise.datasets import read
    from sizewise.evaluation import evaluate
    from sizewise.exporting import export
    from sizewise.loadtest import load_test
    from sizewise.models import open_model
    from sizewise.studies import study
    from sizewise.training import train

keep_private()  # before any library that reports is imported

# PyTorch reads it at its first tensor: large tensors lie in huge pages where the system offers them (Linux), which
# spares most page faults.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_HOMES = {
    "read": "sizewise.datasets",
    "train": "sizewise.training",
    "evaluate": "sizewise.evaluation",
    "compare": "sizewise.comparison",
    "choose": "sizewise.choice",
    "export": "sizewise.exporting",
    "load_test": "sizewise.loadtest",
    "study": "sizewise.studies",
    "open_model": "sizewise.models",
}

__all__ = ["choose", "compare", "evaluate", "export", "load_test", "open_model", "read", "study", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sizewise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
