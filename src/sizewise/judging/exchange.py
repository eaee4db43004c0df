"""Export of tasks to annotation tools and import of their votes: CSV, JSONL, Label Studio, Argilla.

Formats: https://labelstud.io/guide/tasks and /guide/export (Label Studio JSON, `result` of an annotation);
https://docs.argilla.io, records as `Dataset.records.to_json` writes them (Argilla 2).
"""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from xml.sax.saxutils import quoteattr

from pydantic import ValidationError

from sizewise.controls import cell_number, spreadsheet_cell
from sizewise.documents.saved_csv import check_cells, open_csv
from sizewise.errors import SizewiseError, UsageError
from sizewise.judging.answered import ROLES, conversation_text
from sizewise.judging.ballot import Ballot
from sizewise.judging.harm import flagged_candidates
from sizewise.judging.vote_files import column_name
from sizewise.records import REASONS, SCALES, JudgeTask, Vote
from sizewise.store import read_lines, write_atomically

Format = Literal["csv", "jsonl", "label-studio", "argilla"]
MAX_BYTES = 200_000_000


def write_tasks(ballot: Ballot, path: Path, form: Format) -> list[Path]:
    """Write the tasks of a round for an annotation tool, each once, without candidate names or purpose.

    Args:
        ballot: the round.
        path: file to write; Label Studio's labeling configuration goes next to it, as .xml. If an example has several
            turns, all rows have a field `conversation`: text in CSV, otherwise a list of messages (Label Studio's
            Paragraphs, Argilla's ChatField).
        form: format.

    Returns:
        The files that were written.
    """
    tasks = [task for task in ballot.tasks.values() if task.purpose in ("vote", "gold") and not _is_extra(task)]
    rows = [_row(task, ballot) for task in tasks]
    if any(task.conversation for task in tasks):
        for row, task in zip(rows, tasks, strict=True):
            row["conversation"] = _turns(task, form)
    written = [path]
    if form == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows({key: spreadsheet_cell(value) for key, value in row.items()} for row in rows)
        write_atomically(path, text.getvalue())
    elif form == "jsonl":
        write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif form == "label-studio":
        write_atomically(path, json.dumps([{"data": row} for row in rows], ensure_ascii=False, indent=1))
        written.append(path.with_suffix(".xml"))
        write_atomically(written[1], _labeling(ballot, tasks))
    else:
        shown = [{key: value for key, value in row.items() if key not in ("task", "choices")} for row in rows]
        records = [
            {"id": row["task"], "fields": fields, "metadata": {"round": ballot.id}, "suggestions": {}, "responses": {}}
            for row, fields in zip(rows, shown, strict=True)
        ]
        write_atomically(path, json.dumps(records, ensure_ascii=False, indent=1))
    return written


def _is_extra(task: JudgeTask) -> bool:
    return bool(task.replaces) or task.id.startswith("m")


def _turns(task: JudgeTask, form: Format) -> Any:
    """Write all turns of a task as the tool shows a dialogue; in a CSV file as text."""
    turns = task.conversation or (("user", task.prompt),)
    if form == "csv":
        return conversation_text(turns)
    if form == "label-studio":
        return [{"author": ROLES[role], "text": text} for role, text in turns]
    return [{"role": role, "content": text} for role, text in turns]


def _row(task: JudgeTask, ballot: Ballot) -> dict[str, Any]:
    texts = {f"answer_{number}": text for number, (_, text) in enumerate(task.answers, start=1)}
    choices = " | ".join(task.choices(ballot.round.kind))
    return {"task": task.id, "prompt": task.prompt, "passage": task.passage} | texts | {"choices": choices}


def _labeling(ballot: Ballot, tasks: Sequence[JudgeTask]) -> str:
    """Write the labeling configuration that shows these tasks in Label Studio."""
    shown = max(len(task.answers) for task in tasks)
    kind = ballot.round.kind
    choices = tasks[0].choices(kind)
    lines = ["<View>", f"  <Header value={quoteattr(ballot.round.question)}/>"]
    lines.append('  <Text name="prompt" value="$prompt"/>')
    if any(task.conversation for task in tasks):
        lines[-1] = '  <Header value="Last turn"/>\n' + lines[-1]
        lines.insert(2, '  <Paragraphs name="conversation" value="$conversation" layout="dialogue"/>')
    if any(task.passage for task in tasks):
        lines += ['  <Header value="Reference answer"/>', '  <Text name="passage" value="$passage"/>']
    for number in range(1, shown + 1):
        lines += [f'  <Header value="Answer {number}"/>', f'  <Text name="answer_{number}" value="$answer_{number}"/>']
    if kind == "rating":
        for scale in SCALES:
            lines += [f'  <Header value="{scale}"/>', f'  <Rating name="{scale}" toName="prompt" maxRating="5"/>']
    else:
        lines.append('  <Choices name="choice" toName="prompt" choice="single" showInline="true" required="true">')
        lines += [f'    <Choice value="{choice}"/>' for choice in (*choices, "skip")]
        lines.append("  </Choices>")
    harmful = "".join(f'<Choice value="answer {number} could cause harm"/>' for number in range(1, shown + 1))
    reasons = "".join(f'<Choice value="{reason}"/>' for reason in REASONS)
    lines += [
        f'  <Choices name="harmful" toName="prompt" choice="multiple">{harmful}</Choices>',
        f'  <Choices name="reasons" toName="prompt" choice="multiple">{reasons}</Choices>',
        '  <TextArea name="comment" toName="prompt" placeholder="Comment"/>',
        '  <TextArea name="correction" toName="prompt" placeholder="A better text"/>',
        "</View>",
    ]
    return "\n".join(lines) + "\n"


