"""The evidence behind a verdict, line by line."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.choice.costing import level_for
from sizewise.choice.evidence import TEXT_METRICS, Choice
from sizewise.choice.limits import NOT_STATED
from sizewise.choice.verdicts import Verdict
from sizewise.metrics.display import listed, load_in_words, plain_value, title_in_text

FEW_ITEMS = 30
ANSWERED = 0.95
"""Share of non-empty answers below which the reader is warned."""


def reasons_for(choice: Choice, verdict: Verdict, regret: float | None = None) -> list[str]:
    """List the measurements of the relevant candidates, what other metrics say, and cautions.

    Args:
        choice: the decision.
        verdict: its verdict.
        regret: expected regret of the pick or the provisional pick, if known.
    """
    names = [verdict.pick] if verdict.pick else [*([verdict.baseline] if verdict.baseline else []), *verdict.eligible]
    lines = [_facts(choice, name) for name in names]
    if verdict.pick:
        lines += [
            f"significantly better: {choice.difference_in_text(name, verdict.pick)}"
            for name in verdict.eligible
            if name != verdict.pick and choice.beats(verdict.pick, name)
        ]
    lines += _other_metrics(choice, verdict)
    if regret is not None:
        lines.append(_regret_line(choice, verdict, regret))
    lines += _baseline_lines(choice, verdict)
    lines += _identity_lines(choice)
    lines += [f"caution: {caution}" for caution in choice.comparison.cautions]
    lines += _empty_answers(choice, names)
    if problem := choice.votes_missing():
        lines.append(f"caution: {problem}")
    return lines + _weak_evidence(choice, names)


def _facts(choice: Choice, name: str) -> str:
    """Describe one candidate: quality, speed, cost, size."""
    facts = [choice.score_in_text(name)]
    if choice.quality != "bits_per_byte" and choice.value("bits_per_byte", name) is not None:
        facts.append(choice.score_in_text(name, "bits_per_byte"))
    latency = choice.score("latency_s", name)
    if latency is not None and latency.value is not None:
        facts.append(f"median latency {_seconds(latency.value)} s {load_in_words(latency)}")
    level = level_for(choice.comparison, name, choice.needs)
    p95 = level.scores["p95_latency_s"].value if level else None
    if level is not None and p95 is not None:
        facts.append(f"p95 latency {_seconds(p95)} s with {level.concurrent_users} concurrent users")
    line = choice.cost(name)
    cost = line.usd_per_1000
    if cost is not None and line.machines is None and choice.value("usd_per_1000", name) is None:
        facts.append(f"at least {_usd(cost.lower)} USD of machine time per 1,000 requests")
    elif cost is not None:
        between = f" ({_usd(cost.lower)} to {_usd(cost.upper)})" if cost.lower != cost.upper else ""
        source = "; ".join(line.notes) if choice.value("usd_per_1000", name) is not None else ""
        facts.append(f"about {_usd(cost.expected)} USD{between} per 1,000 requests{f' ({source})' if source else ''}")
    return f"{name}: {'; '.join(facts)}; {choice.size(name)}"


def _other_metrics(choice: Choice, verdict: Verdict) -> list[str]:
    """Report which other quality metrics separate the two leading candidates, and whether they disagree."""
    if len(verdict.eligible) < 2 or verdict.unverified:
        return []
    leader, rival = verdict.eligible[:2]
    favored = choice.favored_by_others(leader, rival)
    lines = []
    for name, metrics in favored.items():
        if metrics:
            verb = "favors" if len(metrics) == 1 else "favor"
            lines.append(f"{listed([title_in_text(metric) for metric in metrics])} {verb} {name}")
    if not lines:
        return []
    decided = choice.beats(leader, rival)
    start = f"{choice.title} favors {leader}" if decided else f"{choice.title} can't separate {leader} and {rival}"
    disagree = len(lines) == 2 or (decided and favored[rival])
    return [f"{'caution: metrics disagree: ' if disagree else ''}{start}; {'; '.join(lines)}"]


def _regret_line(choice: Choice, verdict: Verdict, regret: float) -> str:
    """Report what the pick is expected to lose if another candidate is in truth better."""
    unit = next((score.unit for score in choice.comparison.scores[choice.quality].values()), "")
    name = verdict.pick or verdict.provisional
    return (
        f"expected regret of {name}: {plain_value(choice.quality, unit, regret)} {choice.title} (what it loses on "
        "average to whichever candidate is in truth the best)"
    )


def _baseline_lines(choice: Choice, verdict: Verdict) -> list[str]:
    """Report the baselines' scores, and warn where a candidate doesn't beat them."""
    leader = verdict.pick or next(iter(verdict.eligible), None)
    baseline = choice.unbeaten(leader) if leader else None
    lines = []
    if baseline and leader and baseline != verdict.baseline:
        difference = choice.difference_in_text(baseline, leader)
        lines.append(
            f"caution: {leader} isn't significantly better than {baseline}, which isn't a language model: {difference}"
        )
    if choice.baselines:
        scores = "; ".join(f"{name}: {choice.score_in_text(name)}" for name in choice.baselines)
        lines.append(f"baselines without a language model: {scores}")
    for scores in choice.baseline_leads(leader) if leader else []:
        lines.append(f"caution: a baseline leads on another metric: {scores}")
    return lines


def _identity_lines(choice: Choice) -> list[str]:
    """Report what isn't known of recorded models, and which models are about to be shut down."""
    lines = []
    for name in choice.names:
        model = choice.model(name)
        if model.unnamed:
            lines.append(
                f"caution: the answers of {name} don't tell who gave them, so its size, its price and where it runs "
                'are unknown; add of = "NAME", for example of = "gpt-4o", to its [[candidates]] table'
            )
        elif model.retires_on and not model.retired:
            lines.append(f"caution: {name} will be shut down on {model.retires_on}")
        if choice.needs.excluded_licenses and model.license == NOT_STATED and model.engine != "recorded":
            lines.append(f"caution: the license of {name} isn't stated, so excluded_licenses couldn't be checked")
        if model.parameters_estimate and model.parameters is None:
            lines.append(f"size of {name}: {model.parameters_source}")
    return lines


