"""Datasets: documents and examples, split into train, validation and test."""

from sizewise.datasets.passages import passages
from sizewise.datasets.reading import DATASET_VERSION, DatasetContents, build, load, read

__all__ = ["DATASET_VERSION", "DatasetContents", "build", "load", "passages", "read"]
