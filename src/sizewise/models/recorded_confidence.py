"""How probable the tokens of a recorded answer were: in a column of its file, or in the log of a request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sizewise.controls import cell_number

CONFIDENCE_KEY, LOGPROB_KEYS = "confidence", ("mean_logprob", "avg_logprob")


def read_confidence(row: Mapping[str, Any]) -> float | None:
    """Read the confidence of an answer from 0 to 1, or its mean log-likelihood per token; None without a usable one."""
    given = _number(row.get(CONFIDENCE_KEY))
    if given is not None:
        return given if 0 <= given <= 1 else None
    known = next((value for key in LOGPROB_KEYS if (value := _number(row.get(key))) is not None), None)
    return math.exp(known) if known is not None and known <= 0 else None


def token_confidence(logprobs: Any) -> float | None:
    """Compute the geometric mean of token probabilities in OpenAI's form, `{"content": [{"logprob": -0.1}, ...]}`."""
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(tokens, list):
        return None
    values = [_number(one.get("logprob")) if isinstance(one, Mapping) else None for one in tokens]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return math.exp(min(0.0, sum(known) / len(known)))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = cell_number(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
