"""Batch requests for transformers: requests that arrive during a batch join the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from sizewise.models.answering import Answer

MAX_BATCH = 16  # answers generated together
CLOSING_S = 60


class _Job(NamedTuple):
    ids: list[int]
    answer: Answer
    ends: Collection[int]
    adapter: str


class Batcher:
    """Generates answers in a background thread, which starts with the first request.

    Args:
        network: a causal language model.
        tokenizer: pads the prompts.
        choose_adapters: called with the adapter of each row before a forward pass, if there are several adapters.
    """

    def __init__(
        self, network: Any, tokenizer: Any, choose_adapters: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        self._network, self._tokenizer, self._choose_adapters = network, tokenizer, choose_adapters
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, ids: list[int], answer: Answer, ends: Collection[int], adapter: str = "") -> None:
        """Queue a request.

        Args:
            ids: the prompt.
            answer: receives each token.
            ends: tokens that end the answer.
            adapter: name of the adapter to use, if there are several.
        """
        self._waiting.put(_Job(ids, answer, ends, adapter))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="transformers", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty() and len(batch) < MAX_BATCH:
                batch.append(self._waiting.get())
            jobs = [job for job in batch if job is not None]
            if len(jobs) < len(batch):
                return
            self._generate(jobs)

    def _generate(self, jobs: Sequence[_Job]) -> None:
        from sizewise.lm.generate import Wanted, generate_together

        wanted = []
        for job in jobs:
            request = job.answer.request
            take = partial(job.answer.take_one, job.ends)
            wanted.append(Wanted(job.ids, request.temperature, request.top_p, request.seed, take))
        choose = self._choose_adapters

        def before(rows: Sequence[int]) -> None:
            if choose is not None:
                choose([jobs[row].adapter for row in rows])

        try:
            generate_together(self._network, self._tokenizer, wanted, before if choose else None)
        except Exception as error:  # any failure ends these answers, but not the thread
            for job in jobs:
                job.answer.end(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    def close(self) -> None:
        """Stop the thread; queued requests are dropped."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout=CLOSING_S)
        self._network = None
