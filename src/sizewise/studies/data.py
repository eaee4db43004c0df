"""Read the data of a study."""

from __future__ import annotations

from sizewise import datasets
from sizewise.progress import Reporter
from sizewise.records import Dataset
from sizewise.store import Saved, Store
from sizewise.studies.config import StudyConfig


def read_data(config: StudyConfig, store: Store, reporter: Reporter) -> Saved[Dataset]:
    """Read the documents and examples that a study names, as it says.

    Raises:
        SizewiseError: They can't be read.
    """
    sources = [*config.documents, *config.examples]
    reporter.say(f"Reading {', '.join(sources)}")
    return datasets.read(
        sources,
        store=store,
        name=config.name,
        domain=config.domain,
        seed=config.seed,
        split=config.split or "documents",
        options=config.columns,
    )
