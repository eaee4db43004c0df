"""A store with measurements of a large and of a small model, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sizewise.models.identity import describe_identity, identify
from sizewise.records import (
    AttentionTradeoff,
    Checkpoint,
    Comparison,
    Evaluation,
    LoadLevel,
    LoadTest,
    ModelDescription,
    PositionBits,
    Recipe,
    Score,
    StatedFacts,
    Study,
)
from sizewise.store import Store
from tests.report.views import dataset

RUN = "run-small"
OWN = f"run:{RUN}"


def score(metric: str, value: float, half: float, unit: str = "share", n: int = 120) -> Score:
    return Score(metric=metric, value=value, ci_low=value - half, ci_high=value + half, n=n, unit=unit, signature="s")


def description(uri: str, **more: Any) -> ModelDescription:
    facts = {"origin": "x", "license": "x", "engine": "test", "precision": "none"}
    return ModelDescription(uri=uri, **(facts | more))


def large() -> ModelDescription:
    who = describe_identity(identify("gpt-4o"), StatedFacts())
    return description("recorded:answers.jsonl#gpt-4o", **who, engine="recorded")  # type: ignore[arg-type]


def evaluation(model: ModelDescription, data: str, scores: list[Score]) -> Evaluation:
    return Evaluation(
        model=model, data=data, seed=0, limit=None, metrics=tuple(one.metric for one in scores),
        scores={one.metric: one for one in scores}, items=120, failed=0, seconds=1.0, versions={},
    )  # fmt: skip


def checkpoint(data: str) -> Checkpoint:
    positions = (
        PositionBits(first=0, last=255, tokens=9000, bits=3.1, ci_low=3.0, ci_high=3.2, texts=40),
        PositionBits(first=256, last=511, tokens=8000, bits=2.9, ci_low=2.8, ci_high=3.0, texts=35),
    )
    return Checkpoint(
        start="pkg:smollm2-135m", recipe=Recipe(start="pkg:smollm2-135m", attention="window:128", tokens=50_000),
        data=data, parameters=134_515_008, trained_parameters=4_884_480, attention="window 128", tokens=50_000,
        steps=100, epochs=2.0, best_step=90, best_bits_per_byte=0.7, start_bits_per_byte=0.9, curve=(), seconds=60.0,
        warmup_s=1.0, tokens_per_s=900.0, compiled=False, sessions=1, peak_memory_bytes=10**9, origin="x",
        license="Apache-2.0", versions={},
        attention_tradeoff=AttentionTradeoff(
            context=512, cache_bytes=2_949_120, full_cache_bytes=11_796_480, positions=positions
        ),
    )  # fmt: skip


def measured_store(home: Path) -> Store:
    """Fill a store: both models on the same data, a bias suite and load tests of the small one, and a study."""
    store = Store(home)
    data = store.write_new(dataset()).id
    store.write(RUN, checkpoint(data))
    own = description(OWN, parameters=134_515_008, start="pkg:smollm2-135m")
    one = store.write("evaluation-large", evaluation(large(), data, [
        score("chrf", 52.0, 3.0, "chrF"), score("usd_per_1000", 3.4, 0.2, "USD"), score("latency_s", 1.9, 0.3, "s"),
    ]))  # fmt: skip
    two = store.write("evaluation-own", evaluation(own, data, [
        score("chrf", 47.0, 3.5, "chrF"), score("latency_s", 0.4, 0.1, "s"), score("memory_bytes", 6e8, 0.0, "bytes"),
    ]))  # fmt: skip
    store.write("bias-own", evaluation(own, "suite:bias:1", [score("stereotype_score", 0.55, 0.06)]))
    levels = tuple(
        LoadLevel(
            concurrent_users=count, rate=None, requests=40, errors={}, seconds=10.0,
            scores={"p95_ttft_s": score("p95_ttft_s", 0.1 * count, 0.01, "s"),
                    "tokens_per_s": score("tokens_per_s", 90.0 * count**0.5, 5.0, "tokens/s")},
        )
        for count in (1, 8)
    )  # fmt: skip
    store.write("loadtest-own", LoadTest(
        url="in this process", model=RUN, engine="openvino", max_tokens=64, prompt_words=20.0, ttft_slo_s=1.0,
        tpot_slo_s=0.1, levels=levels, max_concurrent_users=8, uri=OWN, machine="x86_64, 2 cores",
    ))  # fmt: skip
    store.write("comparison-1", Comparison(
        data=data, evaluations={"large": one.id, "own": two.id}, models={"large": large(), "own": own}, scores={},
        better={}, differences=(), language_modeling_proxy=False, seed=0,
    ))  # fmt: skip
    store.write("study-1", Study(
        name="support", domain="support", seed=0, outcome="pick", pick="own", decisive=True, summary="s", reasons=(),
        rejected={}, dataset=data, candidates=(), checkpoints={}, evaluations={}, comparison="comparison-1",
        recommendation="r", not_measured=(), report="report.html", seconds=1.0, peak_memory_bytes=1,
    ))  # fmt: skip
    return store
