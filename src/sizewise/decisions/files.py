"""Files of a classifier: JSON for settings and vocabularies, safetensors for numbers. Nothing in them is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.store import write_atomically


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of a classifier.

    Raises:
        SizewiseError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays as safetensors."""
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingExtraError("safetensors", "study") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read arrays that `write_arrays` wrote.

    Raises:
        SizewiseError: the file is missing or damaged.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingExtraError("safetensors", "study") from error
    try:
        found: dict[str, npt.NDArray[Any]] = load_file(path)
        return found
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from error


def check_layer(
    path: Path, weights: npt.NDArray[Any], offsets: npt.NDArray[Any], known: npt.NDArray[Any], options: int, width: int
) -> None:
    """Check that the linear layer of a file fits its options and features.

    Args:
        path: the file, for errors.
        weights: (options with examples, features); one row for two options.
        offsets: one number a row.
        known: columns of the options with examples.
        options: number of options.
        width: number of features.

    Raises:
        SizewiseError: the shapes don't fit each other, or a number isn't finite.
    """
    columns = known.tolist() if known.ndim == 1 and known.dtype.kind in "iu" else []
    distinct = bool(columns) and sorted(set(columns)) == columns and columns[0] >= 0 and columns[-1] < options
    rows = {len(columns)} | ({1} if len(columns) <= 2 else set())
    fits = weights.ndim == 2 and weights.shape[1] == width and len(weights) in rows
    if not (distinct and fits and offsets.shape == (len(weights),)):
        shapes = f"weights {weights.shape}, offsets {offsets.shape} and options {columns or known.shape}"
        raise damaged(path, ValueError(f"{shapes} don't fit {options} options and {width} features"))
    if not (np.isfinite(weights).all() and np.isfinite(offsets).all()):
        raise damaged(path, ValueError("a weight isn't finite"))


def damaged(path: Path, error: Exception) -> SizewiseError:
    """Build the error of a file that can't be read."""
    saved = next((one.parent for one in (path, *path.parents) if one.name == "model"), path.parent)
    return SizewiseError(
        f"{path} can't be read: {str(error) or type(error).__name__}.",
        "the files as training wrote them",
        f"remove {saved}, then run the same sizewise train command again",
    )
