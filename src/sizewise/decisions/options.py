"""Decisions by the likelihoods that a language model gives the options, with no or a few examples in the prompt.

A model prefers some options whatever the text says. Each option's score is therefore corrected by what it gets on
texts without content (Zhao et al., 2021, Calibrate before use), on random words of the domain (Fei et al., 2023,
Mitigating label biases for in-context learning) or on average over unlabeled texts (Zhou et al., 2024, Batch
calibration). Validation chooses; a question without examples gets the first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, logsumexp

from sizewise.decisions.calibrators import log_loss
from sizewise.decisions.files import read_json, write_json
from sizewise.decisions.scorers import FloatArray, Material, Settings
from sizewise.errors import SizewiseError
from sizewise.records import Question

SETTINGS = "options.json"
CONTENT_FREE = ("N/A", "", "[MASK]")
DOMAIN_TEXTS = 20
MIN_VALIDATION = 20
"""Validation texts from which on the correction is chosen by them."""
BATCH = 32
DEFAULT_CONTEXT = 2048  # of models that state none
SLOW_S = 0.5
"""Seconds of a decision from which on a note advises to limit evaluations."""
REMEMBERED = 64
"""Questions whose correction is kept between requests."""
SHARE_OF_SHOTS = 0.5
"""Maximum share of the context that examples take."""
ANSWER = "\nAnswer:"

Shots = tuple[tuple[str, tuple[str, ...]], ...]
"""Example texts with their correct options."""
Normalization = Literal["total", "per_byte"]
Correction = Literal["none", "contextual", "domain", "batch"]


class Reading(NamedTuple):
    """How log-likelihoods become probabilities."""

    normalization: Normalization = "total"
    """total: log-likelihood of the whole option; per_byte: divided by its bytes, so long options aren't at a
    disadvantage."""
    correction: Correction = "contextual"
    """Where the prior comes from that is subtracted."""
    prior: tuple[float, ...] | None = None
    """Log-probability of each option that doesn't depend on the text; None: computed when the question is asked."""
    scale: float = 1.0
    """Factor of the corrected log-probabilities."""


def option_texts(question: Question) -> list[str]:
    """Return the options as a model reads them: underscores become blanks where options stay distinct."""
    plain = [" ".join(value.replace("_", " ").split()) for value in question.values]
    distinct = len(set(plain)) == len(plain) and all(plain)
    return plain if distinct else list(question.values)


class OptionDecider:
    """Answers any question by the likelihoods of its options.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        size: maximum tokens of a prompt and an option.
    """

    def __init__(self, network: Any, tokenizer: Any, size: int) -> None:
        from sizewise.lm.option_scores import OptionReader

        self.network, self.tokenizer, self.size = network, tokenizer, size
        self._reader = OptionReader(network, size)
        self._priors: OrderedDict[tuple[str, Shots], FloatArray] = OrderedDict()

    def decide(
        self, question: Question, texts: Sequence[str], shots: Shots = (), reading: Reading | None = None
    ) -> FloatArray:
        """Compute the probability of each option for each text, (texts, options).

        Args:
            question: the question.
            texts: what is decided about.
            shots: examples for the prompt.
            reading: how log-likelihoods become probabilities; by default corrected by texts without content.

        Raises:
            SizewiseError: the options or the examples are longer than the model's context.
        """
        reading = reading or Reading()
        scores = self.log_likelihoods(question, texts, shots)
        if reading.prior is None and reading.correction != "none":
            reading = reading._replace(prior=tuple(self.content_free_prior(question, shots, reading.normalization)))
        return probabilities_of(scores, question, reading)

    def log_likelihoods(self, question: Question, texts: Sequence[str], shots: Shots = ()) -> FloatArray:
        """Compute the log-likelihood of each option, (texts, options).

        For questions of type multi, each option is asked about by itself, and this is the log-odds of "yes".
        """
        head = _instructions(question) + "".join(_shot(question, text, chosen) for text, chosen in shots)
        room = self._room(question, head)
        rows: list[FloatArray] = []
        for start in range(0, len(texts), BATCH):
            items = [
                [self._continuation(prompt, option) for prompt, option in _pairs(question, head, self._cut(text, room))]
                for text in texts[start : start + BATCH]
            ]
            rows += [-nats for nats in self._reader.nats(items)]
        found = np.stack(rows) if rows else np.zeros((0, len(_pairs(question, head, ""))))
        return found[:, 0::2] - found[:, 1::2] if question.type == "multi" else found

    def _continuation(self, prompt: str, option: str) -> Any:
        from sizewise.lm.option_scores import continue_prompt

        return continue_prompt(self.tokenizer, prompt, option)

    def _room(self, question: Question, head: str) -> int:
        """Compute how many tokens of a text fit; at least one, and the reader refuses what is too long."""
        longest = max(len(self._continuation(*pair).ids) for pair in _pairs(question, head, ""))
        return max(1, self.size - longest - 8)  # tokens at the joints may split

    def _cut(self, text: str, room: int) -> str:
        """Return the beginning of a text that fits, on one line, so that it can't pass for an example or an answer."""
        from sizewise.lm.control_tokens import encode, hide

        line = " ".join(text[: 20 * room].split())
        if len(line.encode("utf-8")) <= room:
            return line
        starts = encode(self.tokenizer, hide(self.tokenizer, line)).starts
        return line[: starts[room]] if len(starts) > room else line

    def content_free_prior(self, question: Question, shots: Shots, normalization: Normalization) -> FloatArray:
        """Compute what each option gets on texts without content, and remember it."""
        key = (question.model_dump_json() + normalization, shots)
        found = self._priors.get(key)
        if found is None:
            scores = self.log_likelihoods(question, CONTENT_FREE, shots)
            found = self._priors[key] = prior_of(scores, question, normalization)
            if len(self._priors) > REMEMBERED:
                self._priors.popitem(last=False)
        return found


