"""The verdict in one or two sentences, for readers unfamiliar with the method."""

from __future__ import annotations

from sizewise.choice.evidence import Choice
from sizewise.choice.verdicts import Verdict, reaching_minimum
from sizewise.metrics.display import listed, number, title_in_text
from sizewise.stats import MIN_CLUSTERS

NOTABLE_RATIO = 1.2
"""Ratio from which a difference in latency or memory is worth mentioning."""


def summarize(choice: Choice, verdict: Verdict) -> str:
    """Write the summary of a verdict."""
    if verdict.baseline is not None:
        return _baseline_wins(choice, verdict, verdict.baseline)
    if verdict.outcome == "none_good_enough":
        missed = choice.needs.min_quality is not None and all(
            reached is False for reached in reaching_minimum(choice, choice.names).values()
        )
        minimum = f" (minimum {choice.title}: {choice.minimum_text()})" if missed else ""
        return f"No candidate meets the requirements{minimum}."
    if verdict.pick is not None:
        return _picked(choice, verdict, verdict.pick)
    return _inconclusive(choice, verdict) + _provisionally(choice, verdict)


def _inconclusive(choice: Choice, verdict: Verdict) -> str:
    leader = verdict.eligible[0]
    if verdict.unverified:
        return f"Inconclusive. {leader} leads, but {choice.rejected[leader]}."
    baseline = choice.unbeaten(leader)
    note = f" No candidate is significantly better than {baseline}, which isn't a language model." if baseline else ""
    if choice.documents(leader) < MIN_CLUSTERS:
        return _too_few_documents(choice, verdict.eligible) + note
    if choice.needs.min_quality is not None:
        return _minimum_unclear(choice, verdict.eligible) + note
    if choice.needs.incumbent is not None:
        return _loss_unclear(choice, verdict.eligible, choice.needs.incumbent) + note
    return _tie(choice, verdict.eligible) + note


def _provisionally(choice: Choice, verdict: Verdict) -> str:
    """Name the provisional pick, and why it and not another."""
    pick = verdict.provisional
    if pick is None:
        return ""
    if pick == choice.needs.incumbent:
        reason = " (the model in use)"
    elif pick == verdict.eligible[0]:
        reason = ""
    else:
        reason = " (smaller, faster or cheaper, and not significantly worse)"
    return f" Provisional pick: {pick}{reason}."


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
    size = choice.size(pick)
    sentences = [
        {
            "do_not_train": f"Don't train: use {pick} off the shelf ({size}).",
            "keep_large": f"Keep the larger model: use {pick} ({size})."
            if choice.known_smaller(pick)
            else f"Use {pick} ({size}).",
            "fall_back": f"Use {pick} first ({size}), and fall back to the large model when needed.",
        }.get(verdict.outcome, f"Use {pick} ({size}).")
    ]
    rest = [name for name in verdict.eligible if name != pick]
    if choice.needs.min_quality is not None:
        reached = f"the minimum {choice.title} of {choice.minimum_text()}"
        sentences.append(
            f"It's the smallest candidate that reaches {reached}."
            if _sizes_known(choice, verdict)
            else f"It reaches {reached}, and no other candidate that does is known to be smaller."
        )
    elif choice.needs.incumbent is not None:
        incumbent = choice.needs.incumbent
        sentences.append(
            f"Keep it: no smaller candidate is certain to lose at most {choice.loss_text()} {choice.title}."
            if pick == incumbent
            else f"It's the smallest candidate that loses at most {choice.loss_text()} {choice.title} to {incumbent}, "
            f"the model in use ({choice.difference_in_text(incumbent, pick)})."
        )
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
    if choice.needs.min_quality is None:
        sentences.append("No minimum score was set, so this doesn't show that it's good enough.")
    return " ".join(sentences)


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
        f"{choice.minimum_text()} ({scores})."
    )


def _tie(choice: Choice, eligible: list[str]) -> str:
    leader, rivals = eligible[0], choice.tied(eligible)
    rival = rivals[0]
    found = choice.difference(leader, rival)
    p = choice.corrected_p(found) if found else None
    equal = choice.value_in_text(leader) == choice.value_in_text(rival)
    if found is None:
        reason = "their tokenizers differ" if choice.quality == "perplexity" else "no test item was measured for both"
        text = f"{leader} and {rival} can't be compared on {choice.title}, because {reason}."
    elif equal:
        text = f"{leader} and {rival} score the same on {choice.title} ({choice.value_in_text(leader)})."
    else:
        reason = f" (p = {number(p, 2)})" if p is not None else ""
        text = f"{_lead(choice, leader, rival)}, but the difference isn't significant{reason}."
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


def _lead(choice: Choice, leader: str, rival: str) -> str:
    return f"{leader} leads {rival} on {choice.title}, {choice.value_in_text(leader)} to {choice.value_in_text(rival)}"


def _advantages(choice: Choice, leader: str, rival: str) -> dict[str, str]:
    """Describe which of two tied candidates is faster and which is smaller."""
    faster = _ratio(choice.value("latency_s", leader), choice.value("latency_s", rival))
    smaller = _ratio(choice.value("memory_bytes", leader), choice.value("memory_bytes", rival))
    claims: dict[str, list[str]] = {leader: [], rival: []}
    if max(faster, 1 / faster) >= NOTABLE_RATIO:
        claims[leader if faster > 1 else rival].append(f"{number(max(faster, 1 / faster), 2)}x faster")
    if max(smaller, 1 / smaller) >= NOTABLE_RATIO:
        ratio = max(smaller, 1 / smaller)
        size = "half the size" if 1.85 <= ratio <= 2.15 else f"{number(ratio, 2)}x smaller"
        claims[leader if smaller > 1 else rival].append(size)
    return {name: " and ".join(claim) for name, claim in claims.items() if claim}


def _ratio(ours: float | None, theirs: float | None) -> float:
    """Return how many times larger theirs is; 1 if either is unknown."""
    return theirs / ours if ours and theirs else 1.0


def _sizes_known(choice: Choice, verdict: Verdict) -> bool:
    return all(choice.memory(name) < float("inf") for name in verdict.eligible)
