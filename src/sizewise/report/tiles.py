"""The four tiles of the first screen, and the same figures of all candidates as a short table."""

from __future__ import annotations

from typing import NamedTuple

from sizewise.metrics.display import load_in_words, measure_of
from sizewise.report.rounding import (
    money,
    money_range,
    rounded_score,
    rounded_value,
    seconds_text,
    size_text,
)
from sizewise.report.standing import Standing

NO_VALUE = "-"


class Tile(NamedTuple):
    """One figure of the first screen."""

    label: str
    value: str
    range: str
    """Interval of the value, or empty."""
    lines: tuple[str, ...]
    """What it compares with, or what it rests on."""


def tiles_of(standing: Standing) -> list[Tile]:
    """Compute the four tiles of the subject: quality, latency, cost and memory."""
    name = standing.subject
    return [_quality_tile(standing, name), _latency_tile(standing, name), _cost_tile(standing, name),
            _memory_tile(standing, name)]  # fmt: skip


def _quality_tile(standing: Standing, name: str) -> Tile:
    score = standing.choice.score(standing.quality, name)
    title = measure_of(standing.quality).title
    if score is None or score.value is None:
        return Tile(title, "not measured", "", (score.missing_reason or "" if score else "",))
    text, bracket, interval = rounded_score(score).partition(" [")
    lines = [_against(standing, "best other", standing.rival), _against(standing, "best rule", standing.best_baseline)]
    return Tile(title, text, (bracket + interval).strip(), tuple(line for line in lines if line))


def _against(standing: Standing, role: str, other: str | None) -> str:
    """Compare the subject with one other: `best other: Gemma 4.6 (tie)`."""
    score = standing.score(standing.quality, other) if other else None
    if other is None or score is None:
        return ""
    claim = {"worse": "beaten", "better": "better than this", "tie": "a tie"}.get(
        standing.relation(standing.quality, other), ""
    )
    short = other.removesuffix(" (baseline)")
    return f"{role}: {short} {rounded_value(score)}" + (f", {claim}" if claim else "")


def _latency_tile(standing: Standing, name: str) -> Tile:
    alone, found = standing.score("latency_s", name), standing.p95(name)
    single = f"median {seconds_text(alone.value)} {load_in_words(alone)}" if alone and alone.value else ""
    if found is None or found[0].value is None:
        if standing.comparison.models[name].role == "baseline" and not single:
            return Tile("Latency", "≈ 0 s", "", ("a rule, not a language model",))
        if not single or alone is None or alone.value is None:
            return Tile("Latency", "not measured", "", ("no load test, no timing",))
        load = load_in_words(alone).removeprefix("for ")
        return Tile(f"Latency, {load}", seconds_text(alone.value), "", ("median; no load test was made",))
    score, count = found
    many = f"p95 latency, {count} users" if count != 1 else "p95 latency, 1 user"
    ends = [seconds_text(end) for end in (score.ci_low, score.ci_high) if end is not None]
    return Tile(many, seconds_text(score.value or 0.0), f"[{', '.join(ends)}]" if len(ends) == 2 else "", (single,))


def _cost_tile(standing: Standing, name: str) -> Tile:
    label, line = "Cost of 1,000 requests", standing.cost(name)
    if line is None or line.usd_per_1000 is None:
        if standing.comparison.models[name].role == "baseline":
            return Tile(label, "≈ 0 USD", "", ("a rule costs next to nothing",))
        notes = next((found.notes for found in standing.recommendation.costs if found.name == name), ())
        return Tile(label, "unknown", "", notes[:1])
    price = line.usd_per_1000
    paid = standing.score("usd_per_1000", name) is not None
    assumed = any("assumed machine price" in note for note in line.notes)
    basis = line.notes[0].partition(";")[0] if paid else "assumed machine price" if assumed else "your machine price"
    monthly = [f"{money_range(line.usd_per_month)} USD a month"] if line.usd_per_month else []
    between = money_range(price)
    return Tile(label, f"{money(price.expected)} USD", between if " to " in between else "", (basis, *monthly))


def _memory_tile(standing: Standing, name: str) -> Tile:
    model, score = standing.comparison.models[name], standing.score("memory_bytes", name)
    known = score.value if score else model.memory_bytes
    value = size_text(known) if known else "none" if model.role == "baseline" else "unknown"
    return Tile("Memory and data", value, "", (data_line(standing, name),))


def data_line(standing: Standing, name: str) -> str:
    """Describe where the text goes: whether it leaves the machine."""
    model = standing.comparison.models[name]
    if model.process:
        return {"staff": "people read the text", "rules": "a rules engine of yours reads the text"}[model.process]
    if model.hosted:
        return f"✕ text leaves this machine, to {model.hosted_by}"
    if standing.choice.local(name) or model.role == "baseline":
        return "✓ data stays on this machine"
    if model.engine == "recorded":
        return "recorded answers: where the text went isn't stated"
    return "✕ text leaves this machine"


def short_headings(standing: Standing) -> list[str]:
    """Return the headings of the short table: five columns, with the load behind the latency."""
    loads = {found[1] for name in standing.candidates if (found := standing.p95(name))}
    latency = f"p95 latency, {max(loads)} users" if loads else "p50 latency"
    return ["candidate", measure_of(standing.quality).title, latency, "memory", "USD/1,000"]


def short_table(standing: Standing) -> list[list[str]]:
    """List candidates and baselines with quality, latency, memory and cost, the subject first."""
    rows, loaded = [], any(standing.p95(name) for name in standing.candidates)
    for name in dict.fromkeys([standing.subject, *standing.names]):
        score, p95 = standing.choice.score(standing.quality, name), standing.p95(name)
        latency, memory = standing.score("latency_s", name), standing.score("memory_bytes", name)
        waiting = p95[0] if p95 else latency
        line = standing.cost(name)
        rows.append(
            [
                name,
                rounded_score(score) if score else NO_VALUE,
                f"{seconds_text(waiting.value or 0.0)}{'' if p95 or not loaded else ' p50'}" if waiting else NO_VALUE,
                size_text(memory.value) if memory and memory.value else NO_VALUE,
                money_range(line.usd_per_1000) if line and line.usd_per_1000 else NO_VALUE,
            ]
        )
    return rows
