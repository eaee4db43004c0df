"""Count languages, personal data and origins of documents and examples while they stream by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from sizewise.documents import personal_data
from sizewise.errors import install_command
from sizewise.records import Document, Example
from sizewise.text import detect_language

MAX_CHECKED = 50_000
"""Characters of each text in which places that look like personal data are looked for."""

MAX_COMPARED = 5_000
"""Examples whose prompt and reference are compared by language."""


class Inventory:
    """Counts what a dataset is made of; each document costs about a millisecond, whatever its length.

    Attributes:
        languages: ISO 639-1 code, or `unknown` -> number of documents and examples.
        personal_data: Kind -> number of documents and examples that hold some; a lower bound, see `kinds_at_a_glance`.
        origins: File type, host or package -> number of documents.
        licenses: License -> number of documents.
    """

    def __init__(self) -> None:
        self.languages: Counter[str] = Counter()
        self.personal_data: Counter[str] = Counter()
        self.origins: Counter[str] = Counter()
        self.licenses: Counter[str] = Counter()
        self._items = self._personal = self._compared = 0
        self._mixed: Counter[str] = Counter()
        self._finds = personal_data.can_find()

    def add(self, item: Document | Example) -> None:
        """Count a document or example."""
        if isinstance(item, Document):
            text = item.text
            self.origins[origin_kind(item.origin)] += 1
            self.licenses[item.license] += 1
            language = item.language
        else:
            text = "\n\n".join(personal_data.texts_of(item))
            language = ""
            self._compare_languages(item)
        self._items += 1
        self.languages[language or detect_language(text) or "unknown"] += 1
        kinds: set[str] = set()
        if self._finds:
            kinds = personal_data.kinds_at_a_glance(text[:MAX_CHECKED])
            kinds |= personal_data.kinds_at_a_glance("\n".join(personal_data.other_fields(item))[:MAX_CHECKED])
        self.personal_data.update(kinds)
        self._personal += bool(kinds)

    def _compare_languages(self, example: Example) -> None:
        """Count the first examples whose reference is in another language than the prompt."""
        if not example.references or self._compared >= MAX_COMPARED:
            return
        self._compared += 1
        asked, answered = detect_language(example.prompt), detect_language(example.references[0])
        if asked and answered and asked != answered:
            self._mixed[f"{asked} to {answered}"] += 1

    def counts(self) -> dict[str, Any]:
        """Return the counts by the names of the fields of a `Dataset`."""
        counted = ("languages", "personal_data", "origins", "licenses")
        return {name: dict(getattr(self, name)) for name in counted}

    def notes(self, choice: personal_data.PersonalDataChoice = "keep") -> Iterator[str]:
        """Yield what a reader of the dataset should know, for data whose personal data is kept."""
        if self._mixed:
            pairs = ", ".join(f"{pair} {count:,}" for pair, count in self._mixed.most_common(3))
            yield (
                f"{self._mixed.total():,} of the first {self._compared:,} examples have a reference answer in another "
                f"language than the prompt ({pairs})"
            )
        if choice == "keep" and not self._finds:
            yield f"Personal data was not looked for: that needs {install_command('guard')}"
        elif choice == "keep" and self._personal:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.personal_data.items()))
            yield (
                f"At least {self._personal:,} of {self._items:,} documents and examples hold personal data ({kinds}), "
                "and a model that is trained on them may repeat it. --personal-data mask replaces it, "
                "--personal-data drop leaves them out."
            )


def origin_kind(origin: str) -> str:
    """Return the host of an address, the extension of a file, or the name of a package."""
    if origin.startswith(("http://", "https://")):
        return urlsplit(origin).hostname or origin
    name = origin.rpartition("/")[2]
    return PurePosixPath(name).suffix.lower() or origin
