"""estimate_savings(): what a small model would save, from the log of requests to a large one."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sizewise.choice.monthly import RIGHT_OR_WRONG
from sizewise.errors import SizewiseError, UsageError
from sizewise.metrics.proportion import proportion_score
from sizewise.models.recorded import LoggedRequest, read_log
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Calibration,
    Candidate,
    Comparison,
    Needs,
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
from sizewise.stats import percentile_interval
from sizewise.store import Saved, Store, write_atomically
from sizewise.studies.bill import EVERYTHING, part_of_bill, read_bill
from sizewise.studies.config import StudyConfig
from sizewise.studies.savings_summary import summarize_savings
from sizewise.studies.studying import study

LARGE = "today's large model"
START = "pkg:smollm2-135m"
MIN_REQUESTS, MIN_PER_KIND = 60, 8
TOLERANCE = 0.02  # a simpler alternative wins if it answers at most this share of the requests fewer
MIN_GOOD = 0.5  # share of good answers below which the large model should keep a kind of request
PERIODS = {"month": 1.0, "year": 1 / 12, "week": 52 / 12, "day": 365 / 12}
_WORD = re.compile(r"[^\W\d_]+")


def read_pays(text: str) -> float:
    """Parse a sum such as `4200/month` as US dollars per month; an ambiguous number is rejected.

    Raises:
        UsageError: the text isn't a sum of money per period, or has two readings.
    """
    amount, _, period = text.partition("/")
    per_month = PERIODS.get(period.strip().lower() or "month")
    number = re.sub(r"^(?:USD|US\$|\$)\s*|\s*(?:USD|\$)$", "", amount.strip(), flags=re.IGNORECASE)
    value = _read_number(number, text)
    if per_month is None or value is None or not math.isfinite(value):
        raise UsageError(
            f"'{text}' is not a sum of money per period.",
            "US dollars with /month, /year, /week or /day",
            "--pays 4200/month or 4200.50/month",
        )
    if value <= 0:
        raise UsageError(f"'{text}' leaves nothing to save.", "more than 0", "--pays 4200/month")
    return value * per_month


def _read_number(number: str, text: str) -> float | None:
    """Parse a number in English, continental European or Swiss notation; None if it isn't a number.

    A comma before three digits separates thousands, as is usual for amounts in dollars. A point before three digits
    separates thousands in Europe and cents elsewhere, so it is ambiguous.

    Raises:
        UsageError: the number has two readings.
    """
    number = re.sub(r"(?<=\d)[\s'\u2019_](?=\d{3}(?!\d))", "'", number)  # these can only separate thousands
    if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", number):
        thousands_removed = number.replace(".", "")
        raise UsageError(
            f"'{text}' has two readings: {thousands_removed} and {float(number):g} US dollars.",
            "a sum without a point for thousands, or with two digits for cents",
            f"--pays {thousands_removed}/month or --pays {float(number):.2f}/month",
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


class SavingsOptions(NamedTuple):
    """Options of `estimate_savings`."""

    documents: Sequence[str] = ()
    """The organization's own text, used as additional training data."""
    loss: float = 0.05
    """Maximum loss of an answer compared with the large model's, as a share of the metric's range."""
    risk: float = 0.05
    """Maximum share of all answers that may lose more than that."""
    minutes: float = 3.2
    """Training time."""
    limit: int = 240
    """Maximum number of requests to evaluate on."""
    usd_per_hour: float | None = None
    """Price of the self-hosting machine; without it, a range is assumed."""
    start: str = START
    """Model URI of the small model."""
    seed: int = 0
    """Seed of split, training, samples and resampling."""
    needs: Needs = Needs()
    """Requests per month, and costs beside machines: review, hand-overs, labeling, training, maintenance and wrong
    answers."""


