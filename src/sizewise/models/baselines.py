"""What must be beaten, learnt from a dataset's own text: most frequent answer, n-gram model, linear classifier.

Where these stand near the candidates, the task or the test set says little.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from sizewise import datasets
from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.models.base import Cancel, Deliver, ScoredText, answer_whole
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, ModelDescription, Request
from sizewise.store import Store

KINDS = ("frequent", "ngram", "linear")
ORDER = 5
MOST_BYTES = 500_000
MOST_ANSWER_BYTES = 200


class FrequentModel(FakeModel):
    """Always gives the answer that is most frequent among training examples.

    Args:
        data: dataset id.
        store: where it lives.
    """

    def __init__(self, data: str, store: Store) -> None:
        super().__init__("silent")
        examples = datasets.load(store, data).examples
        known = Counter(example.references[0] for example in examples["train"] or examples["validation"])
        self._data, (self._answer, self._count) = data, known.most_common(1)[0] if known else ("", 0)

    def describe(self) -> ModelDescription:
        """Describe the rule."""
        seen = f"seen {self._count} times" if self._count else "there is none"
        return super().describe().model_copy(
            update={
                "uri": f"frequent:{self._data}", "origin": f"the most frequent answer in training ({seen})",
                "can_score": False, "role": "baseline",
            }
        )  # fmt: skip

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Give the same answer to all."""
        for answer in super().complete(requests):
            yield answer.model_copy(update={"text": self._answer, "completion_tokens": len(self._answer.split())})


class LinearModel(FakeModel):
    """Classifies a prompt by a logistic regression over its runs of two to five letters (TF-IDF), from scikit-learn.

    Args:
        data: dataset id.
        store: where it lives.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        SizewiseError: the training examples have fewer than two labels, or answers that are none.
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
        known = examples["train"] or examples["validation"]
        labels = Counter(example.references[0] for example in known)
        if len(labels) < 2 or 2 * len(labels) > len(known):
            raise SizewiseError(
                f"{data} has {len(labels)} different answers in {len(known)} training examples: there are no labels to "
                "learn.",
                "examples whose answers are labels that repeat",
                f"frequent:{data} is a baseline for any answers",
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
                "origin": f"{len(self._labels)} labels learnt from {self._count} training examples, no language model",
            }
        )  # fmt: skip

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Give the likeliest label of each prompt."""
        requests = list(requests)
        asked = [one.messages[-1].content if one.messages else one.text or "" for one in requests]
        labels = self._fitted.predict(asked) if asked else []
        for label, answer in zip(labels, super().complete(requests), strict=True):
            yield answer.model_copy(update={"text": str(label), "completion_tokens": len(str(label).split())})


class NgramModel(FakeModel):
    """A model of five bytes, smoothed by interpolation with shorter ones.

    Source: Witten and Bell (1991), The zero-frequency problem; the uniform distribution over 256 bytes at the bottom.

    Args:
        data: dataset id.
        store: where it lives.
    """

    def __init__(self, data: str, store: Store) -> None:
        super().__init__("silent")
        self._data = data
        self._seen: Counter[bytes] = Counter()  # context with its next byte
        self._total: Counter[bytes] = Counter()  # context
        self._kinds: Counter[bytes] = Counter()  # context -> different next bytes
        left = MOST_BYTES
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
                "origin": f"counts of {ORDER} bytes of the training text", "role": "baseline",
            }
        )  # fmt: skip

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return f"bytes|n-gram of {ORDER}, Witten-Bell"

    def probability(self, before: bytes, byte: bytes) -> float:
        """Give the probability of a byte after others."""
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
        """Give nats of each byte; a token is a byte."""
        for text in texts:
            starts = [i for i, letter in enumerate(text) for _ in letter.encode("utf-8")]
            data = text.encode("utf-8")
            probabilities = [
                self.probability(data[max(0, i - ORDER + 1) : i], data[i : i + 1]) for i in range(len(data))
            ]
            yield ScoredText(-np.log(np.array(probabilities, dtype=np.float64)), np.array(starts, dtype=np.int64))

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Write the likeliest byte each time, to the end of a line."""
        for request, answer in zip(requests, super().complete(requests), strict=True):
            asked = request.text if request.text is not None else request.messages[-1].content + "\n"
            written = asked.encode("utf-8")[-ORDER:]
            start = len(written)
            while len(written) - start < MOST_ANSWER_BYTES:
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
                every = (bytes([value]) for value in range(256))
                return max(every, key=lambda byte: self._seen.get(context + byte, 0))
        return b""

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Answer in one piece."""
        return answer_whole(self, request, deliver)
