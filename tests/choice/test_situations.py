"""Situations of people who ask "large or small?": outcome, pick and facts of the verdict, as a table demands them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from sizewise.choice import decide
from sizewise.records import Comparison, Difference, ListPrice, ModelDescription, Needs, Score

TABLE = tomllib.loads(Path(__file__).with_name("situations.toml").read_text(encoding="utf-8"))["situation"]
DESCRIBED_ON = "2026-11-28"
MODEL_FACTS = ("of", "hosted_by", "role", "start", "process", "retires_on", "parameters_estimate", "price_basis")


def described(name: str, facts: dict[str, Any]) -> ModelDescription:
    memory = facts.get("memory_gb")
    local = facts.get("local", not facts.get("hosted_by"))
    known = {key: facts[key] for key in MODEL_FACTS if key in facts}
    if facts.get("local"):
        known["hosted_by"] = "this machine"
    if day := facts.get("price_as_of"):
        known["prices"] = (ListPrice(provider="openai", model=name, input_usd=2.5, output_usd=10, as_of=day),)
    if sellers := facts.get("sellers"):
        known["prices"] = tuple(
            ListPrice(provider=who, model=name, input_usd=read, output_usd=written, as_of=DESCRIBED_ON)
            for who, (read, written) in sellers.items()
        )
    return ModelDescription(
        uri=name,
        origin="x",
        license=facts.get("license", "x"),
        engine=facts.get("engine", "test"),
        precision="none",
        parameters=facts.get("parameters", int(memory * 1e9) if memory else None),
        local=local,
        described_on=DESCRIBED_ON,
        **known,
    )


def score(metric: str, value: float | None, half: float = 0.0) -> Score:
    if value is None:
        return Score(metric=metric, n=0, unit="u", signature="s", missing_reason="not published")
    return Score(metric=metric, value=value, ci_low=value - half, ci_high=value + half, n=100, unit="u", signature="s")


def compared(facts: dict[str, dict[str, Any]]) -> Comparison:
    names, error = list(facts), 1.0
    differences = []
    for i, left in enumerate(names):
        for right in names[i + 1 :]:
            value = facts[left]["quality"] - facts[right]["quality"]
            shown = abs(value) > error
            differences.append(
                Difference(
                    metric="bleu",
                    left=left,
                    right=right,
                    value=value,
                    ci_low=value - error,
                    ci_high=value + error,
                    p=0.001 if shown else 0.5,
                    p_adjusted=0.01 if shown else 0.5,
                    n=100,
                    clusters=20,
                    unit="u",
                    better=None if not shown else left if value > 0 else right,
                )
            )
    small = {name: one for name, one in facts.items() if one.get("memory_gb")}
    scores = {
        "bleu": {name: score("bleu", one["quality"], error) for name, one in facts.items()},
        "memory_bytes": {
            name: score("memory_bytes", one["memory_gb"] * 1e9 if "memory_gb" in one else None)
            for name, one in facts.items()
        },
        "latency_s": {name: score("latency_s", one["latency_s"]) for name, one in facts.items() if "latency_s" in one},
        "requests_per_s": {name: score("requests_per_s", 2.0) for name in small},
        "usd_per_1000": {
            name: score("usd_per_1000", one["usd_per_1000"]) for name, one in facts.items() if "usd_per_1000" in one
        },
    }
    lower = ("memory_bytes", "latency_s", "usd_per_1000")
    return Comparison(
        data="data-1",
        evaluations={name: f"eval-{name}" for name in names},
        models={name: described(name, one) for name, one in facts.items()},
        scores=scores,
        better=dict.fromkeys(lower, "lower") | {"bleu": "higher", "requests_per_s": "higher"},
        differences=tuple(differences),
        language_modeling_proxy=False,
        rounds=100,
        seed=0,
    )


@pytest.mark.parametrize("situation", TABLE, ids=lambda situation: str(situation["name"]))
def test_the_verdict_is_what_the_situation_demands(situation: dict[str, Any]) -> None:
    needs = Needs.model_validate(situation.get("needs", {}))
    found = decide(compared(situation["candidates"]), "comparison-1", needs)
    assert found.outcome == situation["outcome"], found.summary
    assert found.pick == situation.get("pick")
    assert found.provisional == situation.get("provisional")
    assert found.decisive == situation["decisive"]
    for fact in situation.get("says", []):
        assert fact in found.summary
    for fact in situation.get("never", []):
        assert fact not in found.summary
    notes = [note for line in found.costs for note in line.notes]
    reported = "\n".join((*found.reasons, *found.sensitivity, *notes))
    for fact in situation.get("reports", []):
        assert fact in reported
    for name, facts in situation.get("rejected", {}).items():
        for fact in facts:
            assert fact in found.rejected[name]
