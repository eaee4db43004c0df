"""pass@k: probability that at least one of k sampled answers is right."""

from __future__ import annotations

import re
from math import comb
from typing import Any

from sizewise.metrics.base import CannotMeasure, Mean, Metric

_NAME = re.compile(r"(?P<base>.+)_pass@(?P<k>[1-9]\d*)")


def pass_at(samples: int, right: int, k: int) -> float:
    """Estimate without bias the probability that at least one of k answers is right, from `right` of `samples`.

    Source: Chen et al. (2021), Evaluating large language models trained on code, equation 1.
    """
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass_at needs 0 <= right <= samples and 1 <= k <= samples, got {right}, {samples} and {k}")
    return 1 - comb(samples - right, k) / comb(samples, k)


class PassAt(Mean):
    """pass@k of a metric that calls each answer right or wrong; measured by `evaluate` with several samples."""

    def __init__(self, base: Metric, k: int) -> None:
        self.name, self.title, self.k = f"{base.name}_pass@{k}", f"{base.title}, pass@{k}", k
        self.description = (
            f"Probability that at least one of {k} sampled answers is right by this metric: {base.title}. Higher is "
            "better. Only useful where somebody, or a test, can pick the correct one of several answers."
        )
        self._base = base

    def signature(self) -> str:
        """Describe the estimator."""
        return f"{self._base.signature()}|pass@{self.k}:unbiased"

    def measure(self, item: Any) -> tuple[float, ...]:
        """Refuse; one answer has no pass@k.

        Raises:
            CannotMeasure: always.
        """
        raise CannotMeasure(f"pass@{self.k} needs several answers per item: --samples {max(2, self.k)}")


def pass_at_parts(name: str) -> tuple[str, int] | None:
    """Split `exact_match_pass@5` into metric and k; None for any other name."""
    found = _NAME.fullmatch(name)
    return (found["base"], int(found["k"])) if found else None
