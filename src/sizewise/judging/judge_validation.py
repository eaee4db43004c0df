"""Judge validation: a judge model's votes decide something only where it agrees with human raters."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from sizewise.judging.pairs import Judged, share_of, won_by_longer
from sizewise.judging.vote_scores import clustering, codes_of, sampled_raters, vote_score
from sizewise.records import JudgeValidation, ModelDescription, Origin, Score
from sizewise.stats import LEVEL, MIN_CLUSTERS
from sizewise.stats.agreement import agreement_interval, cohen, cohen_sums, imagined_tables
from sizewise.stats.crossed import estimate_share

MIN_VOTES = 30
OPEN_LEVEL = 0.01
"""Level of each test while the round is open, so that about ten looks at its votes stay within 5% together (Pocock,
1977, Group sequential methods in the design and analysis of clinical trials)."""
MIN_KAPPA = 0.2
"""Minimum for the lower end of kappa; below it, agreement is slight (Landis and Koch, 1977, The measurement of observer
agreement for categorical data)."""
MIN_CONSISTENT = 0.5
"""Minimum for the lower end of the share of tasks judged the same with sides swapped; a judge that flips a coin for
each order reaches it, one that always takes the same side never does."""
EVEN = ("tie", "both_bad", "none")
LABELS = ("left", "right", "even")
SWAPPED = "the other with sides swapped"
"""Beginning of a judge model's comment where it changed its choice after the sides were swapped."""
FAMILIES = {
    "claude": ("claude",),
    "command": ("command",),
    "deepseek": ("deepseek",),
    "falcon": ("falcon",),
    "gemini": ("gemini",),
    "gemma": ("gemma",),
    "gpt": ("gpt", "chatgpt", "o1", "o3", "o4"),
    "granite": ("granite",),
    "grok": ("grok",),
    "llama": ("llama",),
    "mistral": ("mistral", "mixtral", "ministral", "codestral", "magistral"),
    "nova": ("nova",),
    "olmo": ("olmo",),
    "phi": ("phi",),
    "qwen": ("qwen", "qwq"),
    "smollm": ("smollm",),
    "yi": ("yi",),
}
"""Model family -> beginnings of the words in a name that tell it."""


class _Rules(NamedTuple):
    """What every judge of a round is held to."""

    threshold: float
    judges: int
    level: float
    """Level of each test."""


def validate_judges(
    judged: Sequence[Judged],
    threshold: float,
    *,
    whose: Sequence[Origin] = ("person",),
    closed: bool = False,
    models: Mapping[str, ModelDescription] | None = None,
) -> list[JudgeValidation]:
    """Test each judge model against people's votes on the same tasks.

    A judge is validated if it passes all tests:

    - votes: people cast at least 30 votes on its tasks, on at least MIN_CLUSTERS source documents;
    - agreement: the share of those votes that made the same choice (tie and both bad are one choice) is significantly
      above the threshold;
    - kappa: so is Cohen's kappa above MIN_KAPPA. Where people nearly always see a tie, a judge without any preference
      agrees with them too, but not beyond chance. Kappa rather than Gwet's AC1, which is high there;
    - consistency: it makes the same choice with sides swapped in significantly more than half of its tasks;
    - self_preference: it doesn't prefer answers of its own model family significantly more than people do.

    Tests are corrected for the number of judges (Bonferroni), because whoever asks many judges finds one that agrees by
    chance, and are stricter while the round is open (OPEN_LEVEL). They cover raters and source documents. Intervals are
    at 95%, uncorrected.

    Args:
        judged: tasks of a round with their votes.
        threshold: minimum agreement.
        whose: origins of the votes that count as people's.
        closed: whether the round is closed to further votes, and earlier ones didn't choose its tasks.
        models: candidates, by which a judge's own family is recognized.
    """
    counted = [(task, vote) for task, vote in judged if task.purpose == "vote" and vote.choice != "skip"]
    people = [(task, vote) for task, vote in counted if vote.origin in whose]
    by_task: dict[str, list[Judged]] = defaultdict(list)
    for task, vote in people:
        by_task[task.id].append((task, vote))
    among = [pair for votes in by_task.values() for pair in combinations(votes, 2)]
    judges = list(dict.fromkeys(vote.rater for _, vote in counted if vote.origin == "model"))
    rules = _Rules(threshold, len(judges), (LEVEL if closed else OPEN_LEVEL) / max(1, len(judges)))
    among_people = _agreement("agreement_among_people", among, "no task was judged by two people")
    found = []
    for judge in judges:
        votes = [(task, vote) for task, vote in counted if vote.rater == judge]
        both = [((task, vote), other) for task, vote in votes for other in by_task.get(task.id, ())]
        own = own_family(judge, models or {})
        found.append(_validate(judge, votes, both, own, among_people, rules))
    return found


