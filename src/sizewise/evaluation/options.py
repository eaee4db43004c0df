"""Options of an evaluation that have a sensible default for every dataset and model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sizewise.datasets.sampling import SAMPLE_VERSION
from sizewise.errors import UsageError
from sizewise.evaluation.suites import COUNTERFACTUALS, SUITES
from sizewise.metrics.harness import PREFIX
from sizewise.models import Engine
from sizewise.records import Rubric, Sampling

RUBRIC_VERSION = 1
"""Raised when the request to a judge or the reading of its grades changes; part of an evaluation's id."""
DEFAULT_TEMPERATURE = 0.7
"""Temperature of several samples per item, where none is set."""

FAILURES_AS_WRONG = "failures:count as wrong"
"""Part of the signature of scores in which refused requests count as wrong."""


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
class HarnessOptions:
    """How tasks of lm-evaluation-harness build their prompts; names and defaults are the harness' own."""

    num_fewshot: int | None = None
    """Examples in each prompt; by default as the task says. A task that fixes none keeps none."""
    apply_chat_template: bool = False
    """Write prompts in the model's chat template."""
    fewshot_as_multiturn: bool = True
    """With a chat template, write each example as a turn of the user and one of the model."""
    system_instruction: str | None = None
    """Text before each prompt; the system message, with a chat template."""


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

    constrained: bool = False
    """Constrain each answer to the JSON schema of its example, if it has one; needs an engine that can, openvino."""

    letters: bool = False
    """Ask for the letter of a choice in words, also of a model with log-likelihoods; of suites with choices. Bias is
    then measured by prompting."""

    form: Literal["chat", "few_shot"] | None = None
    """Prompt form of an earlier run that this one repeats; by default chosen on the validation examples."""
    answers_from: str | None = None
    """Id of an evaluation of part of the items whose answers a new run takes over."""

    run_code: bool = False
    """Consent to run code that the model writes, in a process of its own; for the suite `code`."""

    rubric: Rubric | None = None
    """Criteria by which a judge model grades each answer."""
    judge: str = ""
    """URI of the judge model; with a rubric only. `max_usd` applies to it separately."""
    judge_revision: str = ""
    """Revision of the judge model, filled in when it is opened."""

    name: str = ""
    """Name of the candidate in comparisons; by default the model's URI."""

    prompt_examples: int = 30
    """Validation examples on which the prompt form is chosen."""
    harness: HarnessOptions = HarnessOptions()
    """Prompts of tasks of lm-evaluation-harness."""

    @property
    def sampling(self) -> Sampling | None:
        """Return how answers are sampled; None for one greedy answer."""
        if self.samples == 1 and not self.temperature:
            return None
        temperature = DEFAULT_TEMPERATURE if self.temperature is None else self.temperature
        return Sampling(samples=self.samples, temperature=temperature)

    def check_suite(self, name: str) -> None:
        """Refuse options that a suite doesn't take.

        Raises:
            UsageError: several samples, a temperature or a question is set, failures can't be wrong in the suite, it
                has no letters to ask for, it takes no examples, or it runs code without consent.
        """
        if not name.startswith(PREFIX):
            self.check_harness(name)
        suite = SUITES.get(name)
        if self.run_code != bool(suite and suite.runs_code):
            raise _consent(name, self.run_code)
        unscored = suite is not None and (suite.generates or bool(suite.control))
        if self.count_failures_as_wrong and (name == COUNTERFACTUALS or unscored):
            raise UsageError(
                f"The answers to {name} are neither right nor wrong, so failures can't count as wrong.",
                "a suite whose answers are right or wrong",
                f"sizewise evaluate MODEL --suite {name}",
            )
        if self.letters and not (suite is not None and (suite.by_letter or suite.control)):
            asked = [one for one, suite in SUITES.items() if suite.by_letter or suite.control]
            raise UsageError(
                f"{name} has no choices that a model can be asked for.",
                f"one of these suites: {', '.join(asked)}",
                f"sizewise evaluate MODEL --suite {name}",
            )
        if self.sampling is not None or self.until is not None or self.constrained:
            raise UsageError(
                f"The suite {name} takes one greedy, unconstrained answer per item and all items.",
                "a suite without samples, temperature, until and constrained",
                f"sizewise evaluate MODEL --suite {name}",
            )

    def check_harness(self, data: str) -> None:
        """Refuse the harness' options for other data.

        Raises:
            UsageError: one is set.
        """
        if self.harness != HarnessOptions():
            raise UsageError(
                f"{data} isn't a task of lm-evaluation-harness, so it takes no few-shot or template options.",
                "--suite lm-eval:TASK with them",
                "sizewise evaluate MODEL --suite lm-eval:TASK --num-fewshot 5",
            )

    def identity(self) -> list[object]:
        """Return the options that are part of the evaluation's id; empty for the defaults."""
        answers = (self.max_tokens, self.count_failures_as_wrong)
        parts: list[object] = [answers] if answers != (None, False) else []
        if self.sampling is not None:
            parts.append(["sampling", self.sampling.samples, self.sampling.temperature])
        if self.until is not None:
            parts.append(["until", self.until.against, self.until.margin, self.until.min_quality])
        if self.constrained:
            parts.append("constrained")
        return parts

    def choices(self, limit: int | None) -> list[object]:
        """Return what decides which items are asked, but no answer to them; empty for the defaults."""
        parts: list[object] = [["limit", limit, SAMPLE_VERSION]] if limit is not None else []
        if self.name:
            parts.append(["name", self.name])
        if self.rubric is not None:
            parts.append(
                ["rubric", self.rubric.model_dump(mode="json"), self.judge, self.judge_revision, RUBRIC_VERSION]
            )
        if self.prompt_examples != EvaluationOptions.prompt_examples:
            parts.append(["prompt examples", self.prompt_examples])
        return parts


def _consent(name: str, given: bool) -> UsageError:
    """Return the error for consent to run code that is absent, or given to a suite that runs none."""
    if given:
        return UsageError(
            f"{name} runs no code of the model.", "--confirm-run-unsafe-code with --suite code", f"--suite {name} alone"
        )
    return UsageError(
        f"The suite {name} runs Python code that the model writes, on this machine. It gets no files, no network and "
        "little memory, but that isn't a guarantee.",
        "your consent; in a container, if you don't trust the model",
        f"sizewise evaluate MODEL --suite {name} --confirm-run-unsafe-code",
    )
