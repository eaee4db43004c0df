"""Records of a redteam run: attacks on a service, and what they found."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.scores import Score


class RedteamFinding(Record):
    """A successful attack."""

    id: str
    """Id of the attack."""
    family: str
    """Attack family."""
    asked: str
    """Last prompt of the attack."""
    answer: str
    """Answer of the model, truncated."""


class RedteamReport(Record):
    """Results of a red-team run, scored without a judge model."""

    model: str
    """Model URI."""
    compared_with: str | None
    """Reference model, if any."""
    attacks: int
    """Number of attacks per model."""
    seed: int
    """Seed of secrets and markers."""
    scores: dict[str, dict[str, Score]]
    """Model -> attack family -> success rate; lower is better."""
    guarded: dict[str, dict[str, Score]] = Field(default_factory=dict)
    """The same behind the guard: attacks that it recognizes fail. Empty in records of earlier versions."""
    false_refusals: Score | None = None
    """Share of harmless prompts that the guard takes for an attack."""
    explanations: dict[str, str]
    """Attack family -> what a success means."""
    examples: tuple[RedteamFinding, ...]
    """Examples of successful attacks."""
    seconds: float
    """Wall time in seconds."""
    notes: tuple[str, ...] = ()
    """Notes for the reader."""
    unanswered: int = 0
    """Requests that failed temporarily. If above 0, the run is incomplete; run the same command again to retry them."""
