"""Decisions by groups of people: rates, the largest gap of each, and words that give a group away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2

from sizewise.comparison.decided import Decided, as_score
from sizewise.documents.decisions import MISSING
from sizewise.records import Score
from sizewise.records.decision_analysis import GroupFigures, GroupGap, Proxy
from sizewise.stats.decision_curves import jackknife_area, roc_area
from sizewise.stats.error_costs import HAND_OVER
from sizewise.stats.group_gaps import Gaps, compare_groups
from sizewise.stats.inference import MIN_CLUSTERS, FloatArray, IntArray, Interval
from sizewise.stats.multiplicity import false_discovery
from sizewise.text import fold_text, words_of

MAX_GROUPS = 20
"""More groups than this aren't compared: the column is then an id or a free text."""
SHOWN_PROXIES = 10
MIN_TEXTS = 5
"""Minimum number of texts with a word."""
FOLDS = 5
ERROR_RATES = ("false_positive_rate", "false_negative_rate", "error_rate")
"""Rates to which the need max_bias_gap applies."""
_SMOOTHING = 0.5


class GroupData(NamedTuple):
    """Groups of people and texts of the test examples."""

    groups: Mapping[str, Mapping[str, str]]
    """Column -> example -> group."""
    texts: Mapping[str, str]
    """Example -> text."""


def group_figures(
    test: Decided,
    actions: IntArray,
    labels: Sequence[str],
    positive: int | None,
    people: GroupData,
    before: tuple[str, Decided] | None = None,
    seed: int = 0,
) -> tuple[GroupFigures, ...]:
    """Compute the figures of each column of groups; all columns and rates share one error budget.

    Args:
        test: the cases.
        actions: (items,) decided label, or HAND_OVER.
        labels: the labels.
        positive: index of the positive label; None with more than two.
        people: groups and texts.
        before: id and cases of an evaluation whose gaps are subtracted, decided by the most likely label.
        seed: seed of the draws.
    """
    found = []
    columns = _compared(test, people)
    for column, (kept, names) in columns.items():
        chosen = _subset(test, kept)
        rates = _rates(chosen, actions[kept], positive)
        compared = {
            rate: compare_groups(
                values[counted],
                [name for name, one in zip(names, counted, strict=True) if one],
                [cluster for cluster, one in zip(chosen.clusters, counted, strict=True) if one],
                claims=len(rates) * len(columns),
                seed=seed,
            )
            for rate, (values, counted) in rates.items()
        }
        gaps = [_gap(rate, gaps) for rate, gaps in compared.items()]
        if before is not None:
            gaps += _changes(chosen, rates, names, positive, before, seed, len(columns))
        texts = [people.texts.get(item, "") for item in chosen.items]
        found.append(
            GroupFigures(
                column=column,
                positive="" if positive is None else labels[positive],
                rates={rate: _by_group(rate, gaps) for rate, gaps in compared.items()},
                gaps=tuple(gaps),
                predictability=predictability(texts, names, chosen.clusters),
                proxies=proxies(texts, names),
            )
        )
    return tuple(found)


