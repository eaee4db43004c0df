"""Answers that are written together by transformers: those that wait join the next batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

from sizewise.models.answering import Answer

TOGETHER = 16  # answers that are written at once
CLOSING_S = 60


class _Asked(NamedTuple):
    ids: list[int]
    answer: Answer
    ends: Collection[int]
    adapter: str


class Batcher:
    """Writes answers in a thread of its own; it begins with the first.

    Args:
        network: a causal language model.
        tokenizer: pads the prompts.
        choose_adapters: told which adapter each row of what passes through the network next belongs to, where there are
            several.
    """

    def __init__(
        self, network: Any, tokenizer: Any, choose_adapters: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        self._network, self._tokenizer, self._choose_adapters = network, tokenizer, choose_adapters
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, ids: list[int], answer: Answer, ends: Collection[int], adapter: str = "") -> None:
        """Ask for an answer.

        Args:
            ids: the prompt.
            answer: told each token.
            ends: tokens that end it.
            adapter: name of the adapter that answers, where there are several.
        """
        self._waiting.put(_Asked(ids, answer, ends, adapter))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="transformers", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty() and len(batch) < TOGETHER:
                batch.append(self._waiting.get())
            members = [one for one in batch if one is not None]
            if len(members) < len(batch):
                return
            self._write(members)

    def _write(self, members: Sequence[_Asked]) -> None:
        from sizewise.lm.generate import Wanted, generate_together

        wanted = []
        for one in members:
            asked = one.answer.request
            take = partial(one.answer.take_one, one.ends)
            wanted.append(Wanted(one.ids, asked.temperature, asked.top_p, asked.seed, take))
        choose = self._choose_adapters

        def before(rows: Sequence[int]) -> None:
            if choose is not None:
                choose([members[row].adapter for row in rows])

        try:
            generate_together(self._network, self._tokenizer, wanted, before if choose else None)
        except Exception as error:  # whatever it is, it is the end of these answers and not of the thread
            for one in members:
                one.answer.end(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    def close(self) -> None:
        """End the thread; what waits is not answered."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout=CLOSING_S)
        self._network = None
