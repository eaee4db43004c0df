"""Run studies that turn documents into a recommendation; each is resumable and configured by one TOML file.

The functions load when they are first used, so that a display starts before the libraries of the study are imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sizewise.studies.config import StudyConfig, demo_config, demo_configs, find_config, folder_config, read_config
    from sizewise.studies.studying import study

__all__ = ["StudyConfig", "demo_config", "demo_configs", "find_config", "folder_config", "read_config", "study"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sizewise.studies' has no attribute {name!r}")
    return getattr(import_module(f"sizewise.studies.{'studying' if name == 'study' else 'config'}"), name)
