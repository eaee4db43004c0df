"""Answers that somebody already has, as a model like any other: a team compares with what it pays for today."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sizewise.documents import MAX_REJECTS
from sizewise.documents.decoding import Unreadable, decode_file
from sizewise.documents.rows import PROMPT_KEYS, TURN_KEYS, prompt_of
from sizewise.documents.tables import CELL_KINDS, Row, by_name, cell_rows, json_rows
from sizewise.documents.values import (
    ID_KEYS,
    BadRow,
    content_of,
    conversation,
    ends_with_call,
    first_key,
    id_of,
    reason_of,
    text_of,
    texts_of,
    type_of,
)
from sizewise.errors import SizewiseError
from sizewise.models.base import Cancel, Deliver, Model, ScoredText, answer_whole
from sizewise.records import Completion, Message, ModelDescription, Request
from sizewise.store import sha256_of
from sizewise.text import normalize_text

ANSWER_KEYS = ("completion", "answer", "response", "output")
FORMS = (
    'JSONL with {"id", "completion"} or {"prompt", "completion"}, a CSV file with such columns, or logs in OpenAI '
    "chat format"
)
FINISH_KEYS = ("finish_reason", "stop_reason", "finish")
_HELD_BACK = "the provider's content filter held the answer back"
_SHOWN = 10
_T = TypeVar("_T")


class _Answer(NamedTuple):
    text: str
    prompt_tokens: int
    """0 where it was not recorded, as below."""
    completion_tokens: int
    finish: str
    model: str
    failure: str = ""
    """Why there is no answer: the request failed, or its answer was held back."""


class LoggedRequest(NamedTuple):
    """One request of a log, with the answer that was given and, where the log holds them, reference answers."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    references: tuple[str, ...]
    tags: tuple[str, ...]


def read_log(path: Path, say: Callable[[str], None] | None = None) -> list[LoggedRequest]:
    """Load a log of requests to a model, in any of the forms that recorded answers have.

    Besides the answer a row may hold `references` (right answers, a text or a list) and `tags`. Rows that cannot be
    used are set aside, up to a share of them; an id that stood before gets a number.

    Args:
        path: the log.
        say: told what was set aside.

    Raises:
        SizewiseError: the file cannot be read, or too many rows do not say what was asked and answered.
    """
    used: set[str] = set()

    def logged(row: Row) -> LoggedRequest:
        messages, answer = _asked_and_answered(row.cells)
        if not messages:
            raise BadRow("nothing says what was asked")
        name = first = id_of(row.cells, ID_KEYS) or f"row-{row.line}"
        number = 1
        while name in used:
            number += 1
            name = f"{first}~{number}"
        if answer.failure:
            raise BadRow(answer.failure)
        given, tags = (first_key(keys, row.cells) for keys in (("references", "reference"), ("tags",)))  # 0 is one
        references = texts_of(row.cells[given], given) if given else ()
        found = LoggedRequest(name, messages, answer.text, references, texts_of(row.cells[tags], tags) if tags else ())
        used.add(name)
        return found

    found, aside = _each(path, logged, "a log", "requests")
    if aside and say is not None:
        say(f"{path}: {aside}")
    return found


