"""saving(): from the log of requests to a large model to what a small one would save."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sizewise.choice.costing import MONTH_S, hour_prices
from sizewise.errors import SizewiseError, UsageError
from sizewise.models.recorded import LoggedRequest, read_log
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Calibration,
    Candidate,
    Comparison,
    Needs,
    Range,
    Recipe,
    Savings,
    Score,
    Study,
    fingerprint,
)
from sizewise.routing import (
    PER_ANSWER_METRICS,
    calibrate_rows,
    make_policy,
    min_prompts_for,
    pair_answers,
    share_of,
    write_policy,
)
from sizewise.routing.labeled import Array
from sizewise.stats import percentile_interval, wilson
from sizewise.store import Saved, Store, write_atomically
from sizewise.studies.config import StudyConfig
from sizewise.studies.studying import study

LARGE = "today's large model"
START = "pkg:smollm2-135m"
LEAST_REQUESTS, LEAST_OF_A_KIND = 60, 8
ABOUT = 0.02  # of the requests: so much less is worth a simpler way
NOT_THESE = 0.5  # what answers a kind of request well less often than this should leave it alone
MONTHS = {"month": 1.0, "year": 1 / 12, "week": 52 / 12, "day": 365 / 12}
_WORD = re.compile(r"[^\W\d_]+")


def read_pays(text: str) -> float:
    """Turn `4200/month` into US dollars a month; a sum that can be read in two ways is refused.

    Raises:
        UsageError: it is no sum of money in a time, or it has two readings.
    """
    sum_, _, period = text.partition("/")
    amortization_months = MONTHS.get(period.strip().lower() or "month")
    number = re.sub(r"^(?:USD|US\$|\$)\s*|\s*(?:USD|\$)$", "", sum_.strip(), flags=re.IGNORECASE)
    value = _read_number(number, text)
    if amortization_months is None or value is None or not math.isfinite(value):
        raise UsageError(
            f"'{text}' is no sum.", "US dollars with /month, /year, /week or /day", "--pays 4200/month or 4200.50/month"
        )
    if value <= 0:
        raise UsageError(f"'{text}' is nothing to save.", "more than 0", "--pays 4200/month")
    return value * amortization_months


def _read_number(number: str, text: str) -> float | None:
    """Read a number as it is written in English, in most of Europe or in Switzerland; None if it is none.

    A comma before three digits parts thousands, as it does where people pay in dollars. A point before three digits
    parts thousands in Europe and cents elsewhere: nobody can tell.

    Raises:
        UsageError: it has two readings.
    """
    number = re.sub(r"(?<=\d)[\s'\u2019_](?=\d{3}(?!\d))", "'", number)  # blanks and marks that can only part thousands
    if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", number):
        whole = number.replace(".", "")
        raise UsageError(
            f"'{text}' has two readings: {whole} and {float(number):g} US dollars.",
            "a sum without a point for thousands, or with two digits for cents",
            f"--pays {whole}/month or --pays {float(number):.2f}/month",
        )
    thousands = r"[1-9]\d{0,2}(?:%s\d{3})+"
    forms = (
        (r"\d+(?:[.,]\d+)?", ""),
        (thousands % "'" + r"(?:[.,]\d+)?", "'"),
        (thousands % "," + r"(?:\.\d+)?", ","),
        (thousands % r"\." + r"(?:,\d+)?", "."),
    )
    for form, mark in reversed(forms):
        if re.fullmatch(form, number, re.ASCII):
            return float((number.replace(mark, "") if mark else number).replace(",", "."))
    return None


def saving(
    log: Path,
    pays_usd: float,
    *,
    documents: Sequence[str] = (),
    loss: float = 0.05,
    risk: float = 0.05,
    minutes: float = 3.2,
    limit: int = 240,
    usd_per_hour: float | None = None,
    start: str = START,
    seed: int = 0,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Savings:
    """Split the log, train on one part, compare with the recorded answers on the other, and say what it saves.

    Args:
        log: requests with their answers, as `recorded:` takes them; `references` are right answers, where known.
        pays_usd: US dollars that a month of these requests costs.
        documents: text of the organisation to train on besides.
        loss: most that one answer may be worse than the large model's, as a share of the measure's range.
        risk: most share of all answers that may be worse by more.
        minutes: of training.
        limit: most requests to measure on.
        usd_per_hour: price of the own machine; without it a range is assumed.
        start: model URI of the small model.
        seed: seed of everything.
        store: where records live; by default SIZEWISE_HOME.
        reporter: told how far it is.

    Raises:
        UsageError: loss or risk are no shares.
        SizewiseError: the log cannot be read or is too short, or a stage of the study failed.
    """
    store, reporter = store or Store(), reporter or Silent()
    if not 0 <= loss < 1 or not 0 < risk < 1:
        raise UsageError(f"A loss of {loss} or a risk of {risk} is no share.", "for example 0.05", "--loss 0.05")
    rows = read_log(log, reporter.say)
    if len(rows) < LEAST_REQUESTS:
        raise SizewiseError(
            f"{log} holds {len(rows)} requests.", f"at least {LEAST_REQUESTS}; some hundreds can decide", ""
        )
    known = [row for row in rows if row.references]
    judged = len(known) >= LEAST_REQUESTS
    if judged and len(known) < len(rows):
        reporter.say(f"{len(rows) - len(known)} requests have no right answer and are left out")
    used = known if judged else rows
    examples, recorded = _write(used, judged, store)
    made = study(
        StudyConfig(
            name=f"{log.stem}: from the bill to the saving",
            domain="requests",
            seed=seed,
            documents=tuple(documents),
            examples=(str(examples),),
            limit=limit,
            candidates=(
                Candidate(name="small, as it is", model=start),
                Candidate(
                    name="small, trained on the log", model=start, train=Recipe(start=start, minutes=minutes, seed=seed)
                ),
                Candidate(name=LARGE, model=f"recorded:{recorded}"),
            ),
            needs=Needs(machine_usd_per_hour=usd_per_hour),
        ),
        store=store,
        reporter=reporter,
    )
    tags = {row.id: row.tags for row in used}
    return _weigh(made, tags, pays_usd, judged, len(rows), loss, risk, usd_per_hour, seed, store)


def _write(rows: Sequence[LoggedRequest], judged: bool, store: Store) -> tuple[Path, Path]:
    """Write the log as examples and as recorded answers, under a name that its content gives."""
    folder = store.home / "logs" / fingerprint([[row.id, row.answer, row.references] for row in rows])
    examples, recorded = folder / "examples.jsonl", folder / "answers.jsonl"
    lines, answers = [], []
    for row in rows:
        example = {
            "id": row.id,
            "messages": [message.model_dump(include={"role", "content"}) for message in row.messages],
            "references": list(row.references) if judged else [row.answer],
            "tags": list(row.tags),
        }
        lines.append(json.dumps(example, ensure_ascii=False))
        answers.append(json.dumps({"id": row.id, "completion": row.answer}, ensure_ascii=False))
    write_atomically(examples, "\n".join(lines) + "\n")
    write_atomically(recorded, "\n".join(answers) + "\n")
    return examples, recorded


class Way(NamedTuple):
    """One way to answer without the large model."""

    name: str
    """Rule, classifier or small model."""
    items: list[str]
    """Requests that it and the large model answered."""
    prompts: list[str]
    """What was asked."""
    lost: Array
    """(items,) how much worse its answers are, as a share of the measure's range."""
    good: Array
    """(items,) 1 where it is no more worse than is allowed."""
    learnt: Calibration
    """Which requests it may answer within the risk."""

    @property
    def share(self) -> Score:
        """Share of the requests that it may answer; none where most of those answers would be worse."""
        chosen = self.learnt.chosen
        kept = chosen is not None and chosen.worse < chosen.small_share * NOT_THESE
        return share_of("share", chosen.small_share if chosen and kept else 0.0, self.learnt.prompts)

    @property
    def well(self) -> Score:
        """Share of the requests that it answers well enough, whatever the router can tell."""
        return share_of("good_enough", float(self.good.mean()), self.learnt.prompts)


