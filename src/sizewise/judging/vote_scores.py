"""Scores of votes: means over raters and source documents, which are crossed clusters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sizewise.judging.labels import look_alikes
from sizewise.records import Score
from sizewise.stats import MIN_CLUSTERS
from sizewise.stats.crossed import MIN_RATERS, Reading, estimate_share

IntArray = npt.NDArray[np.int64]
Names = Sequence[Any] | npt.NDArray[Any]


def codes_of(names: Names) -> IntArray:
    """Number the different names from 0."""
    if isinstance(names, np.ndarray):
        return np.unique(names, return_inverse=True)[1].astype(np.int64)
    known: dict[Any, int] = {}
    return np.fromiter((known.setdefault(name, len(known)) for name in names), dtype=np.int64, count=len(names))


def sampled_raters(raters: Names) -> IntArray | None:
    """Number the raters; None if they are too few for a statement about raters in general."""
    codes = codes_of(raters)
    return codes if len(codes) and codes.max() + 1 >= MIN_RATERS else None


def clustering(raters: bool, reading: Reading) -> str:
    """Describe for a signature which clusters an interval covers, and whether votes were still coming in."""
    return ("raters x documents" if raters else "documents") + ("" if reading == "once" else ", anytime-valid")


def vote_score(
    metric: str,
    values: Sequence[float] | npt.NDArray[np.float64],
    raters: Names,
    documents: Names,
    *,
    reading: Reading = "once",
    scale: tuple[float, float] = (0.0, 1.0),
    missing_reason: str = "no votes",
) -> Score:
    """Build the score of a mean of votes; on fewer than MIN_CLUSTERS source documents it has no interval.

    Args:
        metric: name of the score.
        values: value of each vote.
        raters: rater of each vote.
        documents: source document of each vote.
        reading: how often the score is read, see `stats.crossed`.
        scale: lowest and highest possible value.
        missing_reason: why there is no value, if there are no votes.
    """
    lowest, highest = scale
    unit = "share" if scale == (0.0, 1.0) else f"{lowest:g} to {highest:g}"
    if not len(values):
        return Score(metric=metric, n=0, unit=unit, signature="wilson", missing_reason=missing_reason)
    of_raters, of_documents = sampled_raters(raters), codes_of(documents)
    count = int(of_documents.max()) + 1
    shares = (np.asarray(values, dtype=np.float64) - lowest) / (highest - lowest)
    found = estimate_share(shares, of_raters, of_documents, reading=reading)
    enough = count >= MIN_CLUSTERS
    return Score(
        metric=metric,
        value=lowest + (highest - lowest) * found.value,
        ci_low=lowest + (highest - lowest) * found.ci_low if enough else None,
        ci_high=lowest + (highest - lowest) * found.ci_high if enough else None,
        n=len(values),
        unit=unit,
        signature=f"wilson|{clustering(of_raters is not None, reading)}",
        clusters=count,
    )


def raters_note(raters: int) -> str | None:
    """Explain what intervals of too few raters cover; None if there are enough."""
    if raters >= MIN_RATERS:
        return None
    who = "there is only one rater: nothing is known" if raters == 1 else f"{raters} raters: too little is known"
    return f"{who} about other raters, so intervals and p-values cover further items, judged by the same raters"


def rater_notes(votes: Mapping[str, int]) -> Iterator[str]:
    """Note raters whose names look alike, and a rater who cast more than half of the votes.

    Args:
        votes: rater -> number of votes.
    """
    yield from look_alikes(votes, "raters")
    most = max(votes, key=lambda name: votes[name], default="")
    if len(votes) > 1 and 2 * votes[most] > sum(votes.values()):
        yield f"{most} cast {votes[most]:,} of {sum(votes.values()):,} votes, so the results are mostly that rater's"
