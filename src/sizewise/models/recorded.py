"""Recorded answers as a model, for example from the system that a team uses today."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sizewise.documents import MAX_REJECTS
from sizewise.documents.calls import Call, id_in, is_other_run, logged_call
from sizewise.documents.cell_tables import UnknownColumns
from sizewise.documents.cells import TURN_KEYS
from sizewise.documents.decoding import Unreadable
from sizewise.documents.grades import read_grade
from sizewise.documents.responses import CUT_OFF, WITHHELD, finish_of
from sizewise.documents.row_files import open_rows
from sizewise.documents.tables import Row, by_name
from sizewise.documents.tasks import prompt_of
from sizewise.documents.traces import trace_rows
from sizewise.documents.turns import conversation
from sizewise.documents.values import BadRow, first_key, reason_of, text_of, texts_of
from sizewise.errors import SizewiseError
from sizewise.models.base import Cancel, Deliver, Model, ScoredText, answer_whole
from sizewise.models.identity import HERE, NOT_STATED, Identity, describe_identity, identify, recorded_uri
from sizewise.models.recorded_columns import ANSWER_KEYS, has_answers, known_columns, rename_columns, unknown_columns
from sizewise.models.recorded_confidence import read_confidence, token_confidence
from sizewise.models.recorded_passages import PASSAGE_KEYS, read_passages
from sizewise.models.recorded_usage import Usage, price_recording, read_usage, usd_of, widened
from sizewise.models.recordings import recording_name
from sizewise.records import Completion, Message, ModelDescription, Request, StatedFacts
from sizewise.records.tool_calls import answer_of
from sizewise.store import sha256_of
from sizewise.text import normalize_text

FORMS = (
    'JSONL with {"id", "completion"} or {"prompt", "completion"}, a CSV or Parquet file with such columns, logs in '
    "the form of OpenAI, Anthropic, Gemini, Bedrock or Ollama, or traces of Langfuse or OpenTelemetry"
)
FINISH_KEYS = ("finish_reason", "stop_reason", "finish", "finishreason", "stopreason", "done_reason")
_WITHHELD = "the provider's content filter withheld the answer"
_MAX_SHOWN = 10
_T = TypeVar("_T")


class _Answer(NamedTuple):
    text: str
    finish: str
    usage: Usage
    failure: str = ""
    """Why there is no answer: the request failed or the answer was withheld."""
    grade: float | None = None
    """Grade that people gave to the answer."""
    passages: tuple[str, ...] = ()
    """Passages that the model was given."""
    confidence: float | None = None
    """Mean probability of the answer's tokens."""


