"""Voice: which share of a candidate's answers a classifier of style attributes to the organization.

The classifier learns the organization's texts (the reference answers) against the answers of other models that weren't
trained on its data, to the same questions. Its texts are masked, so that it can't go by topic. Each answer is
attributed by a classifier that saw no text of the same source document. Two controls stand beside the figure: the
classifier must recognize held-out texts better than chance, and the same classifier on the questions alone, which knows
only topics, must not. Otherwise there is no figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sizewise.comparison.tables import ItemTable
from sizewise.errors import MissingExtraError
from sizewise.metrics import find_metric
from sizewise.metrics.base import Mean, total_of
from sizewise.metrics.style_masking import function_words, mask_content
from sizewise.metrics.voice import VOICE
from sizewise.records import Evaluation, ItemRow, Score
from sizewise.stats.inference import FloatArray
from sizewise.store import Store
from sizewise.text.languages import main_language

MIN_TEXTS, MIN_DOCUMENTS, FOLDS = 40, 10, 5
MAX_CHARACTERS = 2_000
"""Characters of a text that are read."""
MIN_ACCURACY = 0.6
"""Balanced accuracy on held-out texts below which the classifier isn't used, even if it's better than chance."""


class Text(NamedTuple):
    """A text with what it answers."""

    item: str
    document: str
    prompt: str
    content: str


class Voices(NamedTuple):
    """The figure of each candidate, its statistics, and the controls."""

    scores: dict[str, Score]
    """Candidate -> share of its answers that are attributed to the organization."""
    stats: dict[str, dict[str, tuple[float, float]]]
    """Candidate -> item -> (1 if attributed to the organization, 1)."""
    notes: list[str]
    """The controls, or why there is no figure."""


def add_voice(
    tables: Mapping[str, ItemTable],
    store: Store,
    records: Mapping[str, Evaluation],
    named: Mapping[str, str],
    seed: int,
) -> tuple[dict[str, dict[str, Score]], list[str]]:
    """Measure the voice of candidates if their evaluations asked for it, and put it into their tables.

    Args:
        tables: candidate -> its items.
        store: where records live.
        records: candidate -> evaluation.
        named: candidate -> its id.
        seed: seed of the folds.

    Returns:
        Metric -> candidate -> score, and notes; both empty if no evaluation asked for it.
    """
    if VOICE not in next(iter(records.values())).metrics:
        return {}, []
    ours, answers = _read_texts(store, named)
    data = next(iter(records.values())).data
    base = [
        name
        for name, record in records.items()
        if record.model.role == "candidate"
        and record.model.trained_on != data
        and not record.model.uri.startswith("rag:")
    ]
    rules = [name for name, record in records.items() if record.model.role == "baseline"]
    found = measure_voices(ours, {name: some for name, some in answers.items() if name not in rules}, base, seed)
    found.scores.update({name: _missing("a rule repeats your texts, so it has no voice of its own") for name in rules})
    for name, table in tables.items():
        column = np.full((len(table.clusters), 2), np.nan)
        for item, pair in found.stats.get(name, {}).items():
            column[table.items[item]] = pair
        if name in found.stats:
            table.stats[VOICE] = column
    return {VOICE: found.scores}, found.notes


def measure_voices(
    ours: Sequence[Text], answers: Mapping[str, Sequence[Text]], base: Sequence[str], seed: int
) -> Voices:
    """Attribute the answers of candidates to the organization or to other authors.

    The other authors of a candidate are the base models without itself; a single base model is its own.

    Args:
        ours: the organization's texts.
        answers: candidate -> its answers to the same questions.
        base: candidates whose answers stand for other authors.
        seed: seed of the folds.
    """
    language = main_language([text.content for text in ours])
    texts = list(dict.fromkeys([*ours, *(text for some in answers.values() for text in some)]))
    if not texts:
        return Voices({name: _missing("no texts to compare") for name in answers}, {}, [])
    fold_of = _folds(texts, seed)
    style = _Features({text: mask_content(text.content[:MAX_CHARACTERS], language) for text in texts}, "char")
    topic = _Features({text: text.prompt[:MAX_CHARACTERS] for text in texts}, "word")
    scores: dict[str, Score] = {}
    stats: dict[str, dict[str, tuple[float, float]]] = {}
    notes: dict[str, None] = {}
    known: dict[tuple[str, ...], _Controlled] = {}
    for name, some in answers.items():
        authors = tuple(one for one in base if one != name) or tuple(base)
        if authors not in known:
            others = [text for one in authors for text in answers[one]]
            known[authors] = _control(ours, others, authors, (style, topic), fold_of)
        found = known[authors]
        notes |= dict.fromkeys(found.notes)
        if found.style is None:
            scores[name] = _missing(found.reason)
            continue
        stats[name] = {
            text.item: (float(one), 1.0) for text, one in zip(some, found.style.attribute(some), strict=True)
        }
        scores[name] = _score(some, stats[name])
        if authors != (name,) and not _too_few(ours, some, (name,)):
            told = _Attribution(style, (ours, some), fold_of).accuracy()
            notes[f"{VOICE}: trained on your texts and those of {name}, a classifier recognizes {_text(told)}; 50% "
                  "would mean that it can't tell them"] = None  # fmt: skip
    if stats:
        kept = "function words are kept" if language in function_words() else "no list of function words is known"
        notes[f"{VOICE}: content words are masked; {kept}"] = None
    return Voices(scores, stats, list(notes))


class _Controlled(NamedTuple):
    """A classifier of style, if its controls hold."""

    style: _Attribution | None
    reason: str
    notes: list[str]


def _control(
    ours: Sequence[Text],
    others: Sequence[Text],
    authors: Sequence[str],
    features: tuple[_Features, _Features],
    fold_of: Mapping[str, int],
) -> _Controlled:
    """Train the classifier of style and that of topics, and check both."""
    if reason := _too_few(ours, others, authors):
        return _Controlled(None, reason, [f"{VOICE} wasn't measured: {reason}"])
    style, topic = (_Attribution(one, (ours, others), fold_of) for one in features)
    control, topic_control = style.accuracy(), topic.accuracy()
    against = f"your texts against those of {', '.join(authors)}"
    if control.value is None or (control.ci_low or 0.0) <= 0.5 or control.value < MIN_ACCURACY:
        reason = f"a classifier can't tell {against}: it recognizes {_text(control)} of held-out texts"
    elif topic_control.value is None or (topic_control.ci_low or 0.0) > 0.5:
        reason = f"{against} differ in topic: the questions alone tell {_text(topic_control)} of them"
    if reason:
        return _Controlled(None, reason, [f"{VOICE} wasn't measured: {reason}"])
    own = _score(ours, {text.item: (float(one), 1.0) for text, one in zip(ours, style.ours, strict=True)})
    note = (
        f"{VOICE}: of {against}, a classifier recognizes {_text(control)} (held out, mean of both), by the questions "
        f"alone {_text(topic_control)}; {_text(own)} of your own held-out texts are attributed to you"
    )
    return _Controlled(style, "", [note])


def _read_texts(store: Store, named: Mapping[str, str]) -> tuple[list[Text], dict[str, list[Text]]]:
    """Read the reference answers and each candidate's answers to uncontaminated examples that have a reference."""
    ours: dict[str, Text] = {}
    answers: dict[str, list[Text]] = {}
    for name, record_id in named.items():
        answers[name] = []
        for row in store.read_rows(store.folder("evaluation", record_id), "items.jsonl", ItemRow):
            if row.kind != "example" or not row.uncontaminated or not row.references or not row.references[0].strip():
                continue
            prompt = row.conversation or row.prompt
            ours.setdefault(row.item, Text(row.item, row.cluster, prompt, row.references[0]))
            if (row.completion or "").strip():
                answers[name].append(Text(row.item, row.cluster, prompt, row.completion or ""))
    return list(ours.values()), answers


