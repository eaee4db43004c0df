"""Turn rows into examples and documents; the row formats of common tools are detected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from sizewise.documents.calls import call_row, is_other_run
from sizewise.documents.cells import (
    ANSWER_KEYS,
    GROUP_KEYS,
    PROMPT_KEYS,
    REFERENCE_KEYS,
    TIME_KEYS,
    TURN_KEYS,
    Cells,
)
from sizewise.documents.choices import choices_of
from sizewise.documents.cleaning import clean_text
from sizewise.documents.decisions import ANNOTATION_KEYS, DISTRIBUTION_KEYS, decides
from sizewise.documents.decoding import Unreadable
from sizewise.documents.guessing import label_note
from sizewise.documents.reading import LABEL_KEYS, FileRead, Reading, ReadOptions, make_document
from sizewise.documents.tables import LIST_KEYS, ROW_KEYS, Row, by_name, column_name, make_row
from sizewise.documents.tasks import RATING_KEYS, LabelNames, Task, is_unanswerable, task_of
from sizewise.documents.tickets import ticket_rows
from sizewise.documents.times import EXPECTED, iso_time
from sizewise.documents.traces import trace_rows
from sizewise.documents.turns import tools_of
from sizewise.documents.values import (
    SPLIT_NAMES,
    BadRow,
    Decimal,
    first_key,
    id_of,
    reason_of,
    texts_of,
    type_of,
    without_surrogates,
)
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Document, Example, Message, RejectedRow, Split
from sizewise.records.thoughts import begins_with_thought, split_thoughts

LIST_CELLS = ("choices", "tags", "options", *ANNOTATION_KEYS)
JSON_CELLS = (
    *TURN_KEYS,
    *DISTRIBUTION_KEYS,
    "references",
    "answers",
    "history",
    "chosen",
    "rejected",
    "tools",
    "functions",
    "images",
    "schema",
)
TEXT_CELLS = ("prompt", "completion", "references", "answers")
"""Cells of text, in which JSON is text too unless it is a list of messages or an answer in SQuAD's form."""
FORMS = (
    'rows {"text"}, {"text", "label"}, {"prompt" or "messages", "references"}, {"instruction", "input", "output"}, '
    '{"prompt", "completion"}, {"prompt", "chosen", "rejected"}, conversations whose last turn is the assistant\'s, or '
    "traces of Langfuse or OpenTelemetry, or logged calls; name other columns with --prompt, --reference and --label"
)
_LISTED = 10
_MAX_COLUMNS = 1_000
_PYTHON_VALUE = re.compile(r"\s*(?:array\(\s*)?[\[{]\s*(?:[\[{(]\s*|array\(\s*)*['\"].*[\]})]\s*\Z", re.DOTALL)
_PYTHON_TURNS = re.compile(r"\s*(?:array\(\s*)?\[\s*\{\s*'(?:role|content|from|value)'")
_RATINGS_SEEN = 200
_RATINGS = frozenset(("0", "1", "0.0", "1.0", "true", "false", "none", ""))
_WHOLE = re.compile(r"\A(\d+)\.0+\Z")
_MISSING = frozenset(("nan", "null", "none", "n/a", "na", "#n/a", "nil"))
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_].*)?")
_PLAIN_TEXT = frozenset(("text", "id", "title", "license", "source", "language", "meta", "metadata", "url", *TIME_KEYS))
_ERRORS = (ValueError, TypeError, RecursionError, OverflowError)
DEFAULTS = ReadOptions()


@dataclass
class _Counts:
    """What became of the rows of a file."""

    blank: int = 0
    skipped: int = 0
    unanswerable: int = 0
    thoughts: int = 0
    absent: int = 0
    time: int = 0
    blanks: int = 0
    open: int = 0
    unknown_time: str = ""
    """The first time in an unknown notation."""


@dataclass(frozen=True)
class RowSource:
    """The file that rows come from.

    Attributes:
        path: Path of the file; image paths are relative to its folder.
        name: Name of the file in the dataset.
        options: The columns that the user named.
        split: The split that the name of the file states, for rows that name none.
        label_names: Column -> names of its integer labels.
        ratings: Column whose 0 and 1 rate the answers of a model.
    """

    path: Path
    name: str
    options: ReadOptions = DEFAULTS
    split: Split | None = None
    label_names: LabelNames = field(default_factory=dict)
    ratings: str = ""


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
    counts = _Counts()
    first, rows = _peek(iter(rows))
    source = replace(source, ratings=_ratings_in(first, source))
    places = _Places()
    for row in rows:
        try:
            expanded = [row] if row.problem else _expanded(row, counts)
        except _ERRORS as error:
            expanded = [row._replace(problem=reason_of(error))]
        for one in expanded:
            place = places.next(one)
            try:
                if one.problem:
                    raise BadRow(one.problem)
                _read_row(one, source, read, counts, place)
            except _ERRORS as error:
                read.reject(RejectedRow(file=source.name, line=row.line, reason=reason_of(error)))
        read.flush_if_large()
    read.notes += _notes(read, source.name, counts, first)
    return read