class LoggedRequest(NamedTuple):
    """One logged request with its answer and, if the log has them, reference answers."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    references: tuple[str, ...]
    tags: tuple[str, ...]
    usage: Usage = Usage()
    """Model, tokens, cost and time of the answer, as far as they are logged."""
    cut_off: bool = False
    """Whether the answer was cut off at its limit."""


def read_log(path: Path, say: Callable[[str], None] | None = None) -> list[LoggedRequest]:
    """Load a request log in any of the formats of recorded answers.

    Apart from the answer, a row may have `references` (reference answers, a text or a list) and `tags`. Unusable rows
    are rejected, up to a limit. Repeated ids get a number.

    Args:
        path: the log.
        say: called with a summary of the rejected rows.

    Raises:
        SizewiseError: the file can't be read, or too many rows lack a prompt or an answer.
    """
    used: set[str] = set()
    failures: list[str] = []

    def logged(row: Row) -> LoggedRequest | None:
        messages, answer = _prompt_and_answer(row.cells)
        if not messages:
            raise BadRow("the prompt is missing")
        if answer.failure:
            failures.append(f"line {row.line}: {answer.failure}")
            return None
        name = first = id_in(row.cells) or f"row-{row.line}"
        number = 1
        while name in used:
            number += 1
            name = f"{first}~{number}"
        given, tags = (
            first_key(keys, row.cells) for keys in (("references", "reference"), ("tags",))
        )  # a value of 0 counts
        references = texts_of(row.cells[given], given) if given else ()
        kinds = texts_of(row.cells[tags], tags) if tags else ()
        cut_off = answer.finish == "length"
        found = LoggedRequest(name, messages, answer.text, references, kinds, answer.usage, cut_off)
        used.add(name)
        return found

    rows, aside = _each(path, logged, "a log", "requests")
    found = [row for row in rows if row is not None]
    if not found:
        raise SizewiseError(f"{path} contains no answered requests: {failures[0]}", FORMS, f"add rows to {path.name}")
    left = [f"{len(failures):,} of {len(rows):,} requests have no answer ({failures[0]})"] if failures else []
    notes = [*left, *([aside] if aside else [])]
    if notes and say is not None:
        say(f"{path}: {'; '.join(notes)}")
    return found


class RecordedModel(Model):
    """Returns recorded answers, looked up by request id or else by prompt.

    Args:
        path: JSONL, CSV (`.csv`), or JSONL of logged chats: conversations that end with the assistant's answer,
            requests with their responses, or a batch's output (`custom_id`); see `documents.calls`.
        facts: who gave the answers, where the model runs and what it costs; by default what the file says.

    Raises:
        SizewiseError: the file can't be read, contains no answers, has too many unusable rows, or different answers to
            one question under one id. An answer counts more than the failed request before or after it.
    """

    def __init__(self, path: Path, facts: StatedFacts | None = None) -> None:
        self._path, self._facts = path, facts or StatedFacts()
        self._by_id: dict[str, tuple[_Answer, tuple[Message, ...]]] = {}
        self._by_prompt: dict[str, _Answer] = {}
        self._repeated_ids: set[str] = set()
        self._told_apart: dict[tuple[str, str], _Answer] = {}
        self._contradicted: dict[str, tuple[str, str]] = {}
        self._repeated_prompts: set[str] = set()
        self._grades: dict[tuple[str, str, str], list[float]] = {}
        rows, self._aside = _each(path, self._keep, "recorded answers", "answers", self._facts)
        if self._contradicted:
            raise _two_answers(path, self._contradicted)
        self._rows = len(rows)
        self._revision = sha256_of(path)[:10]
        answers = [*(answer for answer, _ in self._by_id.values()), *self._by_prompt.values()]
        once = {id(answer): answer for answer in answers}.values()  # most are found by id and by prompt
        usages = [answer.usage for answer in once if not answer.failure]
        self._named = sorted({usage.model for usage in usages if usage.model})
        self._days = sorted({usage.day for usage in usages if usage.day})
        self._who = {} if self._facts.process and not self._facts.of else _identities(self._facts, self._named)
        models = {one.name: one for one in self._who.values()}
        self._models = list(models.values())
        self._identity = self._models[0] if len(self._models) == 1 else None
        self._pricing = price_recording(self._models, self._facts, usages)

    def _keep(self, row: Row) -> None:
        cells = rename_columns(row.cells, self._facts)
        asked, answer = _prompt_and_answer(cells)
        name = id_in(cells)
        if name is None and not asked:
            raise BadRow("the row has neither an id nor a prompt")
        if answer.grade is not None:  # several people graded one answer: their mean counts
            grades = self._grades.setdefault((name or "", _key(asked) if asked else "", answer.text), [])
            grades.append(answer.grade)
            answer = answer._replace(grade=sum(grades) / len(grades))
        if name is not None:
            answer, asked = self._keep_id(name, answer, asked)
        if asked:
            key = _key(asked)
            before_it = self._by_prompt.get(key)
            if name is None and before_it is not None and before_it.text != answer.text:
                self._repeated_prompts.add(asked[-1].content)
            if before_it is None or not answer.failure:
                self._by_prompt[key] = answer

    def _keep_id(self, name: str, answer: _Answer, asked: tuple[Message, ...]) -> tuple[_Answer, tuple[Message, ...]]:
        """Keep the answer for an id, and return what is known of it; its prompts tell several answers apart."""
        before: _Answer | None
        before, prompt = self._by_id.get(name, (None, ()))
        if before is not None and prompt and asked and _key(prompt) != _key(asked):
            self._repeated_ids.add(name)
            self._told_apart[name, _key(prompt)] = before
            before = self._told_apart.get((name, _key(asked)))
        if before is not None and answer.failure:
            answer = before
        elif before is not None and not before.failure and before.text != answer.text:
            self._contradicted.setdefault(name, (before.text, answer.text))
        self._by_id[name] = answer, asked or prompt
        return self._by_id[name]

    def describe(self) -> ModelDescription:
        """Describe the model and the rows of its file that were not used."""
        facts, who = self._facts, self._identity
        local = bool(facts.local) if facts.local is not None else bool(facts.process)
        known: dict[str, Any] = {
            "parameters": 0 if facts.process == "rules" else facts.parameters,
            "parameters_source": "stated in the study file" if facts.parameters else "",
            "license": facts.license or "not stated",
            "local": local,
            "hosted_by": HERE if local and not facts.process else "" if local else NOT_STATED,
            "data_policy": facts.data_policy,
            "attention": "unknown",
        }
        if who is not None:
            known = describe_identity(who, facts)
        return ModelDescription(
            uri=recorded_uri(recording_name(self._path), facts),
            revision=self._revision,
            origin=self._origin(),
            engine="recorded",
            precision="none",
            process=facts.process,
            memory_bytes=0 if facts.process == "rules" else None,
            disk_bytes=None,
            can_score=False,
            can_chat=True,
            price_basis=self._pricing.basis,
            price_factors=widened(self._pricing, self._models),
            **known,
        )

    def _origin(self) -> str:
        origin = f"{self._rows:,} recorded answers"
        if self._facts.process:
            origin += {"staff": " of staff", "rules": " of a rules engine"}[self._facts.process]
        elif self._identity is not None:
            spelled = self._facts.of or self._named[0]
            origin += f" of {self._identity.name}" + (f" ('{spelled}')" if spelled != self._identity.name else "")
        elif self._named:
            origin += f" of {', '.join(self._named)}"
        if self._days:
            origin += f", {self._days[0]}" + (f" to {self._days[-1]}" if len(self._days) > 1 else "")
        others = [
            name for name in self._named if self._facts.of and identify(name).name != identify(self._facts.of).name
        ]
        if others:
            origin += f"; the file itself names {', '.join(others[:3])}"
        several = sum(len(grades) > 1 for grades in self._grades.values())
        if several:
            origin += f"; {several} of them with several grades, whose mean counts"
        if self._repeated_ids:
            ids = f"{len(self._repeated_ids)} ids appear" if len(self._repeated_ids) > 1 else "1 id appears"
            origin += (
                f"; {ids} more than once with different prompts ('{min(self._repeated_ids)}'), which tell them apart"
            )
        if self._repeated_prompts:
            prompts = (
                f"{len(self._repeated_prompts)} prompts appear"
                if len(self._repeated_prompts) > 1
                else "1 prompt appears"
            )
            example = min(self._repeated_prompts)[:60]
            origin += f"; {prompts} more than once with different answers ('{example}'); the last one counts"
        return origin + (f"; {self._aside}" if self._aside else "")

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        return "none"

    def _find(self, request: Request) -> _Answer | str:
        """Look up the answer to a request, or the reason why there is none."""
        found = self._recorded(request)
        return found.failure or found if isinstance(found, _Answer) else found

    def _recorded(self, request: Request) -> _Answer | str:
        """Look up the recorded answer; with the same id, the prompt must match too."""
        by_id = self._by_id.get(request.id)
        if by_id is not None and (not by_id[1] or not request.messages or _same_question(by_id[1], request.messages)):
            return by_id[0]
        by_question = self._by_prompt.get(_key(request.messages))
        if by_question is not None:
            return by_question
        if by_id is not None:
            prompt = by_id[1][-1].content
            return f"the answer recorded for {request.id} belongs to another prompt ('{prompt[:60]}')"
        return f"no answer was recorded for {request.id}"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Return recorded answers. A request without a recorded answer fails."""
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
                prompt_tokens=found.usage.prompt_tokens,
                completion_tokens=found.usage.completion_tokens,
                seconds=60 * self._facts.minutes_per_case if self._facts.minutes_per_case else found.usage.seconds,
                usd=usd_of(self._pricing, self._seller(found), found.usage, request, found.text),
                finish="length" if found.finish == "length" else "stop",
                grade=found.grade,
                passages=found.passages,
                confidence=found.confidence,
            )

    def _seller(self, answer: _Answer) -> Identity | None:
        """Return the model that gave an answer."""
        return self._identity or self._who.get(answer.usage.model)

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Deliver a recorded answer in one piece."""
        return answer_whole(self, request, deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Raise an error: recorded answers have no log-likelihoods."""
        raise SizewiseError(
            f"recorded:{self._path} provides no log-likelihoods of text.",
            "a model on this machine",
            "metrics of answers alone, such as --metrics token_f1",
        )

    def close(self) -> None:
        """Do nothing; there is nothing to free."""


