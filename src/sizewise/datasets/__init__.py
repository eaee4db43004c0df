"""Documents and examples in train, validation and test: splits, contamination, rejected rows."""

from sizewise.datasets.building import DatasetContents, build, load, passages, read, save

__all__ = ["DatasetContents", "build", "load", "passages", "read", "save"]
