"""Rows become examples and documents: the forms in which other tools keep them are recognised and named."""

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
    id_of,
    kind_of,
    mended,
    one_of,
    reason_of,
    text_of,
    texts_of,
)
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Document, Example, Message, RejectedRow, Split
from sizewise.text import normalize_text

MAX_REJECTS = 0.05
# Names that people use for the same thing; the first is ours.
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
_SHOWN = 10
_PYTHON_LIST = re.compile(r"\s*\[\s*(?:[\[{(]\s*)*['\"].*\]\s*\Z", re.DOTALL)


class _Asked(NamedTuple):
    """What an example asks and which answers are right."""

    form: str
    messages: tuple[Message, ...]
    references: tuple[str, ...]


class _Cells:
    """The values of a row by their names in small letters; remembers which were looked at."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for name, (key, value) in by_name(row).items():
            self.values[name], self._names[name] = value, key
        self._used: set[str] = {"passage"}  # of drafts: for the person who looks at them

    def get(self, key: str) -> Any:
        self._used.add(key)
        return self.values.get(key)

    def first(self, keys: Sequence[str]) -> str | None:
        found = one_of(keys, self.values)
        if found is not None:
            self._used.add(found)
        return found

    def text(self, key: str) -> str:
        value = self.get(key)
        return "" if value is None else text_of(value, key)

    def unused(self) -> set[str]:
        return {
            str(mended(self._names[key]))
            for key, value in self.values.items()
            if key not in self._used and value not in (None, "", [], {})
        }


def read_rows(rows: Iterable[Row], path: Path, name: str) -> FileRead:
    """Read rows into examples and documents; those that cannot be used are set aside with their reason.

    Args:
        rows: of the file.
        path: the file, beside which pictures lie.
        name: what it is called in the dataset.
    """
    read = FileRead()
    blank = 0
    for row in rows:
        try:
            if row.broken:
                raise BadRow(row.broken)
            blank += not _read_row(row, path, name, read)
        except (ValueError, TypeError, RecursionError) as error:
            read.rejected.append(RejectedRow(file=name, line=row.line, reason=reason_of(error)))
    read.notes += _notes(read, name, blank)
    return read


def check_rejected(read: FileRead, path: Path, max_rejects: float) -> None:
    """Refuse a file of which too many rows were set aside.

    Args:
        read: what `read_rows` made of it.
        path: the file.
        max_rejects: share of the rows that may be set aside.

    Raises:
        UsageError: the share is none.
        SizewiseError: more rows than that cannot be used, or none can.
    """
    if not 0 <= max_rejects <= 1:
        raise UsageError(f"A share of {max_rejects} is none.", "a number from 0 to 1", "--max-rejects 0.05")
    count, total = len(read.rejected), read.usable + len(read.rejected)
    if count <= (max_rejects * total if read.usable else 0):
        return
    shown = "".join(f"\n  line {row.line}: {row.reason}" for row in read.rejected[:_SHOWN])
    more = f"\n  and {count - _SHOWN} more" if count > _SHOWN else ""
    rows = f"{count} of {total} rows" if total > 1 else "the only row"
    advice = f"fix them in {path} and run the same command again"
    if read.usable:
        advice += f"; or leave them out: sizewise read {path} --max-rejects {math.ceil(100 * count / total) / 100:.2f}"
    raise SizewiseError(
        f"{path}: {rows} cannot be used ({count / total:.1%}):{shown}{more}",
        f"at most {max_rejects:.0%} of such rows; known are {FORMS}",
        advice,
    )


def _notes(read: FileRead, name: str, blank: int) -> list[str]:
    notes = [f"{name}: columns not used: {', '.join(sorted(read.unused))}"] if read.unused else []
    if blank:
        notes.append(f"{name}: rows left out because their text is blank: {blank:,}")
    if read.rejected:
        count, total = len(read.rejected), len(read.rejected) + read.usable
        notes.append(
            f"{name}: {count:,} of {total:,} rows {'was' if count == 1 else 'were'} set aside (rejected.jsonl)"
        )
        notes += [f"{name}, line {row.line}: {row.reason}" for row in read.rejected[:_SHOWN]]
    return notes


def _read_row(row: Row, path: Path, name: str, read: FileRead) -> bool:
    """Read one row; False if it is a text of nothing."""
    cells = _Cells(row.cells)
    row_id = id_of({key: cells.get(key) for key in ("id", "custom_id")}) or f"{name}:{row.line}"
    answered = one_of(REFERENCE_KEYS, cells.values) is not None
    asked = one_of((*PROMPT_KEYS, *TURN_KEYS), cells.values) is not None
    if "text" in cells.values and not asked and not answered:
        if "label" in cells.values or "labels" in cells.values:
            raise BadRow("the label is empty")
        document = _document(cells, row_id, f"{path}, line {row.line}")
        if document is None:
            return False
        read.documents.append(document)
        read.forms["text"] += 1
    else:
        found = _asked(cells)
        read.examples.append(_example(cells, found, row_id, path.parent))
        read.forms[found.form] += 1
    read.unused |= cells.unused()
    return True


def _document(cells: _Cells, row_id: str, origin: str) -> Document | None:
    cleaned = clean_text(cells.text("text"))
    license, title = cells.text("license") or "not stated", cells.text("title") or row_id
    return make_document(row_id, title, cleaned, origin, license) if cleaned else None


def _asked(cells: _Cells) -> _Asked:
    """Read the prompt and the right answers in whichever form a row has them."""
    turns_key, prompt_key = cells.first(TURN_KEYS), one_of(PROMPT_KEYS, cells.values)
    if turns_key is not None and prompt_key in (None, "input"):
        return _of_turns(cells, turns_key)
    if turns_key is not None:
        raise BadRow(f"both '{prompt_key}' and '{turns_key}' say what is asked")
    if prompt_key is None and cells.first(("text",)):
        prompt_key = "text"
    if prompt_key is None:
        empty = next((key for key in (*PROMPT_KEYS, *TURN_KEYS, "text") if key in cells.values), None)
        said = f"'{empty}' is empty" if empty else "an example needs either prompt or messages"
        raise BadRow(f"{said}{_nearest(cells, PROMPT_KEYS) if not empty else ''}")
    answer_key = cells.first(REFERENCE_KEYS)
    references = _references(cells, answer_key)
    parts, turns = _prompt(cells, prompt_key)
    asked = _before_answer(turns, references, prompt_key, str(answer_key))
    return _Asked(" + ".join([*parts, str(answer_key)]), asked, references)


def _prompt(cells: _Cells, key: str) -> tuple[list[str], tuple[Message, ...]]:
    """Read what is asked under a key and, where there is one, its input or context; return also the form's parts."""
    given = cells.get(key)
    if isinstance(given, list):
        return [f"{key} (messages)"], conversation(given, key)
    asked, parts = text_of(given, key), [key]
    for other in CONTEXT_KEYS:
        if other == key or other not in cells.values:
            continue
        parts.append(other)
        more = cells.text(other)
        if more.strip() and f"\n{more.strip()}\n" not in f"\n{asked.strip()}\n":
            asked = f"{more}\n\n{asked}" if other == "context" and key != "instruction" else f"{asked}\n\n{more}"
    if not asked.strip():
        raise BadRow(f"'{key}' is empty")
    question = {"role": "user", "content": asked, "images": cells.get("images") or ()}
    return parts, (*_before(cells), Message.model_validate(question))