def _validate(
    judge: str,
    votes: Sequence[Judged],
    both: Sequence[tuple[Judged, Judged]],
    own: tuple[str, ...],
    among_people: Score,
    rules: _Rules,
) -> JudgeValidation:
    agreement = _agreement("agreement", both, "no human votes on these tasks")
    kappa, kappa_bound = _kappa(both, rules)
    same_side = [not vote.comment.startswith(SWAPPED) for _, vote in votes]
    consistent = _one_rater("consistent", same_side, votes)
    self_preference = _self_preference(both, own) if own else None
    documents = agreement.clusters or 0
    failed = {}
    if agreement.n < MIN_VOTES or documents < MIN_CLUSTERS:
        failed["votes"] = (
            f"people cast {agreement.n} votes on its tasks; at least {MIN_VOTES} are needed, on at least "
            f"{MIN_CLUSTERS} source documents ({documents} so far)"
        )
    if not _exceeds([_same(*pair) for pair in both], both, rules.threshold, rules):
        failed["agreement"] = f"{_lower_end('agreement', agreement)}, threshold {rules.threshold:.2f}"
    if not kappa_bound > MIN_KAPPA:
        failed["kappa"] = f"{_lower_end('agreement beyond chance (kappa)', kappa)}, threshold {MIN_KAPPA:.2f}"
    if not _exceeds(same_side, [(one, one) for one in votes], MIN_CONSISTENT, rules):
        failed["consistency"] = (
            f"{_lower_end('tasks judged the same with sides swapped', consistent)}, threshold {MIN_CONSISTENT:.2f}"
        )
    if self_preference is not None and (self_preference.ci_low or 0.0) > 0:
        failed["self_preference"] = (
            f"it gives {', '.join(own)} {100 * (self_preference.value or 0.0):+z.0f} points more than people do, and "
            "is of the same model family"
        )
    corrected = f"; tested at level {rules.level:.2g}" if rules.level < LEVEL and "votes" not in failed else ""
    passed = f"{_lower_end('agreement', agreement)}, threshold {rules.threshold:.2f}; kappa {kappa.value or 0.0:.2f}"
    return JudgeValidation(
        judge=judge,
        votes=len(votes),
        agreement=agreement,
        kappa=kappa,
        among_people=among_people,
        consistent=consistent,
        longer=won_by_longer(votes),
        self_preference=self_preference,
        family=own,
        threshold=rules.threshold,
        judges=rules.judges,
        validated=not failed,
        failed=tuple(failed),
        reason=(failed.get("votes") or "; ".join(failed.values()) or passed) + corrected,
    )


def _lower_end(what: str, score: Score) -> str:
    if score.ci_low is None:
        return f"{what} unknown ({score.missing_reason or 'too few source documents'})"
    return f"lower end of the {what} {score.ci_low:.2f}"


def _label(vote: Judged) -> str:
    return "even" if vote[1].choice in EVEN else vote[1].choice


def _same(one: Judged, other: Judged) -> bool:
    return _label(one) == _label(other)


def _agreement(metric: str, both: Sequence[tuple[Judged, Judged]], absent: str) -> Score:
    """Compute the share of equal choices; each pair counts for the rater of its second vote."""
    found = vote_score(
        metric,
        [_same(*pair) for pair in both],
        [vote.rater for _, (_, vote) in both],
        [task.cluster for _, (task, _) in both],
        missing_reason=absent,
    )
    return found.model_copy(update={"signature": f"same choice, even is one choice|{found.signature}"})


def _one_rater(metric: str, values: Sequence[bool], votes: Sequence[Judged]) -> Score:
    documents = [task.cluster for task, _ in votes]
    return vote_score(metric, values, [""] * len(votes), documents)


