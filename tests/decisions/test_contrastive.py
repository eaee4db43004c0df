"""The fine-tuned encoder as a classifier, on tiny random networks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sizewise.decisions import contrastive
from sizewise.decisions.scorers import Material, Settings, fit_scorer, load_scorer
from sizewise.errors import SizewiseError
from sizewise.lm.encoder_training import TuningPlan
from sizewise.records import Option, Question
from tests.decisions.tiny_encoder import TOPICS, make_encoder, topic_texts

QUESTION = Question(type="choice", options=tuple(Option(value=name) for name in TOPICS))


def material(each: int, seed: int) -> Material:
    texts, labels = topic_texts(each, seed)
    return Material(texts, np.eye(3)[labels], [str(i) for i in range(len(texts))])


@pytest.fixture(scope="module", autouse=True)
def few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrastive, "MIN_STEPS", 12)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("contrastive") / "tiny")


@pytest.fixture(scope="module")
def scorer(base: Path) -> contrastive.ContrastiveScorer:
    settings = Settings(QUESTION, base, minutes=1.0)
    return contrastive.fit(material(10, 0), material(20, 1), settings)


def test_it_learns_the_labels(scorer: contrastive.ContrastiveScorer) -> None:
    held_out = material(10, 2)
    found = scorer.probabilities(held_out.texts)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == held_out.labels).mean() > 0.9
    assert scorer.parameters > 3_000
    assert "Fine-tuned in 12 steps" in scorer.notes[0]


def test_it_loads_as_it_was_saved_without_torch_and_without_its_base(
    scorer: contrastive.ContrastiveScorer, tmp_path: Path
) -> None:
    texts = [*material(3, 3).texts, "", "unknown words only", "card " * 200]
    scorer.save(tmp_path)
    loaded = load_scorer("contrastive", tmp_path, QUESTION, None)
    assert np.array_equal(loaded.probabilities(texts), scorer.probabilities(texts))
    assert loaded.parameters == scorer.parameters
    assert loaded.probabilities([]).shape == (0, 3)
    script = (
        "import sys; from pathlib import Path; from sizewise.decisions.contrastive import load;"
        "from sizewise.records import Question;"
        f"question = Question.model_validate_json({QUESTION.model_dump_json()!r});"
        f"load(Path({str(tmp_path)!r}), question, None).probabilities(['card']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_transformers_opens_the_encoder_and_computes_the_same(
    scorer: contrastive.ContrastiveScorer, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    scorer.save(tmp_path)
    folder = tmp_path / contrastive.ENCODER
    texts = ["my card is a problem", "please transfer the loan"]
    inputs = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()
    tuned = contrastive.head_probabilities(vectors, scorer._fitted)
    assert np.allclose(scorer._pool.add_to(tuned, texts), scorer.probabilities(texts), atol=1e-4)


def test_an_option_without_examples_gets_no_probability(base: Path) -> None:
    train = material(6, 0)
    kept = [i for i, label in enumerate(train.labels) if label != 1]
    part = Material([train.texts[i] for i in kept], train.targets[kept], [str(i) for i in kept])
    fitted = fit_scorer("contrastive", part, part, Settings(QUESTION, base, minutes=0.5))
    found = fitted.probabilities(train.texts)
    assert found.shape == (18, 3)
    assert (found[:, 1] < 1e-4).all()
    assert np.allclose(found.sum(axis=1), 1)


def test_several_options_can_be_correct(base: Path) -> None:
    question = Question(type="multi", options=QUESTION.options)
    train = material(6, 0)
    fitted = contrastive.fit(train, train, Settings(question, base, minutes=0.5))
    found = fitted.probabilities(train.texts)
    assert ((found >= 0) & (found <= 1)).all()
    assert (found.argmax(axis=1) == train.labels).mean() > 0.9


def test_no_encoder_is_refused() -> None:
    with pytest.raises(SizewiseError, match="starts from no encoder"):
        contrastive.fit(material(2, 0), material(2, 1), Settings(QUESTION))


def test_distances_are_tried_until_the_time_is_up(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(QUESTION, base, minutes=1e-6)
    hurried = contrastive.fit(material(10, 0), material(20, 1), settings)
    assert "Fine-tuned in 1 steps" in hurried.notes[0]
    assert "the time allowed 1 of 12" in hurried.notes[0]
    assert "50% of the way" in hurried.notes[1]
    assert "The time allowed 1 of 4 distances" in hurried.notes[1]
    assert np.allclose(hurried.probabilities(["my card"]).sum(), 1)


def test_time_is_kept_for_choosing_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive.time, "monotonic", lambda: 100.0)
    assert contrastive._left_minutes(100.0 + 120, 30.0) == 1.5
    assert contrastive._left_minutes(100.0 + 120, 300.0) == pytest.approx(1.2)
    assert contrastive._left_minutes(50.0, 30.0) == 0.0


def test_the_first_head_of_two_options_is_a_softmax_of_logistic_regression() -> None:
    from scipy.special import softmax
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5)).astype(np.float32)
    labels = (vectors[:, 0] > 0).astype(int)
    weights, offsets = contrastive.first_head(vectors, np.eye(2)[labels], False)
    expected = LogisticRegression(C=contrastive.REGULARIZATION, max_iter=200).fit(vectors, labels)
    assert np.allclose(softmax(vectors @ weights.T + offsets, axis=1), expected.predict_proba(vectors), atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "steps", "batch", "paired"), [(6, 60, 8, True), (240, 60, 30, False), (9_000, 423, 64, False)]
)
def test_few_texts_get_small_batches_and_many_are_seen_three_times(
    monkeypatch: pytest.MonkeyPatch, texts: int, steps: int, batch: int, paired: bool
) -> None:
    monkeypatch.setattr(contrastive, "MIN_STEPS", 60)
    plan = contrastive.plan_for(TuningPlan(steps=1, seed=4), np.eye(3)[np.arange(texts) % 3], False)
    assert (plan.steps, plan.batch, plan.contrastive > 0, plan.seed) == (steps, batch, paired, 4)