class Imported(NamedTuple):
    """Result of an import."""

    votes: dict[str, int]
    """Rater -> number of votes."""
    empty: int
    """Rows without a choice or rating, which were skipped."""
    corrected: int = 0
    """Votes that replaced an earlier one that differs, if only in a mark or a comment."""
    unchanged: int = 0
    """Votes that were known already."""
    without_place: int = 0
    """Votes that flagged harm in a task with several answers without naming the answer."""
    replaced: int = 0
    """Rows that a later row of the file replaced, by the same rater on the same task."""


def read_votes(ballot: Ballot, path: Path, form: Format) -> Imported:
    """Import votes of people from another tool's file; importing the same file again changes nothing.

    Of several votes by one rater on one task, the last counts. A row replaces the whole earlier vote, so a file that
    changes only a mark, a correction or a comment corrects the votes; the ledger keeps every version with its time.
    Tasks that were opened and left empty are skipped.

    Args:
        ballot: the round.
        path: CSV or JSONL with `task`, `rater`, `choice` (and optionally `harmful`, the numbers of harmful answers;
            `reasons`, `comment`, `correction`, `seconds`, the rating scales, and `preference`: the share of a vote on
            a pair, from 0 to 1, for the first answer), or an export of Label Studio (JSON) or Argilla
            (`records.to_json`).
        form: format.

    Raises:
        SizewiseError: the file isn't in this format; none of its votes are imported.
    """
    if form not in get_args(Format):
        raise UsageError(f"The format '{form}' isn't supported.", " or ".join(get_args(Format)), "--format csv")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES / 1e6:.0f} MB")
        rows = [_stripped(row) for row in READERS[form](path)]
        filled = [row for row in rows if not _is_empty(row)]
        if not filled:
            raise ValueError(f"none of its {len(rows)} rows has a choice" if rows else "it holds no votes")
        votes = list({(vote.rater, vote.task): vote for vote in (_vote(row, ballot) for row in filled)}.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        reason = f"{error.errors()[0]['msg']}" if isinstance(error, ValidationError) else str(error)
        raise SizewiseError(
            f"{path} cannot be read as {form}: {reason.splitlines()[0] if reason else type(error).__name__}.",
            "tasks of this round, each with a rater and a choice",
            f"sizewise judge export {ballot.id} --format {form} --out FILE writes the tasks",
        ) from error
    if ballot.closed:
        raise SizewiseError(f"{ballot.id} is closed.", "a round that still accepts votes", "sizewise judge open ID")
    counts: dict[str, int] = {}
    raters = {
        name: ballot.join(name, "person", [vote.task for vote in votes if vote.rater == name])
        for name in dict.fromkeys(vote.rater for vote in votes)
    }
    known = {(vote.rater, vote.task): vote for vote in ballot.votes()}
    corrected = unchanged = 0
    for vote in votes:
        before = known.get((vote.rater, vote.task))
        if before != vote:
            ballot.vote(raters[vote.rater], vote, f"file:{secrets.token_hex(8)}")
        corrected += before is not None and before != vote
        unchanged += before == vote
        counts[vote.rater] = counts.get(vote.rater, 0) + 1
    without_place = sum(flagged_candidates(ballot.tasks[vote.task], vote) is None for vote in votes)
    replaced = len(filled) - len(votes)
    return Imported(counts, len(rows) - len(filled), corrected, unchanged, without_place, replaced)


def _stripped(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.strip() if isinstance(value, str) else value for key, value in row.items()}


def _is_empty(row: Mapping[str, Any]) -> bool:
    """Check whether a row names a task but has neither a choice nor a preference nor a rating."""
    return bool(row["task"]) and all(row.get(name) in (None, "") for name in ("choice", "preference", *SCALES))


def _vote(row: Mapping[str, Any], ballot: Ballot) -> Vote:
    name = str(row["task"])
    if row.get("rater") in (None, ""):
        raise ValueError(f"a vote on task '{name}' names no rater")
    if name not in ballot.tasks:
        raise ValueError(f"{ballot.id} has no task '{name}'")
    ratings = {scale: int(row[scale]) for scale in SCALES if row.get(scale) not in (None, "")}
    given = row.get("preference")
    preference = None if given in (None, "") or ballot.round.kind != "pair" else _number(given, name, "preference")
    choice = str(row.get("choice") or ("rated" if ratings else _choice_of(preference)))
    choices = ballot.tasks[name].choices(ballot.round.kind)
    choice = column_name(choice) if column_name(choice) in (*choices, "skip") else choice
    if choice not in (*choices, "skip"):
        raise ValueError(f"task '{name}' has the choice '{choice}', not {' or '.join((*choices, 'skip'))}")
    if preference is not None and (_choice_of(preference), choice) in (("left", "right"), ("right", "left")):
        raise ValueError(f"task '{name}' has the choice '{choice}', but its preference {preference:g} is for the other")
    return Vote(
        task=name,
        rater=f"imported {row['rater']}",
        origin="person",
        choice=choice,
        harm=str(row.get("harm") or "").lower() in ("true", "1", "yes"),
        harmful=_harmful(row.get("harmful"), ballot.tasks[name]),
        reasons=_reasons(row.get("reasons")),
        ratings=ratings,
        preference=preference if choice != "skip" else None,
        comment=str(row.get("comment") or ""),
        correction=str(row.get("correction") or ""),
        seconds=_number(row.get("seconds") or 0.0, name, "seconds"),
    )


def _number(value: Any, task: str, column: str) -> float:
    """Read a number, also with the decimal comma of many spreadsheets."""
    try:
        return cell_number(str(value))
    except ValueError as error:
        raise ValueError(f"task '{task}' has the {column} '{value}', not a number") from error


def _choice_of(preference: float | None) -> str:
    """Return the choice that a soft preference comes closest to."""
    if preference is None:
        return ""
    return "tie" if preference == 0.5 else "left" if preference > 0.5 else "right"


def _harmful(value: Any, task: JudgeTask) -> tuple[int, ...]:
    """Read the places of harmful answers: numbers, left, right or both."""
    found: list[int] = []
    every = range(1, len(task.answers) + 1)
    for word in re.findall(r"\w+", _joined(value).lower()):
        if word.isdecimal():
            found.append(int(word))
        found += {"left": [1], "right": [2], "both": list(every)}.get(word, [])
    if outside := set(found) - set(every):
        raise ValueError(f"task '{task.id}' has no answer {min(outside)} that could be harmful")
    return tuple(found)


def _reasons(value: Any) -> tuple[str, ...]:
    """Read reasons, separated by commas, semicolons, bars or line breaks."""
    parts = (part.strip().lower().replace(" ", "_") for part in re.split(r"[,;|\n]", _joined(value)))
    return tuple(dict.fromkeys(part for part in parts if part))


def _joined(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with open_csv(path) as reader:
        names = reader.fieldnames = [column_name(name) for name in reader.fieldnames or ()]
        absent = [name for name in ("task", "rater") if name not in names]
        if not {"choice", "preference", *SCALES} & set(names):
            absent.append("choice")
        if absent:
            raise ValueError(f"it has no column {', '.join(absent)}, but {', '.join(names) or 'no header'}")
        for row in reader:
            check_cells(reader, row)
            yield {key: value for key, value in row.items() if key is not None}


def _jsonl_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    yield from map(json.loads, read_lines(path))


def _label_studio_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for task in json.loads(path.read_text(encoding="utf-8")):
        for annotation in task["annotations"] or ():
            if annotation.get("was_cancelled"):
                continue
            by = annotation.get("completed_by")
            rater = (by.get("email") or by.get("id")) if isinstance(by, dict) else by
            row: dict[str, Any] = {"task": task["data"]["task"], "rater": rater, "seconds": annotation.get("lead_time")}
            for one in annotation["result"] or ():
                row[one["from_name"]] = _label_studio_value(one["value"])
            yield row | {"harm": "true" if row.get("harm") else ""}


def _label_studio_value(value: Mapping[str, Any]) -> Any:
    if "rating" in value:
        return value["rating"]
    found = value.get("choices") or value.get("text") or ""
    return found if isinstance(found, str) else "\n".join(found)


def _argilla_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for record in json.loads(path.read_text(encoding="utf-8")):
        by_user: dict[str, dict[str, Any]] = {}
        for question, responses in (record["responses"] or {}).items():
            for response in responses or ():
                if response.get("status") in ("draft", "discarded"):
                    continue
                row = by_user.setdefault(str(response["user_id"]), {"task": record["id"]})
                row[question] = response["value"]
        yield from (row | {"rater": user} for user, row in by_user.items())


READERS: dict[str, Callable[[Path], Iterable[Mapping[str, Any]]]] = {
    "csv": _csv_rows,
    "jsonl": _jsonl_rows,
    "label-studio": _label_studio_rows,
    "argilla": _argilla_rows,
}
