"""The verdict: limits first, then what the needs ask for: good enough, no worse than today's model, or the best.

Each kind of claim has its own family. "Best" is one candidate against its k - 1 rivals (Hsu, 1984); "good enough" and
"no worse" are tested for every candidate that could be picked, with Holm's correction (1979), before the smallest is
taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log
from typing import NamedTuple

from sizewise.choice.evidence import Choice
from sizewise.choice.limits import check_limits
from sizewise.records import Outcome
from sizewise.stats import LEVEL, MIN_CLUSTERS, holm, p_beyond


class Verdict(NamedTuple):
    """The decision, before it is put into words."""

    outcome: Outcome
    pick: str | None
    decisive: bool
    eligible: list[str]
    """Candidates within all limits, best first; after those that may keep them, if the verdict waits for these."""
    baseline: str | None = None
    """Baseline that beats all candidates, also reaches the minimum score, or isn't beaten by any (inconclusive)."""
    provisional: str | None = None
    """Candidate to use while the evidence decides nothing."""
    unverified: bool = False
    """Whether the verdict is open because the first candidate isn't known to keep the limits."""
    rule: str | None = None
    """Baseline because of which a candidate that otherwise qualifies isn't picked: it isn't significantly better."""


def decide_verdict(choice: Choice) -> Verdict:
    """Decide among the candidates, then against the baselines, and name a provisional pick where nothing is decided."""
    verdict = _wait_for_limits(choice, compare_with_baselines(choice, _among_candidates(choice)))
    if verdict.outcome != "inconclusive" or verdict.baseline is not None:
        return verdict
    rule = _rule_for_now(choice, verdict)
    return verdict._replace(baseline=rule, provisional=None if rule else _provisional(choice, verdict))


def _wait_for_limits(choice: Choice, verdict: Verdict) -> Verdict:
    """Leave open that a rule is best while a better candidate may keep a limit that can't be verified."""
    rule = verdict.baseline
    if rule is None or verdict.pick or choice.needs.min_quality is not None or choice.needs.incumbent is not None:
        return verdict
    better = [name for name in choice.open_limits if name not in verdict.eligible and choice.beats(name, rule)]
    if not better:
        return verdict
    eligible = [*choice.ordered(better), *verdict.eligible]
    return Verdict("inconclusive", None, False, eligible, rule, unverified=True)


def _among_candidates(choice: Choice) -> Verdict:
    eligible, open_limits = [], []
    for name in choice.names:
        checked = check_limits(choice, name)
        problem = choice.silent(name) or checked.missed or choice.incomplete(name)
        if problem:
            choice.rejected[name] = problem
        elif choice.value(choice.quality, name) is None:
            score = choice.score(choice.quality, name)
            reason = score.missing_reason if score else "not measured"
            choice.rejected[name] = f"has no {choice.title} score: {reason}"
        elif checked.unverified:
            choice.rejected[name] = checked.unverified
            open_limits.append(name)
        else:
            eligible.append(name)
    eligible, open_limits = choice.ordered(eligible), choice.ordered(open_limits)
    choice.eligible_count, choice.open_limits = len(eligible or open_limits), open_limits
    if not eligible and open_limits:
        return Verdict("inconclusive", None, False, open_limits, unverified=True)
    if not eligible:
        return Verdict("none_good_enough", None, True, [])
    if choice.needs.min_quality is not None:
        return _smallest_above_minimum(choice, eligible)
    if choice.needs.incumbent is not None:
        return _no_worse(choice, eligible, choice.needs.incumbent)
    return _best(choice, eligible)


# -- good enough ---------------------------------------------------------------------------------------------------


