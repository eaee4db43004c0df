"""The texts in several languages are what other tests take them for."""

import pytest

from tests.languages import PASSAGES


@pytest.mark.parametrize("language", ["ar", "de", "fi", "hi", "ja", "th", "zh"])
def test_every_language_has_twelve_passages_that_hold_their_answers(language: str) -> None:
    passages = PASSAGES[language]
    assert len(passages) >= 12
    assert all(passage.answer in passage.text for passage in passages)
    assert (
        len({passage.text for passage in passages}) == len({passage.question for passage in passages}) == len(passages)
    )