def _peek(rows: Iterator[Row]) -> tuple[list[Row], Iterator[Row]]:
    """Return the first rows, and all of them; where the file breaks off, the iterator does."""
    first: list[Row] = []

    def rest() -> Iterator[Row]:
        yield from first
        if broken:
            raise broken[0]
        yield from rows

    broken: list[Unreadable] = []
    try:
        for row in islice(rows, _RATINGS_SEEN):
            first.append(row)
    except Unreadable as error:
        broken.append(error)
    return first, rest()


class _Places:
    """Places of rows for their ids: the line, with a number where several rows are in one line."""

    def __init__(self) -> None:
        self._last, self._number = ("", 0), 1

    def next(self, row: Row) -> str:
        """Return the place of the next row."""
        here = row.table, row.line
        self._number = self._number + 1 if here == self._last else 1
        self._last = here
        line = f"{row.table}:{row.line}" if row.table else f"{row.line}"
        return line if self._number == 1 else f"{line}.{self._number}"


def _ratings_in(rows: Sequence[Row], source: RowSource) -> str:
    """Return the column whose values are only 0 and 1 and rate answers; empty if there is none.

    A `label` of 0 and 1 only rates a `completion`: beside other answers it may be a class.
    """
    if source.options.label:
        return ""
    for key in RATING_KEYS:
        named_cells = [by_name(row.cells) for row in rows]
        rated = [cells[key][1] for cells in named_cells if key in cells and (key != "label" or "completion" in cells)]
        named = source.label_names.get(key)
        if rated and not named and all(str(value).strip().lower() in _RATINGS for value in rated):
            return key
    return ""


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
    if all(row.reason == "the label is empty" for row in read.first_rejected):
        advice += f"; or label them: sizewise label {path} --by MODEL --options 'LABEL|LABEL'"
    raise SizewiseError(
        f"{path}: {rows} cannot be used ({count / total:.1%}):{shown}{more}",
        f"at most {max_rejects:.0%} unusable rows; supported formats: {FORMS}",
        advice,
    )


def _notes(read: FileRead, name: str, counts: _Counts, first: Sequence[Row]) -> list[str]:
    notes = [f"{name}: unused columns: {', '.join(sorted(read.unused))}"] if read.unused else []
    likely = label_note([row.cells for row in first], read.unused) if "text" in read.forms else ""
    notes += [f"{name}: {likely}"] if likely else []

    def note(count: int, text: str) -> None:
        if count:
            notes.append(f"{name}: {text.format(f'{count:,} row' if count == 1 else f'{count:,} rows')}")

    note(counts.blank, "skipped {} without text")
    note(counts.open, "{} of texts that are still to be labeled (an empty 'label' beside 'suggested'); left out")
    note(counts.blanks, "{} whose label had blanks around it, which were taken off")
    note(counts.skipped, "skipped {} of traces or tickets that aren't a request with its answer")
    note(
        counts.time,
        f"{{}} with a time in an unknown notation (left empty), such as {_quoted(counts.unknown_time)}; known are "
        f"{EXPECTED}",
    )
    note(counts.thoughts, "{} whose answer began with the model's reasoning, which was left out")
    note(counts.absent, "{} with a word for a missing value as the answer, such as NA or None; read as text")
    note(counts.unanswerable, "{} marked as without an answer; read without a reference")
    free = read.reference_free - counts.unanswerable
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


def _quoted(text: str) -> str:
    return repr(text[:40]).replace("{", "{{").replace("}", "}}")


