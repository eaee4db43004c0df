"""Read Parquet, Arrow and Feather files in pieces, with the label names that Hugging Face datasets keep."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sizewise.documents.decoding import Unreadable
from sizewise.documents.tables import Row, column_name, make_row
from sizewise.documents.text_lines import MAX_ROW_CHARACTERS
from sizewise.documents.values import Decimal
from sizewise.errors import install_command

PARQUET_KINDS = (".parquet", ".pq")
ARROW_KINDS = (".arrow", ".feather", ".ipc")
KINDS = (*PARQUET_KINDS, *ARROW_KINDS)
INFO_FILE = "dataset_info.json"
_ROWS, _BYTES = 1_000, 64 * 2**20


def columnar_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet, Arrow or Feather file; the line of a row is its number, counted from 1.

    Raises:
        Unreadable: The package pyarrow is missing, or the file is damaged.
    """
    number = 0
    with _damage_named(path):
        for batch in _batches(path):
            for values in batch.to_pylist():
                number += 1
                yield _row(number, values)


def label_names(path: Path) -> dict[str, list[str]]:
    """Return the names of integer labels by column, from the file or the dataset_info.json next to it.

    Raises:
        Unreadable: The package pyarrow is missing, or the file is damaged.
    """
    with _damage_named(path):
        metadata: Mapping[bytes, bytes] = _schema(path).metadata or {}
    stated = [metadata.get(b"huggingface", b"{}")]
    beside = path.parent / INFO_FILE
    try:
        stated.append(beside.read_bytes() if beside.is_file() else b"{}")
        infos = [json.loads(text) for text in stated]
    except (OSError, ValueError):
        return {}
    names: dict[str, list[str]] = {}
    for info in infos:
        features = info.get("info", info).get("features") if isinstance(info, dict) else None
        for column, feature in (features if isinstance(features, dict) else {}).items():
            inner = _element(feature)
            if isinstance(inner, dict) and isinstance(inner.get("names"), list):
                names.setdefault(column_name(column), [name for name in inner["names"] if isinstance(name, str)])
    return names


def _element(feature: Any) -> Any:
    """Return the feature of the elements of a sequence, or the feature itself."""
    while isinstance(feature, list) or (isinstance(feature, dict) and isinstance(feature.get("feature"), list | dict)):
        feature = feature["feature"] if isinstance(feature, dict) else feature[0] if feature else None
    return feature


def _row(number: int, values: Mapping[str, Any]) -> Row:
    for column, value in values.items():
        if isinstance(value, str) and len(value) > MAX_ROW_CHARACTERS:
            return Row(number, {}, f"a row of {len(value):,} characters in '{column}'")
    return make_row(number, {column: _plain(value) for column, value in values.items()})


def _plain(value: Any) -> Any:
    """Convert a value to what JSON has: dates to ISO 8601, decimals to numbers with their spelling."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}  # null pads keys of other rows
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return Decimal(str(value)) if isinstance(value, decimal.Decimal) else value


def _check_installed(path: Path) -> None:
    if find_spec("pyarrow") is None:
        raise Unreadable(f"{path.suffix.lower()}, needs {install_command('data')}")


def _batches(path: Path) -> Iterator[Any]:
    """Yield record batches of a size that fits into memory."""
    _check_installed(path)
    if path.suffix.lower() in PARQUET_KINDS:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            row_bytes = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
            yield from file.iter_batches(batch_size=max(1, min(_ROWS, _BYTES // max(1, row_bytes))))
        return
    with _arrow(path) as reader:
        for batch in reader:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)


def _schema(path: Path) -> Any:
    _check_installed(path)
    if path.suffix.lower() in PARQUET_KINDS:
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(path)
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        try:
            return pyarrow.ipc.open_stream(file).schema
        except pyarrow.ArrowInvalid:
            return pyarrow.ipc.open_file(file).schema


@contextmanager
def _arrow(path: Path) -> Iterator[Iterator[Any]]:
    """Open an Arrow file in the stream format, which Hugging Face datasets use, or in the file format."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as file:
        try:
            reader = pyarrow.ipc.open_stream(file)
        except pyarrow.ArrowInvalid:
            whole = pyarrow.ipc.open_file(file)
            yield (whole.get_batch(number) for number in range(whole.num_record_batches))
        else:
            yield iter(reader)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Unreadable:
        raise
    except (OSError, ValueError, ImportError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
        reason = str(error).split("\n")[0][:100]
        raise Unreadable(f"{path.suffix.lower()}, damaged or of an unknown kind ({reason})") from error
