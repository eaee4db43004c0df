"""Memorization: exposure and extraction of canaries, and membership inference on training passages."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sizewise.datasets import DatasetContents, passages
from sizewise.errors import SizewiseError
from sizewise.lm.generate import generate
from sizewise.lm.hf_format import weights_hash
from sizewise.lm.packing import Unit
from sizewise.lm.score import score_text_ids
from sizewise.lm.tokenizer import prefix_ids, text_ids
from sizewise.metrics.proportion import proportion_score
from sizewise.records import Checkpoint, Memorization, Score
from sizewise.store import Saved
from sizewise.training.intervals import ratio_score

CANDIDATES = 128
COUNTS = (1, 16)
DIGITS = 6
PASSAGE_CHARACTERS = 600
MAX_PASSAGES = 200
MIN_FOR_TPR = 100  # held-out passages; with fewer, a false-positive rate of 1 % can't be measured
RESAMPLES = 1000
PLACES = ("north", "south", "east", "west", "upper", "lower", "inner", "outer")
THINGS = ("gate", "store", "lift", "archive", "office", "garage", "cabinet", "terminal")


class Canary(NamedTuple):
    """A secret that occurs nowhere else in the training text."""

    start: str
    """Text before the secret."""
    secret: str
    """Random digits."""
    times: int
    """Number of occurrences in the training text."""


def plant(number: int, seed: int) -> list[Canary]:
    """Create canaries, alternately rare and frequent, each with different text before its secret."""
    rng = random.Random(seed)
    return [
        Canary(
            f"The access code of the {PLACES[i % 8]} {THINGS[i // 8 % 8]} is",
            "".join(str(rng.randrange(10)) for _ in range(DIGITS)),
            COUNTS[i % len(COUNTS)],
        )
        for i in range(number)
    ]


def canary_units(tokenizer: Any, canaries: Sequence[Canary]) -> list[Unit]:
    """Encode canaries as training units, repeated as often as each one occurs."""
    prefix = prefix_ids(tokenizer)
    return [
        Unit(prefix + text_ids(tokenizer, f"{canary.start} {canary.secret}."), len(prefix))
        for canary in canaries
        for _ in range(canary.times)
    ]


def measure_memorization(
    network: Any,
    tokenizer: Any,
    canaries: Sequence[Canary],
    contents: DatasetContents,
    seed: int,
    weights: str = "",
) -> Memorization:
    """Measure exposure and extraction of canaries, and membership inference by loss.

    Source: Carlini et al. (2019), The Secret Sharer; Yeom et al. (2018) for membership by loss.

    Args:
        network: the trained network.
        tokenizer: its tokenizer.
        canaries: the secrets that were planted.
        contents: the dataset that it was trained on.
        seed: seed of the alternatives and passages.
        weights: hash of the network's weights, for the report.
    """
    exposure: dict[str, list[float]] = defaultdict(list)
    for canary in canaries:
        exposure[str(canary.times)].append(_exposure(network, tokenizer, canary, seed))
    extracted: dict[str, list[float]] = defaultdict(list)
    for canary, generated in zip(canaries, _continue(network, tokenizer, canaries), strict=True):
        digits = "".join(letter for letter in generated if letter.isdigit())
        extracted[str(canary.times)].append(float(digits.startswith(canary.secret)))
    auc, rate = _membership(network, tokenizer, contents, seed)
    exposure_scores = {
        count: ratio_score("exposure", bits, [1.0] * len(bits), unit="bits", signature=f"{CANDIDATES} candidates")
        for count, bits in exposure.items()
    }
    return Memorization(
        canaries=len(canaries),
        exposure={count: float(np.mean(bits)) for count, bits in exposure.items()},
        candidates=CANDIDATES,
        extracted={count: float(np.mean(outcomes)) for count, outcomes in extracted.items()},
        membership_auc=auc,
        membership_tpr=rate,
        exposure_scores=exposure_scores,
        extracted_scores={
            count: proportion_score("extracted", sum(outcomes), len(outcomes)) for count, outcomes in extracted.items()
        },
        weights=weights,
    )


def check_tested(stored: Saved[Checkpoint]) -> None:
    """Check that the memorization report of a run is about the weights that lie beside it now.

    Raises:
        SizewiseError: the weights were changed after the test.
    """
    report, folder = stored.record.memorization, stored.path.parent / "model"
    if report is None or not report.weights or weights_hash(folder) == report.weights:
        return
    raise SizewiseError(
        f"The memorization report of run:{stored.id} is about other weights than those in {folder}, which were changed "
        "after the test.",
        f"the weights that were tested, with hash {report.weights[:16]}",
        f"delete {stored.path.parent} and train again",
    )


def _exposure(network: Any, tokenizer: Any, canary: Canary, seed: int) -> float:
    """Compute log2 of the number of candidates minus log2 of the secret's rank; ties count against the secret."""
    rng = random.Random(f"{seed} {canary.start}")
    others = {"".join(str(rng.randrange(10)) for _ in range(DIGITS)) for _ in range(CANDIDATES - 1)}
    texts = [canary.secret, *sorted(others - {canary.secret})]
    ids = [text_ids(tokenizer, f"{canary.start} {text}.") for text in texts]
    nats = score_text_ids(network, tokenizer, ids, 64)
    losses = [float(loss.sum()) for loss in nats]
    rank = sum(loss <= losses[0] for loss in losses)
    return math.log2(len(texts)) - math.log2(rank)


