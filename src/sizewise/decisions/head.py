"""Decisions by a language model that is fine-tuned with low-rank adapters and a classification head (Hu et al., 2021).

The trained classifier is an ordinary `AutoModelForSequenceClassification`: transformers opens its folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from scipy.special import expit, log_softmax

from sizewise.decisions.files import read_json, write_json
from sizewise.decisions.scorers import FloatArray, Material, Settings
from sizewise.errors import SizewiseError
from sizewise.records import Question

if TYPE_CHECKING:
    from sizewise.lm.classification_head import HeadPlan, HeadProgress, HeadResult, Labeled

MAX_TOKENS = 512
"""Tokens of a text that are read."""
MIN_VALIDATION, MAX_VALIDATION = 100, 1_000
"""Validation texts that choose among the weights of a run."""
EPOCHS, MIN_STEPS, MAX_EPOCHS = 6.0, 200, 30.0
"""Passes over the training texts if time allows; more if few texts make few steps."""
PROBED_STEPS = 2
TRAINING_SHARE = 0.85
"""Share of the time that training may take; the rest is for the last validation, merging and scoring."""
VALIDATION_STEPS = 0.1
"""Maximum time of a run's validations, as a share of the time of its steps."""
FORWARD_SHARE = 0.5
"""Time of a forward pass as a share of a step's."""
COMPARED_TEXTS = 20
"""Validation texts on which OpenVINO's probabilities are compared with the network's."""
ENGINE = "transformers"
PLAN, SETTINGS, MODEL, CHECKPOINTS = "plan.json", "head.json", "network", "checkpoints"


class Logits(Protocol):
    """A network with a classification head, whatever runs it."""

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Compute the logits of texts, (texts, labels)."""
        ...


class Facts(NamedTuple):
    """What is known of a trained head, stored beside it."""

    independent: bool
    """Whether each option has a probability of its own."""
    parameters: int
    """Parameters of the network and the head."""
    trained: int
    """Parameters that training changed."""
    notes: tuple[str, ...]
    """Notes for readers."""


class HeadScorer:
    """A language model with a classification head."""

    def __init__(self, classifier: Logits, facts: Facts, engine: str, texts: Sequence[str] = ()) -> None:
        self._classifier, self._facts, self.engine, self._texts = classifier, facts, engine, texts
        self.parameters, self.trained_parameters, self.notes = facts.parameters, facts.trained, facts.notes
        self.memory_bytes = 4 * facts.parameters

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the probability of each option."""
        logits = self._classifier.logits(texts)
        found: FloatArray = expit(logits) if self._facts.independent else np.exp(log_softmax(logits, axis=1))
        return found

    def save(self, folder: Path) -> None:
        """Write the classifier as a Hugging Face folder, and for OpenVINO beside it if that is installed.

        Raises:
            SizewiseError: the folder can't be written, or the classifier was loaded from one.
        """
        from sizewise.lm import classifier_openvino
        from sizewise.lm.classifier_format import SavedClassifier, save_classifier

        if not isinstance(self._classifier, SavedClassifier):
            raise SizewiseError(
                "The classifier was loaded for serving.", "a copy of its folder", f"cp -r FOLDER {folder}"
            )
        save_classifier(self._classifier, folder / MODEL)
        reason: str | None = "OpenVINO isn't installed"
        if classifier_openvino.is_installed():
            texts = list(self._texts[:COMPARED_TEXTS]) or ["text"]
            reason = classifier_openvino.write_graph(self._classifier, folder / MODEL, texts)
        if reason is None:
            self.engine = classifier_openvino.engine_name()
        write_json(folder / SETTINGS, self._facts._asdict() | {"openvino_missing": reason})


def load(folder: Path, question: Question, base: Path | None) -> HeadScorer:
    """Load a classifier that was saved; OpenVINO runs it if it can. The model that it started from isn't needed."""
    from sizewise.lm import classifier_openvino

    has_graph = (folder / MODEL / classifier_openvino.GRAPH).is_file()
    return open_head(folder / MODEL, folder, with_openvino=has_graph and classifier_openvino.is_installed())


def open_head(network: Path, folder: Path, with_openvino: bool) -> HeadScorer:
    """Open a classifier.

    Args:
        network: folder of its network.
        folder: folder of its other files.
        with_openvino: let OpenVINO run it, not transformers.
    """
    from sizewise.lm import classifier_format, classifier_openvino

    facts = _facts(folder)
    if with_openvino:
        opened = classifier_openvino.OpenVinoClassifier(network, classifier_format.load_encoder(network))
        return HeadScorer(opened, facts, opened.engine)
    return HeadScorer(classifier_format.load_classifier(network), facts, ENGINE)


def open_onnx(network: Path, folder: Path) -> HeadScorer:
    """Open a classifier that was exported as ONNX.

    Args:
        network: folder of the export.
        folder: folder of the classifier's other files.
    """
    from sizewise.lm import classifier_format, classifier_onnx

    opened = classifier_onnx.OnnxClassifier(network, classifier_format.load_encoder(network))
    return HeadScorer(opened, _facts(folder), opened.engine)


