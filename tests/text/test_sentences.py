# ruff: noqa: RUF001
from __future__ import annotations

from sizewise.text import sentences_of


def test_sentences() -> None:
    assert sentences_of("One. Two is 3.5 long! Three?\nFour") == ["One.", "Two is 3.5 long!", "Three?", "Four"]


def test_sentences_of_every_script() -> None:
    assert sentences_of("我们开门。你好吗？他说「好。」然后走了。") == [
        "我们开门。",
        "你好吗？",
        "他说「好。」",
        "然后走了。",
    ]
    assert sentences_of("वह आया। वह गया।") == ["वह आया।", "वह गया।"]
    assert sentences_of("See e.g. this. That too.\nand a line") == ["See e.g. this.", "That too.", "and a line"]
