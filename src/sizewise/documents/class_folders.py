"""Folders that are classes: spam/1.txt and ham/2.txt, or train/spam/1.txt; each text has its folder as label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from sizewise.documents.cleaning import clean_text
from sizewise.documents.decoding import decode_file
from sizewise.documents.reading import FileRead
from sizewise.documents.values import SPLIT_NAMES
from sizewise.records import Example, Message, Split

FOLDER = "folder"
"""Value of --label that declares the folders of text files to be classes."""
FORM = "a text file in the folder of its class"
CLASS_NAMES = frozenset(
    (
        *("spam", "ham", "phishing", "fraud", "legit", "legitimate", "genuine", "pos", "neg", "positive", "negative"),
        *("neutral", "mixed", "yes", "no", "true", "false", "relevant", "irrelevant", "toxic", "safe", "unsafe"),
    )
)
MIN_FILES, MIN_PER_FOLDER, SHORT_BYTES = 20, 5, 600
MAX_OUTSIDE = 0.1
"""Files beside the folders of classes, as a share of those in them, up to which a note says how to read classes."""
_KINDS = (".txt", ".text")
_BESIDE = ("readme", "license", "licence", "note", "notice", "citation", "changelog")
_LISTED = 5


class InClass(NamedTuple):
    """The class of a file."""

    label: str
    split: Split | None


class Classes(NamedTuple):
    """The classes of the files of a folder, if its folders are classes."""

    files: Mapping[Path, InClass]
    note: str = ""


def find_classes(named: Sequence[tuple[Path, str]], label: str) -> Classes:
    """Find the classes of text files that lie in a folder per class.

    Folders are classes if the user says so, or else if all texts lie in such folders and either their names are those
    of classes (spam, ham), the same folders are below train and test, or the texts are as short as messages. Folders of
    documents are none.

    Args:
        named: (path, name in the dataset) of each file.
        label: The label column that the user named; `folder` declares the folders to be classes.
    """
    found: dict[Path, InClass] = {}
    outside: list[str] = []
    for path, name in named:
        in_class = _in_class(name) if path.suffix.lower() in _KINDS else None
        if in_class is not None:
            found[path] = in_class
        elif not path.name.lower().startswith(_BESIDE):
            outside.append(name)
    counts = Counter(one.label for one in found.values())
    if len(counts) < 2 or (label and label != FOLDER):
        return Classes({})
    shown = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(_LISTED))
    shown += f" and {len(counts) - _LISTED:,} more" if len(counts) > _LISTED else ""
    if label != FOLDER and outside:
        if len(outside) > MAX_OUTSIDE * len(found) or not _are_classes(found, counts):
            return Classes({})
        beside = ", ".join(outside[:_LISTED]) + (" ..." if len(outside) > _LISTED else "")
        advice = f"if the {len(counts):,} folders are classes, add --label folder: {shown}"
        return Classes({}, f"read as documents, because of files beside the folders ({beside}); {advice}")
    if label != FOLDER and not _are_classes(found, counts):
        return Classes(
            {}, f"read as documents; if the {len(counts):,} folders are classes, add --label folder: {shown}"
        )
    return Classes(found, f"each of {len(found):,} text files is an example whose label is its folder: {shown}")


def _in_class(name: str) -> InClass | None:
    folders = name.split("/")[:-1]
    split = SPLIT_NAMES.get(folders[0].lower()) if len(folders) == 2 else None
    if len(folders) == 1 and folders[0].lower() not in SPLIT_NAMES:
        return InClass(folders[0], None)
    return InClass(folders[1], split) if split is not None else None


def _are_classes(found: Mapping[Path, InClass], counts: Counter[str]) -> bool:
    if CLASS_NAMES.issuperset(name.lower() for name in counts):
        return True
    splits: dict[str, set[Split | None]] = {}
    for one in found.values():
        splits.setdefault(one.label, set()).add(one.split)
    if all(len(some - {None}) > 1 for some in splits.values()):
        return True
    if len(found) < MIN_FILES or min(counts.values()) < MIN_PER_FOLDER:
        return False
    return median(path.stat().st_size for path in found) <= SHORT_BYTES


def read_in_class(path: Path, name: str, in_class: InClass) -> FileRead:
    """Read a text file as an example of its class; a file without text is noted.

    Raises:
        Unreadable: Its encoding is unclear.
    """
    text, _ = decode_file(path)
    read, cleaned = FileRead(), clean_text(text)
    if not cleaned:
        read.notes.append(f"{name}: skipped, it has no text")
        return read
    example = Example(
        id=name,
        messages=(Message(role="user", content=cleaned),),
        references=(in_class.label,),
        label=in_class.label,
        source=name,
        split=in_class.split,
    )
    read.add(example, FORM)
    return read
