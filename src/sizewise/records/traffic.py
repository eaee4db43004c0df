"""Records of many users at once."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class LoadLevel(Record):
    """What so many users, or requests a second, met with."""

    users: int | None
    """Users at once, each asking again when answered; None where requests came at a rate."""
    rate: float | None
    """Requests a second, at random times (Poisson); None where users waited for answers."""
    requests: int
    """Requests that were sent."""
    errors: dict[str, int]
    """Kind of error -> how many; a refusal (429) is one."""
    seconds: float
    """From the first request to the last answer."""
    scores: dict[str, Score]
    """first_token_s_p50 and _p95, token_s_p50 and _p95 (a token after the first), gap_s_p95 (between pieces),
    answer_s_p50 and _p95, tokens_per_s, requests_per_s, goodput_per_s (answers within the limits), within_limits."""


class Load(Record):
    """How an endpoint does under many users."""

    url: str
    """Base URL."""
    model: str
    """Model that was asked."""
    engine: str
    """What runs it, as the endpoint says; `not stated` where it does not."""
    max_tokens: int
    """Longest answer that was asked for."""
    prompt_words: float
    """Mean words of the prompts."""
    limit_first_token_s: float
    """An answer within the limits begins in this time."""
    limit_token_s: float
    """And writes each further token in this, on average."""
    levels: tuple[LoadLevel, ...]
    """From few to many."""
    most_users: int | None
    """Most users for whom 95 % of the answers were within the limits; None: not even the fewest, or not by users."""
    notes: tuple[str, ...] = ()
    """What a reader should know."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the software at work."""
