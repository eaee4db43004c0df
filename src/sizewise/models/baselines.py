"""Baselines learned from a dataset's own text: most frequent answer, n-gram model and linear classifier.

If a baseline comes close to the candidates, the task or the test set can't distinguish them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sizewise import datasets
from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.models.base import Cancel, Deliver, ScoredText, answer_whole
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, Example, ModelDescription, Request, Split
from sizewise.store import Store

KINDS = ("frequent", "ngram", "linear")
ORDER = 5
MAX_BYTES = 500_000
MAX_ANSWER_BYTES = 200


def _answered(examples: Mapping[Split, Sequence[Example]]) -> list[Example]:
    """Return the training examples with a reference answer; without training examples, those for validation."""
    return [example for example in examples["train"] or examples["validation"] if example.references]


class FrequentModel(FakeModel):
    """Always returns the most frequent answer of the training examples.

    Args:
        data: dataset id.
        store: store that holds the dataset.
    """

    def __init__(self, data: str, store: Store) -> None:
        super().__init__("silent")
        examples = datasets.load(store, data).examples
        known = Counter(example.references[0] for example in _answered(examples))
        self._data, (self._answer, self._count) = data, known.most_common(1)[0] if known else ("", 0)

    def describe(self) -> ModelDescription:
        """Describe the rule."""
        seen = f"seen {self._count} times" if self._count else "no examples"
        return super().describe().model_copy(
            update={
                "uri": f"frequent:{self._data}", "origin": f"the most frequent answer in training ({seen})",
                "can_score": False, "role": "baseline",
            }
        )  # fmt: skip

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Return the same answer to every request."""
        for answer in super().complete(requests):
            yield answer.model_copy(update={"text": self._answer, "completion_tokens": len(self._answer.split())})


class LinearModel(FakeModel):
    """Classifies prompts with scikit-learn: logistic regression on TF-IDF of character 2- to 5-grams.

    Args:
        data: dataset id.
        store: store that holds the dataset.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        SizewiseError: the training examples have fewer than two labels, or answers that aren't labels.
    """

    def __init__(self, data: str, store: Store) -> None:
        super().__init__("silent")
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
        except ImportError as error:
            raise MissingExtraError("scikit-learn", "study") from error
        examples = datasets.load(store, data).examples
        known = _answered(examples)
        labels = Counter(example.references[0] for example in known)
        if len(labels) < 2 or 2 * len(labels) > len(known):
            raise SizewiseError(
                f"{data} has no labels to learn: {len(known)} training examples have {len(labels)} different answers.",
                "examples whose answers are repeated labels",
                f"use frequent:{data}, a baseline for any kind of answer",
            )
        self._data, self._labels, self._count = data, labels, len(known)
        self._fitted = make_pipeline(
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
            LogisticRegression(C=10, max_iter=1_000),
        )
        self._fitted.fit([example.prompt for example in known], [example.references[0] for example in known])

    def describe(self) -> ModelDescription:
        """Describe the model."""
        weights = int(self._fitted[-1].coef_.size)
        return super().describe().model_copy(
            update={
                "uri": f"linear:{self._data}", "parameters": weights, "memory_bytes": 8 * weights,
                "trained_on": self._data, "can_score": False, "role": "baseline",
                "origin": f"{len(self._labels)} labels learned from {self._count} training examples, no language model",
            }
        )  # fmt: skip

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Return the most likely label of each prompt."""
        requests = list(requests)
        prompts = [request.messages[-1].content if request.messages else request.text or "" for request in requests]
        labels = self._fitted.predict(prompts) if prompts else []
        for label, answer in zip(labels, super().complete(requests), strict=True):
            yield answer.model_copy(update={"text": str(label), "completion_tokens": len(str(label).split())})


class NgramModel(FakeModel):
    """Byte 5-gram model, smoothed by interpolation with shorter n-grams.

    Source: Witten and Bell (1991), The zero-frequency problem. The base distribution is uniform over 256 bytes.

    Args:
        data: dataset id.
        store: store that holds the dataset.
    """

    def __init__(self, data: str, store: Store) -> None:
        super().__init__("silent")
        self._data = data
        self._seen: Counter[bytes] = Counter()  # n-gram -> count
        self._total: Counter[bytes] = Counter()  # context -> count
        self._kinds: Counter[bytes] = Counter()  # context -> number of distinct next bytes
        left = MAX_BYTES
        for document in datasets.load(store, data).documents["train"]:
            text = document.text.encode("utf-8")[:left]
            left -= len(text)
            for end in range(1, len(text) + 1):
                for size in range(1, min(ORDER, end) + 1):
                    gram = text[end - size : end]
                    self._seen[gram] += 1
            if left <= 0:
                break
        for gram, count in self._seen.items():
            self._total[gram[:-1]] += count
            self._kinds[gram[:-1]] += 1

    def describe(self) -> ModelDescription:
        """Describe the model."""
        return super().describe().model_copy(
            update={
                "uri": f"ngram:{self._data}", "parameters": len(self._seen), "trained_on": self._data,
                "origin": f"{ORDER}-gram counts of the training text's bytes", "role": "baseline",
            }
        )  # fmt: skip

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return f"bytes|n-gram of {ORDER}, Witten-Bell"

    def probability(self, before: bytes, byte: bytes) -> float:
        """Compute the probability of a byte after a context."""
        found = 1 / 256
        for size in range(min(ORDER, len(before) + 1)):
            context = before[len(before) - size :]
            total = self._total.get(context)
            if not total:
                break
            kinds = self._kinds[context]
            found = (self._seen.get(context + byte, 0) + kinds * found) / (total + kinds)
        return found

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Score texts; each byte is a token."""
        for text in texts:
            starts = [i for i, letter in enumerate(text) for _ in letter.encode("utf-8")]
            data = text.encode("utf-8")
            probabilities = [
                self.probability(data[max(0, i - ORDER + 1) : i], data[i : i + 1]) for i in range(len(data))
            ]
            yield ScoredText(-np.log(np.array(probabilities, dtype=np.float64)), np.array(starts, dtype=np.int64))

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate the most likely bytes up to the end of the line."""
        for request, answer in zip(requests, super().complete(requests), strict=True):
            prompt = request.text if request.text is not None else request.messages[-1].content + "\n"
            written = prompt.encode("utf-8")[-ORDER:]
            start = len(written)
            while len(written) - start < MAX_ANSWER_BYTES:
                byte = self._likeliest(written[-(ORDER - 1) :])
                if byte in (b"", b"\n"):
                    break
                written += byte
            text = written[start:].decode("utf-8", errors="ignore").strip()
            yield answer.model_copy(update={"text": text, "completion_tokens": len(text.encode())})

    def _likeliest(self, before: bytes) -> bytes:
        for size in range(len(before), -1, -1):
            context = before[len(before) - size :]
            if self._total.get(context):
                candidates = (bytes([value]) for value in range(256))
                return max(candidates, key=lambda byte: self._seen.get(context + byte, 0))
        return b""

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Deliver the answer in one piece."""
        return answer_whole(self, request, deliver)
