"""Datasets: documents and examples, split into train, validation and test."""

from sizewise.datasets.passages import passages
from sizewise.datasets.reading import DatasetContents, build, load, read, save

__all__ = ["DatasetContents", "build", "load", "passages", "read", "save"]