def prompt_of(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return what a row asks, as the rows of a dataset are read; nothing if it does not say.

    Raises:
        BadRow: what it says cannot be read.
    """
    cells = _Cells(row)
    key = one_of(PROMPT_KEYS, cells.values)
    return _prompt(cells, key)[1] if key else ()


def _system(cells: _Cells) -> list[Message]:
    said = cells.text("system")
    return [Message(role="system", content=said)] if said.strip() else []


def _before(cells: _Cells) -> list[Message]:
    """Read what stands before the prompt: a system message, and pairs of what was asked and answered earlier."""
    found = _system(cells)
    history = cells.get("history") or []
    if not isinstance(history, list):
        raise BadRow(f"history is {kind_of(history)}, not a list of pairs")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow("history holds something else than pairs of prompt and answer")
        found.append(Message(role="user", content=text_of(pair[0], "history")))
        found.append(Message(role="assistant", content=text_of(pair[1], "history")))
    return found


def _of_turns(cells: _Cells, key: str) -> _Asked:
    """Read a conversation; without references the assistant's last turn is the right answer."""
    given = cells.get(key)
    turns = conversation(given, key)
    if turns[0].role != "system":
        turns = (*_system(cells), *turns)
    answer_key = cells.first(REFERENCE_KEYS)
    if answer_key is not None:
        references = _references(cells, answer_key)
        return _Asked(f"{key} + {answer_key}", _before_answer(turns, references, key, answer_key), references)
    *asked, last = turns
    if last.role != "assistant":
        raise BadRow(
            f"there are no references, and the last turn of '{key}' is not the 'assistant''s: no answer is known"
        )
    if ends_with_call(given):
        raise BadRow(f"the last turn of '{key}' is a call of a tool, not an answer in text")
    if not any(turn.role == "user" for turn in asked):
        raise BadRow(f"nothing is asked before the last turn of '{key}'")
    return _Asked(f"{key} that end with the answer", tuple(asked), texts_of(last.content, "the answer"))


def _before_answer(
    turns: tuple[Message, ...], references: tuple[str, ...], key: str, answer_key: str
) -> tuple[Message, ...]:
    """Leave out the assistant's last turn where it is the right answer: what is asked must not hold it."""
    *asked, last = turns
    if last.role != "assistant":
        return turns
    if normalize_text(last.content) in map(normalize_text, references) and any(turn.role == "user" for turn in asked):
        return tuple(asked)
    held = (re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", last.content) for answer in references)
    if answer_key not in LABEL_KEYS and any(held):
        raise BadRow(f"the last turn of '{key}' is the assistant's and holds the right answer of '{answer_key}'")
    return turns


def _references(cells: _Cells, key: str | None) -> tuple[str, ...]:
    if key is None:
        empty = next((key for key in REFERENCE_KEYS if key in cells.values), None)
        said = f"'{empty}' is {'null' if cells.values[empty] is None else 'empty'}" if empty else "there is no answer"
        near = "" if empty else _nearest(cells, REFERENCE_KEYS)
        raise BadRow(f"an example without references cannot be measured: {said}{near}")
    value = cells.get(key)
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # as SQuAD: {"text": [...], "answer_start"}
        value = value["text"]
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        turns = conversation(value, key)
        if len(turns) != 1 or turns[0].role != "assistant" or ends_with_call(value):
            raise BadRow(f"'{key}' holds other messages than one answer of the assistant")
        value = turns[0].content
    if isinstance(value, dict):
        raise BadRow(f"'{key}' is an object, not a text (an answer in JSON is given as text)")
    found = texts_of(value, key)
    if key in LABEL_KEYS and len(found) > 1:
        raise BadRow(
            f"'{key}' holds {len(found)} labels, and one is expected (give several right answers as 'references')"
        )
    return found


def _example(cells: _Cells, found: _Asked, row_id: str, folder: Path) -> Example:
    """Make an example of what a row asks, with what it says besides; pictures lie in a folder."""
    schema, split = cells.get("schema"), cells.text("split").strip().lower()
    if schema not in (None, "") and not isinstance(schema, dict):
        raise BadRow(f"schema is {kind_of(schema)}, not a JSON object")
    if split and split not in SPLIT_NAMES:
        raise BadRow(f"the split is '{split}', not train, validation or test")
    tags, choices = cells.get("tags") or (), cells.get("choices") or ()
    if not found.messages[-1].content.strip() and not found.messages[-1].images:
        raise BadRow("the last message is empty")
    return Example(
        id=row_id,
        messages=tuple(_with_images(message, folder) for message in found.messages),
        references=found.references,
        tags=texts_of(tags, "tags") if tags else (),
        source=cells.text("source") or row_id,
        copy_text=cells.text("copy_text"),
        choices=texts_of(choices, "choices") if choices else (),
        answer_schema=json.dumps(schema, sort_keys=True) if schema else "",
        split=SPLIT_NAMES[split] if split else None,
    )


def _with_images(message: Message, folder: Path) -> Message:
    """Find the images of a message beside the file that names them."""
    if not message.images:
        return message
    paths = [folder / Path(image).expanduser() for image in message.images]
    for path in paths:
        if not path.is_file():
            raise BadRow(f"there is no image {path}")
    return message.model_copy(update={"images": tuple(str(path.resolve()) for path in paths)})


def of_cells(row: Row) -> Row:
    """Turn the cells of a table into what JSON would hold: lists where lists belong, nothing where a cell is empty."""
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
                    return Row(row.line, {}, f"{key} is a list as Python writes it, not as JSON does: {cell[:40]}")
        if key in LIST_CELLS and cells[key] == cell:
            cells[key] = [part.strip() for part in cell.split("|") if part.strip()]
    return Row(row.line, cells, row.broken)


def _nearest(cells: _Cells, keys: Sequence[str]) -> str:
    for key in sorted(cells.values):
        near = get_close_matches(key, keys, n=1, cutoff=0.7)
        if near:
            return f"; is '{key}' meant to be '{near[0]}'?"
    return ""
