"""Find lines that recur on most pages of a site, such as menus and footers that no tag marks as such."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sizewise.documents.cleaning import clean_text
from sizewise.documents.converting import Converters
from sizewise.documents.parts import CannotConvert

KINDS = (".html", ".htm", ".xhtml")
MIN_PAGES, SAMPLE = 5, 12
"""Pages of a site, at least, and pages that are compared."""
MIN_SHARE = 0.6
EDGE = 30
"""Lines at the beginning and the end of a page in which a recurring line is left out."""
RECURRING = "lines that recur on most pages of a site left out"
_STRUCTURE = re.compile(r"(?:#|```|\||[-=*_ ]*$)")  # headings, code, tables and rules, which may recur for good reason


class Sites:
    """Knows which lines recur in each folder, or on each host, of web pages.

    Args:
        files: (path, name) of all files.
        origins: Path of a temporary file -> the address that it is from.
        converters: The processes that convert pages.
    """

    def __init__(self, files: Sequence[tuple[Path, str]], origins: Mapping[str, str], converters: Converters) -> None:
        self._origins, self._converters = origins, converters
        self._pages: defaultdict[str, list[Path]] = defaultdict(list)
        self._recurring: dict[str, frozenset[str]] = {}
        for path, _ in files:
            if path.suffix.lower() in KINDS:
                self._pages[self._site(path)].append(path)

    def recurring(self, path: Path) -> frozenset[str]:
        """Return the lines that recur on most pages of the site that a page belongs to."""
        if path.suffix.lower() not in KINDS:
            return frozenset()
        site = self._site(path)
        if site not in self._recurring:
            self._recurring[site] = self._compare(self._pages[site])
        return self._recurring[site]

    def _site(self, path: Path) -> str:
        origin = self._origins.get(str(path), "")
        if origin.startswith(("http://", "https://")):
            return urlsplit(origin).netloc
        return str(Path(origin or path).parent)

    def _compare(self, pages: Sequence[Path]) -> frozenset[str]:
        if len(pages) < MIN_PAGES:
            return frozenset()
        counts: Counter[str] = Counter()
        compared = 0
        for number in range(min(SAMPLE, len(pages))):
            try:
                found = self._converters.convert_again(pages[number * len(pages) // min(SAMPLE, len(pages))])
            except CannotConvert:
                continue
            compared += 1
            lines = clean_text("\n".join(part.text for part in found.parts)).splitlines()
            counts.update({line.strip() for line in lines[:EDGE] + lines[-EDGE:] if not _STRUCTURE.match(line.strip())})
        if compared < MIN_PAGES:
            return frozenset()
        return frozenset(line for line, count in counts.items() if count >= MIN_SHARE * compared)


def without_recurring(text: str, recurring: frozenset[str]) -> tuple[str, int]:
    """Leave recurring lines out at the beginning and the end of a page; return the text and their number.

    A page on which nothing else is left stays as it is.
    """
    lines = text.splitlines()
    kept = [
        line
        for number, line in enumerate(lines)
        if not (line.strip() in recurring and (number < EDGE or number >= len(lines) - EDGE))
    ]
    return ("\n".join(kept), len(lines) - len(kept)) if any(map(str.strip, kept)) else (text, 0)
