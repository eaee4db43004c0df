"""Recognize the one-byte encodings of alphabets by the letters that a language has, and by upper case within words."""

from __future__ import annotations

from itertools import pairwise

ENCODINGS = (
    *(
        "cp1252",
        "cp1250",
        "cp1251",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
        "cp1257",
        "cp874",
        "iso8859_2",
        "iso8859_15",
    ),
    *("iso8859_5", "iso8859_7", "koi8_r", "koi8_u", "cp866", "mac_cyrillic", "mac_roman", "cp850", "cp852"),
)
MIN_PLAUSIBLE = 0.97
"""Share of the characters beyond ASCII that must be letters of one language, or punctuation."""
_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяё"
_ALPHABETS = {
    "de": "äöüß",
    "fr": "àâæçéèêëîïôœùûüÿ",
    "es": "áéíñóúüçïºª",
    "it": "àèéìíîòóùú",
    "pt": "áâãàçéêíóôõúüºª",
    "nl": "éëïóöüèêáíúç",
    "da": "æøåéäö",
    "sv": "åäöéüà",
    "is": "áéíóúýþæöð",
    "cs": "áčďéěíňóřšťúůýž",
    "sk": "áäčďéíĺľňóôŕšťúýž",
    "pl": "ąćęłńóśźż",
    "hu": "áéíóöőúüű",
    "ro": "ăâîşţ",
    "hr": "čćđšž",
    "tr": "çğıöşüâîû",
    "et": "äõöüšž",
    "lv": "āčēģīķļņšūž",
    "lt": "ąčęėįšųūž",
    "ru": _CYRILLIC,
    "uk": _CYRILLIC + "іїєґ",
    "be": _CYRILLIC + "іў",
    "sr": "абвгдђежзијклљмнњопрстћуфхцчџш",
    "el": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",
    "he": "".join(map(chr, range(0x5B0, 0x5EB))),
    "ar": "".join(map(chr, range(0x60C, 0x653))) + "پچژگکیہےھٹڈڑںۀ",
    "th": "".join(map(chr, range(0xE01, 0xE5C))),
}
_LETTERS = {
    language: frozenset(letters + letters.upper() + "İ" * (language == "tr"))
    for language, letters in _ALPHABETS.items()
}
_COMMON = {
    **dict.fromkeys(("ru", "uk", "be", "sr"), frozenset("оеаинтсрвлі")),
    "el": frozenset("αοιετσνηυρςάίόή"),
    "he": frozenset("יוהלאתרמבש"),
    "ar": frozenset("اليمنوتربعیهد"),
    "th": frozenset("านรอกเงยมลวดทส่้ีัิ"),
}
"""The most frequent letters; in another encoding, letters of the same alphabet are as frequent as chance has it."""
_MIN_COMMON = 0.42
_PUNCTUATION = frozenset("\u00a0\u00ad\u200e\u200f«»\u2039\u203a„“”\u201a\u2018\u2019\u2013—…•·€£§°©®™№¿¡²³½¼¾±÷†‰")
_NOT_BEFORE_LETTERS = frozenset("…‰™®©†±÷²³½¼¾€•")
_TIED = 0.005


def plausible(raw: bytes) -> dict[str, str]:
    """Return the texts that bytes may stand for, each with the most common encoding that decodes to it."""
    found: dict[str, tuple[float, str]] = {}
    for encoding in ENCODINGS:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        score = max(_scores(text).values(), default=0.0)
        if score >= MIN_PLAUSIBLE and text not in found:
            found[text] = score, encoding
    best = max((score for score, _ in found.values()), default=0.0)
    return {text: encoding for text, (score, encoding) in found.items() if score >= best - _TIED}


def languages(text: str) -> list[str]:
    """Return the languages whose letters a text consists of, besides ASCII; empty if there is none."""
    return [language for language, score in _scores(text).items() if score >= MIN_PLAUSIBLE]


def _scores(text: str) -> dict[str, float]:
    """Return the share of the characters beyond ASCII that are in place, for each language."""
    others = [character for character in text if character > "\x7f"]
    letters = [character for character in others if character not in _PUNCTUATION]
    if not letters:
        return {}
    wrong = sum(
        (one > "\x7f" and one.isupper() and before.islower()) or (before in _NOT_BEFORE_LETTERS and one.islower())
        for before, one in pairwise(text)
    )
    scores, inside = (
        {},
        sum(
            (one > "\x7f" and one.isalpha() and before.isascii() and before.isalpha())
            or (before > "\x7f" and before.isalpha() and one.isascii() and one.isalpha())
            for before, one in pairwise(text)
        ),
    )
    for language, alphabet in _LETTERS.items():
        common = _COMMON.get(language)
        if common is None or sum(one.lower() in common for one in letters) >= _MIN_COMMON * len(letters):
            right = sum(one in alphabet for one in letters) + len(others) - len(letters)
            scores[language] = (right - wrong - (inside if common else 0)) / len(others)
    return scores
