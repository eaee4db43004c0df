"""The verdict in one or two sentences, for readers unfamiliar with the method."""

from __future__ import annotations

from collections.abc import Sequence

from sizewise.choice.advantages import lighter_in, size_ratio, speed_ratio
from sizewise.choice.evidence import Choice
from sizewise.choice.savings_text import money_in_words
from sizewise.choice.verdicts import Verdict, reaching_minimum
from sizewise.metrics.display import listed, number, signed_text, title_in_text
from sizewise.stats import MIN_CLUSTERS

NAME_IT = (
    "Who gave its answers isn't stated, so its price is unknown too. "
    'Add of = "NAME", for example of = "gpt-4o", to its [[candidates]] table.'
)
CHECK_LABELS = "Check the labels and the task before you replace anything."
TODAY = {"": "the model in use", "staff": "today's process", "rules": "today's process"}
MIN_GRADES = 50
"""Graded answers of each candidate that usually separate what people's grades separate."""


def summarize(choice: Choice, verdict: Verdict) -> str:
    """Write the summary of a verdict."""
    return _decided(choice, verdict) + _out_of_reach(choice, verdict)


def _decided(choice: Choice, verdict: Verdict) -> str:
    if verdict.baseline is not None and verdict.outcome != "inconclusive":
        return _baseline_wins(choice, verdict, verdict.baseline)
    if verdict.outcome == "none_good_enough":
        if choice.names and all(choice.value(choice.quality, name) is None for name in choice.names):
            return _none_measured(choice)
        missed = choice.needs.min_quality is not None and all(
            reached is False for reached in reaching_minimum(choice, choice.names).values()
        )
        minimum = f" (minimum {choice.title}: {choice.minimum_text()})" if missed else ""
        return f"No candidate meets the requirements{minimum}."
    if verdict.pick is not None:
        return _picked(choice, verdict, verdict.pick)
    return _inconclusive(choice, verdict) + _provisionally(choice, verdict)


def _out_of_reach(choice: Choice, verdict: Verdict) -> str:
    """Name the best candidate that a limit excludes, if it's significantly better than what the verdict names."""
    named = verdict.pick or verdict.baseline or verdict.provisional
    if named is None or choice.needs.min_quality is not None or choice.needs.incumbent is not None:
        return ""
    excluded = [name for name in choice.names if name not in verdict.eligible and choice.beats(name, named)]
    if not excluded:
        return ""
    best = min(excluded, key=choice.rank)
    values = f"{choice.title} {choice.value_in_text(best)} vs. {choice.value_in_text(named)}"
    reason, _, _ = choice.rejected[best].partition(";")
    return f" {best} is significantly better than {named} ({values}), but {reason}."


def _inconclusive(choice: Choice, verdict: Verdict) -> str:
    leader = verdict.eligible[0]
    if verdict.unverified and verdict.baseline is not None:
        values = f"{choice.title} {choice.value_in_text(leader)} vs. {choice.value_in_text(verdict.baseline)}"
        better = f"{leader} is significantly better than {verdict.baseline}, which isn't a language model ({values})"
        return f"Inconclusive. {better}, but {choice.rejected[leader]}. No other candidate is."
    if verdict.unverified:
        return f"Inconclusive. {leader} leads, but {choice.rejected[leader]}."
    baseline = verdict.baseline or choice.unbeaten(leader)
    if baseline is not None and any(choice.beats(name, baseline) for name in verdict.eligible):
        baseline = None
    note = f" No candidate is significantly better than {baseline}, which isn't a language model." if baseline else ""
    if choice.documents(leader) < MIN_CLUSTERS:
        return _too_few_documents(choice, verdict.eligible) + note
    if choice.needs.min_quality is not None:
        return _minimum_unclear(choice, verdict.eligible) + note
    if choice.needs.incumbent is not None and verdict.rule is not None:
        return _rule_instead(choice, leader, choice.needs.incumbent, verdict.rule)
    if choice.needs.incumbent is not None:
        return _loss_unclear(choice, verdict.eligible, choice.needs.incumbent) + note
    if baseline is not None and not choice.tied(verdict.eligible):
        return _rule_is_close(choice, leader, baseline)
    return _tie(choice, verdict.eligible) + note


def _none_measured(choice: Choice) -> str:
    """Explain that nothing is known of any candidate's quality, which isn't the same as missing a requirement."""
    scores = [choice.score(choice.quality, name) for name in choice.names]
    reasons = dict.fromkeys(score.missing_reason for score in scores if score is not None and score.missing_reason)
    why = f" ({'; '.join(reasons)})" if reasons else ""
    return f"No candidate could be measured on {choice.title}{why}. Choose another quality metric, or other candidates."


