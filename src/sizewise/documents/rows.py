"""Turn rows into examples and documents; the row formats of common tools are detected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sizewise.documents.cells import ANSWER_KEYS, PROMPT_KEYS, REFERENCE_KEYS, TIME_KEYS, TURN_KEYS, Cells
from sizewise.documents.cleaning import clean_text
from sizewise.documents.reading import FileRead, Reading, ReadOptions, make_document
from sizewise.documents.tables import LIST_KEYS, ROW_KEYS, Row, column_name, make_row
from sizewise.documents.tasks import LabelNames, Task, is_unanswerable, task_of
from sizewise.documents.traces import trace_rows
from sizewise.documents.turns import tools_of
from sizewise.documents.values import SPLIT_NAMES, BadRow, first_key, id_of, reason_of, texts_of, type_of
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Document, Example, Message, RejectedRow, Split

LIST_CELLS = ("choices", "tags")
JSON_CELLS = (*TURN_KEYS, "references", "answers", "history", "chosen", "rejected", "tools", "images")
FORMS = (
    'rows {"text"}, {"text", "label"}, {"prompt" or "messages", "references"}, {"instruction", "input", "output"}, '
    '{"prompt", "completion"}, {"prompt", "chosen", "rejected"}, conversations whose last turn is the assistant\'s, or '
    "traces of Langfuse or OpenTelemetry; name other columns with --prompt, --reference and --label"
)
_LISTED = 10
_MAX_COLUMNS = 1_000
_PYTHON_LIST = re.compile(r"\s*\[\s*(?:[\[{(]\s*)*['\"].*\]\s*\Z", re.DOTALL)
_YEAR = re.compile(r"\d{4}(?:-\d{2})?")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_].*)?")
_PLAIN_TEXT = frozenset(("text", "id", "title", "license", "source", "language", "meta", "metadata", "url", *TIME_KEYS))
_LIKELY_LABELS = ("category", "class", "intent", "sentiment")
DEFAULTS = ReadOptions()


@dataclass(frozen=True)
class RowSource:
    """The file that rows come from.

    Attributes:
        path: Path of the file; image paths are relative to its folder.
        name: Name of the file in the dataset.
        options: The columns that the user named.
        split: The split that the name of the file states, for rows that name none.
        label_names: Column -> names of its integer labels.
    """

    path: Path
    name: str
    options: ReadOptions = DEFAULTS
    split: Split | None = None
    label_names: LabelNames = field(default_factory=dict)


def read_rows(rows: Iterable[Row], source: RowSource, into: Reading | None = None) -> FileRead:
    """Read rows into examples and documents; unusable rows are collected with the reason.

    Args:
        rows: Rows of the file.
        source: The file.
        into: Where to put rows as soon as there are many, so that they needn't be held in memory.

    Raises:
        SizewiseError: The file breaks off after rows of it were put there.
    """
    read = FileRead(into=into)
    counts = {"blank": 0, "skipped": 0, "time": 0, "unanswerable": 0}
    for row in rows:
        try:
            if row.problem:
                raise BadRow(row.problem)
            for number, one in enumerate(_expanded(row, counts)):
                _read_row(one, source, read, counts, f"{one.line}" if not number else f"{one.line}.{number + 1}")
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            read.reject(RejectedRow(file=source.name, line=row.line, reason=reason_of(error)))
        read.flush_if_large()
    read.notes += _notes(read, source.name, counts)
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
    count, total = read.rejected_count, read.usable + read.rejected_count
    if count <= (max_rejects * total if read.usable else 0):
        return
    shown = "".join(f"\n  line {row.line}: {row.reason}" for row in read.first_rejected[:_LISTED])
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


def _notes(read: FileRead, name: str, counts: Mapping[str, int]) -> list[str]:
    notes = [f"{name}: unused columns: {', '.join(sorted(read.unused))}"] if read.unused else []
    likely = next((column for column in sorted(read.unused) if column_name(column) in _LIKELY_LABELS), "")
    if likely and "text" in read.forms:
        notes.append(f"{name}: the rows were read as documents; if '{likely}' is their class, add --label {likely}")

    def note(count: int, text: str) -> None:
        if count:
            notes.append(f"{name}: {text.format(f'{count:,} row' if count == 1 else f'{count:,} rows')}")

    note(counts["blank"], "skipped {} without text")
    note(counts["skipped"], "skipped {} of traces that aren't a request to a model with its messages")
    note(counts["time"], "{} with a time that isn't ISO 8601 (left empty)")
    note(counts["unanswerable"], "{} marked as without an answer; read without a reference")
    free = read.reference_free - counts["unanswerable"]
    note(
        free,
        "{} without a reference answer: answered, judged and timed, but not trained on or scored against a reference; "
        "if a column holds the answer, name it with --reference",
    )
    if len(read.labels) == 1 and read.labelled > 1:
        (label,) = read.labels
        notes.append(f"{name}: all {read.labelled:,} labels are '{label}'; there is nothing to classify")
    if read.rejected_count:
        count, total = read.rejected_count, read.rejected_count + read.usable
        notes.append(
            f"{name}: {count:,} of {total:,} rows {'was' if count == 1 else 'were'} rejected (see rejected.jsonl)"
        )
        notes += [f"{name}, line {row.line}: {row.reason}" for row in read.first_rejected[:_LISTED]]
    return notes


def _expanded(row: Row, counts: dict[str, int]) -> list[Row]:
    """Return the rows that a row stands for: requests of a trace, questions of a SQuAD article, rows under a key."""
    cells = row.cells
    traces = trace_rows(row)
    if traces is not None:
        counts["skipped"] += not traces
        return traces
    if isinstance(cells.get("paragraphs"), list):
        return _squad_rows(row)
    key = next((key for key in LIST_KEYS if isinstance(cells.get(key), list)), None)
    if key is None or any(name in cells for name in ROW_KEYS) or not all(isinstance(one, dict) for one in cells[key]):
        return [row]
    return [inner for one in cells[key] for inner in _expanded(make_row(row.line, one), counts)]


def _squad_rows(row: Row) -> list[Row]:
    """Return the questions of an article in the original SQuAD files, which share the article as their source."""
    title = row.cells.get("title")
    rows = []
    for paragraph in row.cells["paragraphs"]:
        if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
            raise BadRow("a paragraph has no list 'qas' of questions")
        for question in paragraph["qas"]:
            if not isinstance(question, dict):
                raise BadRow(f"a question is {type_of(question)}, not an object")
            answers = question.get("answers") or {"text": [], "answer_start": []}
            cells = {"id": question.get("id"), "question": question.get("question"), "answers": answers}
            rows.append(Row(row.line, {**cells, "context": paragraph.get("context"), "source": title}))
    return rows


def _read_row(row: Row, source: RowSource, read: FileRead, counts: dict[str, int], place: str) -> None:
    """Read one row into a document or an example."""
    cells = Cells(row.cells, None if _is_plain_text(row.cells, source.options) else source.options)
    row_id = id_of({key: cells.get(key) for key in ("id", "custom_id")}) or f"{source.name}:{place}"
    answered = first_key((*REFERENCE_KEYS, "chosen"), cells.values) is not None
    prompted = first_key((*PROMPT_KEYS, *TURN_KEYS, "chosen"), cells.values)
    if "text" in cells.values and prompted is None and not answered:
        if "label" in cells.values or "labels" in cells.values:
            raise BadRow("the label is empty")
        document = _document(cells, row_id, f"{source.path}, line {row.line}", counts)
        if document is None:
            counts["blank"] += 1
            return
        read.add(document, "text")
    else:
        unanswerable = any(is_unanswerable(cells.values.get(key)) for key in ANSWER_KEYS)
        task = task_of(cells, source.label_names)
        example = _example(cells, task, row_id, source, counts)
        read.add(example, row.form or task.form)
        counts["unanswerable"] += unanswerable and not example.references
    if len(read.unused) < _MAX_COLUMNS:
        read.unused |= cells.unused()


def _is_plain_text(row: Mapping[str, Any], options: ReadOptions) -> bool:
    """Check whether a row is a document, to which the columns that a user named don't apply."""
    named = {column_name(column) for column in (options.prompt, options.reference, options.label) if column}
    return _PLAIN_TEXT.issuperset(row) and named.isdisjoint(map(column_name, row))