def _empty_answers(choice: Choice, names: Sequence[str]) -> list[str]:
    """Warn about candidates that leave many questions unanswered."""
    lines = []
    for name in names:
        answered = choice.comparison.answered.get(name)
        if answered is not None and answered.value is not None and 0 < answered.value < ANSWERED:
            empty = round((1 - answered.value) * answered.n)
            lines.append(f"caution: {empty} of {answered.n} answers of {name} are empty")
    return lines


def _weak_evidence(choice: Choice, names: Sequence[str]) -> list[str]:
    """Warn about small samples, a minimum on the wrong scale, and scores that don't measure the task."""
    lines = []
    fewest = min((score.n for name in names if (score := choice.score(choice.quality, name))), default=FEW_ITEMS)
    if fewest < FEW_ITEMS:
        lines.append(
            f"caution: only {fewest} test items were measured, without those that share text with training; use "
            f"{FEW_ITEMS} or more"
        )
    minimum, score = choice.needs.min_quality, choice.score(choice.quality, names[0]) if names else None
    if minimum is not None and score is not None and score.unit == "0-100" and 0 < minimum <= 1:
        lines.append(
            f"caution: {title_in_text(choice.quality)} runs from 0 to 100, so a minimum of {minimum:g} excludes almost "
            "nothing"
        )
    if choice.quality in TEXT_METRICS and not choice.comparison.language_modeling_proxy:
        lines.append(
            "caution: no answers were scored; this reflects knowledge of the text, not performance on the task"
        )
    if choice.comparison.language_modeling_proxy:
        lines.append(
            "language modeling proxy: no task examples were given, so this measures familiarity with the text, not "
            "performance on the task"
        )
    return lines


def _usd(amount: float) -> str:
    """Format US dollars with two digits, or whole dollars, never in scientific notation."""
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"


def _seconds(seconds: float) -> str:
    """Format seconds with two digits, never in scientific notation."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"
