"""Turn rows into examples and documents; the row formats of common tools are detected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import FileRead, make_document
from sizewise.documents.tables import Row, by_name
from sizewise.documents.values import (
    BadRow,
    conversation,
    ends_with_call,
    first_key,
    id_of,
    reason_of,
    text_of,
    texts_of,
    type_of,
    without_surrogates,
)
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Document, Example, Message, RejectedRow, Split
from sizewise.text import normalize_text

# Synonyms of column names; the first is the preferred one.
PROMPT_KEYS = ("prompt", "question", "instruction", "input", "query")
CONTEXT_KEYS = ("input", "context")
TURN_KEYS = ("messages", "conversations", "conversation")
LABEL_KEYS = ("label", "labels")
REFERENCE_KEYS = (
    *("references", "reference", "answers", "answer", "completion", "output", "response", "target"),
    *LABEL_KEYS,
)
KNOWN_KEYS = frozenset(("text", *PROMPT_KEYS, *TURN_KEYS))
LIST_CELLS = ("choices", "tags")
JSON_CELLS = (*TURN_KEYS, "references", "answers", "history")
SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
FORMS = (
    'rows {"text"}, {"text", "label"}, {"prompt" or "messages", "references"}, {"instruction", "input", "output"}, '
    '{"prompt", "completion"}, or conversations whose last turn is the assistant\'s'
)
_LISTED = 10
_PYTHON_LIST = re.compile(r"\s*\[\s*(?:[\[{(]\s*)*['\"].*\]\s*\Z", re.DOTALL)


class _Task(NamedTuple):
    """The prompt of an example and its references."""

    form: str
    """The row format, as shown to users."""
    messages: tuple[Message, ...]
    references: tuple[str, ...]


class _Cells:
    """The values of a row by normalized column name; keeps track of the columns used."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for name, (key, value) in by_name(row).items():
            self.values[name], self._names[name] = value, key
        self._used: set[str] = {"passage"}  # synthesized examples show it to the reviewer

    def get(self, key: str) -> Any:
        self._used.add(key)
        return self.values.get(key)

    def first(self, keys: Sequence[str]) -> str | None:
        key = first_key(keys, self.values)
        if key is not None:
            self._used.add(key)
        return key

    def text(self, key: str) -> str:
        value = self.get(key)
        return "" if value is None else text_of(value, key)

    def unused(self) -> set[str]:
        return {
            str(without_surrogates(self._names[key]))
            for key, value in self.values.items()
            if key not in self._used and value not in (None, "", [], {})
        }


def read_rows(rows: Iterable[Row], path: Path, name: str) -> FileRead:
    """Read rows into examples and documents; unusable rows are collected with the reason.

    Args:
        rows: Rows of the file.
        path: Path of the file; image paths are relative to its folder.
        name: Name of the file in the dataset.
    """
    read = FileRead()
    blank = 0
    for row in rows:
        try:
            if row.problem:
                raise BadRow(row.problem)
            blank += not _read_row(row, path, name, read)
        except (ValueError, TypeError, RecursionError) as error:
            read.rejected.append(RejectedRow(file=name, line=row.line, reason=reason_of(error)))
    read.notes += _notes(read, name, blank)
    return read


def check_rejected(read: FileRead, path: Path, max_rejects: float) -> None:
    """Check that a file doesn't have too many rejected rows.

    Args:
        read: The result of `read_rows`.
        path: Path of the file.
        max_rejects: Maximum share of rejected rows.

    Raises:
        UsageError: The share isn't between 0 and 1.
        SizewiseError: More rows than that were rejected, or no row is usable.
    """
    if not 0 <= max_rejects <= 1:
        raise UsageError(f"The share {max_rejects} is out of range.", "a number from 0 to 1", "--max-rejects 0.05")
    count, total = len(read.rejected), read.usable + len(read.rejected)
    if count <= (max_rejects * total if read.usable else 0):
        return
    shown = "".join(f"\n  line {row.line}: {row.reason}" for row in read.rejected[:_LISTED])
    more = f"\n  and {count - _LISTED} more" if count > _LISTED else ""
    rows = f"{count} of {total} rows" if total > 1 else "the only row"
    advice = f"fix them in {path} and run the same command again"
    if read.usable:
        advice += f"; or skip them: sizewise read {path} --max-rejects {math.ceil(100 * count / total) / 100:.2f}"
    raise SizewiseError(
        f"{path}: {rows} cannot be used ({count / total:.1%}):{shown}{more}",
        f"at most {max_rejects:.0%} unusable rows; supported formats: {FORMS}",
        advice,
    )


def _notes(read: FileRead, name: str, blank: int) -> list[str]:
    notes = [f"{name}: unused columns: {', '.join(sorted(read.unused))}"] if read.unused else []
    if blank:
        notes.append(f"{name}: skipped {blank:,} {'row' if blank == 1 else 'rows'} without text")
    if read.rejected:
        count, total = len(read.rejected), len(read.rejected) + read.usable
        notes.append(
            f"{name}: {count:,} of {total:,} rows {'was' if count == 1 else 'were'} rejected (see rejected.jsonl)"
        )
        notes += [f"{name}, line {row.line}: {row.reason}" for row in read.rejected[:_LISTED]]
    return notes


