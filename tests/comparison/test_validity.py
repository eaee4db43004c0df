"""Claims that hold on people's grades: what overlap shows alone, what content and grades show."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from sizewise import datasets
from sizewise.choice import alternatives, choose
from sizewise.comparison import compare
from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate
from sizewise.records import Comparison, Dataset, Difference, Evaluation, Needs, Recommendation
from sizewise.store import Saved, Store

NAMES = ["Ada Lovelace", "Alan Turing", "Grace Hopper", "Emmy Noether", "Kurt Goedel", "Paul Erdos", "Lise Meitner"]
PADDING = (
    "Based on everything that is known about the question, and after weighing the sources step by step, the person "
    "who is asked for here is most likely {name}, although some details depend on the context."
)
N = 80
Answer = tuple[str, float]


def answers(rate: float, wordy: bool, seed: int) -> list[Answer]:
    """Draw answers that are right at a rate, with their grades."""
    rng = random.Random(seed)
    found = []
    for number in range(N):
        right = rng.random() < rate
        name = NAMES[(number + (0 if right else 3)) % len(NAMES)]
        found.append((PADDING.format(name=name) if wordy else name, float(right)))
    return found


def decided(
    store: Store, folder: Path, systems: dict[str, list[Answer]], graded: int = 0, references: Sequence[str] = ()
) -> tuple[Comparison, Recommendation]:
    """Evaluate recorded answers, of which the first are graded, compare and choose."""
    expected = references or [NAMES[number % len(NAMES)] for number in range(N)]
    data = folder / "data.jsonl"
    rows = [
        {"id": f"q{i}", "prompt": f"Question {i}?", "references": [reference], "source": f"d{i}"}
        for i, reference in enumerate(expected)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    saved: Saved[Dataset] = datasets.read([data], store=store, all_test=True)
    evaluations: dict[str, Saved[Evaluation]] = {}
    for name, given in systems.items():
        path = folder / f"{name}.jsonl"
        lines = [
            {"id": f"q{i}", "completion": text} | ({"grade": grade} if i < graded else {})
            for i, (text, grade) in enumerate(given)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        evaluations[name] = evaluate(f"recorded:{path}", saved, ["token_f1", "chrf"], store=store)
    compared = compare(evaluations, store=store)
    return compared.record, choose(compared, store=store).record


def test_a_terse_system_does_not_win_by_its_length(store: Store, tmp_path: Path) -> None:
    """Token F1 calls the terse system better; it is right in half as many cases."""
    found, chosen = decided(store, tmp_path, {"terse": answers(0.4, False, 1), "wordy": answers(0.85, True, 2)})
    token_f1 = next(one for one in found.differences if one.metric == "token_f1")
    assert token_f1.value > 0
    assert token_f1.p is not None
    assert token_f1.p < 0.001
    assert token_f1.better is None
    assert "favors wordy" in token_f1.contested
    assert (chosen.quality, chosen.pick, chosen.decisive) == ("reference_match", "wordy", True)


def test_equal_systems_of_different_length_are_not_separated(store: Store, tmp_path: Path) -> None:
    found, chosen = decided(store, tmp_path, {"terse": answers(0.6, False, 3), "wordy": answers(0.6, True, 3)})
    assert all(one.better is None for one in found.differences)
    assert chosen.outcome == "inconclusive"


def test_long_answers_that_measures_rank_differently_are_left_to_people(store: Store, tmp_path: Path) -> None:
    """A summary of a third of the points, and one with all of them in three times as many words."""
    rng = random.Random(5)
    words = [f"{a}{b}" for a in "badofugihelomanipu" for b in ("rel", "stin", "mov", "kand", "pley")]
    references = [" ".join(rng.choices(words, k=30)) for _ in range(N)]
    brief = [(" ".join(text.split()[:14]), 0.4) for text in references]
    padded = [(f"{' '.join(rng.choices(words, k=90))} {' '.join(text.split()[:17])}", 0.5) for text in references]
    found, chosen = decided(store, tmp_path, {"brief": brief, "padded": padded}, references=references)
    assert all(one.better is None for one in found.differences)
    assert chosen.outcome == "inconclusive"
    assert "ask people" in chosen.summary
    assert f"sizewise judge open {chosen.comparison}" in chosen.summary


def test_grades_decide_where_they_exist(store: Store, tmp_path: Path) -> None:
    """The better graded system uses other words than the references."""
    worded = [("somebody else", 1.0) for _ in range(N)]
    found, chosen = decided(store, tmp_path, {"a": answers(0.6, False, 7), "b": worded}, graded=N)
    assert (chosen.quality, chosen.pick, chosen.decisive) == ("human_grade", "b", True)
    assert found.scores["human_grade"]["b"].value == 1.0
    token_f1 = next(one for one in found.differences if one.metric == "token_f1")
    assert token_f1.value > 0
    assert token_f1.contested == "people's grades favor b"
    assert not any("ask people" in note for note in found.notes), "they have been asked"


def test_graded_answers_of_one_length_are_compared(store: Store, tmp_path: Path) -> None:
    """Measures that don't vary tell nothing about grades, and end nothing."""
    right = [(f"word{i}", 1.0) for i in range(N)]
    half = [(f"term{i}", float(i % 2)) for i in range(N)]
    _, chosen = decided(store, tmp_path, {"a": half, "b": right}, graded=N - 10)
    assert (chosen.quality, chosen.pick) == ("human_grade", "b")


