# ruff: noqa: RUF001
"""What an answer states: which of several labels it gives, and whether that can be read at all.

An answer is a label alone, or states one after "the answer is", a colon or as a clause of its own; the last such
statement counts. Elsewhere a label counts only if no other one is named and nothing denies it. Anything else is
unreadable: a guess would count for or against a model by chance.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

from sizewise.text.cues import (
    BE,
    BECAUSE,
    BECAUSE_ANYWHERE,
    CORRECTIONS,
    CUES,
    CUES_ANYWHERE,
    OR,
    OR_ANYWHERE,
)
from sizewise.text.label_mentions import Line, Mention, bare_text, lines_of, mentions_in, plain_text, whole_label
from sizewise.text.languages import detect_language
from sizewise.text.negation import LATIN_LANGUAGES, denial_pattern, is_denial, knows_denials
from sizewise.text.normalization import fold_text
from sizewise.text.scripts import combining_marks

NO_LABEL, DENIED, SEVERAL, UNKNOWN_LANGUAGE = (
    "names no label",
    "names a label only to deny or to ask about it",
    "names several labels or contradicts itself",
    "names a label in a language whose denials aren't known",
)
MAX_CHARACTERS = 8_000
"""Of a longer answer, only the end is read."""
MIN_LETTERS = 20
"""Letters beside a label from which on the language of a line is checked."""

_CONTRAST = re.compile(r"[;.!?\u3002\uff01\uff1f\u061f\u0964]|\s[-–—]\s|->|=>|\u2192")
_CLAUSE = re.compile(r"[,:\uff0c\u3001\uff1a\u060c]")
_ASKED = re.compile(r"\s*[\"')\]*_]*\s*[?\uff1f\u061f\u037e]")
_SUBJECT = re.compile(
    r"\s*(?:so|thus|hence|therefore|then|i|it|this|that|the|we|also|dies|das|es|ich|c'est|donc|je|así que|esto|questo|"
    r"quindi|isto|portanto|это|поэтому|значит)\b"
)


class Reading(NamedTuple):
    """Which label an answer states."""

    label: int
    """Position of the label; -1 if the answer is unreadable."""
    reason: str = ""
    """Why the answer is unreadable; empty if it states a label."""


class _Clause(NamedTuple):
    """A piece of a sentence with the labels that it names."""

    text: str
    """Text of the whole sentence, folded."""
    start: int
    end: int
    mentions: tuple[Mention, ...]
    asked: bool
    after_colon: bool
    led_by_denial: bool
    """Whether something is denied earlier in the sentence, with no contrast since."""

    @property
    def body(self) -> str:
        """The folded text of the clause."""
        return self.text[self.start : self.end]


def distinct_labels(labels: Sequence[str]) -> list[str]:
    """Fold labels, except those that only folding makes equal, such as `a` and `A`: these stay as they are."""
    counts = Counter(map(fold_text, dict.fromkeys(labels)))
    return [label if counts[fold_text(label)] > 1 else fold_text(label) for label in dict.fromkeys(labels)]


def read_label(answer: str, labels: Sequence[str]) -> Reading:
    """Read which label an answer states.

    Args:
        answer: the answer, without reasoning.
        labels: the labels: folded, or as they are where folding makes two of them equal.
    """
    return _read(answer[-MAX_CHARACTERS:], tuple(labels))


@lru_cache(maxsize=8_192)
def _read(answer: str, labels: tuple[str, ...]) -> Reading:
    whole = whole_label(answer, labels)
    if whole >= 0:
        return Reading(whole)
    if _lists_both(answer, labels):
        return Reading(-1, SEVERAL)
    clauses: list[_Clause] = []
    corrected = 0  # position of the first clause after the last correction
    for line in lines_of(answer):
        if clauses and _CORRECTION.match(line.folded) and bare_text(line.folded) not in labels:
            corrected = len(clauses)
        clauses += _clauses(line, labels)
    listed = {i for i, pair in enumerate(pairwise(clauses)) if _is_listed(*pair)}
    stated = [_cued(clause) for clause in clauses]
    given = [i for i, found in enumerate(stated) if found is not None]
    if given:
        last = stated[given[-1]]
        if last is None or last < 0 or given[-1] in listed:
            return Reading(-1, SEVERAL)
        later = clauses[corrected:] if corrected > given[-1] else []
        return _correction(last, later) or _unless_taken_back(last, clauses)
    listed |= {i + 1 for i in listed}
    for kind in (_alone, _predicated):
        found = {label for i, clause in enumerate(clauses) if i not in listed and (label := kind(clause)) is not None}
        if len(found) == 1:
            return _unless_taken_back(found.pop(), clauses)
        if found:
            return Reading(-1, SEVERAL)
    return _only_one(clauses)


_CORRECTION = re.compile(rf"\W*(?:{CORRECTIONS})")


def _lists_both(answer: str, labels: tuple[str, ...]) -> bool:
    """Check whether an answer such as `0/1` only lists both labels; with more labels it is a grade on a scale."""
    numbers = re.fullmatch(r"\D*(\d+)\s*/\s*(\d+)\W*", plain_text(answer))
    return bool(numbers) and len(labels) == 2 and set(numbers.groups() if numbers else ()) == set(labels)


def _is_listed(clause: _Clause, after: _Clause) -> bool:
    """Check whether the label at the end of a clause and the one after the comma are parts of a list."""
    if clause.text is not after.text or not clause.mentions or not after.mentions:
        return False
    last, first = clause.mentions[-1], after.mentions[0]
    if last.label == first.label or not re.fullmatch(
        r"[\s*_\"'()]*[,\uff0c\u3001\u060c][\s*_\"'()]*", clause.text[last.end : first.start]
    ):
        return False
    if _denied(clause) or _denied(after):
        return False
    rest = after.text[after.mentions[-1].end : after.end]
    return (
        not re.search(r"\w", rest)
        or bool(_alternatives()[0].match(rest))
        or len({one.label for one in after.mentions}) > 1
    )


def _correction(given: int, later: Sequence[_Clause]) -> Reading | None:
    """Read the label that an answer states after a correction; None if it names no other label."""
    others = {label for clause in later if not clause.asked for label in _affirmed(clause)} - {given}
    if not others:
        return None
    found = {label for clause in later for kind in (_alone, _predicated) if (label := kind(clause)) is not None}
    return Reading(found.pop()) if len(found) == 1 and found <= others else Reading(-1, SEVERAL)


def _only_one(clauses: Sequence[_Clause]) -> Reading:
    """Read the label that is named alone and nowhere denied."""
    named = {mention.label for clause in clauses for mention in clause.mentions}
    if not named:
        return Reading(-1, NO_LABEL)
    open_ = {label for clause in clauses if not (clause.asked or clause.led_by_denial) for label in _affirmed(clause)}
    if not open_:
        return Reading(-1, DENIED)
    if len(open_) > 1:
        return Reading(-1, SEVERAL)
    label = open_.pop()
    if not all(_is_understood(clause) for clause in clauses if any(one.label == label for one in clause.mentions)):
        return Reading(-1, UNKNOWN_LANGUAGE)
    if any(label in _denied(clause) or (clause.led_by_denial and label in _affirmed(clause)) for clause in clauses):
        return Reading(-1, SEVERAL)
    return Reading(label)


def _unless_taken_back(label: int, clauses: Sequence[_Clause]) -> Reading:
    """Read a stated label, unless it is denied after it was named last."""
    naming = [clause for clause in clauses if any(one.label == label for one in clause.mentions)]
    return Reading(-1, SEVERAL) if label in _denied(naming[-1]) else Reading(label)


# -- the whole answer ---------------------------------------------------------------------------------------


# -- lines, clauses and the labels in them ------------------------------------------------------------------


@cache
def _breaks() -> re.Pattern[str]:
    words = rf"(?<!\w)(?:{BECAUSE})(?!\w)|{BECAUSE_ANYWHERE}"
    return re.compile(rf"(?P<hard>{_CONTRAST.pattern}|{words})|(?P<soft>{_CLAUSE.pattern})")


def _clauses(line: Line, labels: tuple[str, ...]) -> Iterator[_Clause]:
    mentions = mentions_in(line, labels)
    if not mentions:
        return
    cuts, reached = [(0, 0, "hard")], 0
    for match in _breaks().finditer(line.folded):
        numeric = line.folded[match.start() - 1 : match.start()].isdigit() and line.folded[match.end() :][:1].isdigit()
        while reached < len(mentions) and mentions[reached].end <= match.start():
            reached += 1
        inside = reached < len(mentions) and mentions[reached].start < match.end()
        if not numeric and not inside:
            # 「ではなく」 and 아니라 deny what precedes them, so they belong to it.
            stop = match.end() if match["hard"] in ("なく", "아니라") else match.start()
            cuts.append((stop, match.end(), f"{'hard' if match['hard'] else 'soft'}{match[0].strip()}"))
    denied = False
    for (_, start, kind), (end, _, _) in zip(cuts, [*cuts[1:], (len(line.folded), 0, "")], strict=True):
        denied = denied and kind.startswith("soft")
        body = line.folded[start:end]
        inside_ = tuple(one for one in mentions if start <= one.start < end)
        yield _Clause(
            line.folded,
            start,
            end,
            inside_,
            asked=bool(_ASKED.match(line.folded[end:])),
            after_colon=kind in ("soft:", "soft\uff1a", "hard->", "hard=>", "hard\u2192"),
            led_by_denial=denied and not _SUBJECT.match(body),
        )
        denied = denied or (
            not inside_ and bool(denial_pattern().search(body)) and not is_denial(bare_text(body.strip()))
        )


# -- what a clause says of its labels -----------------------------------------------------------------------


def _denied(clause: _Clause) -> set[int]:
    """Return the labels that a clause denies."""
    found: set[int] = set()
    for match in denial_pattern().finditer(clause.text, clause.start, clause.end):
        if any(one.start <= match.start() < one.end for one in clause.mentions):
            continue  # a label may be a denial itself, such as "not spam"
        earlier = [one.label for one in clause.mentions if one.end <= match.start()]
        later = [one.label for one in clause.mentions if one.start >= match.end()]
        if not later or not earlier:
            found.update(later or earlier)
        else:
            found.update(later if match["before"] else [*earlier, *later])
    return found


def _affirmed(clause: _Clause) -> list[int]:
    denied = _denied(clause)
    return list(dict.fromkeys(one.label for one in clause.mentions if one.label not in denied))


@cache
def _cue() -> re.Pattern[str]:
    spaced = rf"(?<!\w)(?:{CUES})(?!\w)(?:[\s*_\"'(\[]+\w+){{0,3}}?[\s*_\"')\]]*(?:[:=]|(?<!\w)(?:{BE})(?!\w)|->)"
    bare = rf"(?<!\w)(?:{CUES})[\s*_]*$"
    unspaced = rf"(?:{CUES_ANYWHERE})[\s*_]*(?:[:=\uff1a]|是|为|為|は|은|는|คือ)?"
    boxed = r"\\boxed\{(?:\\text\{)?|<(?:answer|label|output)>"
    filler = r"[^\w]*(?:(?:the|a|an|option|choice|letter|der|die|das|le|la|el|il|o|a|option|вариант)\s+)?[^\w]*"
    return re.compile(rf"(?:{spaced}|{bare}|{unspaced}|{boxed}){filler}$")


def _cued(clause: _Clause) -> int | None:
    """Return the label that a clause gives as the answer; -1 if it gives several, None if it gives none."""
    if not clause.mentions or clause.asked:
        return None
    first = clause.mentions[0]
    is_cued = bool(_cue().search(clause.text[: first.start]))
    if not is_cued and not (clause.after_colon and _is_alone(clause) and _is_heading(clause)):
        return None
    if _has_alternative(clause):
        return -1
    found = _affirmed(clause)
    return found[0] if len(found) == 1 else -1


def _is_heading(clause: _Clause) -> bool:
    """Check whether the words before a colon may announce an answer, unlike the `B` of `B: paper`."""
    before = _CONTRAST.split(clause.text[: clause.start - 1])[-1]
    return len(bare_text(before.strip())) > 1 and len(before.split()) <= 12


@cache
def _alternatives() -> tuple[re.Pattern[str], re.Pattern[str]]:
    words = rf"(?:(?<!\w)(?:{OR})(?!\w)|{OR_ANYWHERE}|/|&)"
    return re.compile(rf"[^\w]*{words}"), re.compile(rf"{words}[^\w]*$")


def _has_alternative(clause: _Clause) -> bool:
    """Check whether the label of a clause is joined to another one, as in `A or B`."""
    named = {one.label for one in clause.mentions}
    rest = clause.text[clause.mentions[-1].end :]
    joined = _alternatives()[0].match(rest)
    return (len(named) > 1 and not _denied(clause)) or bool(joined and _ALTERNATIVE_END.match(rest[joined.end() :]))


_ALTERNATIVE_END = re.compile(r"\W*\w{1,2}\W*$")  # "A or E", where E isn't a label


def _is_alone(clause: _Clause) -> bool:
    if len(clause.mentions) != 1:
        return False
    (one,) = clause.mentions
    outside = clause.text[clause.start : one.start] + clause.text[one.end : clause.end]
    return not re.search(rf"[\w{combining_marks()}]", outside)


def _alone(clause: _Clause) -> int | None:
    """Return the label that is a clause of its own and isn't asked about, denied before, or part of a list."""
    if not _is_alone(clause) or clause.asked or clause.led_by_denial:
        return None
    before, after = clause.text[: clause.start], clause.text[clause.end :]
    if _alternatives()[1].search(before) or (after[:1] == ":" and re.search(r"\w", after)):
        return None  # "paper: 0.2" lists the labels
    return clause.mentions[0].label