def _read_row(row: Row, path: Path, name: str, read: FileRead) -> bool:
    """Read one row; return False if it is a document without text."""
    cells = _Cells(row.cells)
    row_id = id_of({key: cells.get(key) for key in ("id", "custom_id")}) or f"{name}:{row.line}"
    answered = first_key(REFERENCE_KEYS, cells.values) is not None
    prompted = first_key((*PROMPT_KEYS, *TURN_KEYS), cells.values) is not None
    if "text" in cells.values and not prompted and not answered:
        if "label" in cells.values or "labels" in cells.values:
            raise BadRow("the label is empty")
        document = _document(cells, row_id, f"{path}, line {row.line}")
        if document is None:
            return False
        read.documents.append(document)
        read.forms["text"] += 1
    else:
        task = _task(cells)
        read.examples.append(_example(cells, task, row_id, path.parent))
        read.forms[task.form] += 1
    read.unused |= cells.unused()
    return True


def _document(cells: _Cells, row_id: str, origin: str) -> Document | None:
    cleaned = clean_text(cells.text("text"))
    license, title = cells.text("license") or "not stated", cells.text("title") or row_id
    return make_document(row_id, title, cleaned, origin, license) if cleaned else None


def _task(cells: _Cells) -> _Task:
    """Read the prompt and the references in any supported format."""
    turns_key, prompt_key = cells.first(TURN_KEYS), first_key(PROMPT_KEYS, cells.values)
    if turns_key is not None and prompt_key in (None, "input"):
        return _conversation_task(cells, turns_key)
    if turns_key is not None:
        raise BadRow(f"it has both '{prompt_key}' and '{turns_key}', but only one can be the prompt")
    if prompt_key is None and cells.first(("text",)):
        prompt_key = "text"
    if prompt_key is None:
        empty = next((key for key in (*PROMPT_KEYS, *TURN_KEYS, "text") if key in cells.values), None)
        reason = f"'{empty}' is empty" if empty else "an example needs either prompt or messages"
        raise BadRow(f"{reason}{_suggestion(cells, PROMPT_KEYS) if not empty else ''}")
    answer_key = cells.first(REFERENCE_KEYS)
    references = _references(cells, answer_key)
    parts, turns = _prompt(cells, prompt_key)
    messages = _without_answer(turns, references, prompt_key, str(answer_key))
    return _Task(" + ".join([*parts, str(answer_key)]), messages, references)


def _prompt(cells: _Cells, key: str) -> tuple[list[str], tuple[Message, ...]]:
    """Read the prompt under a key, with its input or context if any; also return the parts of the row format."""
    given = cells.get(key)
    if isinstance(given, list):
        return [f"{key} (messages)"], conversation(given, key)
    prompt, parts = text_of(given, key), [key]
    for other in CONTEXT_KEYS:
        if other == key or other not in cells.values:
            continue
        parts.append(other)
        more = cells.text(other)
        if more.strip() and f"\n{more.strip()}\n" not in f"\n{prompt.strip()}\n":
            prompt = f"{more}\n\n{prompt}" if other == "context" and key != "instruction" else f"{prompt}\n\n{more}"
    if not prompt.strip():
        raise BadRow(f"'{key}' is empty")
    message = {"role": "user", "content": prompt, "images": cells.get("images") or ()}
    return parts, (*_earlier_messages(cells), Message.model_validate(message))