def _instructions(question: Question) -> str:
    """Write what precedes every text: what is asked, and the options with their descriptions."""
    asked = (
        question.instructions.strip()
        or {
            "predicate": "Decide about each text.",
            "score": "Choose the level of each text.",
            "multi": "Decide which categories apply to each text.",
            "choice": "Choose the category of each text.",
        }[question.type]
    )
    texts = option_texts(question)
    if any(option.description for option in question.options):
        lines = [
            f"- {text}: {' '.join(option.description.split())}" if option.description else f"- {text}"
            for text, option in zip(texts, question.options, strict=True)
        ]
        return f"{asked}\nOptions:\n" + "\n".join(lines) + "\n\n"
    return f"{asked}\nOptions: {', '.join(texts)}\n\n"


def _shot(question: Question, text: str, chosen: Sequence[str]) -> str:
    """Write an example; of a question of type multi, one for each option."""
    line = " ".join(text.split())
    texts = option_texts(question)
    if question.type == "multi":
        answers = ("yes" if value in chosen else "no" for value in question.values)
        asked = "".join(_applies(option) + f" {answer}" for option, answer in zip(texts, answers, strict=True))
        return f"Text: {line}{asked}\n\n"
    return f"Text: {line}{ANSWER} {texts[question.values.index(chosen[0])]}\n\n"


def _applies(option: str) -> str:
    return f"\nDoes '{option}' apply?"


def _pairs(question: Question, head: str, line: str) -> list[tuple[str, str]]:
    """List the prompts and what may follow them. The line end makes an option that begins another one distinct."""
    prompt, texts = f"{head}Text: {line}", option_texts(question)
    if question.type == "multi":
        return [(prompt + _applies(option), answer) for option in texts for answer in (" yes", " no")]
    return [(prompt + ANSWER, f" {option}\n") for option in texts]


def _normalized(scores: FloatArray, question: Question, normalization: Normalization) -> FloatArray:
    if normalization == "total" or question.type == "multi":
        return scores
    sizes = np.array([len(f" {option}\n".encode()) for option in option_texts(question)], dtype=np.float64)
    found: FloatArray = scores / sizes * sizes.mean()
    return found


def prior_of(scores: FloatArray, question: Question, normalization: Normalization) -> FloatArray:
    """Compute the log of the mean probability of each option over texts, or the mean log-odds (multi)."""
    normalized = _normalized(scores, question, normalization)
    if question.type == "multi":
        mean: FloatArray = normalized.mean(axis=0)
        return mean
    found: FloatArray = logsumexp(log_softmax(normalized, axis=1), axis=0) - np.log(len(scores))
    return found


