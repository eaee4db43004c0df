from __future__ import annotations

from collections.abc import Iterator

import pytest

from sizewise.text import count_languages, detect_language, languages, main_language
from sizewise.text.languages import language_name
from tests.clock import processor_seconds
from tests.languages import PASSAGES


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_the_language_of_a_paragraph_and_of_a_question(language: str) -> None:
    passages = PASSAGES[language]
    assert {detect_language(passage.text) for passage in passages} == {language}
    assert {detect_language(passage.question) for passage in passages} == {language}


@pytest.mark.parametrize("language", sorted(PASSAGES))
def test_short_answers_are_read_together(language: str) -> None:
    assert main_language([passage.answer for passage in PASSAGES[language]]) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Où est la gare la plus proche ?", "fr"),
        ("¿Dónde está la estación?", "es"),
        ("Где ближайшая железнодорожная станция?", "ru"),
        ("Де найближча залізнична станція?", "uk"),
        ("ایستگاه قطار نزدیک کجاست؟", "fa"),
        ("मला हे पुस्तक आवडते आणि ते मी रोज वाचतो", "mr"),
        ("서울에서 만나요", "ko"),
        ("Πού είναι ο σταθμός;", "el"),  # noqa: RUF001
        ("请打开 Windows Update 设置页面", "zh"),
    ],
)
def test_other_languages(text: str, language: str) -> None:
    assert detect_language(text) == language


@pytest.mark.parametrize(
    "text",
    ["", "Yes", "Card 3", "B", "12,5", "你好", "https://example.com/en/index.html", '{"status": "open", "total": 12}',
     "def f(x):\n    return [i for i in x if i > 3]", "SELECT name FROM users WHERE id=3", "refund_not_showing_up"],
)  # fmt: skip
def test_a_short_text_and_code_have_no_language(text: str) -> None:
    assert detect_language(text) == ""


def test_a_long_text_is_sampled() -> None:
    text = " ".join(passage.text for passage in PASSAGES["de"]) * 3_000
    assert detect_language(text) == "de"
    assert processor_seconds(lambda: detect_language(text)) < 0.5


def test_a_mixture_is_counted_and_has_no_main_language_without_a_majority() -> None:
    texts = [passage.text for language in ("de", "th", "zh") for passage in PASSAGES[language][:4]]
    assert count_languages([*texts, "OK"]) == {"de": 4, "th": 4, "zh": 4, "": 1}
    assert main_language(texts) == ""
    assert main_language([*texts[:4], texts[-1]]) == "de"
    assert main_language([]) == ""
    assert language_name("de") == "German (de)"


@pytest.fixture
def without_py3langid(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(__import__("sys").modules, "py3langid", None)
    monkeypatch.setitem(__import__("sys").modules, "py3langid.langid", None)
    languages._identifier.cache_clear()
    yield
    languages._identifier.cache_clear()


@pytest.mark.usefixtures("without_py3langid")
@pytest.mark.parametrize(("language", "found"), [("de", ""), ("ar", ""), ("ja", "ja"), ("zh", "zh"), ("th", "th")])
def test_without_the_package_only_scripts_are_told_apart(language: str, found: str) -> None:
    assert detect_language(PASSAGES[language][0].text) == found