def estimate_savings(
    log: Path,
    pays_usd: float,
    options: SavingsOptions | None = None,
    *,
    store: Store | None = None,
    reporter: Reporter | None = None,
) -> Savings:
    """Train on one part of a log, compare with the logged answers on the rest, and estimate the savings.

    Args:
        log: requests with their answers, in any form that `recorded:` reads; `references` are reference answers.
        pays_usd: monthly cost of these requests in US dollars.
        options: training, tolerated loss and risk.
        store: where records live; by default SIZEWISE_HOME.
        reporter: receives progress.

    Raises:
        UsageError: loss or risk isn't a share.
        SizewiseError: the log can't be read or is too short, or a stage of the study failed.
    """
    store, reporter, options = store or Store(), reporter or Silent(), options or SavingsOptions()
    rows, used, judged = _read(log, options, reporter)
    made = study(_study_config(log, used, judged, options, store), store=store, reporter=reporter)
    tags = {row.id: row.tags for row in used}
    return _savings(made, tags, judged, len(rows), pays_usd, options, store)


def savings_study(
    log: Path, options: SavingsOptions, *, store: Store | None = None, reporter: Reporter | None = None
) -> tuple[StudyConfig, int]:
    """Read a log; return the study that `estimate_savings` would run, and the number of requests. Nothing is trained.

    Raises:
        UsageError: loss or risk isn't a share.
        SizewiseError: the log can't be read or is too short.
    """
    rows, used, judged = _read(log, options, reporter or Silent())
    return _study_config(log, used, judged, options, store or Store()), len(rows)


def _read(
    log: Path, options: SavingsOptions, reporter: Reporter
) -> tuple[list[LoggedRequest], list[LoggedRequest], bool]:
    """Read all requests, those that are used, and whether these have reference answers."""
    if not 0 <= options.loss < 1 or not 0 < options.risk < 1:
        raise UsageError(
            f"Loss {options.loss} and risk {options.risk} must be shares between 0 and 1.",
            "for example 0.05",
            "--loss 0.05",
        )
    rows = list(read_log(log, reporter.say))
    if len(rows) < MIN_REQUESTS:
        raise SizewiseError(
            f"{log} holds {len(rows)} requests.",
            f"at least {MIN_REQUESTS}; a clear result takes several hundred",
            "log more requests, then run the same command again",
        )
    with_references = [row for row in rows if row.references]
    judged = len(with_references) >= MIN_REQUESTS
    if judged and len(with_references) < len(rows):
        reporter.say(f"{len(rows) - len(with_references)} requests without a reference answer were left out")
    return rows, with_references if judged else _whole(log, rows, reporter), judged


def _whole(log: Path, rows: list[LoggedRequest], reporter: Reporter) -> list[LoggedRequest]:
    """Leave out answers that were cut off: they are no references to learn from or to compare with.

    Raises:
        SizewiseError: too few are left.
    """
    whole = [row for row in rows if not row.cut_off]
    cut = len(rows) - len(whole)
    if len(whole) < MIN_REQUESTS:
        raise SizewiseError(
            f"{cut} of {len(rows)} answers in {log} were cut off at their limit, and {len(whole)} are left.",
            f"at least {MIN_REQUESTS} whole answers, or `references` in the log",
            "log with a higher max_tokens",
        )
    if cut:
        reporter.say(f"{cut} requests whose logged answer was cut off were left out")
    return whole


