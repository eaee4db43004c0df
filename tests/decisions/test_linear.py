"""Linear classifiers and class frequencies: they learn, survive odd data, and load to the same probabilities."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sizewise.decisions import linear
from sizewise.decisions.files import read_arrays, write_arrays
from sizewise.decisions.scorers import Material, Settings, fit_scorer, load_scorer
from sizewise.errors import SizewiseError
from sizewise.records import Option, Question

TOPICS = {
    "card": ["card", "pin", "chip", "stolen", "blocked"],
    "loan": ["loan", "rate", "interest", "mortgage", "repay"],
    "transfer": ["transfer", "abroad", "iban", "pending", "fee"],
}


def question(*values: str, kind: str = "choice") -> Question:
    return Question(type=kind, options=tuple(Option(value=value) for value in values))  # type: ignore[arg-type]


def material(n: int, seed: int, labels: tuple[str, ...] = tuple(TOPICS)) -> Material:
    rng = random.Random(seed)
    drawn = [rng.choice(list(TOPICS)) for _ in range(n)]
    texts = [f"my {rng.choice(TOPICS[one])} and the {rng.choice(TOPICS[one])} please" for one in drawn]
    targets = np.eye(len(labels))[[labels.index(one) for one in drawn]]
    return Material(texts, targets, [f"d{i}" for i in range(n)])


def test_it_learns_topics_and_loads_to_the_same_probabilities(tmp_path: Path) -> None:
    train, held = material(240, 0), material(100, 1)
    asked = question(*TOPICS)
    scorer = fit_scorer("linear", train, material(60, 2), Settings(asked))
    found = scorer.probabilities(held.texts)
    assert (found.argmax(axis=1) == held.labels).mean() > 0.97
    assert np.allclose(found.sum(axis=1), 1)
    scorer.save(tmp_path)
    assert not list(tmp_path.glob("*.pkl"))
    again = load_scorer("linear", tmp_path, asked, None)
    assert np.array_equal(again.probabilities(held.texts), found)
    assert np.allclose(scorer.probabilities(held.texts[:1]), found[:1])  # a row doesn't depend on the others
    assert scorer.parameters > 0
    assert again.notes == scorer.notes


def test_two_options_and_an_option_without_examples() -> None:
    labels = ("card", "loan", "nothing", "transfer")
    train = material(120, 0, labels)
    found = fit_scorer("linear", train, material(40, 1, labels), Settings(question(*labels))).probabilities(["my card"])
    assert found.shape == (1, 4)
    assert found[0, 2] == 0
    both = Material(["good day", "bad day"] * 30, np.eye(2)[[0, 1] * 30], [f"d{i}" for i in range(60)])
    two = fit_scorer("linear", both, both, Settings(question("bad", "good"))).probabilities(["good day", "bad day", ""])
    assert two.argmax(axis=1).tolist()[:2] == [0, 1]
    assert np.allclose(two.sum(axis=1), 1)


def test_a_label_with_one_example_and_odd_texts_are_survived() -> None:
    train = material(40, 0)
    single = Material([*train.texts, "unheard of"], np.vstack([np.pad(train.targets, ((0, 0), (0, 1))), np.eye(4)[3]]),
                      [*train.clusters, "x"])  # fmt: skip
    scorer = fit_scorer("linear", single, single, Settings(question(*TOPICS, "rare")))
    odd = ["", " ", "\U0001f600" * 5, "请问贷款利率", "x" * 100_000, "\x00"]
    found = scorer.probabilities(odd)
    assert np.isfinite(found).all()
    assert np.allclose(found.sum(axis=1), 1)
    assert scorer.probabilities([]).shape == (0, 4)


def test_several_options_may_be_true() -> None:
    texts = ["card and loan", "card", "loan", "neither"] * 20
    targets = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 20, dtype=float)
    some = Material(texts, targets, [f"d{i}" for i in range(80)])
    found = fit_scorer("linear", some, some, Settings(question("card", "loan", kind="multi"))).probabilities(texts[:4])
    assert ((found > 0.5) == targets[:4].astype(bool)).all()


def test_frequencies_are_those_of_training(tmp_path: Path) -> None:
    train = Material([""] * 10, np.eye(2)[[0] * 8 + [1] * 2], [f"d{i}" for i in range(10)])
    asked = question("no", "yes")
    scorer = fit_scorer("frequent", train, train, Settings(asked))
    assert scorer.probabilities(["anything"])[0].tolist() == pytest.approx([9 / 12, 3 / 12])
    scorer.save(tmp_path)
    assert load_scorer("frequent", tmp_path, asked, None).probabilities(["x"]).shape == (1, 2)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    asked = question(*TOPICS)
    fit_scorer("linear", material(60, 0), material(20, 1), Settings(asked)).save(tmp_path)
    (tmp_path / "linear.safetensors").write_bytes(b"broken")
    with pytest.raises(SizewiseError, match=r"linear\.safetensors"):
        load_scorer("linear", tmp_path, asked, None)


def test_texts_without_a_word_are_learned(tmp_path: Path) -> None:
    signs = Material(["🙂🙂", "😡😡", "", "!?"] * 20, np.eye(2)[[0, 1, 0, 1] * 20], [f"d{i}" for i in range(80)])
    asked = question("good", "bad")
    scorer = fit_scorer("linear", signs, signs, Settings(asked))
    found = scorer.probabilities(["🙂🙂", "😡😡"])
    assert found.argmax(axis=1).tolist() == [0, 1]
    scorer.save(tmp_path)
    assert np.array_equal(load_scorer("linear", tmp_path, asked, None).probabilities(["🙂🙂", "😡😡"]), found)


@pytest.mark.parametrize(
    "broken",
    [
        lambda arrays: {"coefficients": arrays["coefficients"][:, :-3]},
        lambda arrays: {"coefficients": arrays["coefficients"][:1], "intercepts": arrays["intercepts"][:1]},
        lambda arrays: {"intercepts": arrays["intercepts"][:1]},
        lambda arrays: {"coefficients": arrays["coefficients"] * np.float32("nan")},
        lambda arrays: {"known": np.array([0, 1, 99])},
        lambda arrays: {"idf0": arrays["idf0"][:-1]},
    ],
)
def test_weights_of_other_shapes_are_refused(
    tmp_path: Path, broken: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> None:
    asked, folder = question(*TOPICS), tmp_path / "model"
    fit_scorer("linear", material(60, 0), material(20, 1), Settings(asked)).save(folder)
    arrays = read_arrays(folder / "linear.safetensors")
    write_arrays(folder / "linear.safetensors", {**arrays, **broken(arrays)})
    with pytest.raises(SizewiseError) as refused:
        load_scorer("linear", folder, asked, None)
    assert f"remove {tmp_path}," in refused.value.next_step


@pytest.mark.parametrize(("name", "text"), [("linear.json", "{}"), ("linear.json", "[]"), ("vocabulary.json", "[[]]")])
def test_settings_of_another_form_are_refused(tmp_path: Path, name: str, text: str) -> None:
    asked = question(*TOPICS)
    fit_scorer("linear", material(60, 0), material(20, 1), Settings(asked)).save(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(SizewiseError, match="can't be read"):
        load_scorer("linear", tmp_path, asked, None)


def test_a_model_of_other_options_is_refused(tmp_path: Path) -> None:
    fit_scorer("linear", material(60, 0), material(20, 1), Settings(question(*TOPICS))).save(tmp_path)
    with pytest.raises(SizewiseError, match="don't fit 2 options"):
        load_scorer("linear", tmp_path, question("a", "b"), None)


def test_a_vocabulary_that_was_changed_is_refused(tmp_path: Path) -> None:
    fit_scorer("linear", material(60, 0), material(20, 2), Settings(question(*TOPICS))).save(tmp_path)
    file = tmp_path / "vocabulary.json"
    words = json.loads(file.read_text(encoding="utf-8"))
    words[0][0], words[0][1] = words[0][1], words[0][0]
    file.write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"vocabulary\.json"):
        load_scorer("linear", tmp_path, question(*TOPICS), None)
    settings = tmp_path / "linear.json"
    written = json.loads(settings.read_text(encoding="utf-8"))
    del written["vocabulary"]  # as classifiers of earlier versions have it
    settings.write_text(json.dumps(written), encoding="utf-8")
    load_scorer("linear", tmp_path, question(*TOPICS), None)


def test_few_texts_that_are_told_apart_without_a_mistake_dont_make_certain() -> None:
    train, held = material(60, 0), material(20, 1)
    scorer = fit_scorer("linear", train, Material([], np.zeros((0, 3)), []), Settings(question(*TOPICS)))
    found = scorer.probabilities(held.texts)
    assert (found.argmax(axis=1) == held.labels).all()
    assert found.max() < 0.999


@pytest.mark.filterwarnings("error")
def test_labels_with_two_examples_each_are_learned_without_a_warning() -> None:
    labels = tuple(f"class {i}" for i in range(30))
    texts = [f"alpha{i} beta{i} {place}" for i in range(30) for place in "ab"]
    train = Material(texts[:40], np.eye(30)[[i // 2 for i in range(40)]], [f"d{i}" for i in range(40)])
    found = fit_scorer("linear", train, train, Settings(question(*labels))).probabilities(texts)
    assert found[:40].argmax(axis=1).tolist() == [i // 2 for i in range(40)]


def test_texts_that_are_read_in_part_are_noted() -> None:
    whole, asked = material(60, 0), Settings(question(*TOPICS))
    assert not any("Only the first" in note for note in linear.fit(whole, material(9, 1), asked).notes)
    long = whole._replace(texts=[whole.texts[0] + " and so on" * 2_500, *whole.texts[1:]])
    notes = linear.fit(long, material(9, 1), asked).notes
    assert notes[0] == "Only the first 20,000 characters of a text are read; longer texts: 1."