def _compared(test: Decided, people: GroupData) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Choose the columns with groups to compare: which cases have one, and the group of each of these."""
    found = {}
    for column, groups in people.groups.items():
        kept = np.array([bool(groups.get(item)) for item in test.items], dtype=bool)
        names = [groups[item] for item, one in zip(test.items, kept, strict=True) if one]
        if kept.any() and 2 <= len(set(names)) <= MAX_GROUPS:
            found[column] = kept, names
    return found


def group_notes(test: Decided, people: GroupData) -> list[str]:
    """List the cases, groups and columns that aren't compared; without them, equal rates may look too fair."""
    notes = []
    for column, groups in people.groups.items():
        spellings: dict[str, set[str]] = {}
        members = Counter(groups[item] for item in test.items if groups.get(item))
        clusters: dict[str, set[str]] = {name: set() for name in members}
        for item, cluster in zip(test.items, test.clusters, strict=True):
            if groups.get(item):
                clusters[groups[item]].add(cluster)
        for name in members:
            spellings.setdefault(fold_text(name), set()).add(name)
        without = len(test.items) - members.total()
        if not 2 <= len(members) <= MAX_GROUPS:
            notes.append(f"{column}: not compared, because the cases have {_counted(members)}.")
            continue
        if without:
            notes.append(f"{column}: {without} of {len(test.items)} cases have no group and aren't compared.")
        small = [f"'{name}' ({n})" for name, n in members.items() if len(clusters[name]) < MIN_CLUSTERS]
        if small:
            listed = ", ".join(small)
            notes.append(f"{column}: too few source documents to compare (at least {MIN_CLUSTERS}): {listed}.")
        unstated = [f"'{name}' ({n})" for name, n in sorted(members.items()) if name.casefold() in MISSING]
        if unstated:
            notes.append(f"{column}: {', '.join(unstated)} may stand for a missing group, but is compared as a group.")
        alike = [" and ".join(f"'{one}'" for one in sorted(some)) for some in spellings.values() if len(some) > 1]
        if alike:
            listed = ", ".join(alike)
            notes.append(f"{column}: {listed} differ only in case or blanks and are compared as different groups.")
    return notes


def _counted(members: Counter[str]) -> str:
    if len(members) > MAX_GROUPS:
        return f"{len(members):,} groups, more than {MAX_GROUPS}"
    return f"only the group '{next(iter(members))}'" if members else "no group"


def _subset(test: Decided, kept: np.ndarray) -> Decided:
    items = tuple(item for item, one in zip(test.items, kept, strict=True) if one)
    clusters = [cluster for cluster, one in zip(test.clusters, kept, strict=True) if one]
    return Decided(items, clusters, test.probabilities[kept], test.correct[kept])


def _rates(test: Decided, actions: IntArray, positive: int | None) -> dict[str, tuple[FloatArray, np.ndarray]]:
    """Compute each rate's value of every case, and which cases count."""
    everyone = np.ones(len(actions), dtype=bool)
    made = actions != HAND_OVER
    if positive is None:
        wrong = (actions != test.correct).astype(np.float64)
        gap = test.is_correct - test.confidence
        found = {"error_rate": (wrong, made), "calibration_gap": (gap, everyone)}
    else:
        decided, is_positive = (actions == positive).astype(np.float64), test.correct == positive
        gap = is_positive - test.probabilities[:, positive]
        found = {
            "selection_rate": (decided, everyone),
            "false_positive_rate": (decided, ~is_positive),
            "false_negative_rate": (1.0 - decided, is_positive & made),
            "calibration_gap": (gap, everyone),
        }
    if not made.all():
        found["hand_over_rate"] = ((~made).astype(np.float64), everyone)
    return found


def _by_group(rate: str, gaps: Gaps) -> dict[str, Score]:
    return {
        one.group: as_score(rate, one.rate, one.n, signature=f"{rate}|by source document").model_copy(
            update={"clusters": one.clusters}
        )
        for one in gaps.rates
    }


def _gap(rate: str, gaps: Gaps, compared_with: str = "") -> GroupGap:
    worst = gaps.worst
    n = sum(one.n for one in gaps.rates)
    if worst is None:
        reason = "fewer than two groups have enough source documents"
        return GroupGap(
            rate=rate, size=as_score(f"{rate}_gap", None, n, reason=reason), left="", right="", p=None,
            detectable=None, compared_with=compared_with,
        )  # fmt: skip
    ends = (worst.left, worst.right) if worst.value >= 0 else (worst.right, worst.left)
    return GroupGap(
        rate=rate,
        size=as_score(f"{rate}_gap", gaps.worst_interval, n, signature=f"{rate}_gap|largest of all pairs"),
        left=ends[0],
        right=ends[1],
        p=gaps.p,
        detectable=gaps.detectable,
        compared_with=compared_with,
    )


