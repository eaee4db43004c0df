"""The first screen: tiles, strip, reasons, fairness in one line, and the next step."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.choice.advantages import size_ratio, speed_ratio
from sizewise.metrics.display import listed, number, value_text
from sizewise.report.answers import Duel, item_metric, won_and_lost
from sizewise.report.findings import bias_findings
from sizewise.report.rounding import (
    p_text,
    rounded_difference,
    rounded_value,
)
from sizewise.report.side_tests import SWAPPED_GROUPS
from sizewise.report.standing import Relation, Standing
from sizewise.report.view import StudyView

MAX_STRIP = 9
"""Candidates in the strip; the tables have all of them."""
MAX_CAUTIONS = 2
UNEQUAL = 0.9
"""Accuracy of the most frequent label from which accuracy hides what becomes of the others."""
FLIP = "counterfactual_flip#"
NOT_TESTED = "Not measured for this candidate, so nothing shows who is treated worse."
RELATION_WORDS: dict[Relation, str] = {
    "subject": "reference",
    "better": "better",
    "tie": "tie",
    "worse": "worse",
    "not tested": "not tested",
    "not measured": "not measured",
}
SIGNS: dict[Relation, str] = {
    "subject": "●", "better": "▲", "tie": "=", "worse": "▼", "not tested": "?", "not measured": "n/a",
}  # fmt: skip


class StripRow(NamedTuple):
    """How one candidate compares with the subject on every measure."""

    name: str
    baseline: bool
    relations: list[Relation]


def subject_label(standing: Standing) -> str:
    """Return what the subject is: the pick, the provisional pick, a rule that is enough, or only the best."""
    recommendation = standing.recommendation
    if standing.subject == recommendation.pick:
        return "pick"
    if standing.subject == recommendation.provisional:
        return "for now"
    if recommendation.outcome == "inconclusive" and standing.subject == standing.verdict.baseline:
        return "for now"
    return "enough" if standing.comparison.models[standing.subject].role == "baseline" else "best"


def strip_of(standing: Standing) -> list[StripRow]:
    """Compare every candidate and baseline with the subject on every measure of the strip."""
    measures = standing.measures()
    names = list(dict.fromkeys([standing.subject, *standing.candidates[:MAX_STRIP], *standing.baselines]))
    return [
        StripRow(
            name,
            standing.comparison.models[name].role == "baseline",
            [standing.relation(metric, name) for metric in measures],
        )
        for name in names
    ]


def reasons_of(standing: Standing) -> list[str]:
    """Write the three reasons: against the best other candidate, against the best rule, and what it takes to run."""
    found = [_against_rival(standing), _against_baseline(standing), _running(standing)]
    return [line for line in found if line]


def _against_rival(standing: Standing) -> str:
    subject, rival = standing.subject, standing.rival
    if rival is None and standing.score(standing.quality, subject) is None:
        return f"No candidate could be measured on {standing.choice.title}."
    if rival is None:
        return f"{subject} is the only candidate that was measured on {standing.choice.title}."
    pair = standing.difference(standing.quality, rival)
    relation = standing.relation(standing.quality, rival)
    if pair is None:
        return f"{subject} and {rival} have no test items in common, so they can't be compared."
    size, title = rounded_difference(pair.turned()), standing.choice.title
    p = standing.choice.corrected_p(pair)
    sure = f", {p_text(p)}" if p is not None else ""
    if relation == "worse":
        return f"{subject} is significantly better than {rival}, the best other candidate ({title} {size}{sure})."
    if relation == "better":
        return f"{rival} scores significantly better than {subject} ({title} of {subject} {size}{sure})."
    if standing.choice.refused(pair):
        return f"{subject} and {rival} can't be compared: only {pair.n} test items have a score of both."
    return f"{subject} and {rival} are too close to call ({title} {size}{sure})."


def _against_baseline(standing: Standing) -> str:
    baseline = standing.best_baseline
    score = standing.score(standing.quality, baseline) if baseline else None
    if baseline is None or score is None:
        return ""
    relation = standing.relation(standing.quality, baseline)
    verb = {"worse": "is significantly worse than", "better": "is significantly better than"}.get(
        relation, "is not significantly different from"
    )
    rule = baseline.removesuffix(" (baseline)")
    if relation == "not tested":
        return f"The next best rule, {rule}, scores {rounded_value(score)}."
    if standing.comparison.models[standing.subject].role == "baseline":
        return f"The next best rule, {rule}, scores {rounded_value(score)} and {verb} {standing.subject}."
    found = (
        f"The best rule without a language model, {rule}, scores {rounded_value(score)} and {verb} {standing.subject}."
    )
    is_frequent = standing.comparison.models[baseline].uri.startswith("frequent:")
    if is_frequent and score.metric == "accuracy" and (score.value or 0.0) >= UNEQUAL:
        found += " With labels so unequal, accuracy says little about the rare ones: see macro F1."
    return found


def _running(standing: Standing) -> str:
    """Compare what the subject and its rival take to run, as far as it is known of both."""
    subject, rival = standing.subject, standing.rival
    if rival is None:
        return ""
    claims = []
    for ratio, more, less in (
        (speed_ratio(standing.choice, subject, rival), "faster", "slower"),
        (size_ratio(standing.choice, subject, rival), "smaller", "larger"),
    ):
        if ratio != 1:
            claims.append(f"{number(max(ratio, 1 / ratio), 2)}x {more if ratio > 1 else less}")
    return f"{subject} is {' and '.join(claims)} than {rival}." if claims else ""


def break_even_of(standing: Standing) -> str:
    """Write from how many requests a month self-hosting pays, for the pair that the reader compares first."""
    pairs = [pair for pair in standing.recommendation.break_even if standing.subject in (pair.self_hosted, pair.paid)]
    if not pairs:
        return ""
    pair = min(
        pairs, key=lambda one: standing.choice.rank(one.paid if one.paid != standing.subject else one.self_hosted)
    )
    if pair.lower > pair.machine_can:
        return f"{pair.self_hosted} never becomes cheaper than {pair.paid} on one machine."
    amount = f"{pair.lower:,}" + (f" to {pair.upper:,}" if pair.lower < pair.upper <= pair.machine_can else "")
    earliest = " at the earliest" if pair.upper > pair.machine_can else ""
    return f"{pair.self_hosted} becomes cheaper than {pair.paid} from {amount} requests a month{earliest}."


def cautions_of(view: StudyView) -> list[str]:
    """List the first cautions among the reasons of a study, without their prefix."""
    reasons = dict.fromkeys((*view.recommendation.reasons, *view.study.reasons))
    found = [line.removeprefix("caution: ") for line in reasons if line.startswith("caution: ")]
    # Baselines have a reason of their own.
    return [line for line in found if "which isn't a language model" not in line][:MAX_CAUTIONS]


def fairness_of(standing: Standing) -> str:
    """Summarize the bias test of the subject in one sentence, or how its decisions differ by group."""
    found = next((one for one in bias_findings(standing) if one.name == standing.subject), None)
    if found is not None:
        return f"{found.name} {found.text}"
    if swapped := _swapped_groups(standing):
        return swapped
    columns = sorted(standing.view.people.groups)
    rows = standing.view.items.get(standing.subject, ())
    if columns and any(row.probabilities for row in rows):
        return f"Decisions are compared by {listed(columns)} under Fairness and safety."
    return NOT_TESTED


def duels_of(standing: Standing) -> tuple[str, list[Duel]]:
    """Find one answer that the subject won and one that it lost, and the name of the rival."""
    rival = standing.rival or standing.best_baseline or ""
    return rival, won_and_lost(standing.view.items, item_metric(standing.view), standing.subject, rival)


def _swapped_groups(standing: Standing) -> str:
    """Summarize how often the subject's decisions change when a text names another group of people."""
    found = standing.view.side_tests.get(SWAPPED_GROUPS)
    scores = {
        metric.removeprefix(FLIP): score
        for metric, ones in (found.scores if found else {}).items()
        if metric.startswith(FLIP) and (score := ones.get(standing.subject)) and score.value is not None
    }
    if not scores:
        return ""
    worst = max(scores, key=lambda name: scores[name].value or 0.0)
    text = f"{value_text(scores[worst])} of its decisions change with the {worst} in the text (n = {scores[worst].n:,})"
    return f"{text}, the most of {listed(sorted(scores))}." if len(scores) > 1 else f"{text}."
