"""Cut one long document into its chapters, so that a single handbook can be split like a folder of files."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from sizewise.records import Document
from sizewise.text import sentences_of

MIN_CHAPTERS = 8
"""Number of chapters that is enough: the coarsest level of headings with as many is taken."""
MIN_LENGTH = 6_000
"""Shorter documents, in characters, stay whole."""
MIN_CHAPTER, MAX_HEADING = 200, 120
"""A heading with less text after it, such as a line of a table of contents, starts no chapter."""
PIECE = 4_000
"""Length of the pieces of a text without headings, in characters."""
MAX_PIECES = 3
"""Pieces that are longer than so many are cut at lines or sentences instead of paragraphs."""
MAX_REPEATS = 3
"""A heading that occurs as often is a running header."""

_DIGITS = r"(?:\d{1,4}[a-zA-Z]?(?!\w)|[IVXLC]{1,7}(?!\w)|[A-Z](?!\w))"
_ORDINALS = (
    "erstes|zweites|drittes|viertes|fünftes|sechstes|siebtes|siebentes|achtes|neuntes|zehntes|elftes|zwölftes|"
    "erster|zweiter|dritter|vierter|fünfter|sechster|erste|zweite|dritte|vierte|fünfte|"
    "first|second|third|fourth|fifth|premier|première|deuxième|troisième|první|druhá|třetí|első|második|harmadik|"
    "primero|segundo|tercero|primo|secondo|terzo|первая|вторая|третья|ensimmäinen|toinen|kolmas"
)
_SPELLED = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|eins|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|"
    "un|deux|trois|quatre|cinq|uno|dos|tres|cuatro|cinco"
)
_WORDS = (
    "chapter|part|section|article|appendix|annex|kapitel|teil|abschnitt|artikel|anhang|anlage|chapitre|partie|titre|"
    "annexe|capítulo|capitulo|parte|sección|artículo|capitolo|sezione|articolo|hoofdstuk|deel|bijlage|luku|osa|liite|"
    "avsnitt|kapittel|rozdział|część|глава|раздел|часть|статья|приложение|розділ|κεφάλαιο|bölüm|bab|chương|अध्याय|"
    "kapitola|část|oddíl|příloha|fejezet|rész|melléklet|capitolul|secțiunea|anexa|poglavlje|odjeljak|поглавље|глава|"
    "skyrius|dalis|priedas|nodaļa|peatükk|भाग|अनुच्छेद|बाब|บทที่|ส่วนที่|หมวดที่|หมวด|الفصل|الباب|القسم|المادة|פרק"
)
_COARSE = "part|teil|partie|parte|deel|osa|część|часть|भाग|ส่วนที่|الباب"
_MARKDOWN = re.compile(r"(#{1,6})[ \t]+(\S.*?)[ \t]*#*")
_NAMED = re.compile(
    rf"(?:(?i:{_WORDS})[ \t.]*(?:{_DIGITS}|(?i:{_SPELLED})(?!\w))|"
    rf"(?:{_DIGITS}\.?|(?i:{_ORDINALS})(?!\w))[ \t]+(?i:{_WORDS})(?!\w)|"
    r"(?:الفصل|الباب|القسم|المادة|فصل|باب|פרק) \S+)(?:[ \t.:\u2013\u2014-].*)?"
)
_BARE = re.compile(rf"(?i:{_WORDS})[ \t.]*(?:{_DIGITS}|(?i:{_SPELLED}))[.:]?")
_COARSE_NAMED = re.compile(rf"(?:{_COARSE})(?!\w)", re.IGNORECASE)
_CJK_NUMBER = r"(?:\d{1,4}|[一二三四五六七八九十百千零〇两]{1,6})"
_CJK = re.compile(
    rf"第[ ]?{_CJK_NUMBER}[ ]?([编編篇部章節节條条回話话巻卷])(?:[^一-鿿\w].*|.*)|제\s?\d+\s?([편장절조]).*"
)
_PARAGRAPH = re.compile(r"(?:§{1,2}|Art\.?|Sec\.?)[ \t]?\d+[\w.\-]*.*")
_NUMBERED = re.compile(r"(\d{1,3}(?:\.\d{1,3}){0,4})\.?[ \t]+(\S.*)")
_ENDS_LIKE_TEXT = re.compile(r"[.;:,!。\uff1b\uff1a\uff0c、]$|\.{4,}|(?:\. ){3,}|…")
_FENCE = re.compile(r"(?:```|~~~)")
_CJK_LEVELS = {**dict.fromkeys("编編篇部巻卷편", 1), **dict.fromkeys("章回話话장", 2), **dict.fromkeys("節节절", 3)}


class Heading(NamedTuple):
    """A line that starts a chapter."""

    start: int
    """Offset of the line in the text."""
    level: int
    """1 for the coarsest."""
    title: str
    """Text of the heading."""


def chapters_of(document: Document, min_chapters: int = MIN_CHAPTERS) -> list[Document]:
    """Cut a document at its own headings; a long text without headings is cut at paragraphs.

    Headings are Markdown headings, lines such as `Chapter 3`, `§ 12`, `第三章` and `1.2 Title`, and lines underlined
    with `===` or `---`. Running headers and tables of contents start no chapter. The texts of the chapters, joined by
    blank lines, are the text of the document.

    Args:
        document: The document.
        min_chapters: Number of chapters that is enough; finer headings are used only if coarser ones are fewer.

    Returns:
        Documents `name#chapter` with the chapter's title, or the document alone if it is short.
    """
    if len(document.text) < MIN_LENGTH or min_chapters < 2:
        return [document]
    cuts = _cuts(document.text, min_chapters)
    if len(cuts) < 2:
        return [document]
    ends = [cut.start for cut in cuts[1:]] + [len(document.text)]
    seen: Counter[str] = Counter()
    found = []
    for cut, end in zip(cuts, ends, strict=True):
        text = document.text[cut.start : end].strip()
        if text:
            found.append(_chapter(document, cut.title or document.title, text, seen))
    return found


def _chapter(document: Document, title: str, text: str, seen: Counter[str]) -> Document:
    label = " ".join(title.split())[:80].strip()
    seen[label] += 1
    if seen[label] > 1:
        label = f"{label} ({seen[label]})"
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    update = {"id": f"{document.id}#{label}", "title": title, "text": text, "sha256": sha256}
    return document.model_copy(update=update)


def _cuts(text: str, min_chapters: int) -> list[Heading]:
    """Choose where to cut: the coarsest level of headings with enough chapters, else the finest, else by size."""
    headings = headings_of(text)
    best: list[Heading] = []
    for level in sorted({heading.level for heading in headings}):
        cuts = _with_enough_text(text, [heading for heading in headings if heading.level <= level])
        if len(cuts) > len(best):
            best = cuts
        if len(best) >= min_chapters:
            break
    if not best:
        return _by_size(text, min_chapters, 0)
    if len(best) >= min_chapters:
        return best
    cuts = []
    for cut, end in zip(best, [*(one.start for one in best[1:]), len(text)], strict=True):
        pieces = _by_size(text[cut.start : end], min_chapters, cut.start)
        cuts += [
            cut,
            *(piece._replace(title=f"{cut.title} {number}") for number, piece in enumerate(pieces[1:], start=2)),
        ]
    return cuts


def headings_of(text: str) -> list[Heading]:
    """Find the headings of a text, without running headers."""
    found: list[Heading] = []
    lines = text.split("\n")
    offset, fenced = 0, False
    for number, line in enumerate(lines):
        fenced ^= bool(_FENCE.match(line.strip()))
        below = lines[number + 1] if number + 1 < len(lines) else ""
        alone = (number == 0 or not lines[number - 1].strip()) and not below.strip()
        heading = None if fenced or len(line) > 3 * MAX_HEADING else _heading(line.strip(), alone, below.strip())
        if heading:
            found.append(Heading(offset, *heading))
        offset += len(line) + 1
    return _without_running_headers(text, found)


def _without_running_headers(text: str, headings: list[Heading]) -> list[Heading]:
    """Keep one occurrence of a line that recurs in a table of contents or as a running header."""
    ends = [heading.start for heading in headings[1:]] + [len(text)]
    long = [end - heading.start >= MIN_CHAPTER for heading, end in zip(headings, ends, strict=False)]
    repeats = Counter(_form(heading.title) for heading in headings)
    with_text = Counter(_form(heading.title) for heading, one in zip(headings, long, strict=True) if one)
    kept, seen = [], set()
    for heading, is_long in zip(headings, long, strict=True):
        form = _form(heading.title)
        if repeats[form] > 1 and not text.startswith("#", heading.start):
            if not is_long and with_text[form]:
                continue
            if repeats[form] >= MAX_REPEATS and form in seen:
                continue
        seen.add(form)
        kept.append(heading)
    return kept


def _heading(line: str, alone: bool, below: str) -> tuple[int, str] | None:
    """Return level and title if a line is a heading."""
    if not line:
        return None
    markdown = _MARKDOWN.fullmatch(line)
    if markdown:
        return len(markdown[1]), markdown[2]
    if len(line) > MAX_HEADING:
        return None
    if len(below) >= 3 and set(below) <= {"="}:
        return 1, line
    if len(below) >= 3 and set(below) <= {"-"} and "|" not in line:
        return 2, line
    return _numbered_heading(line.strip("*_ "), alone)


def _numbered_heading(line: str, alone: bool) -> tuple[int, str] | None:
    cjk = _CJK.fullmatch(line)
    if cjk and len(line) <= MAX_HEADING // 2 and not line.endswith(("。", "\uff0c", "、")):
        return _CJK_LEVELS.get(cjk[1] or cjk[2], 4), line
    if not alone or (_ENDS_LIKE_TEXT.search(line) and not _BARE.fullmatch(line)):
        return None
    if _NAMED.fullmatch(line):
        return (1 if _COARSE_NAMED.match(line) else 2), line
    if _PARAGRAPH.fullmatch(line):
        return 4, line
    numbered = _NUMBERED.fullmatch(line)
    if numbered and (numbered[2][0].isupper() or not numbered[2][0].isascii()):
        return 2 + numbered[1].count("."), line
    return None


def _form(title: str) -> str:
    return " ".join(title.split()).casefold()


def _with_enough_text(text: str, headings: Sequence[Heading]) -> list[Heading]:
    """Join chapters with hardly any text, such as lines of a table of contents, with what follows."""
    kept: list[Heading] = []
    for heading in headings:
        if kept and heading.start - kept[-1].start < MIN_CHAPTER:
            above = kept[-1]
            title = f"{above.title}: {heading.title}" if heading.level > above.level else heading.title
            kept[-1] = Heading(above.start, min(above.level, heading.level), title)
        else:
            kept.append(heading)
    if len(kept) > 1 and len(text) - kept[-1].start < MIN_CHAPTER:
        kept.pop()
    if not kept:
        return []
    if kept[0].start >= MIN_CHAPTER:
        return [Heading(0, 1, ""), *kept]
    return [kept[0]._replace(start=0), *kept[1:]]


def _by_size(text: str, min_chapters: int, offset: int) -> list[Heading]:
    """Cut a text into pieces of about equal length: at paragraphs, else at lines, else at sentences."""
    length = max(PIECE // 4, min(PIECE, len(text) // min_chapters))
    for ends in (_paragraph_ends, _line_ends, _sentence_ends):
        starts = [0]
        for end in ends(text):
            if end - starts[-1] >= length and len(text) - end >= length // 2:
                starts.append(end)
        if max(end - start for start, end in pairwise([*starts, len(text)])) <= MAX_PIECES * length:
            break
    return [Heading(offset + start, 9, f"{number}") for number, start in enumerate(starts, start=1)]


def _paragraph_ends(text: str) -> Iterator[int]:
    yield from (match.end() for match in re.finditer(r"\n\n+(?=\S)", text))


def _line_ends(text: str) -> Iterator[int]:
    yield from (match.end() for match in re.finditer(r"\n+(?=\S)", text))


def _sentence_ends(text: str) -> Iterator[int]:
    """Yield where sentences end in any script; the sentences are found again in the text in their order."""
    end = 0
    for sentence in sentences_of(text):
        start = text.find(sentence, end)
        if start > end:
            yield start
        if start >= 0:
            end = start + len(sentence)
            yield end