def probabilities_of(scores: FloatArray, question: Question, reading: Reading) -> FloatArray:
    """Turn log-likelihoods (texts, options) into probabilities."""
    corrected = _normalized(scores, question, reading.normalization)
    if question.type != "multi":
        corrected = log_softmax(corrected, axis=1)
    if reading.prior is not None:
        corrected = corrected - np.array(reading.prior)
    scaled = corrected * reading.scale
    logs = log_expit(scaled) if question.type == "multi" else log_softmax(scaled, axis=1)
    found: FloatArray = np.exp(logs)
    return found


class OptionScorer:
    """A language model that answers one question, and how its likelihoods are read."""

    engine = "transformers"
    trained_parameters = 0

    def __init__(
        self, decider: OptionDecider, question: Question, shots: Shots, reading: Reading, notes: tuple[str, ...] = ()
    ) -> None:
        self._decider, self._question, self._shots, self._reading = decider, question, shots, reading
        self.notes = notes
        weights = list(decider.network.parameters())
        self.parameters = sum(one.numel() for one in weights)
        self.memory_bytes = sum(one.numel() * one.element_size() for one in weights)
        self._known: Mapping[str, FloatArray] = {}

    def remember(self, known: Mapping[str, FloatArray]) -> None:
        """Keep log-likelihoods of texts that fitting computed, until the scorer is saved."""
        self._known = known

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Compute the probability of each option."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        scores = dict(self._known)
        scores.update(zip(new, self._decider.log_likelihoods(self._question, new, self._shots), strict=True))
        if not texts:
            return np.zeros((0, len(self._question.values)))
        return probabilities_of(np.stack([scores[text] for text in texts]), self._question, self._reading)

    def save(self, folder: Path) -> None:
        """Write the examples of the prompt and the correction. The language model isn't copied."""
        self._known = {}
        write_json(folder / SETTINGS, {"shots": self._shots, "notes": self.notes} | self._reading._asdict())


def fit(train: Material, validation: Material, settings: Settings) -> OptionScorer:
    """Choose examples for the prompt, and how likelihoods are read, on the validation split."""
    decider = open_decider(settings.base)
    question, notes = settings.question, list[str]()
    shots = _fitting(decider, question, _choose_shots(train, settings), notes)
    if len(validation.texts) < MIN_VALIDATION:
        reading = Reading(prior=tuple(decider.content_free_prior(question, shots, "total")))
        notes.append(
            f"{len(validation.texts)} validation examples are too few to choose how likelihoods are corrected, so "
            "what options get on texts without content is subtracted."
        )
        return OptionScorer(decider, question, shots, reading, tuple(notes))
    known: dict[str, FloatArray] = {}
    texts = list(dict.fromkeys(validation.texts))
    begun = time.monotonic()
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        known.update(zip(part, decider.log_likelihoods(question, part, shots), strict=True))
        settings.reporter.advance("Scoring options", len(known), len(texts))
    seconds = (time.monotonic() - begun) / len(texts)
    if seconds > SLOW_S:
        notes.append(
            f"A decision took {seconds:.1f} s, so 1,000 take {seconds * 1000 / 60:.0f} minutes: evaluate with --limit, "
            "and set limit in the study's [data]."
        )
    scores = np.stack([known[text] for text in validation.texts])
    domain = decider.log_likelihoods(question, _domain_texts(validation.texts, settings.seed), shots)
    content_free = decider.log_likelihoods(question, CONTENT_FREE, shots)
    priors: dict[Correction, FloatArray] = {"contextual": content_free, "domain": domain, "batch": scores}
    reading, tried = choose_reading(scores, priors, validation.targets, question)
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in tried.items())
    notes.append(f"The validation split prefers {reading.normalization}, {reading.correction} (log loss: {losses}).")
    scorer = OptionScorer(decider, question, shots, reading, tuple(notes))
    scorer.remember(known)
    return scorer


def load(folder: Path, question: Question, base: Path | None) -> OptionScorer:
    """Load the examples of the prompt, the correction and the language model."""
    saved = read_json(folder / SETTINGS)
    shots = tuple((text, tuple(chosen)) for text, chosen in saved["shots"])
    prior = None if saved["prior"] is None else tuple(saved["prior"])
    reading = Reading(saved["normalization"], saved["correction"], prior, saved["scale"])
    return OptionScorer(open_decider(base), question, shots, reading, tuple(saved["notes"]))