def _ways(
    made: Study, compared: Comparison, metric: str, loss: float, risk: float, seed: int, store: Store
) -> list[Way]:
    """Measure every way, the simplest first: rules and classifiers before language models, those before training."""
    rules = [name for name, model in compared.models.items() if model.role == "baseline"]
    rules.sort(key=lambda name: compared.models[name].parameters or 0)
    models = [name for name in compared.models if name not in rules and name != LARGE]
    found = []
    for name in [*rules, *models]:
        if name not in compared.scores[metric] or compared.scores[metric][name].value is None:
            continue
        small, large = made.evaluations[name], made.evaluations[LARGE]
        _, items, prompts, lost, _ = pair_answers(small, large, metric=metric, store=store)
        good = (lost <= loss).astype(float)
        learnt = calibrate_rows(prompts, good, np.ones(len(items)), f"{made.name}, test", risk, seed)
        found.append(Way(name, items, prompts, lost, good, learnt))
    return found


def _simplest(ways: Sequence[Way], of: Callable[[Way], Score]) -> Way:
    """Give the way that does most, or a simpler one that does about as much."""
    most = max(of(way).value or 0.0 for way in ways)
    return next(way for way in ways if (of(way).value or 0.0) >= most - ABOUT)


def _weigh(
    made: Saved[Study],
    tags: Mapping[str, tuple[str, ...]],
    pays: float,
    judged: bool,
    requests: int,
    loss: float,
    risk: float,
    usd_per_hour: float | None,
    seed: int,
    store: Store,
) -> Savings:
    compared = store.read(Comparison, made.record.comparison)
    metric = next(
        name for name in PER_ANSWER_METRICS if any(s.value is not None for s in compared.scores.get(name, {}).values())
    )
    ways = _ways(made.record, compared, metric, loss, risk, seed, store)
    allowed = any(way.share.value for way in ways)
    way = _simplest(ways, lambda one: one.share if allowed else one.well)
    policy = None
    if way.learnt.chosen is not None and way.share.value:
        policy = store.folder("study", made.id) / "policy.json"
        write_policy(make_policy(way.learnt), policy)
    kinds = _kinds(way.items, way.prompts, way.good, tags)
    prices = hour_prices(Needs(machine_usd_per_hour=usd_per_hour))
    machine = [price * MONTH_S / 3600 for price in prices]
    undecided = not allowed and risk < (way.learnt.bound or 0.0) and way.good.any()
    share = way.share
    saves = None
    if judged and not undecided:
        saves = Range(
            lower=(share.ci_low or 0.0) * pays * bool(share.value) - machine[1],
            expected=(share.value or 0.0) * pays - sum(machine) / 2,
            upper=(share.ci_high or 0.0) * pays - machine[0],
        )
    record = Savings(
        study=made.id,
        summary="",
        basis="references" if judged else "agreement",
        requests=requests,
        tested=len(way.items),
        small=way.name,
        metric=metric,
        loss=loss,
        risk=risk,
        share=share,
        mean_loss=_mean_loss(way.lost, seed),
        pays_usd=pays,
        saves_usd=saves,
        machine_usd=Range(lower=machine[0], expected=sum(machine) / 2, upper=machine[1]),
        kinds=kinds,
        not_these=tuple(name for name, score in kinds.items() if score.value is not None and score.value < NOT_THESE),
        policy=str(policy) if policy else None,
        ways={one.name: one.well for one in ways},
        bound=way.learnt.bound,
    )
    return record.model_copy(update={"summary": _sentence(record, compared.models[way.name].role == "baseline")})


