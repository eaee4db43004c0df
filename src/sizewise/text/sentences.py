"""Split texts into sentences, including scripts without capital letters or spaces."""

from __future__ import annotations

import re

_BOUNDARY = re.compile(
    r"(?P<end>(?<=[.!?\u2026\u061f\u06d4\u0964\u0965])[^\S\n]+(?!\n)"  # Arabic and Indic punctuation included
    r"|(?<=[\u3002\uff01\uff1f\uff61])(?![\u3002\uff01\uff1f\u300d\u300f\u201d\u2019\uff09])"  # Chinese and Japanese
    r"|(?<=[\u3002\uff01\uff1f][\u300d\u300f\u201d\u2019\uff09]))|\n+"
)


def sentences_of(text: str) -> list[str]:
    """Split a text into sentences; a line break always ends one."""
    spans: list[tuple[int, int]] = []
    start, may_continue = 0, False
    boundaries = [(found.start(), found.end(), found["end"] is not None) for found in _BOUNDARY.finditer(text)]
    for stop, after, is_punctuation in [*boundaries, (len(text), len(text), False)]:
        part = text[start:stop].strip()
        if part and may_continue and part[0].islower():  # a period within a sentence, as in "e.g. this"
            spans[-1] = (spans[-1][0], stop)
        elif part:
            spans.append((start, stop))
        start, may_continue = after, is_punctuation and bool(spans)
    return [text[start:stop].strip() for start, stop in spans]