def _rule_is_close(choice: Choice, best: str, baseline: str) -> str:
    """Explain that the best candidate isn't significantly better than a baseline."""
    ours, theirs = choice.value_in_text(best), choice.value_in_text(baseline)
    if choice.rank(baseline) < choice.rank(best):
        lead = f"{baseline}, which isn't a language model, leads {best} on {choice.title}, {theirs} to {ours}"
        return f"Too close to call. {lead}."
    close = f"isn't significantly better than {baseline}, which isn't a language model"
    return f"Too close to call. {best} {close} ({choice.title} {ours} vs. {theirs})."


def _rule_instead(choice: Choice, name: str, incumbent: str, rule: str) -> str:
    """Explain that a candidate could replace the model in use, but so could a rule: the task or its labels are odd."""
    return (
        f"Inconclusive. {name} loses at most {choice.loss_text()} {choice.title} to {incumbent}, but isn't "
        f"significantly better than {rule}, which isn't a language model ({choice.title} {choice.value_in_text(name)} "
        f"vs. {choice.value_in_text(rule)}). {CHECK_LABELS}"
    )


def _provisionally(choice: Choice, verdict: Verdict) -> str:
    """Name the provisional pick, and why it and not another."""
    if verdict.baseline is not None:
        paid = "paid" if choice.model(verdict.eligible[0]).hosted else "language"
        return f" Provisional pick: {verdict.baseline}, which needs no {paid} model."
    pick = verdict.provisional
    if pick is None:
        return ""
    if pick == choice.needs.incumbent:
        reason = " (the model in use)"
    elif pick == verdict.eligible[0]:
        reason = ""
    else:
        better = lighter_in(choice, pick, verdict.eligible[0])
        reason = f" ({listed(better)}, and not significantly worse)" if better else " (not significantly worse)"
    unnamed = f" {NAME_IT}" if choice.model(pick).unnamed else ""
    return " ".join([f" Provisional pick: {pick}{reason}.", *money_in_words(choice, pick)]) + unnamed


def _loss_unclear(choice: Choice, eligible: list[str], incumbent: str) -> str:
    others = [name for name in eligible if name != incumbent]
    name = others[0] if others else incumbent
    return (
        f"Inconclusive. The test set can't show that {name} loses at most {choice.loss_text()} {choice.title} to "
        f"{incumbent} ({choice.difference_in_text(incumbent, name)})."
    )


def _baseline_wins(choice: Choice, verdict: Verdict, baseline: str) -> str:
    title, best = choice.title, verdict.eligible[0]
    if verdict.decisive:
        return (
            f"Don't train, and don't use a language model for this. {baseline} is significantly better than {best}, "
            f"the best candidate ({title} {choice.value_in_text(baseline)} vs. {choice.value_in_text(best)})."
        )
    better = [name for name in verdict.eligible if choice.beats(name, baseline)]
    verb = "is" if len(better) == 1 else "are"
    raised = f" {listed(better)} {verb} significantly better than {baseline}." if better else ""
    smallest = ", the smallest candidate that does," if _sizes_known(choice, verdict) else ""
    return (
        f"No language model needed at this threshold. {baseline} already reaches the minimum {title} of "
        f"{choice.minimum_text()} ({choice.value_in_text(baseline)}), and {best}{smallest} isn't significantly better "
        f"({choice.value_in_text(best)}). If that isn't good enough, raise the minimum.{raised}"
    )


def _picked(choice: Choice, verdict: Verdict, pick: str) -> str:
    sentences = [_headline(choice, verdict, pick)]
    rest = [name for name in verdict.eligible if name != pick]
    if choice.needs.min_quality is not None:
        sentences.append(_reaches(choice, verdict, f"the minimum {choice.title} of {choice.minimum_text()}"))
    elif choice.needs.incumbent is not None:
        sentences.append(_loses_little(choice, verdict, pick, choice.needs.incumbent))
    elif rest and all(choice.beats(pick, name) for name in rest):
        runner_up = min(rest, key=choice.rank)
        others = {1: rest[0], 2: "both other candidates"}.get(len(rest), f"all {len(rest)} other candidates")
        against = ", next best" if len(rest) > 1 else " vs."
        sentences.append(
            f"It's significantly better than {others} on this task "
            f"({choice.title} {choice.value_in_text(pick)}{against} {choice.value_in_text(runner_up)})."
        )
    elif rest:
        sentences.append("No other candidate is significantly better.")
    else:
        sentences.append("It's the only candidate that meets the requirements.")
    baseline = choice.unbeaten(pick)
    if baseline:
        sentences.append(f"It isn't significantly better than {baseline}, which isn't a language model.")
    sentences += money_in_words(choice, pick)
    if choice.needs.min_quality is None:
        sentences.append("No minimum score was set, so this doesn't show that it's good enough.")
    if choice.model(pick).unnamed:
        sentences.append(NAME_IT)
    return " ".join(sentences)