def _mean_loss(lost: np.ndarray, seed: int) -> Score:
    drawn = np.random.default_rng(seed).choice(lost, (2_000, len(lost))).mean(axis=1)
    ci_low, ci_high = percentile_interval(drawn)
    return Score(
        metric="mean_loss", value=float(lost.mean()), ci_low=ci_low, ci_high=ci_high, n=len(lost), unit="share of the range",
        signature="large - small|bootstrap:requests",
    )  # fmt: skip


def _kinds(
    items: Sequence[str], prompts: Sequence[str], good: np.ndarray, tags: Mapping[str, tuple[str, ...]]
) -> dict[str, Score]:
    """Give how often each kind is answered well enough: by tags, or else by the first word of the request."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for item, prompt, one in zip(items, prompts, good, strict=True):
        word = _WORD.search(prompt)
        for kind in tags.get(item) or ((f"begins with '{word.group().lower()}'",) if word else ()):
            by_kind[kind].append(float(one))
    found = {}
    for kind, some in sorted(by_kind.items(), key=lambda pair: -len(pair[1])):
        if len(some) >= LEAST_OF_A_KIND:
            ci_low, ci_high = wilson(sum(some), len(some))
            found[kind] = Score(
                metric="good_enough", value=sum(some) / len(some), ci_low=ci_low, ci_high=ci_high, n=len(some), unit="share",
                signature="wilson",
            )  # fmt: skip
    return found


LIKENESS = dict.fromkeys(("chrf", "token_f1"), "likeness to the right answers' words")


def _sentence(found: Savings, rule: bool) -> str:
    share, name = found.share, f"'{found.small}'" + (", which is no language model," if rule else "")
    between = _between(share)
    measure = LIKENESS.get(found.metric, found.metric)
    if found.basis == "agreement":
        return (
            "Not known: the log holds no right answers, so the large model can only be agreed with. "
            f"{name} comes close to its words in {between} of the requests; whether that is good enough, people must "
            f"judge: sizewise judge open {found.study}"
        )
    well = found.ways[found.small]
    if found.saves_usd is None:
        return _undecided(found, name, measure)
    if not share.value:
        return (
            f"Nothing would be saved: at no threshold are at most {found.risk:.0%} of all answers worse by more than "
            f"{found.loss:.0%} in {measure} (n = {found.tested}), by any of {len(found.ways)} ways, rules and "
            f"classifiers included. The best, '{found.small}', answers {_between(well)} well enough. Keep the large "
            "model."
        )
    money = found.saves_usd
    kinds = f"; not these kinds: {', '.join(found.not_these)}" if found.not_these else ""
    if money.upper <= 0:
        return (
            f"Nothing would be saved: {between} of the requests could move to '{found.small}', but the machine costs "
            f"more than they do{kinds}."
        )
    if money.lower <= 0:
        return (
            f"No saving is shown: {between} of the requests could move to '{found.small}', which after the machine is "
            f"worth {money.lower:,.0f} to {money.upper:,.0f} USD a month{kinds}."
        )
    return (
        f"{between} of your requests can be answered by {name} with at most {found.risk:.0%} of all answers worse by "
        f"more than {found.loss:.0%} in {measure} (n = {found.tested}), saving about {money.expected:,.0f} USD a month "
        f"({money.lower:,.0f} to {money.upper:,.0f}){kinds}."
    )


def _undecided(found: Savings, name: str, measure: str) -> str:
    """Say what is seen where too few requests were tested for the risk to be vouched for."""
    well = found.ways[found.small]
    needed = min_prompts_for(found.risk)
    would = (well.value or 0.0) * found.pays_usd - found.machine_usd.expected
    if_so = f", which would save about {would:,.0f} USD a month" if would > 0 else ""
    return (
        f"Not decided: {found.tested} tested requests cannot vouch for a risk of {found.risk:.0%}; {needed} can. "
        f"{_between(well)} of them are answered well enough (at most {found.loss:.0%} worse in {measure}) by "
        f"{name.rstrip(',')}{if_so}. Take a log of {ceil(found.requests * needed / found.tested):,} requests or more, "
        f"or state a risk of {ceil(100 * (found.bound or 0.0))} %."
    )


def _between(score: Score) -> str:
    """Write a share with its interval."""
    return f"{score.value:.0%} ({score.ci_low:.0%} to {score.ci_high:.0%})"
