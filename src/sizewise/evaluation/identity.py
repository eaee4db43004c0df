"""What identifies an evaluation, and whether it can be asked for."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.errors import UsageError
from sizewise.evaluation import asking
from sizewise.evaluation.options import EvaluationOptions
from sizewise.metrics import find_metric, metric_versions
from sizewise.models.prompts import PROMPT_VERSION
from sizewise.records import ModelDescription


def evaluation_ids(
    description: ModelDescription, data_id: str, names: Sequence[str], limit: int | None, options: EvaluationOptions
) -> tuple[str, str]:
    """Return the id of an evaluation, and of its ledger, which samples of any size share."""
    identity = (data_id, names, None, options.seed, PROMPT_VERSION, *options.identity(), *metric_versions(names))
    answers_id = asking.evaluation_id(description, *identity)
    return asking.evaluation_id(description, *identity, *options.choices(limit)), answers_id


def check_request(metrics: Sequence[str], limit: int | None, options: EvaluationOptions) -> None:
    """Check what was asked for before anything is opened.

    Raises:
        UsageError: a metric is unknown or belongs to a suite, or a limit isn't positive.
    """
    for name in metrics:
        if find_metric(name).needs == "suite":
            raise UsageError(
                f"The metric {name} belongs to a suite.", "--suite NAME", "sizewise evaluate MODEL --suite bias"
            )
        if find_metric(name).needs == "judge":
            raise UsageError(
                f"The metric {name} is measured with a rubric, not by name.",
                "--rubric FILE --judge URI",
                "sizewise evaluate --help",
            )
    if limit is not None and limit <= 0:
        raise UsageError(f"limit is {limit}.", "a positive number", "--limit 100")
    if options.max_tokens is not None and options.max_tokens <= 0:
        raise UsageError(f"max_tokens is {options.max_tokens}.", "a positive number", "--max-tokens 512")
