"""Recognize the legacy encodings of Japanese, Korean and Chinese by the characters that texts in them consist of."""

from __future__ import annotations

import codecs

MIN_CHARACTERS = 12
_COMMON_SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自年"
)
_COMMON_TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自年"
)
_MIN_COMMON, _MIN_HAN, _MIN_HANGUL, _MIN_KANA = 0.05, 0.8, 0.9, 0.15


def east_asian_encoding(raw: bytes) -> str:
    """Return cp932, euc_jp, cp949, gb18030 or big5 if the text is clearly in it; otherwise an empty string."""
    known = (
        *(("cp932", _japanese), ("euc_jp", _japanese), ("cp949", _korean)),
        *(("gb18030", _simplified), ("big5", _traditional)),
    )
    for encoding, fits in known:
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(raw)  # the sample may end within a character
        except UnicodeDecodeError:
            continue
        characters = [character for character in text if character > "\x7f"]
        if _inside_latin_words(text):
            continue
        if len(characters) >= MIN_CHARACTERS and fits(characters):
            return encoding
    return ""


def _inside_latin_words(text: str) -> bool:
    """Return whether most characters stand next to Latin letters, as accented letters of another encoding would."""
    inside = sum(
        one > "\x7f" and any(near.isascii() and near.isalpha() for near in (before, after))
        for before, one, after in zip(f" {text}", text, f"{text[1:]} ", strict=False)
    )
    return 2 * inside > sum(one > "\x7f" for one in text)


def _share(characters: list[str], first: str, last: str) -> float:
    return sum(first <= character <= last for character in characters) / len(characters)


def _japanese(characters: list[str]) -> bool:
    return _share(characters, "\u3041", "\u3096") >= _MIN_KANA and _share(characters, "\uff61", "\uff9f") < _MIN_KANA


def _korean(characters: list[str]) -> bool:
    """Check for syllables of the basic set; other encodings decode to rare syllables."""
    common = "".join(characters).encode("euc-kr", "ignore").decode("euc-kr")
    return _share(characters, "\uac00", "\ud7a3") >= _MIN_HANGUL and len(common) >= _MIN_HANGUL * len(characters)


def _simplified(characters: list[str]) -> bool:
    return _chinese(characters, _COMMON_SIMPLIFIED)


def _traditional(characters: list[str]) -> bool:
    return _chinese(characters, _COMMON_TRADITIONAL)


def _chinese(characters: list[str], common: frozenset[str]) -> bool:
    found = sum(character in common for character in characters) / len(characters)
    return found >= _MIN_COMMON and _share(characters, "\u3000", "\u9fff") >= _MIN_HAN
