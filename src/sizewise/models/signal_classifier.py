"""A trained classifier as a detector of attacks, with a threshold chosen on texts that it wasn't trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence

import numpy as np

from sizewise import datasets
from sizewise.decisions.scorers import FloatArray
from sizewise.errors import SizewiseError, UsageError
from sizewise.models.classifier import ClassifierModel, text_of
from sizewise.models.opening import open_model
from sizewise.records import Classifier, Question
from sizewise.stats.quantiles import needed_for_quantile, quantile_interval
from sizewise.store import Store, write_atomically

HARMLESS = "harmless"
"""Label of texts that are no attacks; every other label is one."""
MAX_FALSE_SIGNALS = 0.01
"""Share of harmless texts that may be taken for attacks, unless another is given."""
WINDOW, OVERLAP = 1_000, 200
"""Characters of a window, about as many as a sentence encoder reads, and of what it shares with the next one."""
MAX_CHARACTERS = 400_000
"""Of longer texts, the beginning and the end are read, as the rules do."""
HELD_OUT = 2_000
"""Held-out texts of each kind that choose the thresholds, drawn at random if there are more."""
BATCH = 32
SCORES = "signals.json"
_VERSION = 2


class SignalClassifier:
    """Recognizes attacks by a classifier with the label `harmless`.

    A short text is read whole, a long one in windows, of which the most suspicious one counts. Texts are compared by
    probabilities before calibration, in which fewer texts share a value.

    Args:
        model: the classifier.
        threshold: texts with a higher probability of an attack are signs of one.
        long_threshold: the same for texts of several windows, of which one is more likely to look like an attack.
    """

    def __init__(self, model: ClassifierModel, threshold: float, long_threshold: float) -> None:
        self.model, self.threshold, self.long_threshold = model, threshold, long_threshold
        self._harmless = model.question.values.index(HARMLESS)

    def probability(self, text: str) -> float:
        """Compute the probability that a text is an attack; of a long text, that of its most suspicious window."""
        parts = list(_parts(text))
        highest = 0.0
        for start in range(0, len(parts), BATCH):
            rows = self.model.uncalibrated(parts[start : start + BATCH])
            highest = max(highest, float(1 - rows[:, self._harmless].min()))
        return highest

    def finds(self, texts: Sequence[str]) -> bool:
        """Return whether texts are signs of an attack: the last one, or those before it, read as one text.

        What came before was the last text of an earlier request, so it isn't read message by message again; otherwise
        a long conversation would be taken for an attack at some point.
        """
        said = [text for text in texts if text.strip()]
        return bool(said) and any(
            self.probability(text) > (self.long_threshold if len(text) > WINDOW else self.threshold)
            for text in (said[-1], "\n".join(said[:-1]))
            if text
        )


def _parts(text: str) -> Iterator[str]:
    """Divide a text into windows that begin and end between words where there is a space."""
    if len(text) > MAX_CHARACTERS:
        text = text[: MAX_CHARACTERS // 2] + "\n" + text[-MAX_CHARACTERS // 2 :]
    start = 0
    while len(text) - start > WINDOW:
        last = start + WINDOW
        end = max(text.rfind(gap, start + WINDOW // 2, last) for gap in (" ", "\n"))
        end = end if end > 0 else last
        yield text[start:end]
        following = text.rfind(" ", end - 2 * OVERLAP, end - OVERLAP)
        start = following + 1 if following > 0 else end - OVERLAP
    yield text[start:]


def open_signal_classifier(uri: str, store: Store, max_false_signals: float = MAX_FALSE_SIGNALS) -> SignalClassifier:
    """Open a classifier as a detector of attacks.

    Its threshold is the upper end of the 95 % interval of a quantile: with this confidence, at most the stated share of
    harmless texts such as those of its validation split is taken for attacks. Texts of several windows have a threshold
    of their own; with too few of them held out, it is the highest probability that one of them has.

    Args:
        uri: `run:` and the id of a classifier.
        store: where it is stored, with the dataset that it was trained on.
        max_false_signals: the share.

    Raises:
        UsageError: it is no classifier, has no label `harmless`, or the share is out of range.
        SizewiseError: it can't be opened, or too few harmless texts were held out.
    """
    if not 0 < max_false_signals < 1:
        raise UsageError(f"The share of false signals is {max_false_signals:g}.", "between 0 and 1", "such as 0.01")
    model = open_model(uri, store=store)
    if not isinstance(model, ClassifierModel):
        model.close()
        raise UsageError(f"{uri} is no classifier that was trained here.", "run:CLASSIFIER", "sizewise train --help")
    _check(model.question, uri)
    scores = _held_out_scores(model, uri.partition(":")[2], store)
    harmless = scores["harmless"]
    upper = quantile_interval(harmless, 1 - max_false_signals).ci_high if len(harmless) else None
    if upper is None:
        needed = needed_for_quantile(max_false_signals)
        raise SizewiseError(
            f"{uri} has {len(harmless):,} short harmless texts in its validation split, too few for a threshold.",
            f"at least {needed:,} for a share of {max_false_signals:g} of false signals",
            "read more harmless texts and train again, or allow a larger share",
        )
    attacks = scores["attacks"]
    if len(attacks) and not (attacks > upper).any():
        raise SizewiseError(
            f"{uri} recognizes none of {len(attacks):,} held-out attacks at {max_false_signals:g} of false signals.",
            "a classifier that tells attacks from harmless texts",
            "train on more attacks, or allow a larger share of false signals",
        )
    long = scores["long_harmless"]
    if not len(long):
        return SignalClassifier(model, upper, upper)
    long_upper = quantile_interval(long, 1 - max_false_signals).ci_high
    return SignalClassifier(model, upper, max(upper, long.max() if long_upper is None else long_upper))


def _check(question: Question, uri: str) -> None:
    if question.type == "multi" or HARMLESS not in question.values:
        labels = ", ".join(f"'{value[:30]}'" for value in question.values[:6])
        raise UsageError(
            f"{uri} decides between {labels}, which doesn't tell attacks from harmless texts.",
            f"one label for each text: '{HARMLESS}', or a kind of attack",
            "sizewise read FILE --prompt COLUMN --label COLUMN",
        )


def _held_out_scores(model: ClassifierModel, name: str, store: Store) -> dict[str, FloatArray]:
    """Return the probabilities of an attack of held-out texts by their kind; computed once and kept.

    The kinds are `harmless` and `attacks` of one window, `long_harmless` and `long_attacks` of several.
    """
    path = store.folder("classifier", name) / SCORES
    written = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if written.get("version") != _VERSION:
        examples = datasets.load(store, store.read(Classifier, name).data).examples["validation"]
        texts: dict[str, list[str]] = {"harmless": [], "attacks": [], "long_harmless": [], "long_attacks": []}
        for one in examples:
            text = text_of(one.messages)
            kind = "harmless" if one.label == HARMLESS else "attacks"
            if one.label:
                texts[f"long_{kind}" if len(text) > WINDOW else kind].append(text)
        written = {"version": _VERSION}
        detector, rng = SignalClassifier(model, 1.0, 1.0), np.random.default_rng(0)
        for kind, some in texts.items():
            written[kind] = [detector.probability(some[i]) for i in rng.permutation(len(some))[:HELD_OUT]]
        if os.access(path.parent, os.W_OK):
            write_atomically(path, json.dumps(written) + "\n")
    return {kind: np.array(values, dtype=np.float64) for kind, values in written.items() if kind != "version"}
