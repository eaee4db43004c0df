from __future__ import annotations

import pytest

from sizewise.documents import clean_text
from sizewise.documents.cleaning import unmapped_share, without_unmapped


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x85", "\x1c", "\x1d", "\x1e", "\u2028", "\u2029", "\r", "\r\n"])
def test_line_and_page_separators_become_line_breaks(mark: str) -> None:
    assert clean_text(f"Harbor Office{mark}Pier 3") == "Harbor Office\nPier 3"


def test_zero_width_spaces_are_kept_in_scripts_without_spaces_only() -> None:
    assert clean_text("ភាសា\u200bខ្មែរ") == "ភាសា\u200bខ្មែរ"
    assert clean_text("ภาษา\u200bไทย") == "ภาษา\u200bไทย"
    assert clean_text("with\u200bout") == "without"


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"Turn it. ![A dial](data:image/png;base64,{PNG}) Wait.", "Turn it. A dial Wait."),
        ("Turn it. ![](data:image/png;base64...) Wait.", "Turn it.  Wait."),
        ("![a ![b](data:image/gif;base64,R0)](data:image/gif;base64,R0)", "a b"),
        ("![x](data:image/svg+xml,%3Csvg%20a='1'%3E)", "x"),
        (f"See ![][image1].\n\n[image1]: <data:image/png;base64,{PNG}>\n\nThe end.", "See ![][image1].\n\nThe end."),
        (f"<p>Look <img width=3 alt='A dial' src=\"data:image/png;base64,{PNG}\"/></p>", "<p>Look A dial</p>"),
        (f"url(data:font/woff2;charset=utf-8;base64,{PNG})", "url()"),
        ("A picture is `data:image/png;base64,iVBO`; ![a dial](dial.png)", None),
    ],
)
def test_embedded_images_are_replaced_by_their_alternative_text(text: str, kept: str | None) -> None:
    assert clean_text(text) == (text if kept is None else kept)
    assert clean_text(clean_text(text)) == clean_text(text)


def test_characters_without_unicode_are_counted_and_dropped() -> None:
    assert unmapped_share("(cid:12)(cid:7) (cid:9)") == 1
    assert unmapped_share("\uf0b7 one two three, 7") == pytest.approx(1 / 13)
    assert unmapped_share("The sign (CID) means nothing.") == 0
    assert without_unmapped("(cid:127) one\n\uf0b7(cid:3)\ttwo con(cid:12)dent") == "one\ntwo con\ufffddent"
