"""Convert HTML to Markdown, without navigation, footers and cookie banners."""

from __future__ import annotations

import codecs
import io
import re
from typing import Any

from sizewise.documents.decoding import Unreadable, decode
from sizewise.documents.html_marks import keep_marks
from sizewise.documents.licenses import license_name
from sizewise.documents.parts import CannotConvert, Conversion, Part

NAVIGATION = "navigation, footers and cookie banners left out of web pages"
FLATTENED = "nested too deeply, so read without headings, lists and tables"
OPTIONS = {"escape_underscores": False, "escape_asterisks": False}
"""Text is for a model, not for a Markdown renderer: `snake_case` keeps its spelling."""
MIN_KEPT = 0.2
"""Share of the words that must be left after removing navigation; else the page is kept as it is."""
_DECLARED = re.compile(
    rb"<(?:meta\b[^>]{0,200}?\bcharset|\?xml\b[^>]{0,100}?\bencoding)\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE
)
_PROLOG = re.compile(r"\A\s*<\?xml[^>]*>")
_BANNER = re.compile(r"(?:^|[-_ ])(?:cookie|consent|gdpr|dsgvo|onetrust|cookiebot)", re.IGNORECASE)
_STATEFUL = ("iso-2022-jp", "iso-2022-kr", "hz-gb-2312", "hz")


def decode_html(data: bytes) -> str:
    """Decode a page: by its byte order mark, as UTF-8 if it is valid UTF-8, or as it declares itself.

    Raises:
        CannotConvert: None of them fits.
    """
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            return data.decode(name, "replace").removeprefix("\ufeff")
    match = _DECLARED.search(data[:4096])
    declared = match[1].decode("ascii").lower() if match else ""
    names = [declared] if declared in _STATEFUL else ["utf-8", declared]
    names = [
        {"iso-8859-1": "cp1252", "latin1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}.get(n, n) for n in names
    ]
    for name in filter(None, names):
        try:
            return data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    try:
        return decode(data).text
    except Unreadable as error:
        stated = f", and not {declared}" if declared else ", and it declares no encoding"
        raise CannotConvert(f"{error}{stated}") from error


def convert_html(data: bytes) -> Conversion:
    """Convert a web page."""
    if b"\0" in data[:4096] and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CannotConvert("binary, not HTML")
    return convert_page(decode_html(data))


def convert_page(page: str) -> Conversion:
    """Convert a decoded web page."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(_PROLOG.sub("", page), "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    root = soup.find("html")
    language = str(root.get("lang") or root.get("xml:lang") or "") if root is not None else ""
    found = Conversion()
    license = _license(soup)
    found.removed[NAVIGATION] = _without_navigation(soup)
    keep_marks(soup)
    body = soup.find("body") or soup
    found.parts.append(Part(markdown_of(str(body), found), title=title, license=license, language=language[:2].lower()))
    return found


def markdown_of(html: str, found: Conversion) -> str:
    """Convert HTML to Markdown; a page that is nested too deeply becomes plain text, with a remark."""
    from markitdown import StreamInfo
    from markitdown.converters import HtmlConverter

    info = StreamInfo(mimetype="text/html", extension=".html", charset="utf-8")
    data = html.encode("utf-8", "surrogatepass")
    try:
        return str(HtmlConverter().convert(io.BytesIO(data), info, strict=True, **OPTIONS).markdown)
    except RecursionError:
        from bs4 import BeautifulSoup

        found.remarks.append(FLATTENED)
        return BeautifulSoup(html, "html.parser").get_text("\n", strip=True)


def _without_navigation(soup: Any) -> int:
    """Remove navigation, page footers and cookie banners, unless hardly anything would be left."""
    for element in soup(["script", "style", "noscript", "template", "svg"]):
        element.extract()
    boilerplate = [
        element
        for element in soup.find_all(True)
        if element.name == "nav"
        or element.get("role") in ("navigation", "contentinfo")
        or (element.name == "footer" and element.find_parent(["article", "section", "main", "blockquote"]) is None)
        or (element.name in ("div", "section", "aside", "dialog", "form") and _BANNER.search(_names(element)))
    ]
    total = len(soup.get_text().split())
    removed = sum(len(element.get_text().split()) for element in boilerplate if not _inside(element, boilerplate))
    if not boilerplate or total - removed < MIN_KEPT * total:
        return 0
    for element in boilerplate:
        element.extract()
    return len(boilerplate)


def _inside(element: Any, others: list[Any]) -> bool:
    return any(parent is other for parent in element.parents for other in others)


def _names(element: Any) -> str:
    classes = element.get("class") or []
    return " ".join([str(element.get("id") or ""), *([classes] if isinstance(classes, str) else classes)])


def _license(soup: Any) -> str:
    """Return the license that a page links or states in its head, empty if none."""
    for element in soup.find_all(["link", "a"]):
        if "license" in (element.get("rel") or []):
            return (
                license_name(str(element.get("href") or ""))
                or license_name(element.get_text())
                or str(element.get("href") or "")
            )
    for element in soup.find_all("meta"):
        name = str(element.get("name") or element.get("property") or "").lower()
        if name in ("license", "dcterms.license", "dc.rights", "dcterms.rights", "dc.license"):
            content = str(element.get("content") or "").strip()
            return license_name(content) or content[:100]
    return ""
