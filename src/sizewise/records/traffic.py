"""Records of many users at once."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import LoadLevel


class LoadTest(Record):
    """How an endpoint does under many users."""

    url: str
    """Base URL; `in this process` where the engine was asked without a connection."""
    model: str
    """Model that was asked."""
    engine: str
    """What runs it, as the endpoint says; `not stated` where it does not."""
    max_tokens: int
    """Longest answer that was asked for."""
    prompt_words: float
    """Mean words of the prompts."""
    ttft_slo_s: float
    """An answer within the limits begins in this time."""
    tpot_slo_s: float
    """And writes each further token in this, on average."""
    levels: tuple[LoadLevel, ...]
    """From few to many."""
    max_concurrent_users: int | None
    """Most users for whom 95 % of the answers were within the limits; None: not even the fewest, or not by users."""
    uri: str | None = None
    """Model URI, where it was asked in this process."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the software at work."""