def _identities(facts: StatedFacts, named: Sequence[str]) -> dict[str, Identity]:
    """Look up the models that gave the answers, by their names in the file; the stated one is all there is."""
    return {name: identify(name) for name in ([facts.of] if facts.of else named)}


def _two_answers(path: Path, contradicted: Mapping[str, tuple[str, str]]) -> SizewiseError:
    name, answers = next(iter(contradicted.items()))
    one, other = (f"'{normalize_text(answer)[:40]}'" for answer in answers)
    others = f", and for {len(contradicted) - 1:,} more ids" if len(contradicted) > 1 else ""
    return SizewiseError(
        f"{path} has two different answers for the id '{name}' ({one} and {other}){others}.",
        "one answer for each id; the same answer may be repeated",
        f"delete the rows of {path} that don't count, or evaluate each run from a file of its own",
    )


def _each(
    path: Path, use: Callable[[Row], _T], what: str, held: str, facts: StatedFacts | None = None
) -> tuple[list[_T], str]:
    """Process each row of a file; return the results and a summary of the rejected rows.

    Raises:
        SizewiseError: the file can't be read, is empty, has no column with answers, or too many unusable rows.
    """
    found: list[_T] = []
    bad: list[str] = []
    columns: dict[str, None] = {}
    try:
        opened = open_rows(path, known_columns(facts), replace_surrogates=True)
        for row in opened.rows:
            try:
                if row.problem:
                    raise BadRow(row.problem)
                if not found:
                    columns |= dict.fromkeys(by_name(row.cells))
                requests = [] if is_other_run(row.cells) else trace_rows(row, usage=True)
                for one in [row] if requests is None else requests:
                    found.append(
                        use(one._replace(cells={name: cell for name, (_, cell) in by_name(one.cells).items()}))
                    )
            except (ValueError, TypeError, RecursionError) as error:
                bad.append(f"line {row.line} can't be read as {what}: {reason_of(error)}")
    except UnknownColumns as error:
        raise unknown_columns(path, error.headings, facts) from error
    except Unreadable as error:
        raise SizewiseError(f"{path} can't be read as {what}: {error}", FORMS, f"correct {path.name}") from error
    if not found and not bad:
        raise SizewiseError(f"{path} contains no {held}.", FORMS, f"add rows to {path.name}")
    if not found and not has_answers(columns):
        raise unknown_columns(path, list(columns), facts)
    if len(bad) > (MAX_REJECTS * (len(found) + len(bad)) if found else 0):
        more = f"\n  and {len(bad) - _MAX_SHOWN} more" if len(bad) > _MAX_SHOWN else ""
        raise SizewiseError(
            f"{path}: {len(bad)} of {len(found) + len(bad)} rows can't be used:\n  "
            + "\n  ".join(bad[:_MAX_SHOWN])
            + more,
            f"at most {MAX_REJECTS:.0%} unusable rows; {FORMS}",
            f"fix them in {path} and run the same command again",
        )
    summary = [f"the encoding was guessed as {opened.guess}"] if opened.guess else []
    if bad:
        count = f"{len(bad)} rows were" if len(bad) > 1 else "1 row was"
        summary.append(f"{count} rejected ({'; '.join(bad[:_MAX_SHOWN])})")
    return found, "; ".join(summary)


