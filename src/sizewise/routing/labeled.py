"""Prompts labeled with whether each of two models answered well, and detection of duplicate prompts."""

from __future__ import annotations

import csv
import hashlib
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.controls import cell_number
from sizewise.documents.saved_csv import check_cells, open_csv
from sizewise.errors import SizewiseError
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Score

MIN_PROMPTS = 20
LOGPROB_COLUMN = "weak_logprob"
HASH_BYTES = 6

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def normalize_prompt(prompt: str) -> str:
    """Normalize case, whitespace, Unicode compatibility forms and invisible characters."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    invisible = {ord(character): None for character in set(folded) if unicodedata.category(character) == "Cf"}
    return " ".join(unicodedata.normalize("NFKC", folded).translate(invisible).split())


def hash_prompt(prompt: str) -> str:
    """Compute a short hash of the normalized prompt, which a policy stores to recognize its calibration prompts."""
    return hashlib.blake2b(normalize_prompt(prompt).encode("utf-8", "replace"), digest_size=HASH_BYTES).hexdigest()


def group_duplicates(prompts: Sequence[str]) -> IntArray:
    """Number the distinct prompts in order of appearance: (prompts,), equal for duplicates."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalize_prompt(prompt), len(numbers)) for prompt in prompts], dtype=np.int64)


def share_of(name: str, value: float, distinct: int) -> Score:
    """Build a Score from a proportion of rows, with a Wilson interval for the number of distinct prompts."""
    share = min(1.0, float(value))
    return proportion_score(name, share * distinct, distinct, value=share)


class LabeledPrompts(NamedTuple):
    """Prompts labeled with whether both models answered well."""

    prompts: list[str]
    weak: Array
    """(prompts,) 1 where the small model answered well."""
    strong: Array
    """(prompts,) 1 where the large model answered well."""
    logprobs: Array | None
    """(prompts,) mean log-likelihood of the tokens of the small model's answer; None if the file has no such column."""


def read_labeled(path: Path) -> LabeledPrompts:
    """Read a CSV file of labeled prompts.

    Raises:
        SizewiseError: the file cannot be read, has wrong columns or values, or is empty.
    """
    required = ("prompt", "weak_ok", "strong_ok")
    truth = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
    prompts: list[str] = []
    labels: list[tuple[float, float]] = []
    logprobs: list[float] = []
    try:
        with open_csv(path) as reader:
            absent = [name for name in required if name not in (reader.fieldnames or ())]
            if absent:
                raise ValueError(f"missing column {', '.join(absent)}")
            for row in reader:
                check_cells(reader, row)
                values = [str(row[name]).strip().lower() for name in required[1:]]
                if not row["prompt"]:
                    raise ValueError(f"line {reader.line_num}: the prompt is empty")
                if any(value not in truth for value in values):
                    raise ValueError(f"line {reader.line_num}: {' and '.join(required[1:])} must be 0 or 1")
                prompts.append(row["prompt"])
                labels.append((truth[values[0]], truth[values[1]]))
                if LOGPROB_COLUMN in (reader.fieldnames or ()):
                    logprobs.append(_parse_finite(row[LOGPROB_COLUMN], reader.line_num))
    except (OSError, ValueError, csv.Error) as error:
        raise SizewiseError(
            f"Cannot read {path}: {error}.",
            f"a CSV file with the columns {', '.join(required)}",
            f"correct {path.name}",
        ) from error
    if not prompts:
        raise SizewiseError(
            f"{path} has no prompts.", f"at least {MIN_PROMPTS}; a few hundred are better", f"add rows to {path.name}"
        )
    table = np.array(labels)
    return LabeledPrompts(prompts, table[:, 0], table[:, 1], np.array(logprobs) if logprobs else None)


def _parse_finite(text: str | None, line: int) -> float:
    try:
        value = cell_number(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"line {line}: {LOGPROB_COLUMN} must be a number")
    return value
