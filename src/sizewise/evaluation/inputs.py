"""What an evaluation is about: its dataset, and the metrics that fit it."""

from __future__ import annotations

from pathlib import Path

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.errors import UsageError
from sizewise.evaluation.references import reference_set
from sizewise.metrics import CannotMeasure, find_metric
from sizewise.metrics.structure import share_of_json
from sizewise.records import Dataset
from sizewise.store import Saved, Store

DEFAULT_METRICS = ("bits_per_byte", "perplexity", "bleu", "chrf", "token_f1", "exact_match", "refusals", "answer_words")
# Groups of metrics that are added if the first of the group can be prepared from the references.
OPTIONAL_METRICS = (("accuracy", "macro_f1"), ("json_valid", "json_f1"))
SHOWN_JSON_SHARE = 0.1
CHOICE_METRICS = ("choice_accuracy", "choice_accuracy_by_byte", "choice_calibration")


def default_metrics(contents: DatasetContents) -> tuple[str, ...]:
    """Choose the metrics that fit a dataset: the common ones, plus those for labels, JSON or choices if it has any."""
    examples, references = contents.examples["test"], reference_set(contents)
    found = list(DEFAULT_METRICS)
    for group in OPTIONAL_METRICS if references else ():
        try:
            find_metric(group[0]).prepared(references)
        except CannotMeasure:
            # Not silently: if many references are JSON, the score says why it is missing.
            if group[0] != "json_valid" or share_of_json(references) < SHOWN_JSON_SHARE:
                continue
        found += group
    if any(example.choices for example in examples):
        found += CHOICE_METRICS
    return tuple(found)


def dataset_id(data: str | Path | Saved[Dataset], store: Store, seed: int) -> str:
    """Resolve a dataset id; a path is read into a new dataset first."""
    if isinstance(data, Saved):
        return data.id
    if not isinstance(data, str | Path) or not str(data):
        raise UsageError(f"The data is {data!r:.60}.", "a dataset, its id or a JSONL file", "sizewise runs")
    if Path(data).expanduser().exists():
        return datasets.read([data], store=store, seed=seed, all_test=True).id
    if Path(data).suffix or Path(data).name != str(data):
        raise UsageError(f"The file {data} doesn't exist.", "a dataset id, or a JSONL file", "sizewise runs")
    store.read(Dataset, str(data))
    return str(data)
