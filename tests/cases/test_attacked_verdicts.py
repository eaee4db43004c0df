"""Cases from public reports on wrong verdicts of other programs, tried here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sizewise.choice import choose
from sizewise.choice.deciding import decide
from sizewise.comparison import check_requirements, compare
from sizewise.comparison.voting import PEOPLE
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.judging import open_round
from sizewise.judging.pairs import pair_verdicts
from sizewise.judging.reporting import vote_differences
from sizewise.records import Comparison, Difference, JudgeTask, Needs, Recommendation, Score, Vote
from sizewise.stats.classical_tests import bootstrap_p, randomization_p
from sizewise.store import Store


def value(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 0] / sums[..., 1])


def test_equal_systems_differ_by_no_customary_test() -> None:
    """github.com/jhclark/multeval/issues/5: two identical systems had p = 0.0001; sacrebleu counts likewise."""
    stats = np.stack([np.arange(30) % 3, np.ones(30)], axis=1).astype(float)
    assert randomization_p(stats, stats, value) == 1
    assert bootstrap_p(stats, stats, value) == 1


def ballot(choices: str, documents: int) -> list[tuple[JudgeTask, Vote]]:
    words = {"l": "left", "r": "right", "t": "tie"}
    found = []
    for i, letter in enumerate(choices):
        sides = {"left": "a", "right": "b", "left_text": "x", "right_text": "y"}
        task = JudgeTask(id=f"t{i}", item=f"i{i}", cluster=f"d{i % documents}", prompt="p", **sides)
        found.append((task, Vote(task=task.id, rater="r", choice=words[letter], origin="person")))
    return found


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("choices", ["l" * 10 + "r" * 10, "l" * 12 + "r" * 14, "t" * 20])
def test_votes_that_turned_round_prefer_nobody(choices: str, closed: bool) -> None:
    """A lead that was once shown and is gone is no lead; and of even votes nobody is the better one."""
    (found,) = pair_verdicts(ballot(choices, len(choices)), ["a", "b"], closed)
    assert found.better is None
    assert not found.decided


def test_votes_on_few_documents_ask_for_documents() -> None:
    (found,) = vote_differences(ballot("l" * 12 + "r" * 6, 7), ["a", "b"], closed=True)[1]
    assert (found.better, found.needed, found.detectable) == (None, 8, None)
    (pair,) = pair_verdicts(ballot("l" * 6 + "r", 7), ["a", "b"], True)
    assert pair.more_votes is None


def recorded(folder: Path, name: str, answers: dict[str, str]) -> str:
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps({"id": i, "completion": text}) for i, text in answers.items()))
    return f"recorded:{path}"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    rows = [
        {"id": f"q{i}", "prompt": f"what is {i}?", "references": [f"it is {i}"], "source": f"d{i}"} for i in range(20)
    ]
    path = tmp_path / "job.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def both(store: Store, job: Path, first: dict[str, str], second: dict[str, str]) -> tuple[str, Comparison]:
    models = [recorded(job.parent, "first", first), recorded(job.parent, "second", second)]
    ids = [evaluate(one, job, ["exact_match"], store=store).id for one in models]
    stored = compare(ids, store=store)
    return stored.id, stored.record


def test_answers_that_never_arrived_are_named_and_lose_to_nobody(store: Store, job: Path) -> None:
    """github.com/UKGovernmentBEIS/inspect_ai/issues/4286: failed requests look like wrong answers, or like none."""
    right = {f"q{i}": f"it is {i}" for i in range(20)}
    with pytest.raises(SizewiseError, match="All 20 requests to"):
        both(store, job, right, {"other": "x"})
    found, compared = both(store, job, right, {"q1": "it is 1", "q2": "it is 3"})
    assert any("18 items of recorded:" in caution for caution in compared.cautions)
    told = choose(found, store=store).record
    assert "significantly better than" not in told.summary
    assert not told.decisive
    alone = compared.scores | {
        "completion_tokens": {name: compared.scores["exact_match"][name] for name in [*compared.models][:1]}
    }
    (kept,) = check_requirements(
        compared.model_copy(update={"scores": alone}), *compared.models, ["completion_tokens <= old"]
    )
    assert not kept.kept
    assert "not measured" in kept.details


def test_blank_answers_are_not_laid_before_people(store: Store, job: Path) -> None:
    right = {f"q{i}": f"it is {i}" for i in range(20)}
    found, _ = both(store, job, right, dict.fromkeys(right, " \n"))
    with pytest.raises(SizewiseError, match="none of its 20 answers has text"):
        open_round([found], store=store)


def test_of_unknown_sizes_none_is_the_larger_or_the_smallest(store: Store, job: Path) -> None:
    right = {f"q{i}": f"it is {i}" for i in range(20)}
    _, compared = both(store, job, right, dict.fromkeys(right, "no"))
    for needs in (Needs(), Needs(min_quality=0.5)):
        told: Recommendation = decide(compared, "c", needs)
        assert told.summary.startswith("Use recorded:")
        assert "smallest" not in told.summary


def test_a_handful_of_votes_does_not_stand_for_quality_when_asked_for(store: Store, job: Path) -> None:
    right = {f"q{i}": f"it is {i}" for i in range(20)}
    _, compared = both(store, job, right, dict.fromkeys(right, "no"))
    first, second = compared.models
    votes = Difference(
        metric=PEOPLE, left=first, right=second, value=-1, ci_low=-1, ci_high=-1, p=0.002, p_holm=0.002, n=10,
        clusters=10, unit="share", better=second,
    )  # fmt: skip
    shares = {name: Score(metric=PEOPLE, value=0.5, n=10, unit="share", signature="x") for name in compared.models}
    voted = compared.model_copy(
        update={
            "differences": (*compared.differences, votes),
            "scores": compared.scores | {PEOPLE: shares},
            "better": compared.better | {PEOPLE: "higher"},
            "voters": 1,
        }
    )
    with pytest.raises(UsageError, match="yet"):
        decide(voted, "c", Needs(quality=PEOPLE))
