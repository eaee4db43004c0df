"""Prompts with what both models made of them, and which of them are the same prompt."""

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

from sizewise.errors import SizewiseError
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Score

LEAST = 20
LIKELY = "weak_logprob"
MARK_BYTES = 6

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


def normal_form(prompt: str) -> str:
    """Return a prompt without what does not make it another one: case, blanks, forms of a letter, invisible marks."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    invisible = {ord(one): None for one in set(folded) if unicodedata.category(one) == "Cf"}
    return " ".join(unicodedata.normalize("NFKC", folded).translate(invisible).split())


def mark_of(prompt: str) -> str:
    """Return a short hash of a prompt's normal form, by which a policy knows the prompts that it was learnt from."""
    return hashlib.blake2b(normal_form(prompt).encode("utf-8", "replace"), digest_size=MARK_BYTES).hexdigest()


def groups_of(prompts: Sequence[str]) -> Whole:
    """Number the distinct prompts in the order of their first row: (prompts,), equal where the prompt is the same."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normal_form(prompt), len(numbers)) for prompt in prompts], dtype=np.int64)


def share_of(name: str, value: float, different: int) -> Score:
    """Return a share of rows as a Score, with the interval of so many different prompts."""
    share = min(1.0, float(value))
    return proportion_score(name, share * different, different, value=share)


class Labelled(NamedTuple):
    """Prompts with what both models made of them."""

    prompts: list[str]
    weak: Array
    """(prompts,) 1 where the small model did well."""
    strong: Array
    """(prompts,) 1 where the large one did."""
    likely: Array | None
    """(prompts,) mean log-likelihood of the tokens of the small answer; None where the file has none."""


def read_answers(path: Path) -> Labelled:
    """Read prompts with what both models made of them.

    Raises:
        SizewiseError: the file is not of this form, or is empty.
    """
    needed = ("prompt", "weak_ok", "strong_ok")
    truth = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
    prompts: list[str] = []
    answers: list[tuple[float, float]] = []
    likely: list[float] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"it has no column {' or '.join(missing)}")
            for row in reader:
                told = [str(row[name]).strip().lower() for name in needed[1:]]
                if any(one not in truth for one in told) or not row["prompt"]:
                    raise ValueError(f"line {reader.line_num} is no prompt with two of 0 or 1")
                prompts.append(row["prompt"])
                answers.append((truth[told[0]], truth[told[1]]))
                if LIKELY in (reader.fieldnames or ()):
                    likely.append(_finite(row[LIKELY], reader.line_num))
    except (OSError, ValueError, csv.Error) as error:
        raise SizewiseError(
            f"{path} cannot be read: {error}.", f"a CSV file with the columns {', '.join(needed)}", ""
        ) from error
    if not prompts:
        raise SizewiseError(f"{path} has no prompts.", f"at least {LEAST}; a few hundred are better", "")
    table = np.array(answers)
    return Labelled(prompts, table[:, 0], table[:, 1], np.array(likely) if likely else None)


def _finite(text: str | None, line: int) -> float:
    try:
        found = float(text or "")
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"line {line} has no number as {LIKELY}")
    return found
