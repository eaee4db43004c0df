"""What converting one file results in: texts with their metadata, and remarks on what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_CHARACTERS = 50_000_000
PAGES = "pages:"
"""Line of a worker process that announces how many pages it is going to read."""


class CannotConvert(Exception):
    """A file that could not be converted; the message is the reason."""


@dataclass
class Part:
    """One text of a file: the whole of it, a message of a mailbox or an attachment.

    Attributes:
        text: The text as Markdown.
        name: What follows the file's name in the document's id; empty for the file itself.
        title: Title that the file states.
        license: License that the file states.
        language: Language that the file states, as an ISO 639-1 code.
        time: When the text was written, in ISO 8601.
    """

    text: str
    name: str = ""
    title: str = ""
    license: str = ""
    language: str = ""
    time: str = ""


@dataclass
class Conversion:
    """The texts of one file.

    Attributes:
        parts: The texts.
        removed: What was left out or repaired -> how often.
        remarks: Sentences about the file, such as which pages have no text.
    """

    parts: list[Part] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def add(self, other: Conversion) -> None:
        """Add the texts and remarks of another conversion."""
        self.parts += other.parts
        self.removed.update(other.removed)
        self.remarks += other.remarks

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON."""
        return {"parts": [asdict(part) for part in self.parts], "removed": self.removed, "remarks": self.remarks}

    @staticmethod
    def from_json(plain: dict[str, Any]) -> Conversion:
        """Restore a conversion from JSON."""
        return Conversion([Part(**part) for part in plain["parts"]], Counter(plain["removed"]), plain["remarks"])


def markdown_table(rows: list[list[str]]) -> str:
    """Format rows as a Markdown table; the first row is the heading, and empty rows are left out."""
    rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    width = max((index + 1 for row in rows for index, cell in enumerate(row) if cell), default=0)
    rows = [(row + [""] * width)[:width] for row in rows if any(row)]
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