def reaching_minimum(choice: Choice, names: Sequence[str]) -> dict[str, bool | None]:
    """Test which candidates reach the minimum score, as one family; None where the interval leaves that open.

    Baselines with a score belong to the family, because "no model needed" is a claim too.
    """
    minimum = choice.needs.min_quality
    family = dict.fromkeys([*names, *choice.baselines])
    found: dict[str, bool | None] = {}
    p_values = []
    for name in family:
        score = choice.score(choice.quality, name)
        p = float("nan")
        if minimum is not None and score is not None and score.value is not None:
            documents = choice.documents(name)
            if documents >= MIN_CLUSTERS and score.ci_low is not None and score.ci_high is not None:
                p = p_beyond((score.value, score.ci_low, score.ci_high), minimum, documents)
        p_values.append(p)
    known = [p for p in p_values if isfinite(p)]
    adjusted = iter(holm(known))
    for name, p in zip(family, p_values, strict=True):
        value = choice.value(choice.quality, name)
        if not isfinite(p) or value is None or minimum is None:
            found[name] = None
            continue
        corrected = next(adjusted)
        above = (value > minimum) == choice.higher and value != minimum
        found[name] = True if above and corrected < LEVEL else False if not above and p < LEVEL else None
    return found


def _smallest_above_minimum(choice: Choice, eligible: list[str]) -> Verdict:
    reached = reaching_minimum(choice, eligible)
    good = [name for name in eligible if reached[name]]
    unsure = [name for name in eligible if reached[name] is None]
    for name in eligible:
        if name not in good:
            verb = "may or may not reach" if name in unsure else "doesn't reach"
            choice.rejected[name] = f"{verb} the minimum of {choice.minimum_text()} ({choice.score_in_text(name)})"
    if not good:
        outcome: Outcome = "inconclusive" if unsure else "none_good_enough"
        return Verdict(outcome, None, not unsure, eligible)
    # All of these are good enough, so the smallest wins; quality decides between equal sizes, cost between unknown.
    good.sort(key=lambda name: _smallest_first(choice, name))
    _reject_larger(choice, good, "reaches the minimum")
    return Verdict(_outcome(choice, good[0]), good[0], not unsure, good)


def _smallest_first(choice: Choice, name: str) -> tuple[float, float, float, str]:
    """Return a sort key: by size, among models of unknown or equal size by what is paid, and then by quality."""
    unknown = choice.memory(name) == float("inf")
    paid = unknown or choice.value("usd_per_1000", name) is not None
    return choice.memory(name), choice.price(name) if paid else 0.0, choice.rank(name), name


def _reject_larger(choice: Choice, good: Sequence[str], claim: str) -> None:
    for name in good[1:]:
        if choice.memory(name) == choice.memory(good[0]) == float("inf") and choice.price(name) > choice.price(good[0]):
            choice.rejected[name] = (
                f"also {claim}, but isn't known to cost less, nor to be smaller ({choice.size(name)})"
            )
        elif choice.cheaper_at_equal_size(good[0], name):
            choice.rejected[name] = f"also {claim} and has the same size, but costs more"
        elif choice.memory(name) == choice.memory(good[0]):
            choice.rejected[name] = f"also {claim}, but scores no better: {choice.score_in_text(name)}"
        else:
            larger = "is larger" if choice.memory(name) < float("inf") else "isn't known to be smaller"
            choice.rejected[name] = f"also {claim}, but {larger} ({choice.size(name)})"


# -- no worse than the model in use --------------------------------------------------------------------------------


def _no_worse(choice: Choice, eligible: list[str], incumbent: str) -> Verdict:
    """Pick the smallest candidate that loses at most max_loss to the incumbent (non-inferiority)."""
    p_values, losing = _losses(choice, [name for name in eligible if name != incumbent], incumbent)
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    choice.margin_levels = {name: LEVEL * min(1.0, p_values[name] / p) for name, p in adjusted.items() if p > 0}
    good = [name for name, p in adjusted.items() if p < LEVEL and name not in losing]
    for name in adjusted:
        if name not in good:
            verb = "loses more than" if name in losing else "may lose more than"
            difference = choice.difference_in_text(incumbent, name)
            choice.rejected[name] = f"{verb} {choice.loss_text()} to {incumbent}: {difference}"
    if incumbent in eligible:
        good.append(incumbent)
    if not good or (good == [incumbent] and set(adjusted) - losing):
        return Verdict("inconclusive", None, False, eligible)
    good.sort(key=lambda name: _smallest_first(choice, name))
    others = [name for name in good if name != incumbent or name == good[0]]
    _reject_larger(choice, others, f"is no worse than {incumbent}")
    if good[0] != incumbent and incumbent in good:
        known = choice.memory(incumbent) < float("inf")
        smaller = "and no smaller than" if known else "and not known to be smaller than"
        size = f"{smaller} {good[0]} ({choice.size(incumbent)})"
        choice.rejected[incumbent] = f"in use today, {size}" if not choice.model(incumbent).process else "in use today"
    return Verdict(_outcome(choice, good[0]), good[0], True, good)