def open_decider(base: Path | None, precision: str = "fp32") -> OptionDecider:
    """Open a language model to decide with. In fp32 a text's probabilities don't depend on the texts beside it.

    Args:
        base: its folder.
        precision: `bf16` or `fp32`.

    Raises:
        SizewiseError: there is no folder, or it isn't a language model's.
    """
    from sizewise.lm.device import choose_device, placed
    from sizewise.lm.execution import execution_of
    from sizewise.lm.hf_format import load_network, load_tokenizer

    if base is None:
        raise SizewiseError(
            "Option likelihoods need a language model, and none was given.",
            "the URI of a language model",
            "sizewise train pkg:smollm2-135m --method options --data ID",
        )
    network = load_network(base, precision, **placed(choose_device()))
    return OptionDecider(network, load_tokenizer(base), execution_of(network).context or DEFAULT_CONTEXT)


def choose_reading(
    scores: FloatArray, priors: Mapping[Correction, FloatArray], targets: FloatArray, question: Question
) -> tuple[Reading, dict[str, float]]:
    """Choose normalization, correction and scale with the least log loss.

    Args:
        scores: (texts, options) log-likelihoods of the validation texts.
        priors: correction -> (texts, options) log-likelihoods of the texts that it comes from.
        targets: (texts, options) 1 where the option is correct.
        question: the question.

    Returns:
        The choice, and the log loss of each possibility.
    """
    independent = question.type == "multi"
    found: dict[str, tuple[float, Reading]] = {}
    normalizations: tuple[Normalization, ...] = ("total",) if independent else ("total", "per_byte")
    for normalization in normalizations:
        for correction in ("none", *priors):
            beside = None if correction == "none" else tuple(prior_of(priors[correction], question, normalization))
            reading = Reading(normalization, correction, beside)

            def loss(log_scale: float, reading: Reading = reading) -> float:
                scaled = reading._replace(scale=float(np.exp(log_scale)))
                return log_loss(probabilities_of(scores, question, scaled), targets, independent)

            best = minimize_scalar(loss, bounds=(-4.0, 2.0), method="bounded")
            scaled = reading._replace(scale=float(np.exp(best.x)))
            found[f"{normalization}, {correction}"] = (float(best.fun), scaled)
    name = min(found, key=lambda name: found[name][0])
    return found[name][1], {one: loss for one, (loss, _) in found.items()}


def _choose_shots(train: Material, settings: Settings) -> Shots:
    """Choose examples at random, one of each option in turn."""
    generator = np.random.default_rng(settings.seed)
    values = settings.question.values
    waiting: dict[int, list[int]] = {}
    for i in generator.permutation(len(train.texts)):
        waiting.setdefault(int(train.labels[i]), []).append(int(i))
    chosen: list[int] = []
    while len(chosen) < settings.shots and any(waiting.values()):
        for label in generator.permutation(sorted(waiting)):
            if waiting[label] and len(chosen) < settings.shots:
                chosen.append(waiting[label].pop())
    return tuple(
        (train.texts[i], tuple(value for value, share in zip(values, train.targets[i], strict=True) if share >= 0.5))
        for i in chosen
        if train.targets[i].max() >= 0.5 or settings.question.type == "multi"
    )


def _fitting(decider: OptionDecider, question: Question, shots: Shots, notes: list[str]) -> Shots:
    """Drop examples that take more than their share of the context."""
    from sizewise.lm.tokenizer import text_ids

    room = SHARE_OF_SHOTS * decider.size
    sizes = np.cumsum([len(text_ids(decider.tokenizer, _shot(question, text, chosen))) for text, chosen in shots])
    kept = int((sizes <= room).sum())
    if kept < len(shots):
        notes.append(f"Only {kept} of {len(shots)} examples fit into the prompt, which may fill half the context.")
    return shots[:kept]


def _domain_texts(texts: Sequence[str], seed: int) -> list[str]:
    """Make texts of random words of the domain, of average length."""
    words = [word for text in texts for word in text.split()]
    if not words:
        return list(CONTENT_FREE)
    generator = np.random.default_rng(seed)
    length = max(1, round(len(words) / len(texts)))
    return [" ".join(words[i] for i in generator.integers(0, len(words), length)) for _ in range(DOMAIN_TEXTS)]