def _savings(
    made: Saved[Study],
    tags: Mapping[str, tuple[str, ...]],
    judged: bool,
    requests: int,
    pays_usd: float,
    options: SavingsOptions,
    store: Store,
) -> Savings:
    """Choose the simplest good alternative to the large model, and estimate what it saves."""
    compared = store.read(Comparison, made.record.comparison)
    metric = next(
        name for name in PER_ANSWER_METRICS if any(s.value is not None for s in compared.scores.get(name, {}).values())
    )
    alternatives = _alternatives(made.record, compared, metric, options, store)
    allowed = any(alternative.share.value for alternative in alternatives)
    best = _simplest(alternatives, lambda alternative: alternative.share if allowed else alternative.well)
    policy = None
    if best.calibration.chosen is not None and best.share.value:
        policy = store.folder("study", made.id) / "policy.json"
        write_policy(make_policy(best.calibration), policy)
    undecided = not allowed and options.risk < (best.calibration.bound or 0.0) and best.good.any()
    kinds = _kinds(best, tags)
    bill = read_bill(compared, LARGE, pays_usd, _stated_needs(options))
    money = part_of_bill(bill, compared, best.name, best.share, _wrong(metric, best))
    whole = None if undecided else _as_good(alternatives, options)
    everything = whole and part_of_bill(bill, compared, whole.name, EVERYTHING, _wrong(metric, whole))
    if_good = part_of_bill(bill, compared, best.name, best.well, _wrong(metric, best)).total
    record = Savings(
        study=made.id,
        summary="",
        basis="references" if judged else "agreement",
        requests=requests,
        tested=len(best.items),
        small=best.name,
        metric=metric,
        loss=options.loss,
        risk=options.risk,
        share=best.share,
        mean_loss=_mean_loss(best.lost, options.seed),
        pays_usd=pays_usd,
        saves_usd=money.total if judged and not undecided else None,
        machine_usd=money.machine,
        kinds=kinds,
        not_these=tuple(name for name, score in kinds.items() if score.value is not None and score.value < MIN_GOOD),
        policy=str(policy) if policy else None,
        ways={alternative.name: alternative.well for alternative in alternatives},
        bound=best.calibration.bound,
        large=compared.models[LARGE].of,
        usd_per_1000=bill.usd_per_1000,
        requests_per_month=bill.requests,
        terms=money.terms,
        replaces=whole.name if whole and judged else None,
        replaces_loss=_mean_loss(whole.lost, options.seed) if whole and judged else None,
        replaces_usd=everything.total if everything and judged else None,
        notes=(*bill.notes, *money.notes),
    )
    return record.model_copy(
        update={"summary": summarize_savings(record, compared.models[best.name].role == "baseline", if_good.expected)}
    )


def _wrong(metric: str, one: Alternative) -> Array | None:
    """Return by how much each answer is wrong more often than today; None if the metric doesn't count wrong answers."""
    return one.lost if metric in RIGHT_OR_WRONG else None


def _stated_needs(options: SavingsOptions) -> Needs:
    """Add the price of the machine to the stated costs."""
    if options.usd_per_hour is None:
        return options.needs
    return options.needs.model_copy(update={"machine_usd_per_hour": options.usd_per_hour})


def _as_good(alternatives: Sequence[Alternative], options: SavingsOptions) -> Alternative | None:
    """Find the simplest alternative whose answers to all requests lose no more than tolerated on average.

    Too few requests show no such thing, even if none of them was answered worse.
    """
    for one in alternatives:
        mean = _mean_loss(one.lost, options.seed)
        enough = len(one.items) >= min_prompts_for(options.risk)
        if enough and mean.ci_high is not None and mean.ci_high <= options.loss:
            return one
    return None


def _study_config(
    log: Path, rows: Sequence[LoggedRequest], judged: bool, options: SavingsOptions, store: Store
) -> StudyConfig:
    """Write the log as data, and set up the study that compares small models with the logged answers."""
    examples, recorded = _write(rows, judged, store)
    start, recipe = options.start, Recipe(start=options.start, minutes=options.minutes, seed=options.seed)
    return StudyConfig(
        name=f"{log.stem}: estimated savings",
        domain="requests",
        seed=options.seed,
        documents=tuple(options.documents),
        examples=(str(examples),),
        limit=options.limit,
        candidates=(
            Candidate(name="small model, base", model=start),
            Candidate(name="small model, fine-tuned on the log", model=start, train=recipe),
            Candidate(name=LARGE, model=f"recorded:{recorded}"),
        ),
        needs=Needs(machine_usd_per_hour=options.usd_per_hour),
    )


def _write(rows: Sequence[LoggedRequest], judged: bool, store: Store) -> tuple[Path, Path]:
    """Write the log as examples and as recorded answers, in a folder named after its content."""
    content = [[row.id, row.answer, row.references, row.usage, row.cut_off] for row in rows]
    folder = store.home / "logs" / fingerprint(content)
    examples, recorded = folder / "examples.jsonl", folder / "answers.jsonl"
    lines, answers = [], []
    for row in rows:
        example = {
            "id": row.id,
            "messages": [message.model_dump(mode="json") for message in row.messages],
            "references": list(row.references) if judged else [row.answer],
            "tags": list(row.tags),
        }
        lines.append(json.dumps(example, ensure_ascii=False))
        used = row.usage._asdict().items()
        told = {key: value for key, value in used if value is not None and (value or key == "usd")}  # it may be free
        told |= {"finish_reason": "length"} if row.cut_off else {}
        answers.append(json.dumps({"id": row.id, "completion": row.answer} | told, ensure_ascii=False))
    write_atomically(examples, "\n".join(lines) + "\n")
    write_atomically(recorded, "\n".join(answers) + "\n")
    return examples, recorded