def _prompt_and_answer(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], _Answer]:
    """Parse a row in any of the formats."""
    call = logged_call(row)
    if call is not None:
        return _of_call(call)
    turns = next((key for key in TURN_KEYS if row.get(key)), None)
    if turns is not None:  # a conversation that ends with the answer
        *asked, last = conversation(row[turns], turns)
        if last.role != "assistant":
            raise BadRow("the last message is not from the assistant")
        return tuple(asked), _plain(answer_of(last), row)
    key = next((key for key in ANSWER_KEYS if row.get(key) is not None), None)
    if key is None:
        raise BadRow("'completion' is missing")
    beside = {name: value for name, value in row.items() if name not in (key, *PASSAGE_KEYS)}
    return prompt_of(beside), _plain(text_of(row[key], key), row)


def _of_call(call: Call) -> tuple[tuple[Message, ...], _Answer]:
    """Read a logged call or a line of a batch's output."""
    asked = call.request.get("messages")
    messages = conversation(asked) if asked else ()
    usage = read_usage({"model": call.request.get("model"), **call.beside, **call.response})
    more = read_grade(call.beside), read_passages(call.beside)
    if call.failure:
        return messages, _Answer("", "error", usage, call.failure, *more)
    choice = call.response["choices"][0]
    message = choice["message"] | {"role": "assistant"}
    if not message.get("content") and not (message.get("tool_calls") or message.get("function_call")):
        message = {"role": "assistant", "content": message.get("refusal") or ""}
    elif message.get("content") == []:
        message |= {"content": ""}
    (said,) = conversation([message], "message")
    finish = _finish(choice)
    confidence = token_confidence(choice.get("logprobs")) or read_confidence(call.beside)
    failure = _WITHHELD if finish == "content_filter" else ""
    return messages, _Answer(answer_of(said), finish, usage, failure, *more, confidence)


