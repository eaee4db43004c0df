"""Options of an evaluation that have a sensible default for every dataset and model."""

from __future__ import annotations

from dataclasses import dataclass

from sizewise.models import Engine


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

    def identity(self) -> list[object]:
        """Return the options that are part of the evaluation's id; empty for the defaults."""
        answers = (self.max_tokens, self.count_failures_as_wrong)
        return [answers] if answers != (None, False) else []