class Alternative(NamedTuple):
    """One alternative to the large model: a rule, a classifier or a small model."""

    name: str
    """Name of the candidate or baseline."""
    items: list[str]
    """Requests that both the alternative and the large model answered."""
    prompts: list[str]
    """Prompts of these requests."""
    lost: Array
    """(items,) how much worse the alternative's answers are, as a share of the metric's range."""
    good: Array
    """(items,) 1 where the alternative's answer is within the tolerated loss."""
    calibration: Calibration
    """Calibration that decides which requests it may answer within the risk."""

    @property
    def share(self) -> Score:
        """Share of requests that the alternative may answer; 0 if most of those answers would be worse."""
        chosen = self.calibration.chosen
        kept = chosen is not None and chosen.worse < chosen.small_share * MIN_GOOD
        return share_of("share", chosen.small_share if chosen and kept else 0.0, self.calibration.prompts)

    @property
    def well(self) -> Score:
        """Share of requests that the alternative answers well enough, without routing."""
        return share_of("good_enough", float(self.good.mean()), self.calibration.prompts)


def _alternatives(
    made: Study, compared: Comparison, metric: str, options: SavingsOptions, store: Store
) -> list[Alternative]:
    """Measure every alternative, the simplest first: rules and classifiers, then base models, then fine-tuned ones."""
    rules = [name for name, model in compared.models.items() if model.role == "baseline"]
    rules.sort(key=lambda name: compared.models[name].parameters or 0)
    models = [name for name in compared.models if name not in rules and name != LARGE]
    found = []
    for name in [*rules, *models]:
        if name not in compared.scores[metric] or compared.scores[metric][name].value is None:
            continue
        _, items, prompts, lost, _ = pair_answers(
            made.evaluations[name], made.evaluations[LARGE], metric=metric, store=store
        )
        good = (lost <= options.loss).astype(float)
        source = f"{made.name}, test"
        calibration = calibrate_rows(prompts, good, np.ones(len(items)), source, options.risk, options.seed)
        found.append(Alternative(name, items, prompts, lost, good, calibration))
    return found


def _simplest(alternatives: Sequence[Alternative], of: Callable[[Alternative], Score]) -> Alternative:
    """Choose the alternative with the highest share, or a simpler one whose share is nearly as high."""
    shares = [of(alternative).value or 0.0 for alternative in alternatives]
    return next(one for one, share in zip(alternatives, shares, strict=True) if share >= max(shares) - TOLERANCE)


def _mean_loss(lost: np.ndarray, seed: int) -> Score:
    drawn = np.random.default_rng(seed).choice(lost, (2_000, len(lost))).mean(axis=1)
    ci_low, ci_high = percentile_interval(drawn)
    return Score(
        metric="mean_loss",
        value=float(lost.mean()),
        ci_low=ci_low,
        ci_high=ci_high,
        n=len(lost),
        unit="share of the range",
        signature="large - small|bootstrap:requests",
    )


def _kinds(best: Alternative, tags: Mapping[str, tuple[str, ...]]) -> dict[str, Score]:
    """Compute the share of good answers for each kind of request: by tag, or by the first word of the request."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for item, prompt, good in zip(best.items, best.prompts, best.good, strict=True):
        word = _WORD.search(prompt)
        for kind in tags.get(item) or ((f"begins with '{word.group().lower()}'",) if word else ()):
            by_kind[kind].append(float(good))
    return {
        kind: proportion_score("good_enough", sum(outcomes), len(outcomes))
        for kind, outcomes in sorted(by_kind.items(), key=lambda pair: -len(pair[1]))
        if len(outcomes) >= MIN_PER_KIND
    }