def _facts(folder: Path) -> Facts:
    saved = read_json(folder / SETTINGS)
    return Facts(saved["independent"], saved["parameters"], saved["trained"], tuple(saved["notes"]))


def fit(train: Material, validation: Material, settings: Settings) -> HeadScorer:
    """Train adapters and a head within the time allowed. An interrupted run resumes in `settings.work`.

    Raises:
        SizewiseError: there is no language model, or transformers has no classifier of its architecture.
    """
    if settings.base is None:
        raise SizewiseError(
            "A classification head needs a language model, and none was given.",
            "the URI of a language model",
            "sizewise train pkg:smollm2-135m --method head --data ID",
        )
    if settings.work is not None:
        return _fit(train, validation, settings, settings.base, settings.work)
    with tempfile.TemporaryDirectory() as work:
        return _fit(train, validation, settings, settings.base, Path(work))


def _fit(train: Material, validation: Material, settings: Settings, base: Path, work: Path) -> HeadScorer:
    from sizewise.lm import classification_head as heads
    from sizewise.lm import classifier_format as formats
    from sizewise.lm.adapt import add_lora, base_of, merge_lora
    from sizewise.lm.checkpointing import load_state
    from sizewise.lm.device import machine_precision
    from sizewise.lm.execution import execution_of
    from sizewise.lm.hf_format import load_network, load_tokenizer
    from sizewise.lm.loop import finish, prepare

    independent = settings.question.type == "multi"
    network, tokenizer = load_network(base, machine_precision()), load_tokenizer(base)
    formats.check_supported(network)
    encoder = formats.Encoder(tokenizer, min(MAX_TOKENS, execution_of(network).context or MAX_TOKENS))
    padding = formats.padding_of(tokenizer, encoder.suffix)
    data = heads.Labeled(encoder(train.texts), train.targets, independent)
    rank = heads.HeadPlan(epochs=1).rank
    network = add_lora(network, rank, settings.seed)
    prepare(network, compiled=False)
    headed = heads.HeadedNetwork(network, train.targets.shape[1], settings.seed)
    trained = sum(one.numel() for one in headed.parameters() if one.requires_grad)
    plan = _plan(headed, data, settings, work, padding)
    chosen = np.random.default_rng(settings.seed).permutation(len(validation.texts))[: plan.validated]
    held_out = heads.Labeled(encoder([validation.texts[i] for i in chosen]), validation.targets[chosen], independent)
    begun = time.monotonic()
    if load_state(work / CHECKPOINTS) is None:
        heads.start_head(headed, data, plan, padding)
    start_s = time.monotonic() - begun

    def report(progress: HeadProgress) -> None:
        settings.reporter.advance("Training", progress.step, progress.steps, f"loss {progress.loss:.3f}")

    result = heads.train_head(headed, data, held_out, plan, work / CHECKPOINTS, padding, report, start_s)
    finish(network)
    merged = base_of(merge_lora(network.float()))
    classifier = formats.as_classifier(merged, headed.score, settings.question.values, padding, independent)
    parameters = sum(one.numel() for one in classifier.parameters())
    facts = Facts(independent, parameters, trained, (_note(result, plan, data),))
    return HeadScorer(formats.SavedClassifier(classifier, encoder), facts, ENGINE, validation.texts or train.texts)


def _plan(headed: Any, data: Any, settings: Settings, work: Path, padding: int) -> HeadPlan:
    """Plan more steps than the time may allow, or return the plan of the interrupted run.

    A step's time is only probed, and a busy machine may be free a minute later: it decides how many texts validate, not
    how long the run is.
    """
    from sizewise.lm.classification_head import HeadPlan, probe_step_s, steps_of_epoch

    if (work / PLAN).is_file():
        return HeadPlan(*read_json(work / PLAN))
    draft = HeadPlan(epochs=1, seed=settings.seed)
    per_epoch = len(steps_of_epoch(data, draft, 0, padding))
    step_s = probe_step_s(headed, data, draft, padding, PROBED_STEPS)
    limit_s = settings.minutes * 60 * TRAINING_SHARE
    epochs = min(MAX_EPOCHS, max(EPOCHS, MIN_STEPS / per_epoch))
    texts = min(epochs, limit_s / step_s / per_epoch) * len(data)
    affordable = round(VALIDATION_STEPS / FORWARD_SHARE * texts / draft.validations)
    plan = draft._replace(
        epochs=round(epochs, 3), limit_s=limit_s, validated=min(MAX_VALIDATION, max(MIN_VALIDATION, affordable))
    )
    write_json(work / PLAN, list(plan))
    return plan


def _note(result: HeadResult, plan: HeadPlan, data: Labeled) -> str:
    tokens = result.passes * sum(len(ids) for ids in data.ids)
    read = f"{result.passes:.2g} passes over the training examples, {tokens:,.0f} tokens"
    text = f"Trained for {result.steps} steps ({read})"
    if result.passes < plan.epochs:
        text += ", as many as the time allowed"
    if result.best is None:
        return f"{text}; without validation examples, the last weights were kept."
    return f"{text}; the weights after step {result.best.step} were the best on the validation split."