def _losses(choice: Choice, names: Sequence[str], incumbent: str) -> tuple[dict[str, float], set[str]]:
    """Test the difference to the incumbent against the tolerated loss: p-values, and who loses more for certain."""
    p_values: dict[str, float] = {}
    losing = set()
    margin = -(choice.needs.max_loss or 0.0)
    for name in names:
        found = choice.difference(name, incumbent)
        p_values[name] = float("nan")
        if found is None or found.ci_low is None or found.ci_high is None or found.clusters < MIN_CLUSTERS:
            continue
        if found.contested:
            continue  # what one loses on this measure, it may win for people
        turned = found if found.left == name else found.turned()
        sign = 1 if choice.higher else -1
        value = sign * turned.value
        ends = sorted((sign * (turned.ci_low or 0.0), sign * (turned.ci_high or 0.0)))
        p = p_beyond((value, ends[0], ends[1]), margin, found.clusters)
        p_values[name] = p if value > margin else 1.0
        if value < margin and p < LEVEL:
            losing.add(name)
    return {name: p if isfinite(p) else 1.0 for name, p in p_values.items()}, losing


# -- best ------------------------------------------------------------------------------------------------------------


def _best(choice: Choice, eligible: list[str]) -> Verdict:
    leader = eligible[0]
    tied = choice.tied(eligible)
    for name in eligible[1:]:
        choice.rejected[name] = choice.difference_in_text(leader, name)
    if not tied:
        # Nothing is known about a candidate that was measured on a part of the items only.
        compared = not any(choice.incomplete(name) for name in choice.names)
        return Verdict(_outcome(choice, leader), leader, compared, eligible)
    models = choice.comparison.models
    only_trained = all(models[name].start == models[leader].uri for name in tied)
    if models[leader].start is None and only_trained and _intervals_known(choice, leader, tied):
        # The base model leads, and the models trained from it don't even have a better value.
        for name in tied:
            choice.rejected[name] = f"training shows no benefit: {choice.difference_in_text(leader, name)}"
        return Verdict("do_not_train", leader, False, eligible)
    for name in (leader, *tied):
        choice.rejected[name] = "tied: " + "; ".join(
            choice.difference_in_text(other, name) for other in (leader, *tied) if other != name
        )
    return Verdict("inconclusive", None, False, eligible)


def _intervals_known(choice: Choice, leader: str, others: list[str]) -> bool:
    found = [choice.difference(leader, name) for name in others]
    return all(difference is not None and difference.ci_low is not None for difference in found)


def _outcome(choice: Choice, pick: str) -> Outcome:
    models = choice.comparison.models
    if models[pick].process:
        return "do_not_train"
    if models[pick].engine == "recorded" and choice.local(pick):
        return "pick"
    if all(models[name].unnamed for name in choice.names):
        return "pick"  # none is known to be the larger one
    trained = [name for name in choice.names if models[name].start or models[name].trained_on]
    if pick in trained or not trained:
        return "pick" if choice.local(pick) else "keep_large"
    larger = all(choice.parameters(pick) > choice.parameters(name) for name in trained)
    return "keep_large" if larger or not choice.local(pick) else "do_not_train"


# -- baselines and provisional picks ---------------------------------------------------------------------------------