def _expanded(row: Row, counts: _Counts) -> list[Row]:
    """Return the rows that a row stands for: requests of a trace, tickets, SQuAD questions, or rows under a key."""
    cells = row.cells
    found = trace_rows(row) if (tickets := ticket_rows(row)) is None else tickets
    if found is not None:
        kept = [one for one in found if one.cells or one.problem]
        counts.skipped += len(found) - len(kept) or not found
        return kept
    if is_other_run(cells):
        counts.skipped += 1
        return []
    if (call := call_row(row)) is not None:
        return [call]
    if isinstance(cells.get("paragraphs"), list):
        return _squad_rows(row)
    key = next((key for key in LIST_KEYS if isinstance(cells.get(key), list)), None)
    if key is None or any(name in cells for name in ROW_KEYS) or not all(isinstance(one, dict) for one in cells[key]):
        return [row]
    return [inner for one in cells[key] for inner in _expanded(make_row(row.line, one), counts)]


def _squad_rows(row: Row) -> list[Row]:
    """Return the questions of an article in the original SQuAD files, which share the article as their document."""
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
            rows.append(Row(row.line, {**cells, "context": paragraph.get("context"), "document": title}))
    return rows


def _read_row(row: Row, source: RowSource, read: FileRead, counts: _Counts, place: str) -> None:
    """Read one row into a document or an example."""
    options = None if _is_plain_text(row.cells, source.options) else source.options
    cells = Cells(row.cells, options, source.ratings)
    row_id = id_of({key: cells.get(key) for key in ("id", "custom_id")}) or f"{source.name}:{place}"
    answered = first_key((*REFERENCE_KEYS, "chosen"), cells.values) is not None
    prompted = first_key((*PROMPT_KEYS, *TURN_KEYS, "chosen"), cells.values)
    if "suggested" in cells.values and cells.values.get("label") in (None, ""):
        counts.open += 1
        return
    counts.blanks += any(_has_blanks(cells.values.get(key)) for key in LABEL_KEYS)
    decision = decides(cells, source.options.question)
    if "text" in cells.values and prompted is None and not answered and not decision:
        if "label" in cells.values or "labels" in cells.values:
            raise BadRow("the label is empty")
        document = _document(cells, row_id, f"{source.path}, line {row.line}", counts)
        if document is None:
            counts.blank += 1
            return
        read.add(document, "text")
    else:
        unanswerable = any(is_unanswerable(cells.values.get(key)) for key in ANSWER_KEYS)
        task = task_of(cells, source.label_names, source.options.question)
        example = _example(cells, task, row_id, source, counts)
        read.add(example, row.form or task.form)
        counts.unanswerable += unanswerable and not example.references
    if len(read.unused) < _MAX_COLUMNS:
        read.unused |= cells.unused()