def _changes(
    test: Decided,
    rates: Mapping[str, tuple[FloatArray, np.ndarray]],
    names: Sequence[str],
    positive: int | None,
    before: tuple[str, Decided],
    seed: int,
    columns: int,
) -> list[GroupGap]:
    """Compare the gaps with those of another evaluation on the same cases: differences are paired."""
    other_id, other = before
    place = {item: i for i, item in enumerate(other.items)}
    shared = np.array([item in place for item in test.items], dtype=bool)
    rows = [place[item] for item in test.items if item in place]
    paired = Decided(
        tuple(other.items[i] for i in rows), [other.clusters[i] for i in rows], other.probabilities[rows],
        other.correct[rows],
    )  # fmt: skip
    earlier = _rates(paired, paired.likeliest, positive)
    found = []
    for rate, (values, counted) in rates.items():
        if rate not in earlier or not shared.any():
            continue
        both = counted[shared] & earlier[rate][1]
        places = np.flatnonzero(shared)[both]
        gaps = compare_groups(
            (values[shared] - earlier[rate][0])[both],
            [names[i] for i in places],
            [test.clusters[i] for i in places],
            claims=len(rates) * columns,
            seed=seed,
        )
        found.append(_gap(rate, gaps, other_id))
    return found


def proxies(texts: Sequence[str], groups: Sequence[str]) -> tuple[Proxy, ...]:
    """List the words most associated with a group, by mutual information.

    Source: Church and Hanks (1990), Word association norms, mutual information, and lexicography; the test is the
    likelihood ratio of Dunning (1993).
    """
    sets = [frozenset(words_of(text)) for text in texts]
    names = sorted(set(groups))
    sizes = np.array([sum(group == name for group in groups) for name in names], dtype=np.float64)
    counts: dict[str, FloatArray] = {}
    for words, group in zip(sets, groups, strict=True):
        for word in words:
            counts.setdefault(word, np.zeros(len(names)))[names.index(group)] += 1
    usual = sorted(word for word, count in counts.items() if MIN_TEXTS <= count.sum() <= len(texts) - MIN_TEXTS)
    if not usual:
        return ()
    table = np.stack([counts[word] for word in usual])
    bits = _mutual_information(table, sizes)
    p = chi2.sf(2 * np.log(2) * len(texts) * bits, len(names) - 1)
    adjusted = false_discovery(p)
    found = []
    for i in np.argsort(-bits, kind="stable")[:SHOWN_PROXIES]:
        if adjusted[i] >= 0.05:
            continue
        most = int((table[i] / sizes).argmax())
        elsewhere = (table[i].sum() - table[i, most]) / max(1.0, sizes.sum() - sizes[most])
        found.append(
            Proxy(
                word=usual[i], group=names[most], share_in_group=float(table[i, most] / sizes[most]),
                share_elsewhere=float(elsewhere), bits=float(bits[i]), p_adjusted=float(adjusted[i]),
            )
        )  # fmt: skip
    return tuple(found)


def _mutual_information(table: FloatArray, sizes: FloatArray) -> FloatArray:
    """Compute the mutual information of a word's presence and the group, in bits, (words,)."""
    total = sizes.sum()
    found = np.zeros(len(table))
    for part in (table, sizes - table):
        expected = part.sum(axis=1, keepdims=True) * sizes / total
        ratio = np.where(part > 0, part / np.maximum(expected, 1e-300), 1.0)
        found += (part / total * np.log2(ratio)).sum(axis=1)
    return np.maximum(found, 0.0)


def predictability(texts: Sequence[str], groups: Sequence[str], clusters: Sequence[str]) -> Score:
    """Measure how well a linear classifier of words tells the largest group from the others, by cross-validation.

    Clusters stay together in a fold. The area under the ROC curve is measured on texts that weren't learned from.

    Source: McCallum and Nigam (1998), A comparison of event models for naive Bayes text classification.
    """
    metric, signature = "group_auc", f"group_auc|naive Bayes of words|{FOLDS} folds by source document"
    names = sorted(set(groups))
    largest = max(names, key=lambda name: sum(group == name for group in groups))
    hits = np.array([group == largest for group in groups], dtype=np.int64)
    independent, place = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    if len(independent) < 2 * FOLDS or not any(texts):
        return as_score(metric, None, len(texts), signature=signature, reason="too few texts to learn from")
    folds = np.random.default_rng(len(independent)).permutation(len(independent))[place] % FOLDS
    matrix = _presence(texts)
    stated = np.full(len(texts), np.nan)
    for fold in range(FOLDS):
        train, held = folds != fold, folds == fold
        if 0 < hits[train].sum() < train.sum():
            stated[held] = _naive_bayes(matrix, hits, train, held)
    known = np.isfinite(stated)
    # Scores of different folds are on different scales, so each is replaced by its rank within the fold.
    for fold in range(FOLDS):
        held = known & (folds == fold)
        stated[held] = (np.argsort(np.argsort(stated[held])) + 0.5) / max(1, held.sum())
    area = jackknife_area(
        roc_area, stated[known], hits[known], [cluster for cluster, one in zip(clusters, known, strict=True) if one]
    )
    return as_score(metric, area, int(known.sum()), signature=signature, reason="all texts are of one group")


