"""The steps of a study for one candidate: train, evaluate, load-test, and measure bias and language nuance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sizewise import datasets
from sizewise.evaluation import EvaluationOptions, default_metrics, evaluate, evaluate_suite
from sizewise.evaluation.answered import answered_items
from sizewise.lm.loop import Progress, StopTraining
from sizewise.loadtest import load_test_model
from sizewise.progress import pulsing
from sizewise.records import Candidate, Checkpoint, ClassifierRecipe, Evaluation, ModelDescription, Recipe
from sizewise.report import PageWatcher
from sizewise.stats.quantiles import needed_for_quantile
from sizewise.store import Store
from sizewise.studies.baselines import BASELINES, CLASSIFICATION_BASELINES, DECISION_BASELINES
from sizewise.studies.budget import StepReporter
from sizewise.studies.config import StudyConfig
from sizewise.training import run_id_of, train

CONCURRENT_USERS = 8
"""Concurrent users in the load test, unless the needs set a number."""
QUICK_METHODS = ("frequent", "linear", "embedding")
"""Classifiers that are fitted in seconds."""
QUICK_KINDS = ("fake", "recorded", "frequent", "ngram", "linear")
"""Models that answer without a network of their own."""


def metrics_of(config: StudyConfig, data: str, store: Store) -> tuple[str, ...]:
    """Return the metrics of a study: the configured ones, or those that fit the data, and the quality metric."""
    metrics = config.metrics or default_metrics(datasets.load(store, data))
    if config.needs.quality and config.needs.quality not in metrics:
        metrics += (config.needs.quality,)
    return tuple(metrics)


def baselines_of(config: StudyConfig, data: str, metrics: Sequence[str]) -> dict[str, str]:
    """Return the baselines of a study: name -> model URI."""
    if not config.baseline:
        return {}
    kinds = BASELINES | (CLASSIFICATION_BASELINES if "accuracy" in metrics else {})
    if any(isinstance(candidate.train, ClassifierRecipe) for candidate in config.candidates):
        kinds = DECISION_BASELINES  # rules for texts never answer with a label, and a linear model is a candidate
    return {name: f"{kind}{data if kind.endswith(':') else ''}" for name, kind in kinds.items()}


def is_larger(candidate: Candidate, other: Candidate) -> bool:
    """Check whether a candidate is larger than a quick classifier, whatever it scores, by how the two are built.

    A language model is. So is a sentence encoder, whose classifier contains a linear one.
    """
    if other.train is None or not is_quick(other):
        return False
    if candidate.train is None or not is_quick(candidate):
        return not is_quick(candidate)
    return QUICK_METHODS.index(candidate.train.method) > QUICK_METHODS.index(other.train.method)


def is_quick(candidate: Candidate) -> bool:
    """Check whether a candidate is fitted and answers within seconds."""
    if isinstance(candidate.train, ClassifierRecipe):
        return candidate.train.method in QUICK_METHODS
    return candidate.train is None and not candidate.retrieve and candidate.model.partition(":")[0] in QUICK_KINDS


def needs_an_encoder(candidate: Candidate) -> bool:
    """Check whether a candidate first encodes all training texts, which is the slowest of what is quick."""
    return isinstance(candidate.train, ClassifierRecipe) and candidate.train.method == "embedding"


def is_trained(candidate: Candidate) -> bool:
    """Check whether a candidate has to be trained for minutes first; calibrating a model's options isn't training."""
    options = isinstance(candidate.train, ClassifierRecipe) and candidate.train.method == "options"
    return candidate.train is not None and not is_quick(candidate) and not options


def train_candidate(
    name: str,
    recipe: Recipe | ClassifierRecipe,
    data: str,
    add_point: Callable[[float, float], None],
    *,
    store: Store,
    reporter: StepReporter,
) -> str:
    """Train a candidate, and return the id of its checkpoint or classifier.

    A language model whose time is up keeps its best weights so far.

    Args:
        name: name of the candidate.
        recipe: settings of the run.
        data: dataset id.
        add_point: called with the seconds and the validation of each measured step.
        store: where records live.
        reporter: ends the training.
    """
    if isinstance(recipe, ClassifierRecipe):
        return train(recipe, data, store=store, reporter=reporter).id
    page = PageWatcher(store.folder("checkpoint", run_id_of(recipe, data)) / "training.html", recipe)

    def watch(progress: Progress) -> None:
        page(progress)
        if progress.bits_per_byte is not None:
            add_point(progress.seconds, progress.bits_per_byte)
        if reporter.is_over:
            raise StopTraining

    # Its steps report through the watcher, which may end the training; the reporter must not interrupt it.
    with pulsing(lambda: None):
        made = train(recipe, data, store=store, reporter=_Unlimited(reporter), watcher=watch)
    page.finish(made.record)
    record: Checkpoint = made.record
    reporter.say(
        f"{name}: trained on {record.tokens:,} tokens in {record.seconds:.0f} s, validation "
        f"{record.start_bits_per_byte:.3f} -> {record.best_bits_per_byte:.3f} bits/byte ({made.id})"
    )
    return made.id


class _Unlimited:
    """Passes progress on without ending the step."""

    def __init__(self, reporter: StepReporter) -> None:
        self.say, self.advance = reporter.say, reporter.pass_on


def evaluate_candidate(
    uri: str,
    data: str,
    metrics: Sequence[str],
    limit: int | None,
    options: EvaluationOptions,
    *,
    store: Store,
    reporter: StepReporter,
) -> str:
    """Evaluate a model on the first items of the sample, and return the id of the evaluation."""
    return evaluate(uri, data, metrics, store=store, limit=limit, options=options, reporter=reporter).id


def answered_by_candidate(
    uri: str, data: str, metrics: Sequence[str], options: EvaluationOptions, *, store: Store, reporter: StepReporter
) -> int:
    """Count the first items of the sample that a model has answered already."""
    return answered_items(uri, data, metrics, options=options, store=store)


def load_requests(config: StudyConfig) -> int | None:
    """Return the requests of a load level; None for the default number."""
    if config.needs.max_latency_p95_s is None:
        return None
    # Fewer requests have no upper bound of p95, so the limit could be missed but never verified.
    return max(needed_for_quantile(0.95), 4 * (config.needs.concurrent_users or CONCURRENT_USERS))


def can_be_load_tested(measured: Evaluation) -> bool:
    """Check whether a model runs on this machine and answered requests."""
    model = measured.model
    return model.local and not model.api and model.engine not in ("rule", "recorded") and measured.prompting is not None


def load_test_candidate(evaluation: str, config: StudyConfig, *, store: Store, reporter: StepReporter) -> str:
    """Load-test a model with one user and with the required number, and return the id of the load test."""
    counts = (1, config.needs.concurrent_users or CONCURRENT_USERS)
    requests = load_requests(config)
    return load_test_model(evaluation, counts, requests=requests, store=store, seed=config.seed, reporter=reporter).id


def weights_of(uri: str) -> str:
    """Return the URI of a model without its retrieval, which doesn't change the weights."""
    return uri.split(":", 2)[2] if uri.startswith("rag:") else uri


