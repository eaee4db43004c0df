from __future__ import annotations

import math
import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from sizewise.errors import UsageError
from sizewise.metrics import METRICS, AnswerItem, CannotMeasure, LikelihoodItem, ReferenceSet, find_metric, total
from sizewise.records import ItemRow

WORDS = [
    "the",
    "a",
    "patient,",
    "record.",
    "of",
    "code",
    "(for)",
    "identifier",
    "system",
    "used",
    "when",
    "naïve",
    "42",
]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=15).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES.filter(bool)), min_size=1, max_size=12)
ORACLES = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf, "ter": sacrebleu.corpus_ter}


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
@settings(max_examples=150, deadline=None)
@given(pairs=PAIRS)
def test_equal_to_sacrebleu(name: str, pairs: list[tuple[str, str]]) -> None:
    metric = METRICS[name]
    sums = np.sum([metric.measure(AnswerItem(h, (r,))) for h, r in pairs], axis=0)
    plain = ORACLES[name]([h for h, _ in pairs], [[r for _, r in pairs]]).score
    assert float(metric.value(sums)) == pytest.approx(plain, abs=1e-9)


def test_several_references_equal_sacrebleu() -> None:
    metric = METRICS["bleu"]
    sums = np.array(metric.measure(AnswerItem("the record of code", ("a record of code", "the record when"))))
    plain = sacrebleu.corpus_bleu(["the record of code"], [["a record of code"], ["the record when"]]).score
    assert float(metric.value(sums)) == pytest.approx(plain)


@given(SENTENCES.filter(lambda s: len(s.split()) >= 4))
def test_a_text_against_itself_is_perfect(text: str) -> None:
    for name, best in (("bleu", 100), ("chrf", 100), ("exact_match", 1)):
        metric = METRICS[name]
        sums = np.array(metric.measure(AnswerItem(text, (text,))))
        assert float(metric.value(sums)) == pytest.approx(best)


def test_signature_is_sacrebleus_own() -> None:
    bleu = sacrebleu.BLEU()
    bleu.corpus_score(["a"], [["a"]])
    theirs = dict(part.split(":") for part in str(bleu.get_signature()).split("|"))
    ours = dict(part.split(":") for part in METRICS["bleu"].signature().split("|")[1:])
    assert ours == {key: theirs[key] for key in ("case", "eff", "tok", "smooth", "version")}


def test_a_uniform_model() -> None:
    item = LikelihoodItem(nats=10 * math.log(256), tokens=10, bytes=10)
    sums = np.array(METRICS["perplexity"].measure(item))
    assert float(METRICS["perplexity"].value(sums)) == pytest.approx(256)
    assert float(METRICS["bits_per_byte"].value(sums)) == pytest.approx(8)


def test_exact_match_folds_case_and_space() -> None:
    metric = METRICS["exact_match"]
    assert metric.measure(AnswerItem("  Spam ", ("ham", "spam"))) == (1, 1)
    assert metric.measure(AnswerItem("spam!", ("spam",))) == (0, 1)


def rows(n: int) -> list[ItemRow]:
    rng = random.Random(0)
    return [
        ItemRow(
            item=str(i),
            kind="example",
            cluster=str(i % 10),
            uncontaminated=True,
            stats={"exact_match": (float(rng.random() < 0.4), 1.0)},
        )
        for i in range(n)
    ]


def test_totals_have_interval_n_and_signature() -> None:
    score = total(METRICS["exact_match"], rows(50), name="exact_match", signature="prompt:chat")
    assert score.value is not None
    assert score.ci_low is not None
    assert score.ci_high is not None
    assert score.ci_low < score.value < score.ci_high
    assert score.n == 50
    assert score.signature.endswith("prompt:chat")


def test_no_hit_in_thirty_documents_is_not_shown_to_be_none() -> None:
    of_one_each = [row.model_copy(update={"cluster": row.item}) for row in rows(30)]
    for some, ci_high in ((of_one_each, 0.1224), (rows(30), 0.3385)):  # Wilson's upper end over 30 and 10 documents
        misses = [row.model_copy(update={"stats": {"exact_match": (0.0, 1.0)}}) for row in some]
        score = total(METRICS["exact_match"], misses, name="exact_match", signature="")
        assert score.value == 0
        assert score.ci_high == pytest.approx(ci_high, abs=1e-3)


def test_no_item_is_missing_and_not_zero() -> None:
    score = total(METRICS["exact_match"], [], name="exact_match", signature="")
    assert score.value is None
    assert score.missing_reason


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'bleu'"):
        find_metric("blue")


def test_bleu_is_missing_where_the_right_answers_themselves_would_have_none() -> None:
    metric = METRICS["bleu"]
    with pytest.raises(CannotMeasure, match="4 words in a row"):
        metric.prepared([("12,50 €",), ("Paris", "the city of")])
    assert metric.prepared([("Paris",), ("the", "the city of Paris")]) is metric
    assert metric.prepared([]) is metric


def test_labels_that_differ_only_in_case_are_scored_apart_if_the_data_declares_both() -> None:
    references = [("a",), ("A",), ("b",)] * 10
    declared = ReferenceSet(references, labels=("A", "a", "b"))
    for name, expected in (("accuracy", 2 / 3), ("macro_f1", (2 / 3 + 0 + 1) / 3)):
        metric = find_metric(name).prepared(declared)
        answers = [AnswerItem("b" if said == "b" else "a", (said,)) for (said,) in references]
        sums = np.array([metric.measure(answer) for answer in answers]).sum(axis=0)
        assert float(metric.value(sums)) == pytest.approx(expected)
        folded = find_metric(name).prepared(references)  # undeclared answers are folded
        upper = [AnswerItem(said.upper(), (said,)) for (said,) in references]
        sums = np.array([folded.measure(answer) for answer in upper]).sum(axis=0)
        assert float(folded.value(sums)) == 1
