"""Votes of models and labels of people, appended to a file one line each: nothing is lost or asked for twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.documents.row_files import open_rows
from sizewise.documents.values import id_of
from sizewise.errors import SizewiseError
from sizewise.store import open_private, read_jsonl

PEOPLE = "people"
EVERY_SECONDS = 1.0


class VoteOf(NamedTuple):
    """A model's vote on a text."""

    label: str
    """Empty if the answer was none of the options."""
    probabilities: Mapping[str, float]
    """Stated probability of each option; empty if the model states none."""


class Settled(NamedTuple):
    """A label that a person gave."""

    label: str
    reason: str
    """Why the text was asked for: disagreement or check."""
    suggested: str
    """The label that the committee suggested."""


class Journal:
    """Append-only file of votes and of people's labels.

    Args:
        path: The file.
        question: Fingerprint of the question; votes on another question don't count.
    """

    def __init__(self, path: Path, question: str) -> None:
        self._path, self._question = path, question
        self.votes: dict[str, dict[str, VoteOf]] = {}
        self.settled: dict[str, Settled] = {}
        lines = [line for _, line in read_jsonl(path, skip_invalid=True)] if path.exists() else []
        for line in lines:
            self._take(line)
        self._file = open(path, "a", encoding="utf-8", opener=open_private)  # noqa: SIM115 - closed in `close`
        if path.stat().st_size:
            self._file.write("\n")  # a line that broke off when its writer was killed ends here
        self._flushed = time.monotonic()

    def _take(self, line: Any) -> None:
        if not isinstance(line, dict) or not isinstance(line.get("key"), str):
            return
        if line.get("by") == PEOPLE:
            self.settled[line["key"]] = Settled(line["label"], line["reason"], line["suggested"])
        elif line.get("question") == self._question:
            voted = VoteOf(line["label"], line.get("probabilities") or {})
            self.votes.setdefault(line["by"], {})[line["key"]] = voted

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._take(line)
        if time.monotonic() - self._flushed >= EVERY_SECONDS:
            self.flush()

    def add_vote(self, by: str, key: str, vote: VoteOf) -> None:
        """Append a model's vote; it is on disk within a second or two."""
        stated = {"probabilities": dict(vote.probabilities)} if vote.probabilities else {}
        self._write({"by": by, "question": self._question, "key": key, "label": vote.label, **stated})

    def settle(self, key: str, label: Settled) -> None:
        """Append a person's label, unless it is there already."""
        if self.settled.get(key, Settled("", "", "")).label != label.label:
            self._write({"by": PEOPLE, "key": key, **label._asdict()})

    def flush(self) -> None:
        """Write what was appended to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()


class Filled(NamedTuple):
    """A row that a person filled in."""

    id: str
    text: str
    label: str
    reason: str
    suggested: str
    line: int


def read_filled(path: Path) -> list[Filled]:
    """Read the rows of a file for people in which a label was filled in.

    Raises:
        SizewiseError: A row cannot be read.
    """
    found = []
    for row in open_rows(path, frozenset(("text",))).rows:
        cells = {key: "" if value is None else str(value) for key, value in row.cells.items()}
        if row.problem or not cells.get("text"):
            raise SizewiseError(
                f"{path}, line {row.line}: {row.problem or 'the text is missing'}.",
                "the rows as they were written, with labels in the column 'label'",
                f"fix line {row.line}; then run the same command again",
            )
        if cells.get("label", "").strip():
            reason, suggested = cells.get("reason", ""), cells.get("suggested", "")
            found.append(Filled(id_of(cells) or "", cells["text"], cells["label"].strip(), reason, suggested, row.line))
    return found