class RecordedModel(Model):
    """Gives the recorded answer to each request, found by its id, else by what was asked.

    Args:
        path: JSONL, CSV (`.csv`), or JSONL of logged chats: conversations that end with the assistant's answer, pairs
            of request and response, or the output of batches (`custom_id`).

    Raises:
        SizewiseError: the file cannot be read, holds no answers, or too many of its rows cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_id: dict[str, tuple[_Answer, tuple[Message, ...]]] = {}
        self._by_question: dict[str, _Answer] = {}
        self._twice: set[str] = set()
        self._asked_twice: set[str] = set()
        rows, self._aside = _each(path, self._keep, "recorded answers", "answers")
        self._rows = len(rows)
        self._revision = sha256_of(path)[:10]

    def _keep(self, row: Row) -> None:
        asked, answer = _asked_and_answered(row.cells)
        name = id_of(row.cells, ID_KEYS)
        if name is None and not asked:
            raise BadRow("neither an id nor a prompt says what was answered")
        if name is not None:
            before = self._by_id.get(name)
            if before is not None and (before[0].text, before[1]) != (answer.text, asked):
                self._twice.add(name)
            self._by_id[name] = answer, asked
        if asked:
            key = _key(asked)
            before_it = self._by_question.get(key)
            if name is None and before_it is not None and before_it.text != answer.text:
                self._asked_twice.add(asked[-1].content)
            self._by_question[key] = answer

    def describe(self) -> ModelDescription:
        """Return what the model is, and what of its file was not used."""
        answers = [*(answer for answer, _ in self._by_id.values()), *self._by_question.values()]
        named = sorted({answer.model for answer in answers if answer.model})
        origin = f"{self._rows:,} recorded answers" + (f" of {', '.join(named)}" if named else "")
        if self._twice:
            ids = f"{len(self._twice)} ids stand" if len(self._twice) > 1 else "1 id stands"
            origin += f"; {ids} twice with other answers ('{min(self._twice)}'), of which the last counts"
        if self._asked_twice:
            prompts = f"{len(self._asked_twice)} prompts stand" if len(self._asked_twice) > 1 else "1 prompt stands"
            origin += (
                f"; {prompts} twice with other answers ('{min(self._asked_twice)[:60]}'), of which the last counts"
            )
        if self._aside:
            origin += f"; {self._aside}"
        return ModelDescription(
            uri=f"recorded:{self._path}",
            revision=self._revision,
            origin=origin,
            license="not stated",
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
        """Return how log-likelihoods are computed."""
        return "none"

    def _find(self, request: Request) -> _Answer | str:
        """Find the answer to a request, or the reason why there is none."""
        found = self._recorded(request)
        return found.failure or found if isinstance(found, _Answer) else found

    def _recorded(self, request: Request) -> _Answer | str:
        """Find what was recorded for a request; an id alone does not make it the answer."""
        by_id = self._by_id.get(request.id)
        if by_id is not None and (not by_id[1] or not request.messages or _same_question(by_id[1], request.messages)):
            return by_id[0]
        by_question = self._by_question.get(_key(request.messages))
        if by_question is not None:
            return by_question
        if by_id is not None:
            said = by_id[1][-1].content
            return f"the answer recorded for {request.id} was given to another prompt ('{said[:60]}')"
        return f"no answer was recorded for {request.id}"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Return recorded answers; what was not recorded is an error of that request."""
        for request in requests:
            found = self._find(request)
            if isinstance(found, str):
                yield Completion(
                    id=request.id,
                    text="",
                    prompt_tokens=0,
                    completion_tokens=0,
                    seconds=0,
                    finish="error",
                    error=found,
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


def _each(path: Path, use: Callable[[Row], _T], what: str, held: str) -> tuple[list[_T], str]:
    """Use each row of a file; return also what is to be told of rows that were set aside.

    Raises:
        SizewiseError: the file cannot be read, holds nothing, or too many rows cannot be used.
    """
    found: list[_T] = []
    bad: list[str] = []
    try:
        text, guess = decode_file(path)
        known = frozenset((*ID_KEYS, *ANSWER_KEYS, *PROMPT_KEYS))
        rows = cell_rows(text, known) if path.suffix.lower() in CELL_KINDS else json_rows(text, replace_surrogates=True)
        for row in rows:
            try:
                if row.problem:
                    raise BadRow(row.problem)
                found.append(use(row._replace(cells={name: cell for name, (_, cell) in by_name(row.cells).items()})))
            except (ValueError, TypeError, RecursionError) as error:
                bad.append(f"line {row.line} cannot be read as {what}: {reason_of(error)}")
    except Unreadable as error:
        raise SizewiseError(f"{path} cannot be read as {what}: {error}", FORMS, "") from error
    if not found and not bad:
        raise SizewiseError(f"{path} holds no {held}.", FORMS, "")
    if len(bad) > (MAX_REJECTS * (len(found) + len(bad)) if found else 0):
        more = f"\n  and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise SizewiseError(
            f"{path}: {len(bad)} of {len(found) + len(bad)} rows cannot be used:\n  "
            + "\n  ".join(bad[:_SHOWN])
            + more,
            f"at most {MAX_REJECTS:.0%} of such rows; {FORMS}",
            f"fix them in {path} and run the same command again",
        )
    told = [f"read as {guess}, which is a guess"] if guess else []
    if bad:
        count = f"{len(bad)} rows were" if len(bad) > 1 else "1 row was"
        told.append(f"{count} set aside ({'; '.join(bad[:_SHOWN])})")
    return found, "; ".join(told)