def _plain(text: str, row: Mapping[str, Any]) -> _Answer:
    """Build an answer from a text and its row's finish reason or error."""
    failure = _WITHHELD if _finish(row) == "content_filter" else ""
    if row.get("error") and not text.strip():
        error = row["error"] if isinstance(row["error"], str) else json.dumps(row["error"])
        failure = f"the recorded request failed: {error[:200]}" if error.strip() else ""
    more = read_grade(row), read_passages(row), read_confidence(row)
    return _Answer(text, _finish(row), read_usage(row), failure, *more)


def _finish(row: Mapping[str, Any]) -> str:
    """Return the finish reason of an answer in OpenAI's terms."""
    reason = finish_of(next((row[key] for key in FINISH_KEYS if row.get(key)), None))
    return "length" if reason in CUT_OFF else "content_filter" if reason in WITHHELD else reason


def _key(messages: Sequence[Message]) -> str:
    """Return a key of a conversation that ignores differences in whitespace and Unicode form."""
    return json.dumps(
        [
            [
                message.role,
                normalize_text(message.content),
                *([call.name, call.arguments] for call in message.tool_calls),
            ]
            for message in messages
        ]
    )


def _same_question(recorded: Sequence[Message], asked: Sequence[Message]) -> bool:
    """Check whether two conversations ask the same question. The record may lack system message or earlier turns."""
    known, given = ([message for message in turns if message.role != "system"] for turns in (recorded, asked))
    return _key(known) == _key(given) or (len(known) == 1 and _key(known) == _key(given[-1:]))
