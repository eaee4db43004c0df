"""Language models that an engine runs in a process of its own."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sizewise.models.base import Cancel, Deliver, Model, complete_all
from sizewise.models.engine_process import Engine, EngineRequest, Part
from sizewise.models.local import begin_answer, opens_thought, tokens_in
from sizewise.models.thinking import Reasoning, ReasoningRoom
from sizewise.records import Completion, ModelDescription, Request


def configured_ends(folder: Path) -> list[int]:
    """Read the tokens that end an answer from the folder's generation_config.json."""
    path = folder / "generation_config.json"
    found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    return found if isinstance(found, list) else [found] if found is not None else []


def _engine_request(ids: list[int], ends: Sequence[int], request: Request) -> EngineRequest:
    return EngineRequest(
        ids,
        request.max_tokens,
        ends,
        logprobs=request.logprobs,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed if request.seed is not None else secrets.randbits(31),
        json_schema=request.json_schema,
    )


class EngineModel(Model):
    """A causal language model in an engine that takes token ids.

    Args:
        description: describes the model.
        tokenizer: its tokenizer, with the chat template.
        ends: tokens that end an answer.
        engine: the running engine.
        asked: what its URI says of reasoning.
        rows: tokens that have an embedding; by default all of the tokenizer's.
    """

    def __init__(
        self,
        description: ModelDescription,
        tokenizer: Any,
        ends: Sequence[int],
        engine: Engine,
        asked: Reasoning,
        rows: int | None = None,
    ) -> None:
        self._description, self._tokenizer, self._ends, self._engine = description, tokenizer, ends, engine
        self._rows = rows
        self._reasoning = ReasoningRoom(asked, known=opens_thought(tokenizer, asked), tokenizer=tokenizer)

    def describe(self) -> ModelDescription:
        """Describe the model."""
        return self._description

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate all answers in one batch and yield them as they finish."""
        last = time.perf_counter()
        for answer in self._reasoning.complete(requests, partial(complete_all, self)):
            now = time.perf_counter()
            yield answer.model_copy(update={"seconds": now - last})
            last = now

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering; see `Model.start`."""
        begun = begin_answer(self._tokenizer, self._description, request, deliver, self._rows)
        if begun is None:
            return lambda: None
        ids, answer = begun

        def take(part: Part) -> None:
            if answer.take(part.ids, part.nats):
                answer.cancelled.set()
            elif part.finish:
                failed = f"{self._engine.name} failed: {part.finish}"
                answer.end(part.finish if part.finish in ("stop", "length") else failed)

        self._engine.submit(_engine_request(ids, self._ends, answer.request), take, answer.cancelled)
        return answer.cancelled.set

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text."""
        return tokens_in(self._tokenizer, texts)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, for callers that encode text by their own rules."""
        return self._tokenizer

    def trouble(self) -> str:
        """Return why the engine isn't answering right now; "" if it is."""
        return self._engine.trouble()

    def close(self) -> None:
        """Free the weights."""
        self._engine.close()