def _presence(texts: Sequence[str]) -> tuple[IntArray, IntArray, int]:
    """List which words are in which texts: (texts, words) of each occurrence, and the number of words."""
    vocabulary: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for row, text in enumerate(texts):
        for word in frozenset(words_of(text)):
            rows.append(row)
            columns.append(vocabulary.setdefault(word, len(vocabulary)))
    return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64), len(vocabulary)


def _naive_bayes(
    matrix: tuple[IntArray, IntArray, int], hits: IntArray, train: np.ndarray, held: np.ndarray
) -> FloatArray:
    """Compute the log-odds of the group for held-out texts from the words of the others."""
    rows, columns, count = matrix
    learned = train[rows]
    odds = np.zeros(count)
    for sign, value in ((1.0, 1), (-1.0, 0)):
        chosen = learned & (hits[rows] == value)
        words = np.bincount(columns[chosen], minlength=count) + _SMOOTHING
        odds += sign * np.log(words / (words.sum() + 1e-300))
    scores = np.bincount(rows, weights=odds[columns], minlength=len(hits))
    found: FloatArray = scores[held]
    return found


def worst_error_gap(figures: Sequence[GroupFigures], people: GroupData) -> Score | None:
    """Return the largest gap in an error rate between any two groups, over all columns; None without groups.

    Its interval covers all of them, because the rates share the level. It has no upper end if some group or column
    couldn't be compared, because that gap may be any.
    """
    found = [gap.size for one in figures for gap in one.gaps if gap.rate in ERROR_RATES and not gap.compared_with]
    known = [score for score in found if score.value is not None]
    if not found:
        return None
    doubt = "; ".join(_not_compared(figures, people))
    if not known:
        reason = doubt or found[0].missing_reason
        return found[0].model_copy(update={"metric": "group_gap", "missing_reason": reason})
    worst = max(known, key=lambda score: score.value or 0.0)
    lower, upper = (
        [end for score in known if (end := getattr(score, side)) is not None] for side in ("ci_low", "ci_high")
    )
    ends = Interval(worst.value or 0.0, max(lower, default=np.nan), max(upper, default=np.nan))
    score = as_score("group_gap", ends, worst.n, signature="group_gap|largest of all pairs, rates and columns")
    return score.model_copy(update={"ci_high": None, "ci_missing_reason": doubt}) if doubt else score


def _not_compared(figures: Sequence[GroupFigures], people: GroupData) -> list[str]:
    """Name the groups with too few cases for one of the error rates, and the columns with too many groups."""
    reasons = []
    for one in figures:
        groups = dict.fromkeys(group for rates in one.rates.values() for group in rates)
        for rate in (rate for rate in ERROR_RATES if rate in one.rates):
            sizes = {group: one.rates[rate][group].clusters or 0 if group in one.rates[rate] else 0 for group in groups}
            small = [f"'{group}' ({size})" for group, size in sizes.items() if size < MIN_CLUSTERS]
            if small:
                reasons.append(
                    f"{one.column}: too few source documents for the {rate.replace('_', ' ')} (at least "
                    f"{MIN_CLUSTERS}) of {', '.join(small)}"
                )
    for column, members in people.groups.items():
        count = len(set(filter(None, members.values())))
        if count > MAX_GROUPS:
            reasons.append(f"{column}: {count:,} groups, more than {MAX_GROUPS}")
    return reasons