def has_likelihoods(uri: str, description: ModelDescription) -> bool:
    """Check whether a candidate's network returns log-likelihoods."""
    return weights_of(uri) != uri or description.can_score


class SideTest(NamedTuple):
    """A test that a study runs beside its own test set."""

    title: str
    """Name in the progress and in the record."""
    suite: str
    by_prompting: bool = False
    """Whether every candidate is asked for its choices, so that models without log-likelihoods are compared alike."""
    data: str | None = None
    """Dataset that the suite is made from."""


BIAS = SideTest("bias", "bias")
BIAS_BY_PROMPTING = SideTest("bias by prompting", "bias", by_prompting=True)
NUANCE = SideTest("language nuance", "language-nuance")
KNOWLEDGE = SideTest("general knowledge", "general-knowledge")


def run_side_test(
    uri: str, test: SideTest, limit: int | None, seed: int, *, store: Store, reporter: StepReporter
) -> str:
    """Evaluate a model on a suite, or a random part of it, and return the id of the evaluation."""
    options = EvaluationOptions(seed=seed, letters=test.by_prompting)
    saved = evaluate_suite(uri, test.suite, test.data, store=store, limit=limit, options=options, reporter=reporter)
    return saved.id


def can_be_asked(description: ModelDescription) -> bool:
    """Check whether a model answers new questions in words: no rule, no recording, no classifier."""
    answers = description.can_chat or description.can_score
    return answers and description.engine not in ("rule", "recorded") and "decisions" not in description.offers


def bases_of(config: StudyConfig, uris: dict[str, str]) -> dict[str, str]:
    """Return the starting model of each fine-tuned candidate: name -> name of the same model untrained, or its URI.

    Gains on the domain may come at the expense of general language skills, so each fine-tuned model is compared with
    its base model.
    """
    found = {}
    for candidate in config.candidates:
        trained = isinstance(candidate.train, Recipe) and candidate.name in uris
        if trained and candidate.model != "scratch" and not candidate.retrieve:
            untrained = next((name for name, uri in uris.items() if uri == candidate.model), None)
            found[candidate.name] = untrained or f"{candidate.model} (before training)"
    return found