def _document(cells: Cells, row_id: str, origin: str, counts: dict[str, int]) -> Document | None:
    cleaned = clean_text(cells.text("text"))
    license, title = cells.text("license") or "not stated", cells.text("title") or row_id
    if not cleaned:
        return None
    language = cells.text("language").strip() if isinstance(cells.values.get("language"), str) else ""
    return make_document(row_id, title, cleaned, origin, license).model_copy(
        update={
            "language": re.split("[-_]", language)[0].lower() if _LANGUAGE.fullmatch(language) else "",
            "time": _time(cells, counts),
            "group": cells.text("group").strip(),
        }
    )


def _time(cells: Cells, counts: dict[str, int]) -> str:
    """Return the time of a row in ISO 8601, in UTC if its time zone is known; empty if it has none."""
    key = cells.first(TIME_KEYS)
    if key is None:
        return ""
    value = cells.values[key]
    text = value.strip() if isinstance(value, str) else ""
    if _YEAR.fullmatch(text):
        return text
    try:
        if len(text) <= len("2026-01-01"):
            return date.fromisoformat(text).isoformat()
        found = datetime.fromisoformat(text.removesuffix(" UTC") + ("+00:00" if text.endswith(" UTC") else ""))
    except ValueError:
        counts["time"] += 1
        return ""
    return (found.astimezone(UTC) if found.tzinfo else found).isoformat()


