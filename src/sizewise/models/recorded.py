"""Answers that somebody already has, as a model like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.models.base import ScoredText
from sizewise.records import Completion, ModelDescription, Request


class RecordedModel:
    """Gives the recorded answer to each request, found by its id.

    Args:
        path: JSONL of `{"id", "completion"}`.

    Raises:
        SizewiseError: the file cannot be read or holds no answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, str] = {}
        number = 0
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):  # noqa: B007 (named in the error)
                    if line.strip():
                        row = json.loads(line)
                        self._answers[str(row["id"])] = str(row["completion"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            where = f", line {number}" if number else ""
            raise SizewiseError(
                f"{path}{where} cannot be read as recorded answers: {error or type(error).__name__}",
                'JSONL with {"id": ..., "completion": ...} in each line',
                "",
            ) from error
        if not self._answers:
            raise SizewiseError(f"{path} holds no answers.", 'lines of {"id": ..., "completion": ...}', "")

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        return ModelDescription(
            uri=f"recorded:{self._path.name}",
            origin=f"{len(self._answers)} recorded answers",
            licence="not stated",
            engine="recorded",
            precision="none",
            attention="unknown",
            parameters=None,
            memory_bytes=None,
            disk_bytes=None,
            can_score=False,
            can_chat=True,
        )

    def signature(self) -> str:
        """Say how log-likelihoods are computed."""
        return "none"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Give recorded answers; what was not recorded is an error of that request."""
        for request in requests:
            text = self._answers.get(request.id)
            yield Completion(
                id=request.id,
                text=text or "",
                prompt_tokens=0,
                completion_tokens=len((text or "").split()),
                seconds=0.0,
                finish="error" if text is None else "stop",
                error=f"no answer was recorded for {request.id}" if text is None else None,
            )

    def score(self, texts: Sequence[str]) -> Iterator[ScoredText]:
        """Refuse: recorded answers have no log-likelihoods."""
        raise SizewiseError(
            f"recorded:{self._path.name} gives no log-likelihoods of text.", "a model that runs here", ""
        )

    def close(self) -> None:
        """Nothing to free."""