def _has_blanks(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value != value.strip()


def _is_plain_text(row: Mapping[str, Any], options: ReadOptions) -> bool:
    """Check whether a row is a document, to which the columns that a user named don't apply."""
    named = {column_name(column) for column in (options.prompt, options.reference, options.label) if column}
    return _PLAIN_TEXT.issuperset(row) and named.isdisjoint(map(column_name, row))


def _document(cells: Cells, row_id: str, origin: str, counts: _Counts) -> Document | None:
    cleaned = clean_text(cells.text("text"))
    license, title = cells.text("license") or "not stated", cells.text("title") or row_id
    if not cleaned:
        return None
    language = cells.text("language").strip() if isinstance(cells.values.get("language"), str) else ""
    return make_document(row_id, title, cleaned, origin, license).model_copy(
        update={
            "language": re.split("[-_]", language)[0].lower() if _LANGUAGE.fullmatch(language) else "",
            "time": _time(cells, counts),
            "group": _group(cells),
        }
    )


def _time(cells: Cells, counts: _Counts) -> str:
    """Return the time of a row in ISO 8601; empty if it has none."""
    key = cells.first(TIME_KEYS)
    if key is None:
        return ""
    found = iso_time(cells.values[key])
    if not found:
        counts.time += 1
        counts.unknown_time = counts.unknown_time or str(without_surrogates(str(cells.values[key])))
    return found


def _group(cells: Cells) -> str:
    """Return the group of a row; whole numbers have no decimal point, so that 3 and 3.0 are the same."""
    key = cells.first(GROUP_KEYS)
    return _WHOLE.sub(r"\1", cells.text(key).strip()) if key else ""


def _example(cells: Cells, task: Task, row_id: str, source: RowSource, counts: _Counts) -> Example:
    """Create an example from a task and the optional columns of its row."""
    schema, split = cells.get("schema"), cells.text("split").strip().lower()
    if schema not in (None, "") and not isinstance(schema, dict):
        raise BadRow(f"schema is {type_of(schema)}, not a JSON object")
    if split and split not in SPLIT_NAMES:
        raise BadRow(f"the split is '{split}', not train, validation or test")
    tags = cells.get("tags") or ()
    tags = texts_of(tags, "tags") if tags else ()
    document, given = cells.document(), cells.text("source").strip()
    if document and given not in ("", document, *tags):
        tags = (*tags, given)  # beside a document, a source is its collection
    last = task.messages[-1]
    if not last.content.strip() and not last.images and not last.tool_calls and last.role != "tool":
        raise BadRow("the last message is empty")
    choices, references = choices_of(cells, task.references)
    references, rejected = _spoken(references, counts), _spoken(task.rejected, counts)
    messages = tuple(_without_reasoning(message, counts) for message in task.messages)
    counts.absent += len(references) == 1 and not task.label and references[0].lower() in _MISSING
    return Example(
        id=row_id,
        messages=tuple(_with_images(message, source.path.parent) for message in messages),
        references=references,
        tags=tags,
        source=document or given or row_id,
        source_is_document=bool(document),
        copy_text=cells.text("copy_text"),
        choices=choices,
        answer_schema=json.dumps(schema, sort_keys=True) if schema else "",
        split=SPLIT_NAMES[split] if split else source.split,
        label=task.label,
        group=_group(cells),
        time=_time(cells, counts),
        rejected=rejected,
        tools=tools_of(cells.get("tools") or cells.get("functions")),
        attributes=cells.attributes,
        labels=task.answer.labels,
        distribution=dict(task.answer.distribution),
        question=task.question,
    )


def _spoken(answers: tuple[str, ...], counts: _Counts) -> tuple[str, ...]:
    """Take the reasoning of a model off its answers.

    Raises:
        BadRow: An answer is nothing but reasoning.
    """
    split = [split_thoughts(answer) if begins_with_thought(answer) else (answer, "") for answer in answers]
    if any(not answer.strip() for answer, _ in split):
        raise BadRow("the answer is only reasoning: no text follows it")
    counts.thoughts += any(thought for _, thought in split)
    return tuple(answer for answer, _ in split)


def _without_reasoning(message: Message, counts: _Counts) -> Message:
    """Take the reasoning of a model off an earlier answer, which models don't see again either."""
    if message.role != "assistant" or not begins_with_thought(message.content):
        return message
    answer, thought = split_thoughts(message.content)
    counts.thoughts += bool(thought)
    return message.model_copy(update={"content": answer})


def _with_images(message: Message, folder: Path) -> Message:
    """Resolve the image paths of a message relative to a folder."""
    if not message.images:
        return message
    paths = [folder / Path(image).expanduser() for image in message.images]
    for path in paths:
        if not path.is_file():
            raise BadRow(f"the image {path} doesn't exist")
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise BadRow(f"the image {path} is a link to a file outside of the folder")
    return message.model_copy(update={"images": tuple(str(path.resolve()) for path in paths)})


def of_cells(row: Row) -> Row:
    """Convert the cells of a table to JSON values: parse lists and objects, also those of traces."""
    cells: dict[str, Any] = {}
    for key, cell in row.cells.items():
        cells[key] = cell if not isinstance(cell, str) or cell.strip() else ""
        if not isinstance(cell, str):
            continue
        if key in (*LIST_CELLS, *JSON_CELLS, *TEXT_CELLS):
            try:
                cells[key] = _json_cell(key, cell)
            except BadRow as error:
                return row._replace(cells={}, problem=str(error))
        if key in LIST_CELLS and cells[key] == cell:
            cells[key] = [part.strip() for part in cell.split("|") if part.strip()]
    return row._replace(cells=cells)


def _json_cell(key: str, cell: str) -> Any:
    """Parse a cell that is JSON, and return other cells as they are.

    Raises:
        BadRow: The cell is a value as Python prints it.
    """
    mark = cell.lstrip()[:1]
    if mark not in ("[", "{", "a"):
        return cell
    is_text = key in ("prompt", "completion")
    try:
        value = json.loads(cell, parse_float=Decimal)
    except (ValueError, RecursionError):
        if key != "tags" and (_PYTHON_TURNS if is_text else _PYTHON_VALUE).match(cell):
            kind = {"[": "list, not a JSON list", "{": "dict, not a JSON object"}.get(mark, "array, not a JSON list")
            raise BadRow(f"{key} is a Python {kind}: {cell[:40]}") from None
        return cell
    first = value[0] if isinstance(value, list) and value else None
    if is_text and not (isinstance(first, dict) and ("role" in first or "from" in first)):
        return cell
    return cell if isinstance(value, dict) and key in TEXT_CELLS and "answer_start" not in value else value
