"""Record of the conditions of one run: an evaluation has an identity, and each of its runs has these."""

from __future__ import annotations

from pydantic import Field

from sizewise.records.base import Record


class RunConditions(Record):
    """When and where an evaluation was run, and what answered.

    Model, precision, engine and the date of prompts are in the description of the model, versions of packages in the
    evaluation.
    """

    number: int = 1
    """Number of the run: 1 for the first one, 2 for its first repetition."""
    started: str
    """When it started (UTC, ISO); a resumed run, when it was resumed."""
    machine: str = ""
    """Processor and cores of the machine that ran Sizewise, also for a remote model."""
    cores: int = 0
    """Cores that the process could use."""
    load_1m: float | None = None
    """Processes that ran or waited for a core on average in the last minute of the run; None if unknown."""
    decoding: str = ""
    """How tokens were chosen: greedy, or samples and temperature; empty if no answer was generated."""
    hub_commit: str = ""
    """Commit of a model on the Hub."""
    served_models: dict[str, int] = Field(default_factory=dict)
    """Model named in the responses of a service -> its answers."""
    fingerprints: dict[str, int] = Field(default_factory=dict)
    """Fingerprint of the backend in the responses of a service -> its answers."""
