"""What an evaluation is about: its dataset, and the metrics that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sizewise import datasets
from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation.references import reference_set
from sizewise.metrics import CannotMeasure, Metric, find_metric
from sizewise.metrics.registry import compares_references
from sizewise.metrics.structure import share_of_json
from sizewise.records import Dataset, Example, ModelDescription
from sizewise.store import Saved, Store

DEFAULT_METRICS = ("bits_per_byte", "perplexity", "bleu", "chrf", "token_f1", "exact_match", "refusals", "answer_words")
# Groups of metrics that are added if the first of the group can be prepared from the references.
OPTIONAL_METRICS = (("accuracy", "macro_f1"), ("json_valid", "json_f1"))
SHOWN_JSON_SHARE = 0.1
DECISION_METRICS = ("log_loss", "brier", "ece")
CHOICE_METRICS = ("choice_accuracy", "choice_accuracy_by_byte", "choice_calibration")


def default_metrics(contents: DatasetContents) -> tuple[str, ...]:
    """Choose the metrics that fit a dataset: those of texts, plus those for labels, JSON or choices if it has any.

    Where all answers are labels, measures of texts say nothing, so they are left out.
    """
    examples, references = contents.examples["test"], reference_set(contents)
    found: list[str] = []
    for group in OPTIONAL_METRICS if references else ():
        try:
            find_metric(group[0]).prepared(references)
        except CannotMeasure:
            # Not silently: if many references are JSON, the score says why it is missing.
            if group[0] != "json_valid" or share_of_json(references) < SHOWN_JSON_SHARE:
                continue
        found += group
    if contents.record.question is None or "accuracy" not in found:
        found = [*DEFAULT_METRICS, *found]
    if contents.record.question is not None:
        found += DECISION_METRICS
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


def check_images(model: ModelDescription, examples: Sequence[Example]) -> None:
    """Check that the model accepts images if examples have any.

    Raises:
        SizewiseError: it accepts only text.
    """
    images = sum(any(message.images for message in example.messages) for example in examples)
    if images and not model.can_see:
        raise SizewiseError(
            f"{model.uri} accepts only text; {images} of {len(examples)} examples have images.",
            "a vision model (openai:gpt-4o, anthropic:..., google:...), or examples without images",
            "sizewise models",
        )


def absent_references(examples: Sequence[Example], metrics: Sequence[Metric]) -> list[str]:
    """Note how many examples have no reference answer, and which metrics can't measure them."""
    absent = sum(not example.references for example in examples)
    left_out = [metric.name for metric in metrics if compares_references(metric)]
    if not absent or not left_out:
        return []
    return [
        f"{absent} of {len(examples)} test examples have no reference answer. They were answered and timed, "
        f"but {', '.join(left_out)} can't measure them."
    ]
