"""Records of load tests."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import LoadLevel


class LoadTest(Record):
    """Latency and throughput of a model or endpoint under load."""

    url: str
    """Base URL; `in this process` where the engine was called directly."""
    model: str
    """Model that was tested."""
    engine: str
    """Inference engine as reported by the endpoint; `not stated` otherwise."""
    max_tokens: int
    """Maximum length of an answer."""
    prompt_words: float
    """Mean number of words in a prompt."""
    ttft_slo_s: float
    """Maximum time to first token (TTFT) of an answer within the limits."""
    tpot_slo_s: float
    """Maximum mean time per output token (TPOT) of an answer within the limits."""
    levels: tuple[LoadLevel, ...]
    """Load levels, in ascending order."""
    max_concurrent_users: int | None
    """Highest number of concurrent users at which 95 % of the answers were within the limits; None if no level
    qualifies, or if the load was a request rate."""
    uri: str | None = None
    """Model URI, if the engine was called directly."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the software involved."""
    machine: str = ""
    """Processor and cores of the machine, if the engine was called directly."""