def _example(cells: Cells, task: Task, row_id: str, source: RowSource, counts: dict[str, int]) -> Example:
    """Create an example from a task and the optional columns of its row."""
    schema, split = cells.get("schema"), cells.text("split").strip().lower()
    if schema not in (None, "") and not isinstance(schema, dict):
        raise BadRow(f"schema is {type_of(schema)}, not a JSON object")
    if split and split not in SPLIT_NAMES:
        raise BadRow(f"the split is '{split}', not train, validation or test")
    tags, choices = cells.get("tags") or (), cells.get("choices") or ()
    last = task.messages[-1]
    if not last.content.strip() and not last.images and not last.tool_calls and last.role != "tool":
        raise BadRow("the last message is empty")
    choices = texts_of(choices, "choices") if choices else ()
    return Example(
        id=row_id,
        messages=tuple(_with_images(message, source.path.parent) for message in task.messages),
        references=_choice_references(task.references, choices),
        tags=texts_of(tags, "tags") if tags else (),
        source=cells.text("source") or row_id,
        copy_text=cells.text("copy_text"),
        choices=choices,
        answer_schema=json.dumps(schema, sort_keys=True) if schema else "",
        split=SPLIT_NAMES[split] if split else source.split,
        label=task.label,
        group=cells.text("group").strip(),
        time=_time(cells, counts),
        rejected=task.rejected,
        tools=tools_of(cells.get("tools") or cells.get("functions")),
    )


def _choice_references(references: tuple[str, ...], choices: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the number of a choice, counted from 0, by its text (MMLU)."""
    if len(references) == 1 and choices and references[0] not in choices and references[0].isdecimal():
        number = int(references[0])
        return choices[number : number + 1] or references
    return references


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
    """Convert the cells of a table to JSON values: parse lists and the objects of traces."""
    cells: dict[str, Any] = {}
    for key, cell in row.cells.items():
        cells[key] = cell if not isinstance(cell, str) or cell.strip() else ""
        if not isinstance(cell, str):
            continue
        if key in (*LIST_CELLS, *JSON_CELLS) and cell.lstrip()[:1] == "[":
            try:
                cells[key] = json.loads(cell)
            except (ValueError, RecursionError):
                if key != "tags" and _PYTHON_LIST.match(cell):
                    return Row(row.line, {}, f"{key} is a Python list, not a JSON list: {cell[:40]}")
        if key in LIST_CELLS and cells[key] == cell:
            cells[key] = [part.strip() for part in cell.split("|") if part.strip()]
    return Row(row.line, cells, row.problem)
