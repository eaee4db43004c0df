"""Identify the language of a text: by its script, and within a script by py3langid (Lui and Baldwin, 2012).

Scripts of one language (Thai, Greek, Korean ...), Chinese and Japanese need no package. The other scripts do; without
py3langid their language is unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

MIN_LETTERS, MIN_CHARACTERS, MIN_CONFIDENCE = 12, 4, 0.6
WINDOW, WINDOWS = 300, 3  # of a long text, only its beginning, middle and end are looked at
SAMPLE = 200  # texts of a dataset
MIN_SHARE = 0.5  # of the texts whose language was identified

NAMES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian",
    "bn": "Bengali", "bo": "Tibetan", "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh", "da": "Danish",
    "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto", "es": "Spanish", "et": "Estonian",
    "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fr": "French", "ga": "Irish", "gl": "Galician",
    "gu": "Gujarati", "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "ky": "Kyrgyz", "la": "Latin", "lo": "Lao", "lt": "Lithuanian",
    "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "ms": "Malay",
    "mt": "Maltese", "my": "Burmese", "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "pa": "Punjabi",
    "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "si": "Sinhala",
    "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian", "sr": "Serbian", "sv": "Swedish", "sw": "Swahili",
    "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu",
    "uz": "Uzbek", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
"""English names of common languages by ISO 639-1 code."""

# Letters of each script. Letters of other scripts don't decide between languages.
_SCRIPTS = {
    "han": "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u30a1-\u30fa\u30fc\uff66-\uff9f",
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "cyrillic": "\u0400-\u052f",
    "arabic": "\u0620-\u063f\u0641-\u064a\u066e-\u06d3\u06d5\u06ee-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc",
    "devanagari": "\u0904-\u0939\u0958-\u0961\u0972-\u097f",
    "bengali": "\u0985-\u09b9\u09dc-\u09f1",
    "hebrew": "\u05d0-\u05f2",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "ko": "\uac00-\ud7a3\u1100-\u11ff\u3131-\u318e",
    "th": "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46",
    "lo": "\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6",
    "my": "\u1000-\u102a\u103f\u1050-\u1055",
    "km": "\u1780-\u17b3",
    "hy": "\u0531-\u0556\u0561-\u0587",
    "ka": "\u10a0-\u10ff\u1c90-\u1cbf",
    "am": "\u1200-\u137c",
    "pa": "\u0a05-\u0a39\u0a59-\u0a5e",
    "gu": "\u0a85-\u0ab9",
    "ta": "\u0b83-\u0bb9",
    "te": "\u0c05-\u0c39",
    "kn": "\u0c85-\u0cb9",
    "ml": "\u0d05-\u0d3a",
    "si": "\u0d85-\u0dc6",
    "bo": "\u0f40-\u0f6c",
}
_LETTERS_PER_IDEOGRAPH = 3
_MIN_KANA_SHARE = 0.05
# Languages of a script that py3langid tells apart. Everything else that it knows is written in Latin letters, too.
_OF_SCRIPT = {
    "cyrillic": frozenset(("ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "mn", "tg", "tt", "ba")),
    "arabic": frozenset(("ar", "fa", "ur", "ps", "ug", "ku")),
    "devanagari": frozenset(("hi", "mr", "ne", "sa")),
    "bengali": frozenset(("bn", "as")),
    "hebrew": frozenset(("he",)),
}
_NOT_LATIN = frozenset().union(*_OF_SCRIPT.values()) - {"sr", "ku"} | {"zh", "ja", "zxx", *_SCRIPTS}
_VARIETIES = {"ary": "ar", "arz": "ar", "sdh": "ku", "uzs": "uz", "hbo": "he", "nn": "no"}
_NO_LANGUAGE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|<[^<>\s][^<>]*>|[\w.-]*[_\d/\\][\w./\\-]*")


def detect_language(text: str) -> str:
    """Identify the language of a text.

    Args:
        text: The text; of a long one only the beginning, the middle and the end are read.

    Returns:
        The ISO 639-1 code, or an empty string if the text is too short, ambiguous or not written in a language.
    """
    sample = _NO_LANGUAGE.sub(" ", _sample(text))
    weighted = _script_weights(sample)
    ideographs = weighted.get("han", 0) + weighted.get("kana", 0)
    script = max(weighted, key=weighted.__getitem__, default="")
    if ideographs > 0 and ideographs >= weighted[script]:
        if ideographs < MIN_CHARACTERS * _LETTERS_PER_IDEOGRAPH:
            return ""
        return "ja" if weighted.get("kana", 0) >= _MIN_KANA_SHARE * ideographs else "zh"
    if not script or weighted[script] < (MIN_LETTERS if script in ("latin", *_OF_SCRIPT) else MIN_CHARACTERS):
        return ""
    return _identify(sample, script) if script == "latin" or script in _OF_SCRIPT else script


def count_languages(texts: Iterable[str]) -> Counter[str]:
    """Count the texts in each language; an empty code counts those whose language is unknown."""
    return Counter(map(detect_language, texts))


def main_language(texts: Sequence[str]) -> str:
    """Identify the language that most texts are written in.

    Args:
        texts: The texts; of many, 200 spread over all are read. Short ones, such as labels, are read together.

    Returns:
        The ISO 639-1 code, or an empty string if no language has at least half of the texts.
    """
    step = max(1, len(texts) // SAMPLE)
    sample = [texts[i] for i in range(0, len(texts), step)][:SAMPLE]
    counts = count_languages(sample)
    unknown = counts.pop("", 0)
    if unknown > len(sample) / 2:
        return detect_language(" \n".join(dict.fromkeys(text[:WINDOW] for text in sample)))
    language, count = counts.most_common(1)[0] if counts else ("", 0)
    return language if count >= MIN_SHARE * counts.total() else ""


def language_name(code: str) -> str:
    """Return the English name of a language with its code, as in `German (de)`."""
    return f"{NAMES[code]} ({code})" if code in NAMES else f"'{code}'"


def _sample(text: str) -> str:
    if len(text) <= WINDOW * WINDOWS:
        return text
    gap = (len(text) - WINDOW) / (WINDOWS - 1)
    return "\n".join(text[int(i * gap) : int(i * gap) + WINDOW] for i in range(WINDOWS))


def _script_weights(sample: str) -> dict[str, int]:
    """Count the letters of each script, an ideograph as several."""
    scripts = ("latin",) if sample.isascii() else tuple(_SCRIPTS)
    counts = ((script, len(_letters()[script].findall(sample))) for script in scripts)
    return {
        script: count * (_LETTERS_PER_IDEOGRAPH if script in ("han", "kana") else 1)
        for script, count in counts
        if count
    }


@cache
def _letters() -> dict[str, re.Pattern[str]]:
    return {script: re.compile(f"[{letters}]") for script, letters in _SCRIPTS.items()}


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _identify(sample: str, script: str) -> str:
    """Choose between the languages of one script."""
    identifier = _identifier()
    if identifier is None:
        return ""
    shares: Counter[str] = Counter()
    for code, share in identifier.rank(sample):
        language = _VARIETIES.get(code, code)
        if language in _OF_SCRIPT[script] if script in _OF_SCRIPT else language not in _NOT_LATIN:
            shares[language] += share
    total = shares.total()
    language, share = shares.most_common(1)[0]
    # What other scripts' languages got counts only for Latin letters, in which code and names are written, too.
    certain = share >= MIN_CONFIDENCE * (total if script in _OF_SCRIPT else 1)
    return language if certain and len(language) == 2 else ""
