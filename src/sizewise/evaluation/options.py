"""Options of an evaluation that have a sensible default for every dataset and model."""

from __future__ import annotations

from dataclasses import dataclass

from sizewise.errors import UsageError
from sizewise.models import Engine
from sizewise.records import Sampling

DEFAULT_TEMPERATURE = 0.7
"""Temperature of several samples per item, where none is set."""


@dataclass(frozen=True)
class Until:
    """A question whose answer ends an evaluation early; either `against` or `min_quality` is set."""

    against: str | None = None
    """Id of an evaluation of the same data: is this model better or worse?"""
    margin: float | None = None
    """With `against`: is this model worse by less than this margin, in the unit of the metric?"""
    min_quality: float | None = None
    """Does the metric reach this value?"""


@dataclass(frozen=True)
class EvaluationOptions:
    """Overrides for how a model is run and its answers are scored; the defaults follow the data."""

    max_tokens: int | None = None
    """Token limit per answer; the default fits every reference answer, counted with the model's tokenizer."""
    count_failures_as_wrong: bool = False
    """Score permanently refused requests as empty answers instead of leaving them out."""
    new_run: bool = False
    """Measure again without cached answers, and keep the earlier evaluations."""
    seed: int = 0
    """Seed of the sample, of the few-shot examples and of the resampling."""
    engine: Engine = "transformers"
    """Engine for a model that runs on this machine; `transformers` is the reference."""
    max_usd: float | None = None
    """Maximum spend on a remote model; answers paid for before it is reached are kept."""

    samples: int = 1
    """Sampled answers per item; with more than one, their mean is scored."""
    temperature: float | None = None
    """Sampling temperature; by default 0 (greedy) for one sample and 0.7 for several."""
    until: Until | None = None
    """Ask items in random order until this question is decided, instead of all of them."""

    @property
    def sampling(self) -> Sampling | None:
        """Return how answers are sampled; None for one greedy answer."""
        if self.samples == 1 and not self.temperature:
            return None
        temperature = DEFAULT_TEMPERATURE if self.temperature is None else self.temperature
        return Sampling(samples=self.samples, temperature=temperature)

    def check_suite(self, name: str) -> None:
        """Refuse options that suites don't take.

        Raises:
            UsageError: several samples, a temperature or a question is set.
        """
        if self.sampling is not None or self.until is not None:
            raise UsageError(
                f"The suite {name} takes one greedy answer per item and all items.",
                "a suite without samples, temperature and until",
                f"sizewise evaluate MODEL --suite {name}",
            )

    def identity(self) -> list[object]:
        """Return the options that are part of the evaluation's id; empty for the defaults."""
        answers = (self.max_tokens, self.count_failures_as_wrong)
        parts: list[object] = [answers] if answers != (None, False) else []
        if self.sampling is not None:
            parts.append(["sampling", self.sampling.samples, self.sampling.temperature])
        if self.until is not None:
            parts.append(["until", self.until.against, self.until.margin, self.until.min_quality])
        return parts