def _headline(choice: Choice, verdict: Verdict, pick: str) -> str:
    """Write what to do, and what is known of the pick's size."""
    size, model = choice.size(pick), choice.model(pick)
    if model.process:
        return f"Keep today's process: {pick} ({size})."
    if verdict.outcome == "fall_back":
        return f"Use {pick} first ({size}), and fall back to the large model when needed."
    if verdict.outcome == "do_not_train":
        return f"Don't train: use {pick} off the shelf ({size})."
    if verdict.outcome == "keep_large" and choice.known_smaller(pick):
        return f"Keep the larger model: use {pick} ({size})."
    if verdict.outcome == "keep_large" and model.hosted and len(choice.names) > 1:
        return f"Keep the paid model: use {pick} ({size}, run by {model.hosted_by})."
    if model.unnamed:
        return f"Use {pick} (recorded answers; size unknown, and where it runs is not stated)."
    return f"Use {pick} ({size})."


def _reaches(choice: Choice, verdict: Verdict, minimum: str) -> str:
    if len(verdict.eligible) == 1 and len(choice.names) > 1:
        return f"It's the only candidate that reaches {minimum}."
    if verdict.pick and choice.model(verdict.pick).process:
        return f"It reaches {minimum}, so no model is needed."
    if _sizes_known(choice, verdict):
        return f"It's {_which(choice, verdict.pick, verdict.eligible)} candidate that reaches {minimum}."
    if verdict.pick and choice.memory(verdict.pick) == float("inf") and choice.price(verdict.pick) < float("inf"):
        return f"It reaches {minimum}. No size is published, and no other candidate that does is known to cost less."
    return f"It reaches {minimum}, and no other candidate that does is known to be smaller."


def _loses_little(choice: Choice, verdict: Verdict, pick: str, incumbent: str) -> str:
    if pick == incumbent:
        return f"Keep it: no smaller candidate is certain to lose at most {choice.loss_text()} {choice.title}."
    today = f"{incumbent}, {TODAY[choice.model(incumbent).process]}"
    found = choice.difference_in_text(incumbent, pick)
    lost = f"loses at most {choice.loss_text()} {choice.title} to {today} ({found})."
    if choice.beats(pick, incumbent):
        lost = f"keeps up with {today}. It's even significantly better ({found})."
    models = [name for name in verdict.eligible if name != pick and not choice.model(name).process]
    if all(choice.memory(name) < float("inf") for name in (pick, *models)):
        return f"It's {_which(choice, pick, models)} candidate that {lost}"
    return f"It {lost} No other candidate that does is known to be smaller."


def _which(choice: Choice, pick: str | None, names: Sequence[str]) -> str:
    """Describe how a pick differs from the others that qualify: smallest, or cheapest of the smallest."""
    if pick is not None and any(choice.cheaper_at_equal_size(pick, name) for name in names):
        return "the smallest and, of those of its size, the cheapest"
    return "the smallest"


def _too_few_documents(choice: Choice, eligible: list[str]) -> str:
    documents = choice.documents(eligible[0])
    plural = "s" if documents != 1 else ""
    lead = ""
    if len(eligible) > 1:
        lead = f" {_lead(choice, eligible[0], eligible[1])}, but that may be chance."
    return (
        f"Not enough data: the test examples come from {documents} source document{plural}, and a claim requires at "
        f"least {MIN_CLUSTERS}.{lead}"
    )


def _minimum_unclear(choice: Choice, eligible: list[str]) -> str:
    reached = reaching_minimum(choice, eligible)
    unsure = [name for name in eligible if reached[name] is None]
    if len(unsure) == 1:
        scores = choice.score_in_text(unsure[0])
    else:
        scores = "; ".join(f"{name}: {choice.score_in_text(name)}" for name in unsure[:2])
    verb = "reaches" if len(unsure) == 1 else "reach"
    return (
        f"Inconclusive. The test set can't show whether {listed(unsure)} {verb} the minimum {choice.title} of "
        f"{choice.minimum_text()} ({scores}).{_alone(choice, unsure)}"
    )


def _alone(choice: Choice, unsure: list[str]) -> str:
    """Explain why a candidate whose own interval is beyond the minimum isn't known to reach it."""
    minimum = choice.needs.min_quality
    passing = []
    for name in unsure:
        score = choice.score(choice.quality, name)
        nearest = None if score is None else score.ci_low if choice.higher else score.ci_high
        if nearest is not None and minimum is not None and (nearest > minimum) == choice.higher:
            passing.append(name)
    if not passing:
        return ""
    tested = len({*choice.names, *choice.baselines})
    return (
        f" Tested alone, {listed(passing)} would pass; of {tested} tested at once, one may pass by chance. More test "
        "examples would settle it."
    )