def _too_few(ours: Sequence[Text], others: Sequence[Text], base: Sequence[str]) -> str:
    """Return why no classifier can be trained; empty if one can."""
    if not base:
        return "every candidate was trained on your texts, so there are no other authors; add an untrained model"
    for texts, who in ((ours, "your texts"), (others, f"answers of {', '.join(base)}")):
        documents = len({text.document for text in texts})
        if len(texts) < MIN_TEXTS or documents < MIN_DOCUMENTS:
            found = f"{len(texts)} of {who} from {documents} documents"
            return f"{found}; at least {MIN_TEXTS} from {MIN_DOCUMENTS} are needed"
    return ""


def _missing(reason: str) -> Score:
    metric = find_metric(VOICE)
    return Score(metric=VOICE, n=0, unit=metric.unit, signature=metric.signature(), missing_reason=reason)


def _folds(texts: Sequence[Text], seed: int) -> dict[str, int]:
    """Assign the source documents to folds."""
    documents = sorted({text.document for text in texts})
    order = np.random.default_rng(seed).permutation(len(documents))
    return {documents[place]: number % FOLDS for number, place in enumerate(order)}


class _Features:
    """Weighted n-grams of texts; the weights (tf-idf) use no authors.

    Args:
        contents: text -> as the classifier reads it.
        analyzer: `char` for character n-grams, `word` for words.
    """

    def __init__(self, contents: Mapping[Text, str], analyzer: str) -> None:
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "study") from error
        sizes = (2, 4) if analyzer == "char" else (1, 1)
        self._rows = {text: row for row, text in enumerate(contents)}
        vectorizer = TfidfVectorizer(
            analyzer=analyzer, ngram_range=sizes, lowercase=analyzer == "word", sublinear_tf=True, max_features=30_000
        )
        try:
            self._matrix = vectorizer.fit_transform(contents.values())
        except ValueError:  # no text has a word
            self._matrix = np.zeros((len(contents), 1))

    def of(self, texts: Sequence[Text]) -> Any:
        """Return the features of texts, one row each."""
        return self._matrix[[self._rows[text] for text in texts]]