def prompt_of(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the prompt of a row, read like the rows of a dataset; empty if the row has none.

    Raises:
        BadRow: The prompt cannot be read.
    """
    cells = _Cells(row)
    key = first_key(PROMPT_KEYS, cells.values)
    return _prompt(cells, key)[1] if key else ()


def _system(cells: _Cells) -> list[Message]:
    system = cells.text("system")
    return [Message(role="system", content=system)] if system.strip() else []


def _earlier_messages(cells: _Cells) -> list[Message]:
    """Read the messages before the prompt: a system message, and pairs of earlier prompts and answers."""
    messages = _system(cells)
    history = cells.get("history") or []
    if not isinstance(history, list):
        raise BadRow(f"history is {type_of(history)}, not a list of pairs")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("history has an item that isn't a pair of prompt and answer")
        messages.append(Message(role="user", content=text_of(pair[0], "history")))
        messages.append(Message(role="assistant", content=text_of(pair[1], "history")))
    return messages


def _conversation_task(cells: _Cells, key: str) -> _Task:
    """Read a conversation; without references, the assistant's last message is the reference answer."""
    given = cells.get(key)
    turns = conversation(given, key)
    if turns[0].role != "system":
        turns = (*_system(cells), *turns)
    answer_key = cells.first(REFERENCE_KEYS)
    if answer_key is not None:
        references = _references(cells, answer_key)
        return _Task(f"{key} + {answer_key}", _without_answer(turns, references, key, answer_key), references)
    *messages, last = turns
    if last.role != "assistant":
        raise BadRow(
            f"the reference answer is missing: there are no references, and '{key}' doesn't end with an 'assistant' "
            "message"
        )
    if ends_with_call(given):
        raise BadRow(f"the last message of '{key}' is a tool call, not a text answer")
    if not any(turn.role == "user" for turn in messages):
        raise BadRow(f"'{key}' has no user message before the answer")
    return _Task(f"{key} that end with the answer", tuple(messages), texts_of(last.content, "the answer"))


def _without_answer(
    turns: tuple[Message, ...], references: tuple[str, ...], key: str, answer_key: str
) -> tuple[Message, ...]:
    """Drop the assistant's last message if it is the reference answer, which the prompt must not contain."""
    *messages, last = turns
    if last.role != "assistant":
        return turns
    if normalize_text(last.content) in map(normalize_text, references) and any(
        turn.role == "user" for turn in messages
    ):
        return tuple(messages)
    contained = (re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", last.content) for answer in references)
    if answer_key not in LABEL_KEYS and any(contained):
        raise BadRow(f"'{key}' ends with an assistant message that contains the reference answer in '{answer_key}'")
    return turns


def _references(cells: _Cells, key: str | None) -> tuple[str, ...]:
    if key is None:
        empty = next((key for key in REFERENCE_KEYS if key in cells.values), None)
        reason = f"'{empty}' is {'null' if cells.values[empty] is None else 'empty'}" if empty else "no answer column"
        suggestion = "" if empty else _suggestion(cells, REFERENCE_KEYS)
        raise BadRow(f"the reference answer is missing: {reason}{suggestion}")
    value = cells.get(key)
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # SQuAD: {"text": [...], "answer_start"}
        value = value["text"]
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        turns = conversation(value, key)
        if len(turns) != 1 or turns[0].role != "assistant" or ends_with_call(value):
            raise BadRow(f"'{key}' must be a single text message from the assistant")
        value = turns[0].content
    if isinstance(value, dict):
        raise BadRow(f"'{key}' is an object, not text (pass a JSON answer as a string)")
    references = texts_of(value, key)
    if key in LABEL_KEYS and len(references) > 1:
        raise BadRow(
            f"'{key}' has {len(references)} labels instead of one (use 'references' for several reference answers)"
        )
    return references


def _example(cells: _Cells, task: _Task, row_id: str, folder: Path) -> Example:
    """Create an example from a task and the optional columns of its row; image paths are relative to a folder."""
    schema, split = cells.get("schema"), cells.text("split").strip().lower()
    if schema not in (None, "") and not isinstance(schema, dict):
        raise BadRow(f"schema is {type_of(schema)}, not a JSON object")
    if split and split not in SPLIT_NAMES:
        raise BadRow(f"the split is '{split}', not train, validation or test")
    tags, choices = cells.get("tags") or (), cells.get("choices") or ()
    if not task.messages[-1].content.strip() and not task.messages[-1].images:
        raise BadRow("the last message is empty")
    return Example(
        id=row_id,
        messages=tuple(_with_images(message, folder) for message in task.messages),
        references=task.references,
        tags=texts_of(tags, "tags") if tags else (),
        source=cells.text("source") or row_id,
        copy_text=cells.text("copy_text"),
        choices=texts_of(choices, "choices") if choices else (),
        answer_schema=json.dumps(schema, sort_keys=True) if schema else "",
        split=SPLIT_NAMES[split] if split else None,
    )


def _with_images(message: Message, folder: Path) -> Message:
    """Resolve the image paths of a message relative to a folder."""
    if not message.images:
        return message
    paths = [folder / Path(image).expanduser() for image in message.images]
    for path in paths:
        if not path.is_file():
            raise BadRow(f"the image {path} doesn't exist")
    return message.model_copy(update={"images": tuple(str(path.resolve()) for path in paths)})


def of_cells(row: Row) -> Row:
    """Convert the cells of a table to JSON values: parse lists, and drop empty cells."""
    cells: dict[str, Any] = {}
    for key, cell in row.cells.items():
        if not cell.strip():
            continue
        cells[key] = cell
        if key in (*LIST_CELLS, *JSON_CELLS) and cell.lstrip()[:1] == "[":
            try:
                cells[key] = json.loads(cell)
            except (ValueError, RecursionError):
                if key != "tags" and _PYTHON_LIST.match(cell):
                    return Row(row.line, {}, f"{key} is a Python list, not a JSON list: {cell[:40]}")
        if key in LIST_CELLS and cells[key] == cell:
            cells[key] = [part.strip() for part in cell.split("|") if part.strip()]
    return Row(row.line, cells, row.problem)


def _suggestion(cells: _Cells, keys: Sequence[str]) -> str:
    for key in sorted(cells.values):
        close = get_close_matches(key, keys, n=1, cutoff=0.7)
        if close:
            return f"; did you mean '{close[0]}' instead of '{key}'?"
    return ""
