"""Text distortion: what is left of a text when its topic is hidden.

Content words are masked letter by letter, so that function words, punctuation, capitals and lengths remain (Stamatatos,
2017, Authorship attribution using text distortion, DV-MA).
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_WORD = re.compile(r"[^\W_]+")


@cache
def function_words() -> Mapping[str, frozenset[str]]:
    """Load the function words of each language, by ISO 639-1 code."""
    text = files("sizewise.metrics").joinpath("function_words.toml").read_text(encoding="utf-8")
    return {language: frozenset(words.split()) for language, words in tomllib.loads(text).items()}


def mask_content(text: str, language: str) -> str:
    """Mask the content words of a text.

    A small letter becomes `a`, a capital one `A`, a digit `0`, and a letter without case, such as an ideograph, `*`.
    Function words, punctuation and white space stay.

    Args:
        text: the text.
        language: ISO 639-1 code; in a language without a list of function words, every word is masked.
    """
    kept = function_words().get(language, frozenset())
    plain = unicodedata.normalize("NFC", text)
    return _WORD.sub(lambda word: word[0] if word[0].lower() in kept else "".join(map(_masked, word[0])), plain)


def _masked(letter: str) -> str:
    if letter.isupper():
        return "A"
    if letter.islower():
        return "a"
    return "0" if letter.isdecimal() else "*"
