"""Savings in a few sentences."""

from __future__ import annotations

from math import ceil

from sizewise.metrics.display import listed
from sizewise.records import Savings, Score
from sizewise.routing import min_prompts_for

SIMILARITY = dict.fromkeys(("chrf", "token_f1"), "similarity to the reference answers")


def summarize_savings(found: Savings, rule: bool, if_good: float) -> str:
    """Summarize the savings in a few sentences.

    Args:
        found: the savings.
        rule: whether the alternative is no language model.
        if_good: monthly savings in US dollars, all costs counted, if it took the requests that it answers well enough.
    """
    share, name = found.share, f"'{found.small}'" + (" (no language model)" if rule else "")
    metric = SIMILARITY.get(found.metric, found.metric)
    if found.basis == "agreement":
        return (
            "Savings unknown: the log has no reference answers, so answers can only be compared with the large "
            f"model's. {name} comes close to them in {_percent(share)} of the requests. Whether that is good enough is "
            f"for people to judge: sizewise judge open {found.study}"
        )
    if found.saves_usd is None:
        return _inconclusive(found, name, metric, if_good)
    whole = _replaced(found)
    routed = found.saves_usd.expected if share.value else 0.0
    if whole and found.replaces_usd is not None and found.replaces_usd.expected > max(0.0, routed):
        return f"{whole} {_guaranteed(found, name, metric)}"
    if not share.value:
        return (
            f"No savings: {len(found.ways)} alternatives were tested, including rules and classifiers. At every "
            f"threshold, more than {found.risk:.0%} of all answers could be worse by more than {found.loss:.0%} in "
            f"{metric} (n = {found.tested}). The best alternative, '{found.small}', answers "
            f"{_percent(found.ways[found.small])} of the requests well enough. Keep the large model."
        )
    money = found.saves_usd
    kinds = f" Keep the large model for: {', '.join(found.not_these)}." if found.not_these else ""
    if money.upper <= 0:
        return (
            f"No savings: {name} could answer {_percent(share)} of the requests, but {_what_costs(found)} more than "
            f"those requests do today.{kinds}"
        )
    if money.lower <= 0:
        return (
            f"Savings uncertain: {name} could answer {_percent(share)} of the requests. All costs counted, "
            f"that is worth {money.lower:,.0f} to {money.upper:,.0f} USD a month.{kinds}"
        )
    return (
        f"{name} can answer {_percent(share)} of your requests, saving about {money.expected:,.0f} USD a month "
        f"({money.lower:,.0f} to {money.upper:,.0f}){_included(found)}. At most {found.risk:.0%} of all answers get "
        f"worse by more than {found.loss:.0%} in {metric} (n = {found.tested}).{kinds}"
    )


def _guaranteed(found: Savings, name: str, metric: str) -> str:
    """Summarize for how many single answers the risk is guaranteed, where on average more could be replaced."""
    limit = (
        f"at most {found.risk:.0%} of all answers worse by more than {found.loss:.0%} in {metric} (n = {found.tested})"
    )
    if not found.share.value:
        return f"No share of the requests keeps the stricter limit for single answers: {limit} (n = {found.tested})."
    money = found.saves_usd.expected if found.saves_usd else 0.0
    saves = f"saving about {money:,.0f} USD a month" if money > 0 else "which saves nothing"
    return (
        f"Under the stricter limit for single answers, {limit} (n = {found.tested}), {name} can take "
        f"{_percent(found.share)}, {saves}."
    )


def _replaced(found: Savings) -> str:
    """Summarize what answers everything as well on average, and what that saves; empty if nothing is known to."""
    loss, money = found.replaces_loss, found.replaces_usd
    if found.replaces is None or loss is None or loss.value is None or money is None:
        return ""
    metric = SIMILARITY.get(found.metric, found.metric)
    saves = (
        f"would save about {money.expected:,.0f} USD a month ({money.lower:,.0f} to {money.upper:,.0f})"
        f"{_included(found)}"
        if money.expected > 0
        else "would save nothing, because it costs more than is paid today"
    )
    return (
        f"On average, '{found.replaces}' is as good as the large model on all requests (mean loss "
        f"{loss.value:.1%} [{loss.ci_low:.1%}, {loss.ci_high:.1%}] in {metric}), and {saves}."
    )


def _inconclusive(found: Savings, name: str, metric: str, if_good: float) -> str:
    """Summarize what is known when too few requests were tested to guarantee the risk."""
    well = found.ways[found.small]
    needed = min_prompts_for(found.risk)
    if_so = f", which would save about {if_good:,.0f} USD a month{_included(found)}" if if_good > 0 else ""
    return (
        f"Inconclusive: {found.tested} tested requests are too few to guarantee a risk of {found.risk:.0%}; at least "
        f"{needed} are needed. {name} answers {_percent(well)} of them well enough (at most {found.loss:.0%} "
        f"worse in {metric}){if_so}. Use a log of at least {ceil(found.requests * needed / found.tested):,} requests, "
        f"or accept a risk of {ceil(100 * (found.bound or 0.0))} %."
    )


def _what_costs(found: Savings) -> str:
    """Name what costs more than it saves."""
    people = [title for title in found.terms if title not in ("bill", "machines")]
    return "the machine costs" if not people else f"{listed(['the machine', *people])} cost"


def _included(found: Savings) -> str:
    """Name the kinds of cost that are counted beside the bill and the machines."""
    others = [title for title in found.terms if title not in ("bill", "machines")]
    return f", {listed(others)} included" if others else ""


def _percent(score: Score) -> str:
    """Format a share with its interval."""
    return f"{score.value:.0%} ({score.ci_low:.0%} to {score.ci_high:.0%})"
