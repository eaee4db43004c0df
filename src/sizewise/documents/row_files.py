"""Open files of rows: JSON Lines, JSON, CSV and TSV (also compressed), Parquet, Arrow and Feather."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from sizewise.documents import columnar
from sizewise.documents.cell_tables import CELL_KINDS, cell_rows
from sizewise.documents.tables import JSON_KINDS, Row, json_rows
from sizewise.documents.tasks import LabelNames
from sizewise.documents.text_lines import COMPRESSED, TextLines
from sizewise.documents.values import SPLIT_NAMES, split_in
from sizewise.records import Split

TEXT_ROW_KINDS = (*JSON_KINDS, *CELL_KINDS)
KINDS = (*TEXT_ROW_KINDS, *(f"{kind}{suffix}" for kind in TEXT_ROW_KINDS for suffix in COMPRESSED), *columnar.KINDS)
_NUMBER = re.compile(r"[-_.]?\d+[-_]of[-_]\d+")
_HASH = re.compile(r"[-_.](?=[a-f]*\d)[0-9a-f]{6,}\Z")
_WORD = re.compile(r"[^\W\d_]+")
_DATASET_FILES = ("dataset_info.json", "state.json", "dataset_dict.json")


class OpenRows(NamedTuple):
    """The rows of a file."""

    rows: Iterator[Row]
    guess: str = ""
    """How the encoding was guessed, if it was."""
    label_names: LabelNames = MappingProxyType({})
    """Column -> names of its integer labels."""
    notes: Sequence[str] = ()
    """Remarks on the table, complete after the last row."""


def kind_of(path: Path) -> str:
    """Return the extension of a path in lower case; of a compressed file the last two."""
    kind = path.suffix.lower()
    return f"{Path(path.stem).suffix.lower()}{kind}" if kind in COMPRESSED else kind


def open_rows(path: Path, known: frozenset[str], *, replace_surrogates: bool = False) -> OpenRows:
    """Open a file of rows by its extension; other extensions are read as JSON Lines.

    Args:
        path: The file.
        known: Column names of which a table needs at least one.
        replace_surrogates: Replace unpaired surrogates in JSON with U+FFFD.

    Raises:
        Unreadable: The file is binary or damaged, its encoding is unclear, or a package is missing.
    """
    kind = kind_of(path).removesuffix(COMPRESSED[0])
    if kind in columnar.KINDS:
        return OpenRows(columnar.columnar_rows(path), label_names=columnar.label_names(path))
    file = TextLines(path)
    if kind in CELL_KINDS:
        notes: list[str] = []
        return OpenRows(cell_rows(file, known, notes), file.guess, notes=notes)
    return OpenRows(json_rows(file, replace_surrogates=replace_surrogates), file.guess)


def splits_in_names(paths: Sequence[tuple[Path, str]]) -> dict[Path, Split]:
    """Return the split that the name or folder of a file states, as in data/train-00000-of-00001.parquet.

    Names count only if other files state another split. A name with further words, such as faq_train, needs one with
    the same words, such as faq_test. Without a test split, files that state `train` are left to be split.

    Args:
        paths: (path, name in the dataset) of each file.
    """
    named = {path: split for path, name in paths if (split := _split_in(name)) is not None}
    splits_of: dict[str, set[Split]] = {}
    for stated_split, rest in named.values():
        splits_of.setdefault(rest, set()).add(stated_split)
    found = {path: split for path, (split, rest) in named.items() if not rest or len(splits_of[rest]) > 1}
    stated = set(found.values())
    if len(stated) < 2:
        return {}
    return found if "test" in stated else {path: split for path, split in found.items() if split != "train"}


def _split_in(name: str) -> tuple[Split, str] | None:
    """Return the split that a file's name states, or else the nearest of its folders, and the other words there."""
    path = Path(name)
    if kind_of(path) not in KINDS:
        return None
    stem = path.name[: -len(kind_of(path))]
    for part in (stem, *(folder.name for folder in path.parents)):
        part = _HASH.sub("", _NUMBER.sub("", part.lower()))
        split = split_in(part)
        if split is not None:
            return split, " ".join(word for word in _WORD.findall(part) if word not in SPLIT_NAMES)
    return None


def is_dataset_file(path: Path) -> bool:
    """Check whether a file describes a dataset that Hugging Face datasets saved, instead of being part of it."""
    if path.name not in _DATASET_FILES:
        return False
    return path.name == "dataset_dict.json" or any(path.parent.glob("*.arrow")) or any(path.parent.glob("*.parquet"))


def is_leftover(path: Path) -> bool:
    """Check whether a file is next to a saved dataset without being part of it, such as a cache."""
    state = path.parent / "state.json"
    if path.suffix.lower() != ".arrow" or not state.is_file():
        return False
    try:
        listed = json.loads(state.read_bytes()).get("_data_files")
        return bool(listed) and path.name not in {file["filename"] for file in listed}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return False


def is_dataset_card(path: Path, paths: Sequence[tuple[Path, str]]) -> bool:
    """Check whether a README.md is the card of a dataset: it begins with YAML, and files of rows are next to it."""
    if path.name.lower() != "readme.md" or not any(
        kind_of(other) in KINDS and other.is_relative_to(path.parent) for other, _ in paths
    ):
        return False
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(b"---")
    except OSError:
        return False