def _asked_and_answered(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], _Answer]:
    """Read a row of any of the forms."""
    if isinstance(row.get("response"), dict):  # a logged call, or the output of a batch
        return _of_call(row.get("request") or row, row["response"])
    turns = next((key for key in TURN_KEYS if row.get(key)), None)
    if turns is not None:  # a conversation that ends with its answer
        *asked, last = conversation(row[turns], turns)
        if last.role != "assistant":
            raise BadRow("the last message is not the assistant's")
        if ends_with_call(row[turns]):
            raise BadRow("the answer is a call of a tool, not a text")
        return tuple(asked), _plain(last.content, row)
    key = next((key for key in ANSWER_KEYS if row.get(key) is not None), None)
    if key is None:
        raise BadRow("'completion' is missing")
    return prompt_of({name: value for name, value in row.items() if name != key}), _plain(text_of(row[key], key), row)


def _of_call(request: Any, response: Mapping[str, Any]) -> tuple[tuple[Message, ...], _Answer]:
    body = response.get("body") or response
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        error = json.dumps(body.get("error", "none"))[:200] if isinstance(body, dict) else type_of(body)
        raise BadRow(f"the response holds no answer (error: {error})")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise BadRow(f"the response's message is {type_of(message)}")
    if ends_with_call([message]):
        raise BadRow("the answer is a call of a tool, not a text")
    content = message.get("content") if message.get("content") is not None else message.get("refusal")
    text = content_of("" if content is None else content)
    given = body.get("usage")
    usage: Mapping[str, Any] = given if isinstance(given, dict) else {}
    answer = _Answer(
        text,
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        _finish(choices[0]),
        str(body.get("model") or ""),
        _HELD_BACK if _finish(choices[0]) == "content_filter" else "",
    )
    if not isinstance(request, dict):
        raise BadRow(f"the request is {type_of(request)}, not an object")
    asked = request.get("body") or request
    messages = asked.get("messages") if isinstance(asked, dict) else None
    return conversation(messages) if messages else (), answer


def _plain(text: str, row: Mapping[str, Any]) -> _Answer:
    """Make an answer of a text, with what its row says of how it ended."""
    failure = _HELD_BACK if _finish(row) == "content_filter" else ""
    if row.get("error") and not text.strip():
        said = row["error"] if isinstance(row["error"], str) else json.dumps(row["error"])
        failure = f"the recorded request failed: {said[:200]}" if said.strip() else ""
    return _Answer(text, 0, 0, _finish(row), "", failure)


def _finish(row: Mapping[str, Any]) -> str:
    """Return why an answer ended, in the words of OpenAI's format."""
    said = str(next((row[key] for key in FINISH_KEYS if row.get(key)), "stop")).lower()
    return "length" if said in ("max_tokens", "model_length") else said


def _key(messages: Sequence[Message]) -> str:
    """Name a conversation; white space and forms of Unicode do not matter."""
    return json.dumps([[message.role, normalize_text(message.content)] for message in messages])


def _same_question(recorded: Sequence[Message], asked: Sequence[Message]) -> bool:
    """Tell whether two conversations ask the same: a system message, or what was said before, may not be recorded."""
    one, other = ([message for message in turns if message.role != "system"] for turns in (recorded, asked))
    return _key(one) == _key(other) or (len(one) == 1 and _key(one) == _key(other[-1:]))
