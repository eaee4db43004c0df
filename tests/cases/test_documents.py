"""Documents whose bytes are not what they seem."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.cases.conftest import ReadIn
from tests.documents.test_converting import DOCX_RELATIONS, DOCX_TYPES

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e366"
    "0000000049454e44ae426082"
)


# markitdown PR#2513, ai-parrot PR#812
@pytest.mark.parametrize("separator", ["\v", "\f", "\x85", "\x1c", "\u2028", "\u2029"], ids=ascii)
def test_words_on_both_sides_of_a_separator_stay_two_words(tmp_path: Path, read_in: ReadIn, separator: str) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    for i in range(4):
        lines = [f"Customs shed {i}", "Quay twelve", f"Bring form {i} along"]
        (folder / f"letter{i}.txt").write_text(separator.join(lines), encoding="utf-8")
    read = read_in(folder)
    assert len(read.documents) == 4
    assert "twelveBring" not in read.text
    assert read.text.split().count("Quay") == 4


# markitdown#1290
def _pdf_of_glyphs(path: Path, lines: list[str]) -> None:
    """Write a PDF whose font doesn't map glyphs to Unicode (no ToUnicode table)."""
    shown = " ".join("<" + "".join(f"{ord(letter) - 20:04x}" for letter in line) + "> Tj T*" for line in lines)
    stream = f"BT /F1 11 Tf 13 TL 60 760 Td {shown} ET"
    font = "/Subtype /CIDFontType2 /BaseFont /BBBBBB+Yard /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity)"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type0 /BaseFont /BBBBBB+Yard /Encoding /Identity-H /DescendantFonts [6 0 R] >>",
        f"<< /Type /Font {font} /Supplement 0 >> /DW 550 /FontDescriptor 7 0 R >>",
        "<< /Type /FontDescriptor /FontName /BBBBBB+Yard /Flags 4 /FontBBox [0 -200 1000 800] /ItalicAngle 0 "
        "/Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>",
    ]
    body, places = b"%PDF-1.5\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{p:010d} 00000 n \n" for p in places)
    end = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    path.write_bytes(body + table.encode() + end.encode())


def test_a_pdf_without_letters_is_no_text_and_is_named(tmp_path: Path, read_in: ReadIn) -> None:
    pytest.importorskip("markitdown")
    folder = tmp_path / "plans"
    folder.mkdir()
    _pdf_of_glyphs(
        folder / "drawing.pdf", ["The pump of basin 3", "runs on Mondays only.", "Its key is with Mr. Oduya."]
    )
    for i in range(5):
        (folder / f"basin{i}.txt").write_text(f"Basin {i} is cleaned in week {i * 4 + 2} of the year.\n", "utf-8")
    read = read_in(folder)
    assert "(cid:" not in read.text
    assert "drawing.pdf" in read.said


# markitdown#1222, #162, #51
def _docx_with_picture(path: Path, before: str, after: str) -> None:
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    drawing = "http://schemas.openxmlformats.org/drawingml/2006"
    names = (
        f'xmlns:w="{word}" xmlns:r="{office}" xmlns:wp="{drawing}/wordprocessingDrawing" xmlns:a="{drawing}/main" '
        f'xmlns:pic="{drawing}/picture"'
    )
    picture = (
        '<w:p><w:r><w:drawing><wp:inline><wp:extent cx="5" cy="5"/><wp:docPr id="4" name="photo"/><a:graphic>'
        f'<a:graphicData uri="{drawing}/picture"><pic:pic><pic:nvPicPr><pic:cNvPr id="4" name="photo"/>'
        '<pic:cNvPicPr/></pic:nvPicPr><pic:blipFill><a:blip r:embed="r7"/></pic:blipFill><pic:spPr/></pic:pic>'
        "</a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>"
    )
    texts = [f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in (before, after)]
    target = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r7" Type="{office}/image" Target="media/photo.png"/></Relationships>'
    )
    types = DOCX_TYPES.replace("</Types>", '<Default Extension="png" ContentType="image/png"/></Types>')
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", types)
        file.writestr("_rels/.rels", DOCX_RELATIONS)
        file.writestr("word/_rels/document.xml.rels", target)
        file.writestr("word/document.xml", f"<w:document {names}><w:body>{picture.join(texts)}</w:body></w:document>")
        file.writestr("word/media/photo.png", PICTURE)


@pytest.mark.parametrize("kind", ["docx", "html"])
def test_a_picture_leaves_no_data_in_the_text(tmp_path: Path, read_in: ReadIn, kind: str) -> None:
    pytest.importorskip("markitdown")
    folder = tmp_path / "manual"
    folder.mkdir()
    for i in range(4):
        before, after = f"Loosen the nut of pump {i}.", f"Then let {i + 2} litres run off."
        if kind == "docx":
            _docx_with_picture(folder / f"pump{i}.docx", before, after)
        else:
            source = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
            page = f'<html><body><p>{before}</p><img alt="nut" src="{source}"><p>{after}</p></body></html>'
            (folder / f"pump{i}.html").write_text(page, encoding="utf-8")
    read = read_in(folder)
    assert len(read.documents) == 4
    assert all("Loosen the nut" in d.text and "litres run off" in d.text for d in read.documents)
    assert "data:image" not in read.text
    assert "base64" not in read.text


# markitdown PR#2104, PR#2466, #1505, #1949
def test_pages_are_read_in_their_own_encoding(tmp_path: Path, read_in: ReadIn) -> None:
    pytest.importorskip("markitdown")
    folder = tmp_path / "pages"
    folder.mkdir()
    declared = '<!doctype html><html><head><meta charset="utf-8"><title>x</title></head><body><p>{}</p></body></html>'
    edge = 2**16 - len(declared.split("{}", maxsplit=1)[0]) - 1
    pages = {
        "plain.html": ("<html><body><p>Möbelspenden bitte ankündigen.</p></body></html>", "Möbelspenden", "utf-8"),
        "short.html": (declared.format("Entrée côté cour, café au rez-de-chaussée."), "côté cour", "utf-8"),
        "late.html": (declared.format("Bring your own cup. " * 5_000 + "Smørrebrød gibt es am Freitag."), "Smørrebrød",
                      "utf-8"),
        "edge.html": (declared.format("o" * edge + "ż, wejście od ulicy Źródlanej"), "Źródlanej", "utf-8"),
        "japanese.html": (declared.format("傘は入口の棚に置いてください。"), "入口の棚", "utf-8"),
        "old.html": ('<html><head><meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2"></head><body>'
                     "<p>Zavřeno v pondělí, šatna je v přízemí.</p></body></html>", "šatna je v přízemí", "iso-8859-2"),
    }  # fmt: skip
    for name, (page, _, encoding) in pages.items():
        (folder / name).write_bytes(page.encode(encoding))
    read = read_in(folder)
    found: dict[str, str] = {}
    for document in read.documents:  # the longest page is cut into pieces
        name = document.id.partition("#")[0]
        found[name] = found.get(name, "") + document.text
    assert [name for name, (_, words, _) in pages.items() if words not in found.get(name, "")] == []