def _continue(network: Any, tokenizer: Any, canaries: Sequence[Canary]) -> list[str]:
    if not canaries:
        return []
    prompts = [prefix_ids(tokenizer) + text_ids(tokenizer, canary.start) for canary in canaries]
    answers = {a.prompt: a.text for a in generate(network, tokenizer, prompts, max_tokens=3 * DIGITS)}
    return [answers[i] for i in range(len(canaries))]


def _membership(network: Any, tokenizer: Any, contents: DatasetContents, seed: int) -> tuple[Score, Score]:
    """Distinguish training passages from held-out ones by their loss, with intervals from resampled documents."""
    losses: list[float] = []
    seen: list[bool] = []
    sources: list[str] = []
    for split in ("train", "test"):
        chosen = _sample(_passages(contents, split), MAX_PASSAGES, seed)
        ids = [text_ids(tokenizer, text) for _, text in chosen]
        losses += [float(nats.mean()) for nats in score_text_ids(network, tokenizer, ids, 512)]
        seen += [split == "train"] * len(ids)
        sources += [source for source, _ in chosen]
    signature = f"loss attack|passages of {PASSAGE_CHARACTERS} characters|documents resampled {RESAMPLES} times"
    known = np.array(seen)
    members, others = int(known.sum()), int((~known).sum())
    if min(members, others) < 2:
        few = Score(
            metric="membership_auc",
            n=members + others,
            unit="probability",
            signature=signature,
            missing_reason="fewer than two training or held-out passages",
        )
        return few, few.model_copy(update={"metric": "membership_tpr_at_1_percent"})
    loss = np.array(losses)
    ends = _intervals(loss, known, np.array(sources), seed)
    auc = Score(
        metric="membership_auc",
        value=_auc(loss, known),
        ci_low=ends[0][0],
        ci_high=ends[0][1],
        n=members + others,
        unit="probability",
        signature=signature,
    )
    rate: dict[str, Any] = {
        "metric": "membership_tpr_at_1_percent",
        "n": members,
        "unit": "share",
        "signature": signature,
    }
    if others < MIN_FOR_TPR:
        rate["missing_reason"] = (
            f"{others} held-out passages are too few for a false-positive rate of 1 %; {MIN_FOR_TPR} are needed"
        )
    else:
        rate |= {"value": _rate_at_one_percent(loss, known), "ci_low": ends[1][0], "ci_high": ends[1][1]}
    return auc, Score(**rate)


def _passages(contents: DatasetContents, split: Literal["train", "test"]) -> Iterator[tuple[str, str]]:
    """Yield (document id, text) of each passage that is long enough; in the test split, only uncontaminated ones."""
    for document in contents.documents[split]:
        for passage in passages(document):
            text = document.text[passage.start : passage.end].strip()[:PASSAGE_CHARACTERS]
            if len(text) <= 100:
                continue
            if split == "train" or contents.contamination_entries[passage.item].uncontaminated:
                yield document.id, text


def _sample(items: Iterable[tuple[str, str]], size: int, seed: int) -> list[tuple[str, str]]:
    """Sample items of a stream without replacement (algorithm R; Vitter, 1985)."""
    rng = random.Random(seed)
    kept: list[tuple[str, str]] = []
    for number, item in enumerate(items):
        if number < size:
            kept.append(item)
        elif (place := rng.randrange(number + 1)) < size:
            kept[place] = item
    return kept


def _auc(loss: Any, known: Any) -> float:
    """Compute the probability that a training passage has the lower loss (Mann and Whitney, 1947)."""
    members, others = loss[known], np.sort(loss[~known])
    above = len(others) - np.searchsorted(others, members, side="right")
    level = np.searchsorted(others, members, side="right") - np.searchsorted(others, members, side="left")
    return float((above + 0.5 * level).mean() / len(others))


def _rate_at_one_percent(loss: Any, known: Any) -> float:
    """Compute the share of training passages whose loss is below all but 1 % of the held-out ones."""
    return float((loss[known] < np.quantile(loss[~known], 0.01)).mean())


def _intervals(loss: Any, known: Any, sources: Any, seed: int) -> list[tuple[float, float]]:
    """Compute 95 % intervals of AUC and true-positive rate by resampling training and held-out documents separately."""
    rng = np.random.default_rng(seed)
    groups = {
        side: [np.flatnonzero((sources == name) & (known == side)) for name in np.unique(sources[known == side])]
        for side in (True, False)
    }
    values = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([rows[i] for rows in groups.values() for i in rng.integers(len(rows), size=len(rows))])
        drawn = loss[chosen], known[chosen]
        values.append((_auc(*drawn), _rate_at_one_percent(*drawn)))
    lower, upper = np.quantile(values, [0.025, 0.975], axis=0)
    return [(float(ci_low), float(ci_high)) for ci_low, ci_high in zip(lower, upper, strict=True)]
