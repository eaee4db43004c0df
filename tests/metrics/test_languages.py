"""Metrics of answers in other scripts, and metrics that are defined for English only."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import sacrebleu

from sizewise.metrics import METRICS, AnswerItem, CannotMeasure, ReferenceSet, check_language
from tests.languages import PASSAGES

TOKENIZERS = {"de": "13a", "fi": "13a", "ar": "13a", "hi": "13a", "zh": "zh", "ja": "char", "th": "char"}


def _changed(text: str) -> str:
    middle = len(text) // 2
    return f"{text[: middle - 6]}{text[middle:]}"


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_bleu_takes_the_tokenizer_of_the_script_and_equals_sacrebleu(language: str) -> None:
    texts = [unicodedata.normalize("NFC", passage.text) for passage in PASSAGES[language]]
    metric = METRICS["bleu"].prepared([(text,) for text in texts])
    said = [_changed(text) for text in texts]
    sums = np.sum([metric.measure(AnswerItem(one, (text,))) for one, text in zip(said, texts, strict=True)], axis=0)
    expected = sacrebleu.corpus_bleu(said, [texts], tokenize=TOKENIZERS[language]).score
    assert float(metric.value(sums)) == pytest.approx(expected, abs=1e-9)
    assert 60 < expected < 100
    assert f"|tok:{TOKENIZERS[language]}|" in metric.signature()


def test_bleu_of_german_with_a_tenth_of_chinese_splits_the_chinese() -> None:
    german = [passage.text for passage in PASSAGES["de"]]
    mixed = [(text,) for text in (*german[:4], *(passage.text for passage in PASSAGES["zh"]))]
    assert "|tok:zh|" in METRICS["bleu"].prepared(mixed).signature()
    assert "|tok:13a|" in METRICS["bleu"].prepared([(text,) for text in german]).signature()
    with pytest.raises(CannotMeasure, match="4 words in a row"):
        METRICS["bleu"].prepared([("是",), ("否",)])


def test_ter_splits_chinese_and_refuses_what_it_cannot_split() -> None:
    texts = [passage.text for passage in PASSAGES["zh"]]
    metric = METRICS["ter"].prepared([(text,) for text in texts])
    said = [_changed(text) for text in texts]
    sums = np.sum([metric.measure(AnswerItem(one, (text,))) for one, text in zip(said, texts, strict=True)], axis=0)
    expected = sacrebleu.corpus_ter(said, [texts], normalized=True, asian_support=True).score
    assert float(metric.value(sums)) == pytest.approx(expected, abs=1e-9)
    assert 0 < expected < 50
    assert "norm:yes|punct:yes|asian:yes" in metric.signature()
    with pytest.raises(CannotMeasure, match="spaces"):
        METRICS["ter"].prepared([(passage.text,) for passage in PASSAGES["th"]])


@pytest.mark.parametrize("language", sorted(PASSAGES))
@pytest.mark.parametrize("name", ["token_f1", "rouge_l", "bleu", "chrf", "exact_match"])
def test_a_decomposed_answer_with_soft_hyphens_is_the_same_answer(language: str, name: str) -> None:
    for passage in PASSAGES[language][:3]:
        metric = METRICS[name].prepared([(passage.text,)])
        said = unicodedata.normalize("NFD", passage.text).replace("a", "a\u00ad")
        value = float(metric.value(np.array(metric.measure(AnswerItem(said, (passage.text,))))))
        assert value == pytest.approx(100 if metric.unit == "0-100" else 1)


@pytest.mark.parametrize("language", sorted(PASSAGES))
@pytest.mark.parametrize("name", ["token_f1", "rouge_l"])
def test_words_in_common_count_in_every_script(language: str, name: str) -> None:
    passage, other = PASSAGES[language][0], PASSAGES["de" if language != "de" else "fi"][1]
    near = METRICS[name].measure(AnswerItem(_changed(passage.text), (passage.text,)))[0]
    far = METRICS[name].measure(AnswerItem(other.text, (passage.text,)))[0]
    assert 0.85 < near < 1
    assert far < 0.1


def test_hindi_vowel_signs_tell_words_apart() -> None:
    assert METRICS["token_f1"].measure(AnswerItem("कमी", ("काम",)))[0] == 0
    assert METRICS["token_f1"].measure(AnswerItem("१२ किताबें", ("१२ किताबें",)))[0] == 1


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_an_answer_from_the_passage_is_grounded_in_every_script(language: str) -> None:
    passage, other = PASSAGES[language][2], PASSAGES[language][5]
    found, count = METRICS["lexical_grounding"].measure(AnswerItem(passage.text, (), f"{passage.text}?"))
    assert found == count > 5
    found, count = METRICS["lexical_grounding"].measure(AnswerItem(passage.text, (), other.text))
    assert found < 0.5 * count


def test_the_length_of_an_answer_is_estimated_without_spaces() -> None:
    assert METRICS["answer_words"].measure(AnswerItem("Two words.", ())) == (2.0, 1.0)
    assert METRICS["answer_words"].measure(AnswerItem("读者进入本馆", ())) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("language", "refused"), [("sw", True), ("th", True), ("de", False), ("zh", False), ("", False)]
)
def test_refusals_are_defined_for_languages_whose_phrases_are_known(language: str, refused: bool) -> None:
    if refused:
        with pytest.raises(CannotMeasure, match=r"Refusal rate is defined for 15 languages; the data are in .+(sw|th)"):
            check_language(METRICS["refusals"], language)
    else:
        check_language(METRICS["refusals"], language)
    check_language(METRICS["token_f1"], language)


def test_labels_that_the_data_declares_need_no_repetition() -> None:
    labels = tuple(f"intent_{i}" for i in range(77))
    references = [(label,) for label in labels[:40]]
    with pytest.raises(CannotMeasure):
        METRICS["accuracy"].prepared(references)
    metric = METRICS["accuracy"].prepared(ReferenceSet(references, labels=labels))
    assert metric.measure(AnswerItem("It is intent_70.", ("intent_3",))) == (0.0, 1.0)
    assert metric.measure(AnswerItem("INTENT_3", ("intent_3",))) == (1.0, 1.0)
    trained = [(label,) for label in labels] * 4
    stats = METRICS["macro_f1"].prepared(ReferenceSet(references, training=trained))
    assert len(stats.measure(AnswerItem("intent_76", ("intent_3",)))) == 3 * len(labels)
