"""Records made before a study runs: the machine's health, and the expected effort and power of the study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sizewise.records.base import Record
from sizewise.records.training import Range


class Check(Record):
    """One health check."""

    name: str
    """Name of the check."""
    state: Literal["good", "absent", "problem"]
    """`absent`: something optional isn't installed; `problem`: something prevents the work."""
    message: str
    """Result of the check."""
    next: str = ""
    """The command that fixes it."""


class Health(Record):
    """Whether this machine and installation are ready."""

    checks: tuple[Check, ...]
    """The checks."""
    healthy: bool
    """Whether there are no problems."""
    versions: dict[str, str]
    """Versions of the relevant packages."""


class CandidateEstimate(Record):
    """Expected effort of one candidate."""

    name: str
    """Name of the candidate."""
    model: str
    """Model URI, or `scratch`."""
    parameters: int | None
    """Number of parameters, if known before downloading."""
    memory_bytes: int | None
    """Memory of the weights, or of training if the candidate is trained."""
    fits: bool | None
    """Whether it fits into free memory."""
    train_minutes: float | None
    """Training time, as set in the recipe or estimated."""
    measure_minutes: Range | None
    """Evaluation time; None for remote models."""
    usd: Range | None
    """List price of its answers; None if only machine time is needed, or the price is unknown."""
    notes: tuple[str, ...] = ()
    """Notes for the user."""


class DryRun(Record):
    """Expected effort and statistical power of a study, before it starts."""

    dataset: str
    """Dataset id; reading the data is the only step that ran."""
    train_documents: int
    """Number of training documents."""
    train_bytes: int
    """Their size in bytes of UTF-8."""
    train_examples: int = 0
    """Number of training examples."""
    test_passages: int
    """Number of test passages."""
    test_examples: int
    """Number of test examples."""
    uncontaminated_examples: int
    """Number of test examples without overlap with the training text."""
    test_documents: int
    """Number of source documents of the test items; it determines the width of intervals."""
    can_show: Range | None
    """Minimum detectable difference in accuracy (80% power), assuming shares near one half: lower if items of one
    document are independent, upper if they are all alike."""
    candidates: tuple[CandidateEstimate, ...]
    """Estimate for each candidate."""
    minutes: Range
    """Total time, without remote answers."""
    usd: Range
    """Cost of remote models."""
    disk_bytes: int
    """Approximate size of downloads and output."""
    blockers: tuple[str, ...] = Field(default=())
    """Reasons why the study can't run."""
    warnings: tuple[str, ...] = ()
    """Reasons why the verdict will be weak."""
    measured_metric: str = ""
    """Metric whose variance an earlier evaluation of this data measured; empty if there is none."""
    measured_difference: float | None = None
    """Minimum detectable difference in that metric (80% power), from the measured variance by document."""
    measured_unit: str = ""
    """Unit of that difference."""
    measured_in: str = ""
    """Id of the comparison or evaluation that measured it."""