def compare_with_baselines(choice: Choice, verdict: Verdict) -> Verdict:
    """Check a verdict against the baselines: if a baseline does better, no language model is needed.

    The baseline must beat every eligible candidate, and reach the minimum score if there is one. If it reaches the
    minimum and the pick isn't significantly better, the baseline is the smallest solution that qualifies. Without a
    minimum and a model in use, nothing but the score speaks for a pick, so one that doesn't beat a baseline is open.
    """
    baselines = choice.baselines
    reached: Mapping[str, bool | None] = reaching_minimum(choice, verdict.eligible) if baselines else {}
    better = next(
        (
            baseline
            for baseline in baselines
            if all(choice.beats(baseline, name, len(baselines)) for name in verdict.eligible)
            and (choice.needs.min_quality is None or reached[baseline])
        ),
        None,
    )
    if verdict.eligible and better is not None and not verdict.unverified:
        for name in verdict.eligible:
            choice.rejected[name] = choice.difference_in_text(better, name)
        return Verdict("do_not_train", None, True, sorted(verdict.eligible, key=choice.rank), better)
    pick = verdict.pick
    enough = next((b for b in baselines if pick and reached[b] and not choice.beats(pick, b)), None)
    # A minimum score says what is good enough, and today's model is in use; any other pick must beat the baselines.
    stated = choice.needs.min_quality is not None or pick == choice.needs.incumbent
    beats_all = stated or pick is None or choice.unbeaten(pick) is None
    few = pick is not None and choice.documents(pick) < MIN_CLUSTERS
    rule = choice.unbeaten(pick, paired=True) if pick and not beats_all else None
    if pick is not None and rule is not None:
        choice.rejected[pick] = f"isn't significantly better than a rule: {choice.difference_in_text(rule, pick)}"
        return Verdict("inconclusive", None, False, _first(pick, verdict.eligible), rule=rule)
    if few or not beats_all:
        verdict = verdict._replace(decisive=False)
    if pick is None or enough is None:
        return verdict
    difference = choice.difference_in_text(enough, pick)
    choice.rejected[pick] = f"also reaches the minimum, but isn't significantly better than the baseline: {difference}"
    return Verdict("do_not_train", None, False, verdict.eligible, enough)


def _first(name: str, names: Sequence[str]) -> list[str]:
    return [name, *(other for other in names if other != name)]


def _rule_for_now(choice: Choice, verdict: Verdict) -> str | None:
    """Name the baseline to use while nothing is decided: the best one, where no candidate that leads beats it.

    Weaker baselines don't count: using one makes no sense if it scores below another that the leader beats.
    A minimum score, or a model in use that can be kept, explains another choice. With too few documents nothing is
    known about ties, and the higher score counts.
    """
    eligible, needs = verdict.eligible, choice.needs
    if not eligible or verdict.unverified or needs.min_quality is not None or needs.incumbent in eligible:
        return None
    leading = _leading(choice, eligible)
    rule = choice.best_if_unbeaten(leading[0])
    if rule is not None and choice.documents(leading[0]) < MIN_CLUSTERS:
        return rule if choice.rank(rule) <= choice.rank(leading[0]) else None
    return rule


def _leading(choice: Choice, eligible: list[str]) -> list[str]:
    """List the candidates not separable from the first one: if any beat the best baseline, only those."""
    names = [eligible[0], *choice.tied(eligible)]
    return [name for name in names if choice.best_if_unbeaten(name) is None] or names


def _provisional(choice: Choice, verdict: Verdict) -> str | None:
    """Name a candidate to use for now: of those that the evidence can't separate, the small, fast and cheap one.

    With too few documents nothing is known about ties, so the leader is named; with an incumbent, the incumbent.
    """
    eligible = verdict.eligible
    if not eligible:
        return None
    if choice.needs.incumbent in eligible:
        return choice.needs.incumbent
    leader = eligible[0]
    if choice.needs.min_quality is not None:
        reached = reaching_minimum(choice, eligible)
        open_names = [name for name in eligible if reached[name] is not False]
        leader = open_names[0] if open_names else leader
        return leader  # the best chance of reaching it
    if choice.documents(leader) < MIN_CLUSTERS:
        return leader
    tied = _leading(choice, eligible)
    return min(tied, key=lambda name: (_burden(choice, name, tied), choice.rank(name), name))


def _burden(choice: Choice, name: str, names: Sequence[str]) -> float:
    """Sum how many times larger, slower and dearer a candidate is than others, over what is known for all of them."""
    total = 0.0
    for values in (
        {other: choice.value("memory_bytes", other) for other in names},
        {other: choice.value("latency_s", other) for other in names},
        {other: cost.expected if (cost := choice.cost(other).usd_per_1000) else None for other in names},
    ):
        if all(values.values()):
            total += log(values[name] or 1.0)
    return total
