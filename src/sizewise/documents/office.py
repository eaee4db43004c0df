"""Convert office files and e-books to Markdown: DOCX, PPTX, XLSX, ODT, RTF, EPUB and notebooks."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from sizewise.documents.containers import check_container
from sizewise.documents.html_marks import keep_marks
from sizewise.documents.html_pages import OPTIONS, markdown_of
from sizewise.documents.licenses import license_name
from sizewise.documents.parts import CannotConvert, Conversion, Part, markdown_table

MAX_CELLS = 5_000_000
_SLIDE = re.compile(r"<!-- Slide number: \d+ -->\n?")
_PICTURE = re.compile(r"^!\[\]\([^)\n]*\)[ \t]*$", re.MULTILINE)
_METADATA = re.compile(r"\*\*([A-Z][a-z]+):\*\* (.*)")
HIDDEN = "hidden passages left out of Word files"
_DOCX_TEXT = re.compile(r"word/(?:document\d*|footnotes|endnotes)\.xml")
_MOVED_AWAY = re.compile(rb"<w:moveFrom(?=[ >])[^>]*(?<!/)>.*?</w:moveFrom>", re.DOTALL)
_WRAPPER = re.compile(rb"</?w:(?:moveTo|fldSimple|customXml|smartTag)(?=[ />])[^>]*>")
_RUN = re.compile(rb"<w:r(?=[ >])[^>]*(?<!/)>(?:(?!<w:r[ >])(?!</w:r>).)*</w:r>", re.DOTALL)
_VANISH = re.compile(rb"<w:vanish(?:\s*/>|\s+w:val=\"(?:1|true|on)\")")
_CODE_PAGE = re.compile(rb"\\ansicpg(\d{3,5})")


def _markitdown(name: str, data: bytes, kind: str) -> str:
    """Convert with one of markitdown's converters."""
    from markitdown import StreamInfo, converters

    convert = getattr(converters, name)().convert
    return str(convert(io.BytesIO(data), StreamInfo(extension=kind), **OPTIONS).markdown)


def _from_container(name: str, data: bytes, kind: str) -> str:
    check_container(io.BytesIO(data))
    return _markitdown(name, data, kind)


def convert_docx(data: bytes) -> Conversion:
    """Convert a DOCX file; headings, lists and tables become Markdown, and hidden text is left out."""
    from bs4 import BeautifulSoup
    from markitdown.converter_utils.docx.pre_process import pre_process_docx

    check_container(io.BytesIO(data))
    mammoth: Any = import_module("mammoth")  # comes with markitdown[docx]
    found = Conversion()
    visible = pre_process_docx(io.BytesIO(_visible_docx(data, found)))
    soup = BeautifulSoup(mammoth.convert_to_html(visible).value, "html.parser")
    keep_marks(soup)
    found.parts.append(Part(markdown_of(str(soup), found)))
    return found


def _visible_docx(data: bytes, found: Conversion) -> bytes:
    """Return a DOCX file without hidden text, and with the text of fields, custom elements and moves in its place."""
    result = io.BytesIO()

    def visible(match: re.Match[bytes]) -> bytes:
        hidden = _VANISH.search(match[0]) is not None
        found.removed[HIDDEN] += hidden
        return b"" if hidden else match[0]

    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(result, "w") as changed:
        for member in archive.infolist():
            content = archive.read(member)
            if _DOCX_TEXT.fullmatch(member.filename):
                content = _RUN.sub(visible, _WRAPPER.sub(b"", _MOVED_AWAY.sub(b"", content)))
            changed.writestr(member, content)
    return result.getvalue()


def convert_pptx(data: bytes) -> Conversion:
    """Convert a PPTX file; the title of each slide becomes a heading, and notes follow their slide."""
    text = _from_container("PptxConverter", data, ".pptx")
    return Conversion([Part(_PICTURE.sub("", _SLIDE.sub("", text)))])


def convert_epub(data: bytes) -> Conversion:
    """Convert an EPUB file; its title, language and license are metadata."""
    head, _, text = _from_container("EpubConverter", data, ".epub").partition("\n\n")
    stated = dict(_METADATA.findall(head))
    if not stated:
        return Conversion([Part(f"{head}\n\n{text}")])
    part = Part(text, title=stated.get("Title", ""), license=license_name(stated.get("Rights", "")))
    part.language = stated.get("Language", "")[:2].lower()
    return Conversion([part])


