# ruff: noqa: RUF001
"""Where an answer names labels: alone as a whole, or among the words of a sentence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from sizewise.text.cues import BECAUSE, CUES
from sizewise.text.negation import is_denial
from sizewise.text.normalization import TYPOGRAPHY, compatibility_form, fold_text, visible_text
from sizewise.text.scripts import combining_marks
from sizewise.text.sentences import sentences_of
from sizewise.text.words import phrase_pattern

_BEFORE_LETTER = re.compile(
    r"(?:\b(?:option|choice|letter|answer|antwort|buchstabe|réponse|lettre|opción|letra|opção|opzione|lettera|вариант)"
    r"\s+(?:is\s+)?[\"'(\[*_]*|[(\[{>$\"'*_`]\s*)$",
    re.IGNORECASE,
)
_AFTER_LETTER = re.compile(
    r"\s*(?:$|[^\w\s]|\s[^\w\s]|(?:is|are|was|and|or|because|since|as|would|could|may|might|seems|fits|best|ist|sind|und|"
    r"oder|weil|est|sont|et|ou|es|son|porque|è|perché|é|jest|это|и|или)\b|\s?[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3])"
)
_DENOMINATOR = re.compile(r"(?:\d\s*/\s*|(?:\bout of|\bvon|\bsur|\bsu|\bde|\bdi|\bиз|\bof)\s+)$")
_SCALE = re.compile(r"\d\s*(?:[-–—~]|to|bis|à|a|до|ate|até)\s*$")


class Mention(NamedTuple):
    """A label at a place in the answer."""

    label: int
    start: int
    end: int


def whole_label(answer: str, labels: tuple[str, ...]) -> int:
    """Find the label that an answer is as a whole, apart from marks around it; -1 if it is none, or several."""
    folded = fold_text(answer)
    for form in (answer.strip(), folded):
        if form in labels:
            return labels.index(form)
    bare = bare_text(plain_text(answer))
    forms = _forms(labels)
    exact = [i for i, form in enumerate(forms) if form.cased and form.bare == bare]
    if exact:
        return exact[0] if len(exact) == 1 else -1
    joined = _joined(bare_text(folded))
    same = [i for i, form in enumerate(forms) if form.joined == joined] if joined else []
    return same[0] if len(same) == 1 else -1


class _Form(NamedTuple):
    """A label in the forms in which it is looked for."""

    cased: bool
    """Whether its case matters, because another label differs in nothing else."""
    bare: str
    joined: str
    head: str
    """Its beginning, which a sentence that names it contains."""


@lru_cache(maxsize=64)
def _forms(labels: tuple[str, ...]) -> tuple[_Form, ...]:
    folded = [fold_text(label) for label in labels]
    alike = {form for form, label in zip(folded, labels, strict=True) if label != form}
    return tuple(
        _Form(form in alike, bare_text(plain_text(label)), _joined(bare_text(form)), re.split(r"[ _-]", label)[0])
        for label, form in zip(labels, folded, strict=True)
    )


def _joined(text: str) -> str:
    """Write a label's words with spaces, however the label joins them."""
    return re.sub(r"[\s_-]+", " ", text)


@cache
def _edges() -> tuple[re.Pattern[str], re.Pattern[str]]:
    marks = combining_marks()
    return (
        re.compile(rf"^(?:(?![-+\u2212<>~$€£]\s?\d)[^\w{marks}]|_)+"),
        re.compile(rf"(?:(?<![\w])[+#%°]|[^\w{marks}+#%°]|_)+$"),
    )


def bare_text(text: str) -> str:
    """Remove punctuation, Markdown and symbols around a text; a text of symbols only stays."""
    begin, end = _edges()
    return end.sub("", begin.sub("", text)) or text


class Line(NamedTuple):
    """A sentence with its case, and folded; both have the same positions unless folding changes lengths."""

    plain: str
    folded: str


def lines_of(answer: str) -> Iterator[Line]:
    """Split an answer into sentences."""
    for sentence in sentences_of(visible_text(answer.replace("\u2028", "\n"))):
        plain = plain_text(sentence)
        yield Line(plain, unicodedata.normalize("NFC", plain.casefold()))