def _tie(choice: Choice, eligible: list[str]) -> str:
    leader, rivals = eligible[0], choice.tied(eligible)
    rival = rivals[0]
    found = choice.difference(leader, rival)
    p = choice.corrected_p(found) if found else None
    common = _common_items(choice, leader, rival)
    same = choice.value_in_text(leader) == choice.value_in_text(rival)
    equal = found.value == 0 if found is not None and common else same
    if found is None:
        reason = "their tokenizers differ" if choice.quality == "perplexity" else "no test item was measured for both"
        text = f"{leader} and {rival} can't be compared on {choice.title}, because {reason}."
    elif equal:
        where = f"over the {common:,} items that both answered" if common else f"({choice.value_in_text(leader)})"
        text = f"{leader} and {rival} score the same on {choice.title} {where}."
    else:
        reason = f" (p = {number(p, 2)})" if p is not None else ""
        text = f"{_lead(choice, leader, rival)}, but the difference isn't significant{reason}."
    if found is not None and found.contested:
        return _ask_people(choice, leader, rivals)
    advantages = _advantages(choice, leader, rival)
    sentences = ["Too close to call." if found else "Inconclusive.", text]
    if set(advantages) == {leader} and not equal:
        sentences.append(f"It's also {advantages[leader]}.")
    else:
        sentences += [f"{name} is {advantage}." for name, advantage in advantages.items()]
    favored = choice.favored_by_others(leader, rival)
    if favored[leader] and favored[rival]:
        sentences.append("Other metrics disagree.")
    for name in (leader, rival):
        titles = [title_in_text(metric) for metric in favored[name]]
        if titles:
            start = f"{listed(titles)} {'favors' if len(titles) == 1 else 'favor'} {name}."
            sentences.append(start[0].upper() + start[1:])
    if len(rivals) > 1:
        others = f"{len(rivals) - 1} other candidates are" if len(rivals) > 3 else f"{listed(rivals[1:])} "
        others += "" if len(rivals) > 3 else "is" if len(rivals) == 2 else "are"
        sentences.append(f"{others} too close to {leader} as well.")
    return " ".join(sentences)


def _ask_people(choice: Choice, leader: str, rivals: Sequence[str]) -> str:
    """Explain that measures don't settle which answers are better, and name the command that asks people."""
    rival = next(name for name in rivals if choice.contested(leader, name))
    command, reason = f"sizewise judge open {choice.comparison_id or 'COMPARISON'}", choice.contested(leader, rival)
    ids = " ".join(choice.comparison.evaluations.values())
    return (
        f"Measures don't settle this: ask people. {_lead(choice, leader, rival)}, but {reason}. Run {command}, or have "
        f"about {MIN_GRADES} answers of each candidate graded: sizewise compare {ids} --grade-sheet FILE."
    )


def _common_items(choice: Choice, left: str, right: str) -> int:
    """Count the items that two candidates have in common, if one of them has more; 0 if both have the same ones."""
    found = choice.difference(left, right)
    scores = [choice.score(choice.quality, name) for name in (left, right)]
    if found is None or all(score is None or score.n <= found.n for score in scores):
        return 0
    return found.n


def _lead(choice: Choice, leader: str, rival: str) -> str:
    found, common = choice.difference(leader, rival), _common_items(choice, leader, rival)
    start = f"{leader} leads {rival} on {choice.title}"
    if found is None or not common:
        return f"{start}, {choice.value_in_text(leader)} to {choice.value_in_text(rival)}"
    if not found.value:
        return f"{leader} and {rival} score the same on {choice.title} over the {common:,} items that both answered"
    lead = signed_text(choice.quality, found.unit, abs(found.value), None, None).removeprefix("+")
    return f"{start} by {lead} over the {common:,} items that both answered"


def _advantages(choice: Choice, leader: str, rival: str) -> dict[str, str]:
    """Describe which of two tied candidates is faster and which is smaller."""
    faster, smaller = speed_ratio(choice, leader, rival), size_ratio(choice, leader, rival)
    claims: dict[str, list[str]] = {leader: [], rival: []}
    if faster != 1:
        claims[leader if faster > 1 else rival].append(f"{number(max(faster, 1 / faster), 2)}x faster")
    if smaller != 1:
        ratio = max(smaller, 1 / smaller)
        size = "half the size" if 1.85 <= ratio <= 2.15 else f"{number(ratio, 2)}x smaller"
        claims[leader if smaller > 1 else rival].append(size)
    return {name: " and ".join(claim) for name, claim in claims.items() if claim}


def _sizes_known(choice: Choice, verdict: Verdict) -> bool:
    return all(choice.memory(name) < float("inf") for name in verdict.eligible)
