"""Split texts into sentences, including scripts without capital letters or spaces."""

from __future__ import annotations

import re

MIN_CLAUSE = 40
"""Thai and Lao have no full stop: a space ends a sentence of at least so many characters."""
_TITLES = "Abs|Bd|Dr|Dra|Fig|Hr|Mlle|Mme|Mr|Mrs|Ms|Nr|Prof|Sra|St|Ziff|bzw|ca|esim|evtl|ggf|inkl|vgl|vs|zzgl"
_LETTER = r"[^\W\d_]"
# A period that ends no sentence: "z. B. Anna", "J. Smith", "Dr. Weber", and "am 3. Mai".
_ABBREVIATED = re.compile(rf"(?<!{_LETTER})(?:(?!I\.){_LETTER}|{_TITLES})\.$")
_ORDINAL = re.compile(r"(?<![\d.,])\d{1,2}\.$")
_AFTER_ORDINAL = re.compile(
    r"\s*(?:Januar|Februar|M\u00e4rz|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jahrhundert)\b"
)
_BOUNDARY = re.compile(
    r"(?P<mark>(?<=[.!?\u2026\u061f\u06d4\u0964\u0965\u0589])[^\S\n]+(?!\n)"  # Arabic, Indic and Armenian included
    r"|(?<=[\u1362\u1367\u0f0d\u0f0e\u104b\u17d4\u17d5])[^\S\n]*(?!\n)"  # Ethiopic, Tibetan, Burmese and Khmer
    r"|(?<=[\u3002\uff01\uff1f\uff61])(?![\u3002\uff01\uff1f\u300d\u300f\u201d\u2019\uff09])"  # Chinese and Japanese
    r"|(?<=[\u3002\uff01\uff1f][\u300d\u300f\u201d\u2019\uff09]))"
    r"|(?P<space>(?<=[\u0e01-\u0e4e\u0e81-\u0ece])[ \u00a0]+(?=[\u0e01-\u0e44\u0e81-\u0ec4]))|\n+"
)


def sentences_of(text: str) -> list[str]:
    """Split a text into sentences; a line break always ends one."""
    spans: list[tuple[int, int]] = []
    start, may_continue = 0, False
    for stop, after, kind in _boundaries(text):
        part = text[start:stop].strip()
        if kind == "space" and len(part) < MIN_CLAUSE:
            continue
        if part and may_continue and part[0].islower():  # a period within a sentence, as in "e.g. this"
            spans[-1] = (spans[-1][0], stop)
        elif part:
            spans.append((start, stop))
        start, may_continue = after, kind == "mark" and bool(spans)
    return [text[start:stop].strip() for start, stop in spans]


def _boundaries(text: str) -> list[tuple[int, int, str]]:
    """Return start, end and kind of each possible boundary; the last one is the end of the text."""
    found = [(match.start(), match.end(), match.lastgroup or "line") for match in _BOUNDARY.finditer(text)]
    kept = [boundary for boundary in found if boundary[2] != "mark" or not _within_sentence(text, boundary[0])]
    return [*kept, (len(text), len(text), "line")]


def _within_sentence(text: str, stop: int) -> bool:
    """Check whether the period in front of a position belongs to an abbreviation or to an ordinal number."""
    before = text[max(0, stop - 8) : stop]
    if not before.endswith("."):
        return False
    return bool(_ABBREVIATED.search(before) or (_ORDINAL.search(before) and _AFTER_ORDINAL.match(text, stop)))
