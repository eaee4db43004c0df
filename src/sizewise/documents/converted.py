"""Turn converted files into documents: cleaned, with title, license, language and time as far as they are stated."""

from __future__ import annotations

from pathlib import Path

from sizewise.documents.cleaning import clean_counted, clean_text, unmapped_share, without_unmapped
from sizewise.documents.contents_lists import CONTENTS, without_contents
from sizewise.documents.converting import Converters
from sizewise.documents.decoding import Unreadable, check_size
from sizewise.documents.licenses import folder_license, stated_license
from sizewise.documents.parts import CannotConvert, Conversion
from sizewise.documents.reading import FileRead, make_document
from sizewise.documents.sites import RECURRING, without_recurring

MAX_UNMAPPED = 0.1  # share of a PDF's letters


def read_converted(path: Path, name: str, converters: Converters, recurring: frozenset[str] = frozenset()) -> FileRead:
    """Read a file that a worker process converts.

    Args:
        path: The file.
        name: Its name in the dataset.
        converters: The processes.
        recurring: Lines that recur on most pages of its site, and are left out.

    Raises:
        Unreadable: The file cannot be converted, or has no text.
    """
    kind = path.suffix.lower()
    check_size(path)
    try:
        conversion = converters.convert(path)
    except CannotConvert as error:
        raise Unreadable(f"{kind}, {error}") from error
    if not any(part.text.strip() for part in conversion.parts):
        raise Unreadable(
            f"{kind}, no text (scanned pages? The extra [ocr] reads them)" if kind == ".pdf" else f"{kind}, no text"
        )
    unmapped = 0.0
    if kind == ".pdf":
        text = "\n".join(part.text for part in conversion.parts)
        unmapped = unmapped_share(text)
        if unmapped > MAX_UNMAPPED:
            raise Unreadable(f"{kind}, its fonts don't map to Unicode (cid:NN), so it needs OCR")
    if unmapped:
        for part in conversion.parts:
            part.text = without_unmapped(part.text)
    if recurring:
        for part in conversion.parts:
            part.text, left_out = without_recurring(clean_text(part.text), recurring)
            conversion.removed[RECURRING] += left_out
    read = documents_of(conversion, path, name)
    if unmapped:
        read.notes.append(
            f"{name}: {unmapped:.1%} of the characters were dropped or replaced by U+FFFD, because the fonts don't map "
            "them to Unicode"
        )
    return read


def documents_of(conversion: Conversion, path: Path, name: str) -> FileRead:
    """Create a document for each text of a file.

    Raises:
        Unreadable: No text is left after cleaning.
    """
    read = FileRead(removed=conversion.removed, notes=[f"{name}: {remark}" for remark in conversion.remarks])
    license = folder_license(path.parent)
    for part in conversion.parts:
        text, left_out = without_contents(clean_counted(part.text, read.removed))
        read.removed[CONTENTS] += left_out
        if not text:
            continue
        document = make_document(
            f"{name}#{part.name}" if part.name else name,
            part.title or path.stem,
            text,
            str(path),
            part.license or stated_license(text) or license or "not stated",
        )
        if part.language or part.time:
            document = document.model_copy(update={"language": part.language, "time": part.time})
        read.documents.append(document)
    if not read.documents:
        raise Unreadable("empty")
    if len(read.documents) < len(conversion.parts):
        read.removed["texts without words"] += len(conversion.parts) - len(read.documents)
    return read
