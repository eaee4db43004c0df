"""Run studies that turn documents into a recommendation; each is resumable and configured by one TOML file."""

from sizewise.studies.config import StudyConfig, demo_config, find_config, folder_config, read_config
from sizewise.studies.studying import study

__all__ = ["StudyConfig", "demo_config", "find_config", "folder_config", "read_config", "study"]
