"""What large models would charge for measured requests, at list prices."""

from __future__ import annotations

from sizewise.models.catalog import PRICED, load_catalog, load_families
from sizewise.models.identity import identify
from sizewise.records import Comparison, ListCost

ALSO_LISTED = ("gpt-4o", "gpt-4o-mini", "chatgpt", "deepseek-r1")
"""Models that teams still compare with, beside the current ones that are sold through an API."""


def list_costs(comparison: Comparison) -> tuple[ListCost, ...]:
    """Compute what large models would charge for 1,000 requests with the measured tokens, the cheapest first.

    Their quality isn't measured. Candidates of the comparison and models that were shut down are left out. Answers that
    were cut off are shorter than whole ones, so their token counts don't count.
    """
    prompt, completion = _typical_tokens(comparison, "prompt_tokens"), _typical_tokens(comparison, "completion_tokens")
    if prompt is None or completion is None:
        return ()
    known = {model.uri for model in comparison.models.values()} | {model.of for model in comparison.models.values()}
    current = {name for family in load_families() for name in family.current}
    found = []
    for model in load_catalog().values():
        hosted = model.name in ALSO_LISTED or (model.name in current and model.uri.partition(":")[0] in PRICED)
        if not hosted or model.uri in known or model.name in known:
            continue
        identity = identify(model.uri)
        if not identity.prices:
            continue
        costs = [
            ListCost(
                model=model.name,
                provider=price.provider,
                usd_per_1000=(prompt * price.input_usd + completion * price.output_usd) / 1e3,
                as_of=price.as_of,
                retires_on=identity.retires_on or "",
            )
            for price in identity.prices
        ]
        ends = {min(costs, key=_cost), max(costs, key=_cost)}  # two providers may charge differently: both are listed
        found += sorted(ends, key=_cost)[: 1 + (len({_cost(cost) for cost in ends}) > 1)]
    return tuple(sorted(found, key=lambda cost: (cost.usd_per_1000, cost.model)))


def _cost(cost: ListCost) -> float:
    return cost.usd_per_1000


def _typical_tokens(comparison: Comparison, metric: str) -> float | None:
    """Return the median token count of the candidates whose answers weren't cut off; None if there is none."""
    scores = comparison.scores.get(metric, {}).items()
    whole = [score for name, score in scores if comparison.models[name].role == "candidate"]
    values = sorted(score.value for score in whole if score.value and "cut off" not in score.signature)
    return values[len(values) // 2] if values else None
