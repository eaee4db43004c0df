"""Base class of all records: frozen, strict, and serialized as JSON."""

from __future__ import annotations

import hashlib
import json
from functools import singledispatch
from html import escape
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict

from sizewise.errors import SizewiseError
from sizewise.records.html_table import html_table


class Record(BaseModel):
    """Frozen model that rejects unknown fields, NaN and infinity.

    The schema number is in the envelope that the store writes around a record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table of a record, one dictionary per row: scores, candidates, levels or steps.

        Raises:
            SizewiseError: this record has no table.
        """
        return rows_of(self)

    def to_pandas(self) -> Any:
        """Convert the table of a record to a pandas DataFrame.

        Raises:
            SizewiseError: this record has no table, or pandas is not installed.
        """
        return _data_frame("pandas", self.rows())

    def to_polars(self) -> Any:
        """Convert the table of a record to a Polars DataFrame.

        Raises:
            SizewiseError: this record has no table, or Polars is not installed.
        """
        return _data_frame("polars", self.rows())

    def _repr_html_(self) -> str:
        try:
            rows = self.rows()
        except SizewiseError:
            rows = [{"field": name, "value": value} for name, value in self.model_dump().items()]
        summary = getattr(self, "summary", "")
        lead = f"<p><b>{escape(summary)}</b></p>" if summary else ""
        return lead + (html_table(rows) if rows else "<p>no rows</p>")


@singledispatch
def rows_of(record: Record) -> list[dict[str, Any]]:
    """Return the table of a record; `records/tabular.py` registers the types that have one.

    Raises:
        SizewiseError: the record lists nothing.
    """
    raise SizewiseError(
        f"A {type(record).__name__} record has no table.",
        "a record that lists scores, candidates, levels or steps",
        "record.model_dump() returns its fields",
    )


def _data_frame(package: str, rows: list[dict[str, Any]]) -> Any:
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        raise SizewiseError(
            f"{package} is not installed.", f"the package {package}", f"pip install {package}"
        ) from error
    return module.DataFrame(rows)


def fingerprint(value: Any, length: int = 10) -> str:
    """Hash plain JSON data to a short, stable hexadecimal name.

    Args:
        value: anything that `json.dumps` takes; the order of keys does not matter.
        length: number of hexadecimal digits to keep (10 = 40 bits).
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:length]
