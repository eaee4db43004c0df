"""Base class of all records: frozen, strict, and serialized as JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen model that rejects unknown fields, NaN and infinity.

    The schema number is in the envelope that the store writes around a record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def fingerprint(value: Any, length: int = 10) -> str:
    """Hash plain JSON data to a short, stable hexadecimal name.

    Args:
        value: anything that `json.dumps` takes; the order of keys does not matter.
        length: number of hexadecimal digits to keep (10 = 40 bits).
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:length]
