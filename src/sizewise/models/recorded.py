"""Answers that somebody already has, as a model like any other: a team compares with what it pays for today."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError
from sizewise.models.base import Cancel, Deliver, ScoredText, answer_whole
from sizewise.records import Completion, Message, ModelDescription, Request

ID_KEYS = ("id", "custom_id")
ANSWER_KEYS = ("completion", "answer", "response", "output")
PROMPT_KEYS = ("prompt", "question", "input")
FORMS = (
    'JSONL with {"id", "completion"} or {"prompt", "completion"}, a CSV file with such columns, or logs in OpenAI '
    "chat format"
)


class _Answer(NamedTuple):
    text: str
    prompt_tokens: int
    completion_tokens: int
    finish: str
    model: str


class LoggedRequest(NamedTuple):
    """One request of a log, with the answer that was given and, where the log holds them, right answers."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    references: tuple[str, ...]
    tags: tuple[str, ...]


def read_log(path: Path) -> list[LoggedRequest]:
    """Read a log of requests to a model, in any of the forms that recorded answers have.

    Besides the answer a row may hold `references` (right answers, a text or a list) and `tags`.

    Raises:
        SizewiseError: the file cannot be read, or a row does not say what was asked.
    """
    found = []
    number = 0
    try:
        for number, row in _rows(path):
            messages, answer = _asked_and_answered(row)
            if not messages:
                raise ValueError("nothing says what was asked")
            name = next((row[key] for key in ID_KEYS if row.get(key) not in (None, "")), f"row-{number}")
            given, tags = row.get("references") or row.get("reference") or (), row.get("tags") or ()
            found.append(
                LoggedRequest(
                    str(name),
                    messages,
                    answer.text,
                    (given,) if isinstance(given, str) else tuple(str(one) for one in given),
                    (tags,) if isinstance(tags, str) else tuple(str(one) for one in tags),
                )
            )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, csv.Error) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else error or type(error).__name__
        raise SizewiseError(f"{path}, line {number} cannot be read as a log: {reason}", FORMS, "") from error
    if not found:
        raise SizewiseError(f"{path} holds no requests.", FORMS, "")
    return found


class RecordedModel:
    """Gives the recorded answer to each request, found by its id, else by what was asked.

    Args:
        path: JSONL, CSV (`.csv`), or JSONL of logged chats: conversations that end with the assistant's answer, pairs
            of request and response, or the output of batches (`custom_id`).

    Raises:
        SizewiseError: the file cannot be read or holds no answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_id: dict[str, _Answer] = {}
        self._by_question: dict[str, _Answer] = {}
        self._rows = 0
        number = 0
        try:
            self._revision = hashlib.sha256(path.read_bytes()).hexdigest()[:10]
            for number, row in _rows(path):  # noqa: B007 (named in the error)
                self._keep(row)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, csv.Error) as error:
            where = f", line {number}" if number else ""
            reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else error or type(error).__name__
            raise SizewiseError(f"{path}{where} cannot be read as recorded answers: {reason}", FORMS, "") from error
        if not self._rows:
            raise SizewiseError(f"{path} holds no answers.", FORMS, "")

    def _keep(self, row: Mapping[str, Any]) -> None:
        conversation, answer = _asked_and_answered(row)
        name = next((row[key] for key in ID_KEYS if row.get(key) not in (None, "")), None)
        if name is None and not conversation:
            raise ValueError("neither an id nor a prompt says what was answered")
        if name is not None:
            self._by_id[str(name)] = answer
        if conversation:
            self._by_question[_key(conversation)] = answer
        self._rows += 1

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        named = sorted({answer.model for answer in (self._by_id | self._by_question).values() if answer.model})
        return ModelDescription(
            uri=f"recorded:{self._path}",
            revision=self._revision,
            origin=f"{self._rows:,} recorded answers" + (f" of {', '.join(named)}" if named else ""),
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
            found = self._by_id.get(request.id) or self._by_question.get(_key(request.messages))
            if found is None:
                missing = f"no answer was recorded for {request.id}"
                yield Completion(
                    id=request.id,
                    text="",
                    prompt_tokens=0,
                    completion_tokens=0,
                    seconds=0,
                    finish="error",
                    error=missing,
                )
                continue
            yield Completion(
                id=request.id,
                text=found.text,
                prompt_tokens=found.prompt_tokens,
                completion_tokens=found.completion_tokens,
                seconds=0.0,
                finish="length" if found.finish == "length" else "stop",
            )

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Give a recorded answer in one piece."""
        return answer_whole(self, request, deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Refuse: recorded answers have no log-likelihoods."""
        raise SizewiseError(f"recorded:{self._path} gives no log-likelihoods of text.", "a model that runs here", "")

    def close(self) -> None:
        """Nothing to free."""


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the rows of a file with their line numbers."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(lines, strict=True)
            for row in reader:
                yield reader.line_num, row
            return
        for number, line in enumerate(lines, start=1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not a JSON object")
                yield number, row


def _asked_and_answered(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], _Answer]:
    """Read a row of any of the forms."""
    request = row.get("request") or row
    response = row.get("response")
    if isinstance(response, dict):  # a logged call, or the output of a batch
        body = response.get("body", response)
        choice = body["choices"][0]
        usage = body.get("usage") or {}
        text = choice["message"].get("content") or ""
        answer = _Answer(
            str(text),
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or len(str(text).split())),
            str(choice.get("finish_reason") or "stop"),
            str(body.get("model") or ""),
        )
        return _conversation((request.get("body") or request).get("messages") or ()), answer
    if "messages" in row:  # a conversation that ends with its answer
        *asked, last = row["messages"]
        if last["role"] != "assistant":
            raise ValueError("the last message is not the assistant's")
        return _conversation(asked), _plain(str(last["content"]))
    key = next((key for key in ANSWER_KEYS if row.get(key) is not None), None)
    if key is None:
        raise KeyError("completion")
    prompt = next((str(row[key]) for key in PROMPT_KEYS if row.get(key)), "")
    return (Message(role="user", content=prompt),) if prompt else (), _plain(str(row[key]))


def _plain(text: str) -> _Answer:
    return _Answer(text, 0, len(text.split()), "stop", "")


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(role=message["role"], content=str(message["content"])) for message in messages)


def _key(messages: Sequence[Message]) -> str:
    """Name a conversation; space around a message does not matter."""
    return json.dumps([[message.role, message.content.strip()] for message in messages])
