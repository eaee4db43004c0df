"""decide(): the recommendation as a pure function of a comparison and needs, and its words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil

from sizewise.choice.costing import break_even, level_for
from sizewise.choice.evidence import BY_TEXT, Choice, Verdict
from sizewise.records import BreakEven, Comparison, Needs, Recommendation
from sizewise.stats import MIN_CLUSTERS

DECISION_VERSION = 2
"""Raised when the rules or the wording of a decision change; part of the id of a recommendation."""
FEW_ITEMS = 30
ANSWERED = 0.95
"""Share of answers with text below which a reader is warned."""


def decide(comparison: Comparison, comparison_id: str, needs: Needs) -> Recommendation:
    """Recommend a model; pure.

    Args:
        comparison: the evidence.
        comparison_id: its id.
        needs: what is required.

    Raises:
        UsageError: the metric that stands for quality was not measured.
    """
    choice = Choice(comparison, needs)
    verdict = choice.beside_baselines(choice.verdict())
    why_not = {name: reason for name, reason in choice.why_not.items() if name != verdict.pick}
    return Recommendation(
        method_version=DECISION_VERSION,
        comparison=comparison_id,
        needs=needs,
        quality=choice.quality,
        outcome=verdict.outcome,
        pick=verdict.pick,
        decisive=verdict.decisive,
        summary=_sentence(choice, verdict),
        reasons=tuple(_why(choice, verdict)),
        rejected=why_not,
        sensitivity=tuple(_would_change(choice, verdict)),
        costs=tuple(choice.cost(name) for name in choice.names),
        break_even=tuple(_break_even(choice)),
        probability_best=_best_share(choice, verdict),
    )


def _best_share(choice: Choice, verdict: Verdict) -> dict[str, float]:
    """Give how often each fitting candidate is the best in resamples, among those that fit."""
    shares = choice.comparison.probability_best.get(choice.quality, {})
    fitting = {name: shares[name] for name in verdict.pool if name in shares}
    whole = sum(fitting.values())
    return {name: share / whole for name, share in fitting.items()} if whole else {}


def _break_even(choice: Choice) -> list[BreakEven]:
    paid = [name for name in choice.names if choice.value("usd_per_1000", name)]
    own = [name for name in choice.names if name not in paid]
    found = [break_even(choice.comparison, one, other, choice.needs) for one in own for other in paid]
    return [one for one in found if one is not None]


LIMITS = {
    "local_only": False,
    "max_latency_s": None,
    "max_latency_p95_s": None,
    "max_bias_gap": None,
    "max_harm_rate": None,
    "max_memory_gb": None,
    "max_cost_usd_per_1000": None,
    "excluded_licenses": (),
    "min_context_tokens": None,
}


def _nearest(choice: Choice) -> list[str]:
    """Say which limit alone keeps all out, or which two do together, and who would fit without."""
    given = [name for name, absent in LIMITS.items() if getattr(choice.needs, name) != absent]
    for size in (1, 2):
        lines = []
        for some in combinations(given, size):
            without = choice.needs.model_copy(update={name: LIMITS[name] for name in some})
            relaxed = Choice(choice.comparison, without)
            fits = [name for name in relaxed.names if relaxed.limit_missed(name) is None]
            if fits:
                limits = " and ".join(f"{name} = {getattr(choice.needs, name)}" for name in some)
                reasons = "; ".join(f"{name}: {choice.limit_missed(name)}" for name in fits[:3])
                lines.append(f"nearest possible: without {limits}, {', '.join(fits[:3])} would fit ({reasons})")
        if lines:
            return lines
    return ["no candidate fits with any two of the limits left out: try other candidates"] if given else []


def _sentence(choice: Choice, verdict: Verdict) -> str:
    title, pick = choice.title, verdict.pick
    rule = verdict.rule
    known = all(choice.memory(name) < float("inf") for name in verdict.pool)
    if rule is not None and not verdict.decisive:
        smallest = ", the smallest model that does," if known else ""
        return (
            f"Do not train, and use no language model for this as it was asked: {rule} reaches the least {title} of "
            f"{choice.needs.min_quality:g} as well ({title} {choice.value(choice.quality, rule):.3g}), and "
            f"{verdict.pool[0]}{smallest} is not shown to be better ({title} "
            f"{choice.value(choice.quality, verdict.pool[0]):.3g}). If that is not good enough, ask for more"
            + _better(choice, verdict, rule)
        )
    if rule is not None:
        return (
            f"Do not train, and use no language model for this: {rule} is shown to be better than "
            f"{verdict.pool[0]}, the best of them ({title} {choice.value(choice.quality, rule):.3g}, "
            f"next {choice.value(choice.quality, verdict.pool[0]):.3g})."
        )
    if pick is None:
        if verdict.outcome == "none_good_enough":
            return "Use none of these: no candidate fits the needs" + (
                f" (least {title} {choice.needs.min_quality:g})." if choice.needs.min_quality is not None else "."
            )
        leaders = " and ".join(verdict.pool[:2]) if len(verdict.pool) > 1 else verdict.pool[0]
        if len(verdict.pool) == 1:
            leaders = f"{leaders} and no model at all"
        rule = choice.unbeaten(verdict.pool[0])
        beside = f" None of them is shown to be better than {rule}, which is no language model." if rule else ""
        few = choice.documents(verdict.pool[0])
        why = f": {few} source documents are too few, at least {MIN_CLUSTERS} are needed" if few < MIN_CLUSTERS else ""
        return f"Not decisive: this test set cannot tell which of {leaders} to use{why}.{beside}"
    start = {
        "pick": f"Use {pick}",
        "do_not_train": f"Do not train: use {pick} as it is",
        "keep_large": f"Keep the larger model: use {pick}" if choice.known_smaller(pick) else f"Use {pick}",
        "fall_back": f"Use {pick} first, and the large model when needed",
        "none_good_enough": "",
        "inconclusive": "",
    }[verdict.outcome]
    rest = [name for name in verdict.pool if name != pick]
    against = ""
    if rest and choice.needs.min_quality is None and all(choice.beats(pick, name) for name in rest):
        best = min(rest, key=choice.rank)
        others = f"all {len(rest)} others" if len(rest) > 1 else rest[0]
        against = (
            f"; it is shown to be better than {others} on this work "
            f"({title} {choice.value(choice.quality, pick):.3g}, next {choice.value(choice.quality, best):.3g})"
        )
    elif choice.needs.min_quality is not None:
        which = "is the smallest that is shown to" if known else "no other one that does is known to be smaller"
        against = f"; it is shown to reach the least {title} of {choice.needs.min_quality:g} and {which}"
    else:
        against = "; no other is shown to be better"
    bar = (
        ""
        if choice.needs.min_quality is not None
        else " Best of these; not shown to be good enough, because no least quality was given."
    )
    beaten = choice.unbeaten(pick)
    beside = f" It is not shown to be better than {beaten}, which is no language model." if beaten else ""
    return f"{start} ({choice.size(pick)}){against}.{beside}{bar}"


def _better(choice: Choice, verdict: Verdict, rule: str) -> str:
    better = [name for name in verdict.pool if choice.beats(name, rule)]
    return f": {' and '.join(better)} would be better than {rule}." if better else "."


def _short(seconds: float) -> str:
    """Write seconds with two digits, never in scientific form."""
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def _facts(choice: Choice, name: str) -> str:
    """Say what was measured of one candidate: quality, speed, cost, size."""
    facts = [choice.said(choice.quality, name)]
    if choice.quality != "bits_per_byte" and choice.value("bits_per_byte", name) is not None:
        facts.append(choice.said("bits_per_byte", name))
    latency = choice.value("latency_s", name)
    if latency is not None:
        facts.append(f"an answer takes {_short(latency)} s (median, one user)")
    level = level_for(choice.comparison, name, choice.needs)
    p95 = level.scores["p95_latency_s"].value if level else None
    if level is not None and p95 is not None:
        facts.append(f"with {level.concurrent_users} users at once 95 % of the answers are whole in {_short(p95)} s")
    line = choice.cost(name)
    cost = line.usd_per_1000
    if cost is not None and line.machines is None and choice.value("usd_per_1000", name) is None:
        facts.append(f"1,000 answers cost at least {cost.lower:.2g} USD of machine time")
    elif cost is not None:
        between = f" ({cost.lower:.2g} to {cost.upper:.2g})" if cost.lower != cost.upper else ""
        facts.append(f"1,000 answers cost about {cost.expected:.2g} USD{between}")
    return f"{name}: {'; '.join(facts)}; {choice.size(name)}"


def _why(choice: Choice, verdict: Verdict) -> list[str]:
    names = [verdict.pick] if verdict.pick else [*([verdict.rule] if verdict.rule else []), *verdict.pool]
    lines = [_facts(choice, name) for name in names]
    if verdict.pick:
        for name in verdict.pool:
            if name != verdict.pick and choice.beats(verdict.pick, name):
                lines.append(f"better than {name}: {choice.against(name, verdict.pick)}")
    leader = verdict.pick or next(iter(verdict.pool), None)
    rule = choice.unbeaten(leader) if leader else None
    if rule and leader and rule != verdict.rule:
        said = choice.against(rule, leader)
        lines.append(f"caution: {leader} is not shown to be better than {rule}, which is no language model: {said}")
    if choice.baselines:
        lines.append(
            "without any language model: "
            + "; ".join(f"{name}: {choice.said(choice.quality, name)}" for name in choice.baselines)
        )
    for ahead in choice.ahead(leader) if leader else []:
        lines.append(f"caution: a rule leads by another measure: {ahead}")
    lines += [f"caution: {caution}" for caution in choice.comparison.cautions]
    lines += _answers_missing(choice, names)
    if missing := choice.votes_missing():
        lines.append(f"caution: {missing}")
    fewest = min((score.n for name in names if (score := choice.score(choice.quality, name))), default=FEW_ITEMS)
    if fewest < FEW_ITEMS:
        lines.append(
            f"caution: only {fewest} test items count (they share nothing with the training text); {FEW_ITEMS} or "
            "more are needed"
        )
    least, scored = choice.needs.min_quality, choice.score(choice.quality, names[0]) if names else None
    if least is not None and scored is not None and scored.unit == "0-100" and 0 < least <= 1:
        lines.append(
            f"caution: {choice.title} runs from 0 to 100; a least quality of {least:g} asks for next to nothing"
        )
    if choice.quality in BY_TEXT and not choice.comparison.language_modeling_proxy:
        lines.append("caution: no answers stand for quality: this shows knowledge of the text, not of a job")
    if choice.comparison.language_modeling_proxy:
        lines.append("no examples of the job were given: this measures familiarity with the text, not a job")
    return lines


def _answers_missing(choice: Choice, names: Sequence[str]) -> list[str]:
    """Caution where a candidate leaves many questions without an answer."""
    lines = []
    for name in names:
        answered = choice.comparison.answered.get(name)
        if answered is not None and answered.value is not None and 0 < answered.value < ANSWERED:
            empty = round((1 - answered.value) * answered.n)
            lines.append(f"caution: {empty} of {answered.n} answers of {name} are empty")
    return lines


def _items(items: int, documents: int) -> str:
    """Say how many items there are, and from how many documents where several come from one."""
    return f"{items:,} test items" + (f" from {documents:,} documents" if documents != items else "")


def _would_change(choice: Choice, verdict: Verdict) -> list[str]:
    title = choice.title
    lines = []
    if choice.needs.min_quality is None:
        lines.append(
            f"a least quality: set min_quality (in {title}) in [needs]; what people accept as good enough "
            "must be asked of people"
        )
    if choice.comparison.language_modeling_proxy:
        lines.append(
            "examples of the real job, as JSONL with prompt and references: examples = FILE in [data]; or, until there "
            "are some, drafts: sizewise synthesize FOLDER --by MODEL"
        )
    pairs = [(verdict.rule, verdict.pool[0])] if verdict.rule else list(combinations(verdict.pool, 2))
    for left, right in pairs:
        found = choice.difference(left, right)
        if found is not None and found.clusters < MIN_CLUSTERS:
            lines.append(
                f"test items from at least {MIN_CLUSTERS} source documents (now {found.clusters}), to tell {left} from "
                f"{right}"
            )
            continue
        if found is None or found.ci_low is None or found.ci_high is None:
            continue
        if choice.beats(left, right) or choice.beats(right, left):
            continue
        involved = verdict.pick in (left, right) or verdict.pick is None
        if involved and abs(found.value) > 0:
            factor = choice.factor_to_decide(found)
            if factor is None:
                continue
            lines.append(
                f"about {_items(ceil(factor * found.n), ceil(factor * found.clusters))} (now "
                f"{_items(found.n, found.clusters)}) would separate {left} from {right} in four of five studies, if "
                f"the difference stays {abs(found.value):.2g} {title}"
            )
    if choice.needs.machine_usd_per_hour is None:
        lines.append("the price of an hour of the machine: set machine_usd_per_hour in [needs]; it is assumed now")
    lines += _nearest(choice) if not choice.fitting else []
    for one in _break_even(choice):
        if one.lower > one.machine_can:
            said = f"never on one machine, which can answer {one.machine_can:,} a month"
        else:
            said = f"from {one.lower:,} to {one.upper:,} requests a month on"
        lines.append(f"volume: {one.self_hosted} costs less than {one.paid} {said}")
    lines.append("another candidate: this verdict speaks only of those that were tried")
    return lines