def test_some_grades_and_measures_of_all_answers_are_combined(store: Store, tmp_path: Path) -> None:
    systems = {"worse": answers(0.45, True, 11), "better": answers(0.8, True, 12)}
    few, chosen = decided(store, tmp_path, systems, graded=30)
    difference = next(one for one in few.differences if one.metric == "human_grade")
    assert chosen.quality == "human_grade"
    assert any("people graded some answers (30 of worse, 30 of better)" in note for note in few.notes)
    graded = [a - b for (_, a), (_, b) in zip(systems["worse"][:30], systems["better"][:30], strict=True)]
    truth = [a - b for (_, a), (_, b) in zip(systems["worse"], systems["better"], strict=True)]
    mean, all_mean = sum(graded) / 30, sum(truth) / N
    assert abs(difference.value - all_mean) < abs(mean - all_mean)  # the measures know the other fifty
    assert difference.better == "better"


@pytest.mark.parametrize(
    ("given", "expected"),
    [([1, 5, 3], 0.5), (["right", "wrong", "refusal"], 1 / 3), ([True, False, True], 2 / 3), ([10, 90, 100], 2 / 3)],
)
def test_grades_of_usual_scales_are_read(store: Store, tmp_path: Path, given: list[object], expected: float) -> None:
    path, data = tmp_path / "a.jsonl", tmp_path / "data.jsonl"
    rows = [{"id": str(i), "completion": "x", "grade": grade} for i, grade in enumerate(given)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [{"id": str(i), "prompt": f"p{i}", "references": ["x"]} for i in range(3)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    other = tmp_path / "b.jsonl"
    other.write_text("".join(json.dumps(row | {"completion": "y"}) + "\n" for row in rows))
    saved = datasets.read([data], store=store, all_test=True)
    both = {one.stem: evaluate(f"recorded:{one}", saved, ["token_f1"], store=store) for one in (path, other)}
    scores = compare(both, store=store).record.scores["human_grade"]
    assert scores["a"].value == pytest.approx(expected)


def graded(store: Store, folder: Path, grades: dict[str, list[object]]) -> Comparison:
    """Compare recorded answers that differ in their grades only."""
    data = folder / "data.jsonl"
    count = len(next(iter(grades.values())))
    lines = [{"id": str(i), "prompt": f"p{i}", "references": ["x"]} for i in range(count)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    saved = datasets.read([data], store=store, all_test=True)
    both = {}
    for name, given in grades.items():
        path = folder / f"{name}.jsonl"
        rows = [{"id": str(i), "completion": f"x {name}", "grade": grade} for i, grade in enumerate(given)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        both[name] = evaluate(f"recorded:{path}", saved, ["token_f1"], store=store)
    return compare(both, store=store).record


@pytest.mark.parametrize(
    ("one", "other", "scales"),
    [
        ([0, 1, 1], [2, 3, 4], ("0 to 1", "1 to 5")),
        ([True, False, True], [60, 70, 80], ("0 to 1", "0 to 100")),
        ([2, 5, 4], [60, 70, 80], ("1 to 5", "0 to 100")),
        ([-1, 0, 1], [0, 1, 1], ("-1 to 1", "0 to 1")),
        ([80, 0.5, 100], [60, 70, 80], ("both 0.5 and 100", "percentages")),
    ],
)
def test_grades_on_unlike_scales_are_left_out_with_both_named(
    store: Store, tmp_path: Path, one: list[object], other: list[object], scales: tuple[str, str]
) -> None:
    found = graded(store, tmp_path, {"a": one, "b": other})
    assert "human_grade" not in found.scores
    note = next(note for note in found.notes if "people's grades are left out" in note)
    assert all(scale in note for scale in scales)
    assert "rescale the column 'grade'" in note


@pytest.mark.parametrize("absent", [float("nan"), "NaN", "", " ", "n/a", None])
def test_an_absent_grade_is_no_grade(store: Store, tmp_path: Path, absent: object) -> None:
    found = graded(store, tmp_path, {"a": [4, absent, 2, 0], "b": [5, 1, 3, 2]})
    assert found.scores["human_grade"]["a"].value == pytest.approx(0.4)
    assert found.scores["human_grade"]["b"].value == pytest.approx(0.55)


def test_a_system_that_never_knows_does_not_win_where_references_are_no(store: Store, tmp_path: Path) -> None:
    references = [f"No, king number {i} never visited the town." for i in range(N)]
    rng = random.Random(4)
    right = [("No, he did not." if rng.random() < 0.7 else "Yes, he did.", 0.0) for _ in range(N)]
    systems = {"knows": right, "never": [("I do not know.", 0.0) for _ in range(N)]}
    found, chosen = decided(store, tmp_path, systems, references=references)
    assert found.scores["reference_match"]["never"].value == 0.0
    assert chosen.pick != "never"


def test_a_grade_that_cannot_be_read_names_its_line(store: Store, tmp_path: Path) -> None:
    path, data = tmp_path / "a.jsonl", tmp_path / "data.jsonl"
    path.write_text(json.dumps({"id": "1", "completion": "x", "grade": "so-so"}) + "\n")
    data.write_text(json.dumps({"id": "1", "prompt": "p", "references": ["x"]}) + "\n")
    with pytest.raises(SizewiseError, match="'grade' is 'so-so'"):
        evaluate(f"recorded:{path}", data, ["token_f1"], store=store)


def test_a_threshold_without_its_metric_keeps_the_metric_it_was_set_for(store: Store, tmp_path: Path) -> None:
    decided(store, tmp_path, {"a": answers(0.4, False, 1), "b": answers(0.8, True, 2)})
    comparison = next(saved.id for saved in store.saved(Comparison))
    assert choose(comparison, Needs(min_quality=30), store=store).record.quality == "chrf"
    with pytest.raises(UsageError, match=r"min_quality is 0\.9, but chrF ranges from 0 to 100"):
        choose(comparison, Needs(min_quality=0.9), store=store)
    assert choose(comparison, Needs(quality="reference_match", min_quality=0.9), store=store).record.pick is None
    advice = " ".join(choose(comparison, Needs(), store=store).record.sensitivity)
    assert 'set quality = "reference_match" and min_quality' in advice
    record = store.read(Comparison, comparison)
    tried = alternatives(record, comparison, Needs())  # with minimums of the metric that decided
    assert {one.recommendation.quality for one in tried} <= {"reference_match"}


def test_candidates_have_the_names_that_the_user_chose(store: Store, tmp_path: Path) -> None:
    decided(store, tmp_path, {"a": answers(0.4, False, 1), "b": answers(0.8, True, 2)})
    data = next(saved.id for saved in store.saved(Dataset))
    ids = [
        evaluate(
            f"recorded:{tmp_path}/{one}.jsonl", data, ["token_f1"], store=store, options=EvaluationOptions(name=name)
        ).id
        for one, name in (("a", "today's system"), ("b", "the new one"))
    ]
    assert list(compare(ids, store=store).record.models) == ["today's system", "the new one"]


WORDS = [
    *("harbor", "lantern", "copper", "meadow", "violin", "saddle", "thunder", "orchard", "pepper", "canvas"),
    *("falcon", "marble", "cotton", "ladder", "biscuit", "compass", "pillow", "rocket", "garden", "walnut"),
]
INVENTED = [
    *("dragon", "wizard", "castle", "potion", "sorcerer", "griffin"),
    *("unicorn", "goblin", "kraken", "phoenix", "basilisk", "troll"),
]


def summarized(store: Store, folder: Path, prompts: Sequence[str]) -> Difference:
    """Compare a summary with more of the reference, and inventions, with one that has less and invents nothing."""
    data, evaluations = folder / "data.jsonl", {}
    rng = random.Random(0)
    rows, said = [], {"inventive": list[dict[str, str]](), "faithful": list[dict[str, str]]()}
    for i, prompt in enumerate(prompts):
        reference = rng.sample(WORDS[:16], 14)
        rows.append({"id": f"q{i}", "prompt": prompt, "references": [" ".join(reference)], "source": f"d{i}"})
        texts = {"inventive": reference[: 11 + i % 3] + INVENTED, "faithful": reference[: 6 + i % 3] + WORDS[16:]}
        for name, words in texts.items():
            said[name].append({"id": f"q{i}", "completion": " ".join(words)})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    saved = datasets.read([data], store=store, all_test=True)
    for name, lines in said.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        evaluations[name] = evaluate(f"recorded:{path}", saved, ["token_f1"], store=store)
    found = compare(evaluations, store=store).record
    return next(one for one in found.differences if one.metric == "token_f1")


def test_a_summary_that_invents_does_not_win_by_overlap(store: Store, tmp_path: Path) -> None:
    found = summarized(store, tmp_path, [f"Summarize talk {i}: {' '.join(WORDS)}." for i in range(40)])
    assert found.value > 0.05
    assert found.contested == "the source supports more of what faithful says than of what inventive says"
    assert found.better is None


def test_without_a_source_overlap_stands_where_its_measures_agree(store: Store, tmp_path: Path) -> None:
    found = summarized(store, tmp_path, [f"What do you remember of talk {i}?" for i in range(40)])
    assert (found.better, found.contested) == ("inventive", "")
