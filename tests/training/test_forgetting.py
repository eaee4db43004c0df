from __future__ import annotations

from pathlib import Path

import pytest

from sizewise import datasets
from sizewise.errors import SizewiseError
from sizewise.evaluation.general_questions import questions_in
from sizewise.lm.hf_format import load_network, load_tokenizer
from sizewise.records import Dataset, Recipe
from sizewise.store import Saved, Store
from sizewise.text import main_language
from sizewise.training import train
from sizewise.training.forgetting import choose_control, general_answer_bits, read_control
from sizewise.training.specialization import measure_specialization
from tests.languages import PASSAGES


def test_what_is_replayed_is_never_measured(store: Store, text_folder: Path) -> None:
    control = read_control(str(text_folder), 3, store)
    assert control == read_control(str(text_folder), 3, store)
    assert control.measured
    assert not {text[:100] for text in control.measured} & {text[:100] for text in control.replayed}


def test_general_answers_need_no_template(tiny_folder: Path) -> None:
    network, tokenizer = load_network(tiny_folder, "fp32"), load_tokenizer(tiny_folder)
    chat = general_answer_bits(network, tokenizer, questions_in("en"), 128)
    tokenizer.chat_template = None
    plain = general_answer_bits(network, tokenizer, questions_in("en"), 128)
    assert len(plain) == len(questions_in("en"))
    assert all(0 < bits < 20 * len(answer) for bits, (_, answer) in zip(plain, questions_in("en"), strict=True))
    assert chat != plain


def test_forgetting_is_measured_and_replay_mixed_in(dataset: Saved[Dataset], store: Store, tiny_folder: Path) -> None:
    values = {"start": str(tiny_folder), "tokens": 3_000, "context": 64, "rank": 4}
    replayed_at = train(Recipe.model_validate(values | {"control_share": 0.5}), dataset.id, store=store)
    replayed = replayed_at.record
    plain = train(Recipe.model_validate(values | {"control_share": 0.0}), dataset.id, store=store).record
    without = train(Recipe.model_validate(values | {"control": "none"}), dataset.id, store=store).record
    assert without.forgetting is None
    assert replayed.forgetting is not None
    assert plain.forgetting is not None
    assert replayed.forgetting.before == plain.forgetting.before
    assert replayed.forgetting.after < plain.forgetting.after
    assert replayed.curve[-1].control_bits_per_byte is not None
    assert replayed.forgetting.questions == 122
    change = replayed.forgetting.answers_change
    assert change is not None
    assert change.value is not None
    assert change.ci_low is not None
    assert change.ci_high is not None
    assert change.value == pytest.approx(
        (replayed.forgetting.answers_after or 0) - (replayed.forgetting.answers_before or 0)
    )
    assert change.ci_low <= change.value <= change.ci_high
    assert replayed.specialization == measure_specialization(replayed.validation, replayed.forgetting)
    assert without.specialization is None
    card = (replayed_at.path.parent / "model" / "README.md").read_text(encoding="utf-8")
    assert "| specialization | not measured: too few source documents" in card, card
    text = replayed.forgetting.change
    assert text is not None
    assert text.value is not None
    assert text.ci_low is not None or text.ci_missing_reason


def test_control_text_without_text_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "only.jsonl"
    path.write_text('{"id": "a", "prompt": "What?", "references": ["That."]}\n', encoding="utf-8")
    with pytest.raises(SizewiseError, match="no text") as error:
        read_control(str(path), 0, store)
    assert "--control none" in error.value.next_step


def _passages(tmp_path: Path, store: Store, language: str) -> Saved[Dataset]:
    folder = tmp_path / language
    folder.mkdir()
    for number, passage in enumerate(PASSAGES[language]):
        (folder / f"{number}.txt").write_text(passage.text, encoding="utf-8")
    return datasets.read(str(folder), store=store)


@pytest.mark.parametrize(("language", "questions"), [("de", 40), ("zh", 40), ("th", 0), ("hi", 0)])
def test_english_control_text_is_left_out_for_data_in_another_language(
    tmp_path: Path, store: Store, language: str, questions: int
) -> None:
    contents = datasets.load(store, _passages(tmp_path, store, language).id)
    recipe = Recipe(start="fake:echo", tokens=100)
    control, notes = choose_control(recipe, contents, store)
    assert (control is None) is (questions == 0)
    if control is not None:
        assert len(control.questions) == questions
        assert control.replayed == control.measured == ()
    assert any("control text is in English" in note and f"({language})" in note for note in notes)
    assert any("no general questions" in note for note in notes) is (questions == 0)
    control, notes = choose_control(recipe.model_copy(update={"control": "none"}), contents, store)
    assert (control, notes) == (None, [])


def test_control_text_of_ones_own_is_used_and_another_language_is_noted(
    tmp_path: Path, store: Store, text_folder: Path
) -> None:
    data = datasets.load(store, _passages(tmp_path, store, "de").id)
    own = tmp_path / "own"
    own.mkdir()
    for number, passage in enumerate(PASSAGES["fi"]):
        (own / f"{number}.txt").write_text(passage.text, encoding="utf-8")
    control, notes = choose_control(Recipe(start="fake:echo", tokens=100, control=str(own)), data, store)
    assert control is not None
    assert control.measured
    assert notes == [f"The control text {own} is in Finnish (fi), the data are in German (de)."]


def test_training_on_german_measures_general_questions_in_german(
    tmp_path: Path, store: Store, tiny_folder: Path
) -> None:
    data = _passages(tmp_path, store, "de")
    record = train(
        Recipe(start=str(tiny_folder), tokens=1_000, context=64, method="lora", rank=4), data.id, store=store
    ).record
    assert record.forgetting is not None
    assert record.forgetting.before is record.forgetting.after is None
    assert record.forgetting.answers_before is not None
    assert (record.forgetting.questions, record.forgetting.replay_share) == (40, 0.0)
    assert any("control text is in English" in note for note in record.notes)


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "zh"])
def test_general_questions_are_in_their_language(language: str) -> None:
    questions = questions_in(language)
    assert len({question for question, _ in questions}) == 40
    assert main_language([f"{question} {answer}" for question, answer in questions]) == language
    assert questions_in("") == questions_in("en")
    assert questions_in("th") == ()