def _exceeds(values: Sequence[bool], both: Sequence[tuple[Judged, Judged]], threshold: float, rules: _Rules) -> bool:
    """Test whether a share is significantly above a threshold, corrected for the number of judges."""
    shares = np.array(values, dtype=np.float64)
    if not len(shares) or shares.mean() <= threshold:
        return False
    if threshold <= 0:
        return True
    raters = sampled_raters([vote.rater for _, (_, vote) in both])
    documents = codes_of([task.cluster for _, (task, _) in both])
    found = estimate_share(shares, raters, documents, null=min(threshold, 1 - 1e-9))
    return found.p < rules.level


def _kappa(both: Sequence[tuple[Judged, Judged]], rules: _Rules) -> tuple[Score, float]:
    """Compute Cohen's kappa of a judge with people, and its lower end at the level of the tests."""
    absent = {"metric": "kappa", "n": len(both), "unit": "-1 to 1", "signature": "cohen"}
    documents = codes_of([task.cluster for _, (task, _) in both])
    if not both:
        return Score(**absent, missing_reason="no human votes on these tasks"), -1.0
    first, second = (np.array([LABELS.index(_label(pair[side])) for pair in both], dtype=np.int64) for side in (0, 1))
    tables = cohen_sums(first, second, len(LABELS))
    value = float(cohen(tables.sum(axis=0)))
    if not np.isfinite(value):
        return Score(**absent, missing_reason="the judge and people always made one and the same choice"), -1.0
    by_document = _summed(tables, documents)
    if len(by_document) < MIN_CLUSTERS:
        return Score(**absent, value=value, clusters=len(by_document)), -1.0
    raters = sampled_raters([vote.rater for _, (_, vote) in both])
    of_raters = None if raters is None else _summed(tables, raters)
    effective = 0.0 if raters is None else float(len(both) ** 2 / np.square(np.bincount(raters)).sum())
    ci_low, ci_high = agreement_interval(by_document, imagined_tables(tables), cohen, of_raters, effective)
    stricter = float(norm.isf(rules.level / 2) / norm.isf(LEVEL / 2))
    score = Score(
        **absent | {"signature": f"cohen|jackknife:{clustering(raters is not None, 'once')}"},
        value=value,
        ci_low=ci_low,
        ci_high=ci_high,
        clusters=len(by_document),
    )
    return score, value - stricter * (value - ci_low)


def _summed(tables: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    found = np.zeros((int(groups.max()) + 1, *tables.shape[1:]))
    np.add.at(found, groups, tables)
    return found


def _self_preference(both: Sequence[tuple[Judged, Judged]], own: Sequence[str]) -> Score:
    """Compute by how much a judge favors its own family's candidates more than people do, on the same tasks."""
    kept, values = [], []
    for (task, vote), other in both:
        mine = [name for name in (task.left, task.right) if name in own]
        if len(mine) == 1:
            kept.append(other)
            values.append(share_of(task, vote, mine[0]) - share_of(*other, mine[0]))
    return vote_score(
        "self_preference",
        values,
        [vote.rater for _, vote in kept],
        [task.cluster for task, _ in kept],
        scale=(-1.0, 1.0),
        missing_reason="people didn't vote on its family's answers",
    )


def own_family(judge: str, models: Mapping[str, ModelDescription]) -> tuple[str, ...]:
    """Return the candidates that are of a judge model's family, by their names and by what they were trained from."""
    of_judge = _families([judge.removeprefix("model ")])
    return tuple(
        name for name, model in models.items() if of_judge & _families([name, model.uri, *filter(None, [model.start])])
    )


def _families(names: Iterable[str]) -> set[str]:
    """Find model families in names and URIs, such as `qwen` in `hf:Qwen/Qwen2.5-0.5B-Instruct`."""
    found = set()
    for name in names:
        last = name.rsplit("/", 1)[-1].lower()
        for word in re.split(r"[^a-z0-9]+", last):
            found |= {family for family, starts in FAMILIES.items() if _begins(word, starts)}
    return found


def _begins(word: str, starts: Sequence[str]) -> bool:
    """Return whether a word is one of these, followed by nothing but a version."""
    return any(re.fullmatch(rf"{start}v?[\d.]*[a-z]?", word) for start in starts)
