"""The part of `sizewise train` that trains classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sizewise.cli.options import refused_setting
from sizewise.cli.output import print_csv, print_line, print_notes, print_path, print_saved, print_table, reporting

if TYPE_CHECKING:
    from sizewise.records import Classifier
    from sizewise.store import Saved

METHODS = ("frequent", "linear", "embedding", "contrastive", "options", "head")
SHOWN_LABELS = 10


def train_and_print(values: dict[str, Any], data: str, as_json: bool, as_csv: bool) -> None:
    """Train a classifier with these settings and print its validation scores.

    Raises:
        UsageError: a setting isn't allowed.
    """
    from pydantic import ValidationError

    from sizewise.records import ClassifierRecipe
    from sizewise.store import Store
    from sizewise.training import train

    try:
        recipe = ClassifierRecipe.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        raise refused_setting(error, "sizewise train") from error
    with reporting() as reporter:
        saved = train(recipe, data, store=Store(), reporter=reporter)
    if not print_saved(saved, as_json):
        _print(saved, as_csv)


def _print(saved: Saved[Classifier], as_csv: bool) -> None:
    from sizewise.metrics.display import value_text

    record = saved.record
    headings = ["metric", "validation", "n"]
    rows = [[name, value_text(score), f"{score.n:,}"] for name, score in record.scores.items()]
    if print_csv(headings, rows, as_csv):
        return
    labels = len(record.question.values)
    print_line(
        f"{record.recipe.start} ({record.recipe.method}): {labels} labels from {record.n:,} examples in "
        f"{record.seconds:.0f} s, {record.parameters:,} parameters. Calibration: {record.calibrator.method}, on "
        f"{record.validation:,} validation examples."
    )
    if rows:
        print_table(headings, rows)
    print_notes(record.notes)
    print_path(f"model: run:{saved.id}")