def convert_ipynb(data: bytes) -> Conversion:
    """Convert a Jupyter notebook: its texts, and its code in code blocks."""
    return Conversion([Part(_markitdown("IpynbConverter", data, ".ipynb"))])


def convert_xlsx(data: bytes) -> Conversion:
    """Convert a workbook: a heading and a table for each sheet that isn't empty."""
    from openpyxl import load_workbook

    check_container(io.BytesIO(data))
    workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    sheets, cells = [], 0
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # a wrong dimension would hide rows, or pad them without limit
        rows = []
        for values in sheet.iter_rows(values_only=True):
            cells += len(values) + 1
            if cells > MAX_CELLS:
                raise CannotConvert(f"has more than {MAX_CELLS:,} cells; save it as CSV")
            rows.append([_cell(value) for value in values])
        table = markdown_table(rows)
        if table:
            sheets.append(f"## {sheet.title}\n\n{table}")
    return Conversion([Part("\n\n".join(sheets))])


def _cell(value: object) -> str:
    """Format the value of a cell."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time.min:
        return value.date().isoformat()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    return f"{value}"


def convert_rtf(data: bytes) -> Conversion:
    """Convert an RTF file to plain text; pictures and styles are left out."""
    from striprtf.striprtf import rtf_to_text

    if not data.lstrip().startswith(b"{\\rtf"):
        raise CannotConvert("not an RTF file")
    page = _CODE_PAGE.search(data[:4096])
    encoding = f"cp{page[1].decode()}" if page else "cp1252"
    return Conversion([Part(str(rtf_to_text(data.decode("latin-1"), encoding=encoding, errors="replace")))])


OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_SKIPPED = {OFFICE + "annotation", TEXT + "tracked-changes", TEXT + "sequence-decls", TEXT + "bookmark-start"}
MAX_REPEAT = 100


def convert_odt(data: bytes) -> Conversion:
    """Convert an ODT file; headings, lists and tables become Markdown."""
    from defusedxml.ElementTree import fromstring

    check_container(io.BytesIO(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if "content.xml" not in archive.namelist():
            raise CannotConvert("not an OpenDocument file (no content.xml)")
        root = fromstring(archive.read("content.xml"))
    body = root.find(f"{OFFICE}body/{OFFICE}text")
    if body is None:
        raise CannotConvert("an OpenDocument file without text")
    return Conversion([Part("\n\n".join(filter(None, _odt_blocks(body))))])


def _odt_blocks(parent: Any) -> Iterator[str]:
    for element in parent:
        if element.tag == TEXT + "h":
            level = element.get(TEXT + "outline-level") or "1"
            yield f"{'#' * min(6, int(level) if level.isdigit() else 1)} {_odt_text(element).strip()}"
        elif element.tag == TEXT + "p":
            yield _odt_text(element).strip()
        elif element.tag == TEXT + "list":
            yield "\n".join(_odt_list(element, 0))
        elif element.tag == TABLE + "table":
            rows = [[_odt_text(cell).strip() for cell in _odt_cells(row)] for row in element.iter(TABLE + "table-row")]
            yield markdown_table(rows)
        elif element.tag not in _SKIPPED:
            yield from _odt_blocks(element)


def _odt_list(element: Any, depth: int) -> Iterator[str]:
    for item in element:
        for child in item:
            if child.tag == TEXT + "list":
                yield from _odt_list(child, depth + 1)
            else:
                text = _odt_text(child).strip()
                if text:
                    yield f"{'  ' * depth}- {text}"


def _odt_cells(row: Any) -> Iterator[Any]:
    for cell in row:
        if cell.tag in (TABLE + "table-cell", TABLE + "covered-table-cell"):
            repeat = cell.get(TABLE + "number-columns-repeated") or "1"
            for _ in range(min(MAX_REPEAT, int(repeat) if repeat.isdigit() else 1)):
                yield cell


def _odt_text(element: Any) -> str:
    """Return the text of a paragraph, with its spaces, tabs and line breaks."""
    parts = [element.text or ""]
    for child in element:
        if child.tag == TEXT + "s":
            count = child.get(TEXT + "c") or "1"
            parts.append(" " * min(MAX_REPEAT, int(count) if count.isdigit() else 1))
        elif child.tag in (TEXT + "tab", TEXT + "line-break"):
            parts.append("\t" if child.tag == TEXT + "tab" else "\n")
        elif child.tag not in _SKIPPED:
            parts.append(_odt_text(child))
            parts.append("\n" if child.tag == TEXT + "p" else "")
        parts.append(child.tail or "")
    return "".join(parts)
