"""Models without weights, for tests, documentation and as the trivial baseline in tables."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sizewise.errors import UsageError
from sizewise.models.base import Cancel, Deliver, Model, Piece, ScoredText
from sizewise.records import Completion, ModelDescription, Request

NAMES = {
    "echo": "repeats the question; every byte is equally likely",
    "copy": "copies text from the question: the trivial baseline",
    "silent": "returns empty answers; every byte is equally likely",
}

DIMENSIONS = 64


class _Scheduler:
    """Calls functions after a delay, all in one thread."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def call(self, delay_s: float, function: Callable[[], None]) -> None:
        """Call a function after a delay."""
        with self._changed:
            heapq.heappush(self._waiting, (time.monotonic() + delay_s, next(self._numbers), function))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fake", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting or self._waiting[0][0] > time.monotonic():
                    self._changed.wait(self._waiting[0][0] - time.monotonic() if self._waiting else None)
                function = heapq.heappop(self._waiting)[2]
            function()


_SCHEDULER = _Scheduler()


def _sample_words(text: str, request: Request) -> str:
    rng = random.Random(f"{request.seed} {text}")
    kept = 1 / (1 + request.temperature)
    return " ".join(word for word in text.split(" ") if rng.random() < kept)


class FakeModel(Model):
    """Answers by a fixed rule and assigns each byte a probability of 1/256.

    At a temperature above 0 with a seed, each word of the answer is left out with probability temperature / (1 +
    temperature). The same prompt, temperature and seed lead to the same answer.

    Args:
        name: one of NAMES.
        delay_s: seconds per word of a streamed answer.

    Raises:
        UsageError: the name is unknown.
    """

    def __init__(self, name: str, delay_s: float = 0.0) -> None:
        if name not in NAMES:
            raise UsageError(
                f"There is no fake model '{name}'.", ", ".join(f"fake:{known}" for known in NAMES), "sizewise models"
            )
        self._name, self._delay_s = name, delay_s

    def describe(self) -> ModelDescription:
        """Describe the rule."""
        copy = self._name == "copy"
        return ModelDescription(
            uri=f"fake:{self._name}",
            origin=NAMES[self._name],
            license="Apache-2.0",
            engine="rule",
            precision="none",
            attention="none",
            parameters=0,
            memory_bytes=0,
            disk_bytes=0,
            can_score=not copy,
            can_chat=True,
            offers=("sampling", "logprobs", "embeddings"),
            role="baseline" if copy else "candidate",
        )

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return "uniform over 256 bytes"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer by the rule."""
        for request in requests:
            question = request.text if request.text is not None else request.messages[-1].content
            text = {"echo": question, "copy": request.copy_text or question, "silent": ""}[self._name]
            if request.temperature > 0 and request.seed is not None:
                text = _sample_words(text, request)
            words = re.findall(r"\s*\S+", text)
            if cut := len(words) > request.max_tokens:
                text = "".join(words[: request.max_tokens])
            yield Completion(
                id=request.id,
                text=text,
                prompt_tokens=len(question.split()),
                completion_tokens=len(text.split()),
                seconds=0.0,
                finish="length" if cut else "stop",
            )

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Stream the answer word by word, with a delay before each word."""
        (answer,) = self.complete([request])
        words = [word + " " for word in answer.text.split(" ")]
        words[-1] = words[-1][:-1]
        cancelled = threading.Event()
        begun = time.perf_counter()

        def send(index: int) -> None:
            if cancelled.is_set() or index == len(words):
                seconds = time.perf_counter() - begun
                deliver(Piece(end=answer.model_copy(update={"seconds": seconds, "ttft_s": self._delay_s})))
                return
            deliver(Piece(words[index], (words[index],), (0.0,)) if request.logprobs else Piece(words[index]))
            _SCHEDULER.call(self._delay_s, lambda: send(index + 1))

        _SCHEDULER.call(self._delay_s, lambda: send(0 if answer.text else len(words)))
        return cancelled.set

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Score each byte as a token with log 256 nats."""
        for text in texts:
            starts = [i for i, letter in enumerate(text) for _ in letter.encode("utf-8")]
            yield ScoredText(np.full(len(starts), math.log(256)), np.array(starts, dtype=np.int64))

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Embed each prompt as its normalized byte counts; return the vectors and the number of words."""
        vectors = []
        for request in requests:
            counts = np.bincount(
                np.frombuffer((request.text or "").encode("utf-8"), np.uint8) % DIMENSIONS, minlength=DIMENSIONS
            )
            vectors.append((counts / max(1e-12, float(np.linalg.norm(counts)))).tolist())
        return vectors, sum(len((request.text or "").split()) for request in requests)

    def close(self) -> None:
        """Do nothing; there is nothing to free."""