def plain_text(text: str) -> str:
    """Fold everything but the case, and write digits of every script in ASCII."""
    folded = compatibility_form(visible_text(text)).translate(TYPOGRAPHY).replace("\u0130", "i")
    return " ".join("".join(map(_ascii_digit, folded)).split())


def _ascii_digit(character: str) -> str:
    return str(unicodedata.decimal(character)) if not character.isascii() and character.isdecimal() else character


@lru_cache(maxsize=4_096)
def _label_pattern(label: str) -> re.Pattern[str]:
    if re.fullmatch(r"\d+", label):
        return re.compile(rf"(?<![\w.,+\u2212])(?<!(?<!\w)-){label}(?:[.,]0+)?(?![\w%]|[.,]\d)")
    if re.search(r"\w[ _-]+\w", label):
        parts = re.split(r"[ _-]+", label)
        begin, end = phrase_pattern(parts[0]).pattern, phrase_pattern(parts[-1]).pattern
        inner = [re.escape(part) for part in parts[1:-1]]
        return re.compile(r"[\s_-]+".join([_open_end(begin, parts[0]), *inner, _open_begin(end, parts[-1])]))
    pattern = phrase_pattern(label).pattern
    if re.search(r"[a-z0-9]$", label, re.IGNORECASE):  # a Korean or Japanese particle may follow a Latin word
        return re.compile(f"{pattern[: pattern.rindex('(?!')]}(?![A-Za-z0-9_\u00c0-\u024f])")
    return re.compile(pattern[: pattern.rindex("(?!")]) if _HANGUL.search(label) else re.compile(pattern)


_HANGUL = re.compile("[\uac00-\ud7a3]$")


def _open_end(pattern: str, word: str) -> str:
    return pattern[: pattern.index(re.escape(word)) + len(re.escape(word))]


def _open_begin(pattern: str, word: str) -> str:
    return pattern[pattern.index(re.escape(word)) :]


def mentions_in(line: Line, labels: tuple[str, ...]) -> list[Mention]:
    """Find the labels of a line; of overlapping ones the longest counts."""
    found: list[Mention] = []
    for i, (label, form) in enumerate(zip(labels, _forms(labels), strict=True)):
        within = line.plain if form.cased else line.folded
        if not label or form.head not in within:
            continue
        for match in _label_pattern(label).finditer(within):
            if _is_meant(line, label, match.start(), match.end()):
                found.append(Mention(i, match.start(), match.end()))
    found.sort(key=lambda one: (one.start - one.end, one.start, one.label))
    kept: list[Mention] = []
    for one in found:
        if not any(one.start < other.end and other.start < one.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


def _is_meant(line: Line, label: str, start: int, end: int) -> bool:
    """Check whether a label's letters or digits stand for the label, and not for an article or a scale."""
    before = line.folded[:start]
    if label.isdecimal():
        ranged = re.match(r"\s*(?:[-–—~]|to\b|bis\b)\s*\d", line.folded[end:])
        return not (_DENOMINATOR.search(before) or _SCALE.search(before) or ranged)
    if is_denial(label):  # "there is no problem" doesn't answer no
        return bool(re.match(rf"\s*(?:$|[^\w\s]|(?:{BECAUSE})(?!\w))", line.folded[end:]))
    if len(label) != 1 or not label.isalpha() or unicodedata.category(label) == "Lo":
        return True
    if re.search(r"\w'$", before) or re.match(r"'\w", line.folded[end:]):  # "I'd" and "l'a" name no letter
        return False
    if _BEFORE_LETTER.search(line.plain[:start]) or re.match(r"[)\]}<$*_`\"':]", line.plain[end : end + 1]):
        return True
    if not re.search(r"\w", line.folded[:start] + line.folded[end:]):
        return True
    written, after = line.plain[start : start + 1], line.folded[end:]
    if written.islower() and label == fold_text(label):
        if not re.search(r"\w", before) and re.match(r" (?:is|ist|est|es|è) .{0,8}(?:correct|right|best|rich)", after):
            return True
        return bool(re.search(rf"(?:{CUES})\b[^.;]*[\s:]$", before) and re.match(r"\W*$", line.folded[end:]))
    return bool(_AFTER_LETTER.match(line.plain[end:]))