class _Attribution:
    """Classifiers of two kinds of texts, one per fold, each trained on the other folds.

    Args:
        features: features of all texts.
        sides: texts of the organization, and of other authors.
        fold_of: source document -> fold.
    """

    def __init__(
        self, features: _Features, sides: tuple[Sequence[Text], Sequence[Text]], fold_of: Mapping[str, int]
    ) -> None:
        from sklearn.linear_model import LogisticRegression

        self._features, self._fold_of, self._sides = features, fold_of, sides
        every = [text for some in sides for text in some]
        labels, rows = np.repeat([1, 0], [len(some) for some in sides]), features.of(every)
        folds = np.array([fold_of[text.document] for text in every])
        self._models: list[Any] = []
        for fold in range(FOLDS):
            places = np.flatnonzero(folds != fold)
            known = len(set(labels[places].tolist())) == 2
            model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1_000)
            self._models.append(model.fit(rows[places], labels[places]) if known else None)
        self.ours, others = (self.attribute(some) for some in sides)
        """Whether each held-out text of the organization is attributed to it."""
        self._right = (self.ours, 1 - others)

    def attribute(self, texts: Sequence[Text]) -> FloatArray:
        """Attribute each text by the classifier that saw no text of its document: 1 for the organization, else 0."""
        found = np.zeros(len(texts))
        folds = np.array([self._fold_of[text.document] for text in texts])
        for fold, model in enumerate(self._models):
            if model is not None and len(places := np.flatnonzero(folds == fold)):
                found[places] = model.predict(self._features.of([texts[place] for place in places.tolist()]))
        return found

    def accuracy(self) -> Score:
        """Score how well held-out texts are recognized: the mean of both sides, over source documents."""
        rows, clusters = [], []
        for side, (texts, right) in enumerate(zip(self._sides, self._right, strict=True)):
            rows += [(one, 1.0, 0.0, 0.0) if side == 0 else (0.0, 0.0, one, 1.0) for one in right.tolist()]
            clusters += [text.document for text in texts]
        return total_of(_Balanced(), np.array(rows), clusters, name="recognized", signature="")


class _Balanced(Mean):
    """Mean of two shares."""

    name, title = "recognized", "Recognized"

    def value(self, sums: FloatArray) -> FloatArray:
        """Average (right, count) of both sides."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: FloatArray = (sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2
        return result


def _score(texts: Sequence[Text], stats: Mapping[str, tuple[float, float]]) -> Score:
    rows = np.array([stats[text.item] for text in texts if text.item in stats]).reshape(-1, 2)
    clusters = [text.document for text in texts if text.item in stats]
    return total_of(find_metric(VOICE), rows, clusters, name=VOICE, signature="items:uncontaminated")


def _text(score: Score) -> str:
    if score.value is None:
        return f"none ({score.missing_reason})"
    if score.ci_low is None or score.ci_high is None:
        return f"{score.value:.0%}"
    return f"{score.value:.0%} [{score.ci_low:.0%}, {score.ci_high:.0%}]"
