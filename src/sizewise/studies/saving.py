"""saving(): from the log of requests to a large model to what a small one would save."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sizewise.choice.costing import MONTH_S, hour_prices
from sizewise.errors import SizewiseError, UsageError
from sizewise.inference import percentile_interval, wilson
from sizewise.models.recorded import LoggedRequest, read_log
from sizewise.progress import Reporter, Silent
from sizewise.records import (
    Candidate,
    Comparison,
    Needs,
    Range,
    Recipe,
    Saving,
    Score,
    Study,
    fingerprint,
)
from sizewise.routing import OF_ONE_ANSWER, calibrate_rows, label, make_policy, write_policy
from sizewise.store import Store, Stored, write_atomically
from sizewise.studies.config import StudyConfig
from sizewise.studies.studying import study

LARGE = "today's large model"
START = "pkg:smollm2-135m"
LEAST_REQUESTS, LEAST_OF_A_KIND = 60, 8
MONTHS = {"month": 1.0, "year": 1 / 12, "week": 52 / 12, "day": 365 / 12}
_WORD = re.compile(r"[^\W\d_]+")


def read_pays(text: str) -> float:
    """Turn `4200/month` into US dollars a month; a sum that can be read in two ways is refused.

    Raises:
        UsageError: it is no sum of money in a time, or it has two readings.
    """
    sum_, _, period = text.partition("/")
    months = MONTHS.get(period.strip().lower() or "month")
    number = re.sub(r"^(?:USD|US\$|\$)\s*|\s*(?:USD|\$)$", "", sum_.strip(), flags=re.IGNORECASE)
    value = _read_number(number, text)
    if months is None or value is None or not math.isfinite(value):
        raise UsageError(
            f"'{text}' is no sum.", "US dollars with /month, /year, /week or /day", "--pays 4200/month or 4200.50/month"
        )
    if value <= 0:
        raise UsageError(f"'{text}' is nothing to save.", "more than 0", "--pays 4200/month")
    return value * months


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
) -> Saving:
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


def _weigh(
    made: Stored[Study],
    tags: Mapping[str, tuple[str, ...]],
    pays: float,
    judged: bool,
    requests: int,
    loss: float,
    risk: float,
    usd_per_hour: float | None,
    seed: int,
    store: Store,
) -> Saving:
    compared = store.read(Comparison, made.record.comparison)
    metric = next(
        name for name in OF_ONE_ANSWER if any(s.value is not None for s in compared.scores.get(name, {}).values())
    )
    small = max(
        (name for name in compared.models if name.startswith("small,")),
        key=lambda name: compared.scores[metric][name].value or 0.0,
    )
    both = (made.record.evaluations[name] for name in (small, LARGE))
    _, items, prompts, lost, _ = label(*both, metric=metric, store=store)
    good = (lost <= loss).astype(float)
    learnt = calibrate_rows(prompts, good, np.ones(len(items)), f"{made.id}, test", risk, seed)
    policy = None
    chosen = learnt.chosen
    if chosen is not None:
        folder = store.folder("study", made.id)
        policy = folder / "policy.json"
        write_policy(make_policy(learnt), policy)
    share = chosen.small_share if chosen else 0.0
    low, high = wilson(share * len(items), len(items))
    kinds = _kinds(items, prompts, good, tags)
    not_these = tuple(name for name, score in kinds.items() if score.value is not None and score.value < 0.5)
    prices = hour_prices(Needs(machine_usd_per_hour=usd_per_hour))
    machine = [price * MONTH_S / 3600 for price in prices]
    saves = None
    if judged:
        saves = Range(
            low=(low if share else 0.0) * pays - machine[1],
            expected=share * pays - sum(machine) / 2,
            high=high * pays - machine[0],
        )
    record = Saving(
        study=made.id,
        sentence="",
        basis="references" if judged else "agreement",
        requests=requests,
        tested=len(items),
        small=small,
        metric=metric,
        loss=loss,
        risk=risk,
        share=Score(metric="share", value=share, low=low, high=high, n=len(items), unit="share", signature="wilson"),
        mean_loss=_mean_loss(lost, seed),
        pays_usd=pays,
        saves_usd=saves,
        machine_usd=Range(low=machine[0], expected=sum(machine) / 2, high=machine[1]),
        kinds=kinds,
        not_these=not_these,
        policy=str(policy) if policy else None,
    )
    return record.model_copy(update={"sentence": _sentence(record)})


def _mean_loss(lost: np.ndarray, seed: int) -> Score:
    drawn = np.random.default_rng(seed).choice(lost, (2_000, len(lost))).mean(axis=1)
    low, high = percentile_interval(drawn)
    return Score(
        metric="mean_loss", value=float(lost.mean()), low=low, high=high, n=len(lost), unit="share of the range",
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
            low, high = wilson(sum(some), len(some))
            found[kind] = Score(
                metric="good_enough", value=sum(some) / len(some), low=low, high=high, n=len(some), unit="share",
                signature="wilson",
            )  # fmt: skip
    return found


LIKENESS = dict.fromkeys(("chrf", "token_f1"), "likeness to the right answers' words")


def _sentence(found: Saving) -> str:
    share, name = found.share, f"'{found.small}'"
    between = f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})"
    measure = LIKENESS.get(found.metric, found.metric)
    if found.basis == "agreement":
        return (
            "Not known: the log holds no right answers, so the large model can only be agreed with. "
            f"{name} comes close to its words in {between} of the requests; whether that is good enough, people must "
            f"judge: sizewise judge open {found.study}"
        )
    if not share.value or found.saves_usd is None:
        return (
            f"Nothing would be saved: at no threshold are at most {found.risk:.0%} of all answers of {name} worse by "
            f"more than {found.loss:.0%} in {measure} (n = {found.tested}); keep the large model."
        )
    money = found.saves_usd
    kinds = f"; not these kinds: {', '.join(found.not_these)}" if found.not_these else ""
    if money.high <= 0:
        return (
            f"Nothing would be saved: {between} of the requests could move, but the machine costs more than they do"
            f"{kinds}."
        )
    return (
        f"{between} of your requests can be answered by {name}, with at most {found.risk:.0%} of all answers worse by "
        f"more than {found.loss:.0%} in {measure}, saving about {money.expected:,.0f} USD a month ({money.low:,.0f} to "
        f"{money.high:,.0f}){kinds}."
    )