@cache
def _predicate() -> re.Pattern[str]:
    subject = (
        "it|this|that|the \\w+(?: \\w+)?|i(?:'d| would)? (?:say|choose|pick|select|call)|dies|das|es|der \\w+|die \\w+|"
        "c'|ceci|cela|le \\w+|la \\w+|esto|este \\w+|el \\w+|questo|il \\w+|isto|o \\w+|это"
    )
    verb = "is|'s|seems|appears|looks|sounds|it's|ist|est|es|è|é|это|says?|would be|classified as|labell?ed as"
    filler = "(?:(?:a|an|the|clearly|likely|most|probably|very|rather|definitely|ein|eine|un|une|una|um|uma)\\s+){0,3}"
    return re.compile(
        rf"^\W*(?:\w+\W+){{0,1}}(?:{subject})\s*(?:{verb}|(?:say|choose|pick|select|call)(?: it)?)?\s+{filler}\W*$"
    )


def _predicated(clause: _Clause) -> int | None:
    """Return the label that a short statement such as "it is B" or "this is a B" gives."""
    if clause.asked or clause.led_by_denial or not clause.mentions:
        return None
    affirmed = _affirmed(clause)
    first = clause.mentions[0]
    if len(affirmed) != 1 or first.label != affirmed[0] or _denied(clause) or _has_alternative(clause):
        return None
    return first.label if _predicate().match(clause.text[clause.start : first.start]) else None


@lru_cache(maxsize=1_024)
def _language(text: str) -> str:
    return detect_language(text)


def _is_understood(clause: _Clause) -> bool:
    """Check whether denials in the language of a clause's sentence are known; a short one may be in any language."""
    outside = clause.text
    for one in reversed(clause.mentions):
        outside = f"{outside[: one.start]} {outside[one.end :]}"
    if not knows_denials(outside):
        return False
    if sum(map(str.isalpha, outside)) < MIN_LETTERS or not re.search("[a-z]", outside):
        return True
    code = _language(outside)
    return not code or code in LATIN_LANGUAGES or (not outside.isascii() and code in _OTHERS)


_OTHERS = frozenset(
    re.findall(
        r"\w+",
        "am ar be bg bn el fa gu he hi hy ja ka kk km kn ko ky lo mk ml mn mr my ne pa ps ru si ta te th uk ur zh",
    )
)
