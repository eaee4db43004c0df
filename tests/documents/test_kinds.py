"""Every kind of document, with its structure and its metadata."""

from __future__ import annotations

import json
from email.message import EmailMessage
from pathlib import Path

import pytest

from sizewise.documents import Reading, ocr, read_paths
from sizewise.documents.converted import documents_of
from sizewise.documents.pdf_pages import stated_title
from sizewise.documents.sites import RECURRING, without_recurring
from sizewise.documents.worker import convert_bytes
from sizewise.records import Document
from tests.documents.builders import docx, epub, odt, paragraph, pdf, pdf_of, pptx, xlsx

WORDS = "The harbor office opens at eight and closes at noon on Saturdays."
GERMAN = "Das Hafenamt öffnet um acht Uhr und schließt samstags um zwölf."


def read_one(tmp_path: Path, name: str, data: bytes) -> Document:
    path = tmp_path / name
    (document,) = documents_of(convert_bytes(data, path.suffix), path, name).documents
    return document


def notes_of(reading: Reading) -> str:
    return "\n".join(reading.notes)


def test_docx_keeps_headings_and_tables(tmp_path: Path) -> None:
    rows = [("Berth", "Fee"), ("North", "12"), ("South", "15")]
    cells = "".join("<w:tr>" + "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) + "</w:tr>" for row in rows)
    body = paragraph("Fees_of_2024", "Heading1") + paragraph(GERMAN) + f"<w:tbl>{cells}</w:tbl>"
    text = read_one(tmp_path, "a.docx", docx(body)).text
    assert "# Fees_of_2024" in text  # nothing is escaped
    assert GERMAN in text
    assert [line for line in text.splitlines() if "South" in line] == ["| South | 15 |"]


def test_odt_keeps_headings_lists_and_tables(tmp_path: Path) -> None:
    cells = ["<text:p>Platz</text:p>", "<text:p>Preis</text:p>"]
    heading = "".join(f"<table:table-cell>{cell}</table:table-cell>" for cell in cells)
    repeated = '<table:table-cell table:number-columns-repeated="2"><text:p>a|b</text:p></table:table-cell>'
    inner = "<text:list><text:list-item><text:p>innen</text:p></text:list-item></text:list>"
    body = f"""<text:h text:outline-level="2">Gebühren</text:h>
    <text:p>{GERMAN}<text:s text:c="2"/>Ende<text:line-break/>neu</text:p>
    <text:list><text:list-item><text:p>eins</text:p>{inner}</text:list-item></text:list>
    <table:table><table:table-row>{heading}</table:table-row><table:table-row>{repeated}</table:table-row></table:table>"""
    text = read_one(tmp_path, "a.odt", odt(body)).text
    assert text.startswith(f"## Gebühren\n\n{GERMAN}  Ende\nneu")
    assert "- eins\n  - innen" in text
    assert "| Platz | Preis |\n| --- | --- |\n| a\\|b | a\\|b |" in text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            rb"{\rtf1\ansi\ansicpg1252 M\'fcller zahlt 5 \'80.\par {\*\generator Word}Danke.}",
            "Müller zahlt 5 €.\nDanke.",
        ),
        (rb"{\rtf1\ansi\ansicpg1251 \'cf\'f0\'e8\'e2\'e5\'f2\par}", "Привет"),
        (rb"{\rtf1\ansi\uc1 \u20320?\u22909?}", "你好"),
        (rb"{\rtf1 {\pict\pngblip 89504e470d0a1a0a}Text}", "Text"),
    ],
)
def test_rtf_is_plain_text_in_its_own_code_page(tmp_path: Path, raw: bytes, text: str) -> None:
    assert read_one(tmp_path, "a.rtf", raw).text == text


def test_slides_sheets_books_and_notebooks(tmp_path: Path) -> None:
    slides = read_one(tmp_path, "a.pptx", pptx([("Opening hours", WORDS), ("港口", "周六中午关门。")])).text
    assert slides.startswith("# Opening hours")
    assert "# 港口" in slides
    assert "Slide number" not in slides
    sheet = read_one(
        tmp_path, "b.xlsx", xlsx([["Platz", "Preis", None], ["Nord", 12.0], ["Süd", True]], "Gebühren")
    ).text
    assert sheet == "## Gebühren\n\n| Platz | Preis |\n| --- | --- |\n| Nord | 12 |\n| Süd | True |"
    book = read_one(tmp_path, "c.epub", epub([f"<h1>Erstes Kapitel</h1><p>{GERMAN}</p>", "<p>Ende.</p>"]))
    assert (book.title, book.language) == ("Das Hafenbuch", "de")
    assert book.text == f"# Erstes Kapitel\n\n{GERMAN}\n\nEnde."
    cells = [
        {"cell_type": "markdown", "source": ["# Plan\n", WORDS], "metadata": {}},
        {"cell_type": "code", "source": ["x = 1"], "metadata": {}, "outputs": []},
    ]
    notebook = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    assert "```python\nx = 1\n```" in read_one(tmp_path, "d.ipynb", notebook.encode()).text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (f"<meta charset=iso-8859-1><p>{GERMAN}</p>".encode(), GERMAN),  # declared wrongly
        (
            f'<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>{GERMAN}</p>'.encode(
                "cp1252"
            ),
            GERMAN,
        ),
        ("<meta charset=gb2312><p>港口办公室八点开门。</p>".encode("gb18030"), "港口办公室八点开门。"),
        ("<meta charset=shift_jis><p>港は八時に開きます。</p>".encode("shift_jis"), "港は八時に開きます。"),
        ("<meta charset=iso-2022-jp><p>港は八時に開きます。</p>".encode("iso-2022-jp"), "港は八時に開きます。"),
        ('<?xml version="1.0" encoding="koi8-r"?><p>Гавань открыта</p>'.encode("koi8-r"), "Гавань открыта"),
        ("<p>يفتح الميناء</p>".encode("utf-16"), "يفتح الميناء"),
    ],
)
def test_web_pages_in_many_encodings(tmp_path: Path, data: bytes, text: str) -> None:
    assert read_one(tmp_path, "a.html", data).text == text


def test_web_pages_lose_navigation_and_cookie_banners_and_keep_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        f"""<html lang="de-AT"><head><title>Hafen</title><link rel="license"
        href="https://creativecommons.org/licenses/by-sa/4.0/"></head><body><nav><a href=/>Start</a></nav>
        <div class="cookie-banner">Wir verwenden Cookies</div><div role="navigation">Menü</div><main><h1>Zeiten</h1>
        <p>{GERMAN}</p><ul><li>eins</li><li>zwei</li></ul><table><tr><th>Tag</th><th>Zeit</th></tr><tr><td>Sa</td>
        <td>8</td></tr></table><article><footer>Quelle: Amt</footer></article></main><footer>Impressum</footer>
        </body></html>""",
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text("<nav>All the words of this page are in its navigation.</nav>", encoding="utf-8")
    reading = read_paths([tmp_path])
    first, second = reading.documents
    assert (first.title, first.language, first.license) == ("Hafen", "de", "CC-BY-SA-4.0")
    for gone in ("Start", "Cookies", "Menü", "Impressum"):
        assert gone not in first.text
    for kept in ("# Zeiten", "* eins", "| Sa | 8 |", "Quelle: Amt", GERMAN):
        assert kept in first.text
    assert second.text.startswith("All the words")
    assert "navigation, footers and cookie banners left out of web pages: 4 in 1 file" in reading.notes


def test_links_within_a_page_are_text_and_footnotes_keep_their_brackets() -> None:
    page = (
        '<p>It costs 50<sup><a href="#f1">1</a></sup> EUR, see <a href="#fees">the fees</a><a href="#n">below</a>, '
        '10<a href="#f2">2</a> at <a href="https://a.example">A</a>.</p>'
    )
    assert convert_bytes(page.encode(), ".html").parts[0].text == (
        "It costs 50[1] EUR, see the fees below, 10[2] at [A](https://a.example)."
    )


def test_a_command_after_a_prompt_is_no_heading() -> None:
    page = "<h1>Setup</h1><p># make install</p><p>#1 of all</p><ul><li># ls</li></ul><pre># in code\n</pre>"
    text = convert_bytes(page.encode(), ".html").parts[0].text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# Setup", "#1 of all", "# in code"]
    assert "\\# make install" in text


def test_running_headers_hyphens_and_empty_pages_of_a_pdf(tmp_path: Path) -> None:
    sections = ["Fees are paid in the harbor infor-", "Boats must leave before the well-", "A well-known rule: infor-"]
    pages = [
        [(40, 750, f"Harbor rules 2024, part {n % 3}"), (40, 700, section), (40, 688, "mation office of the port."),
         (40, 640, f"Section {n} has words of its own."), (300, 30, f"{n + 1}")]
        for n, section in enumerate(sections * 2)
    ]  # fmt: skip
    (tmp_path / "a.pdf").write_bytes(pdf([*pages, "", ""]))
    reading = read_paths([tmp_path])
    (document,) = reading.documents
    assert "Harbor rules" not in document.text
    assert not any(line.strip().isdigit() for line in document.text.splitlines())
    assert "information\noffice" in document.text
    assert [f"Section {n} has words of its own." in document.text for n in range(6)] == [True] * 6
    notes = notes_of(reading)
    assert "a.pdf: pages 7-8 of 8 have no text (scanned pages need the extra [ocr]" in notes
    assert "running headers, footers and page numbers left out: 12 in 1 file" in notes
    assert "words joined that were hyphenated at the end of a line: 6 in 1 file" in notes


def test_a_ruled_table_of_a_pdf_becomes_markdown(tmp_path: Path) -> None:
    rules = "\n".join(
        [f"40 {y} m 340 {y} l S" for y in (600, 620, 640, 660)] + [f"{x} 600 m {x} 660 l S" for x in (40, 140, 340)]
    )
    cells = [
        (50, 646, "Berth"),
        (150, 646, "Fee"),
        (50, 626, "North"),
        (150, 626, "12"),
        (50, 606, "South"),
        (150, 606, "15"),
    ]
    text = read_one(tmp_path, "a.pdf", pdf([[(40, 700, WORDS), *cells]], rules)).text
    assert text == f"{WORDS}\n\n| Berth | Fee |\n| --- | --- |\n| North | 12 |\n| South | 15 |"


@pytest.mark.parametrize("header", [(), ((50, 720, "Berth"), (150, 720, "Fee"))])
def test_a_table_that_goes_on_over_the_page_keeps_its_header(
    tmp_path: Path, header: tuple[tuple[int, int, str], ...]
) -> None:
    ruled = (40, 300, 600, 740) if not header else (40, 300, 600, 700, 740)
    rules = "\n".join([f"40 {y} m 340 {y} l S" for y in ruled] + [f"{x} 40 m {x} 740 l S" for x in (40, 140, 340)])
    first = [(50, 720, "Berth"), (150, 720, "Fee"), (50, 450, "North"), (150, 450, "12"), (50, 100, "South"),
             (150, 100, "15")]  # fmt: skip
    second = [*header, (50, 620, "East"), (150, 620, "18"), (50, 450, "West"), (150, 450, "21")]
    text = read_one(tmp_path, "a.pdf", pdf([first, second], rules)).text
    rows = [line for line in text.splitlines() if line.strip("| ")]
    assert rows == [
        "| Berth | Fee |", "| --- | --- |", "| North | 12 |", "| South | 15 |", "| East | 18 |", "| West | 21 |",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "title"),
    [
        (" Travel policy ", "Travel policy"),
        ("Document retention in 2024", "Document retention in 2024"),
        ("Microsoft Word - Travel policy_v3.doc", ""),
        ("Travel policy.docx", ""),
        ("PowerPoint Presentation", ""),
        ("Dokument1", ""),
        ("untitled", ""),
        ("a\x00b", ""),
        (None, ""),
    ],
)
def test_what_a_program_fills_in_is_no_title_of_a_pdf(stated: object, title: str) -> None:
    assert stated_title(stated) == title


def message(text: str = WORDS, subject: str = "Öffnungszeiten") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Ana <ana@example.org>", "office@example.org", subject
    mail["Date"] = "Tue, 5 Mar 2024 10:00:00 +0100"
    mail.set_content(text)
    return mail


def test_mail_with_headers_html_and_attachments(tmp_path: Path) -> None:
    mail = message()
    mail.add_alternative(f"<p>{GERMAN}</p>", subtype="html")
    mail.add_attachment(docx(paragraph("Attached rules.")), maintype="application", subtype="x", filename="Règles.docx")
    mail.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="t.csv")
    mail.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="p.png")
    mail.add_attachment(message("Inner words.", "Inner"))
    (tmp_path / "m.eml").write_bytes(bytes(mail))
    reading = read_paths([tmp_path])
    texts = {document.id: document for document in reading.documents}
    assert set(texts) == {"m.eml", "m.eml#Règles.docx", "m.eml#t.csv", "m.eml#forwarded.eml"}
    main = texts["m.eml"]
    assert main.text.startswith("From: Ana <ana@example.org>\nTo: office@example.org\nDate: Tue")
    assert main.text.endswith(WORDS)
    assert (main.title, main.time) == ("Öffnungszeiten", "2024-03-05T10:00:00+01:00")
    assert texts["m.eml#Règles.docx"].text == "Attached rules."
    assert "Inner words." in texts["m.eml#forwarded.eml"].text
    assert "attachments not read (.png): 1 in 1 file" in reading.notes


@pytest.mark.parametrize(
    ("charset", "text"), [("iso-8859-1", GERMAN), ("koi8-r", "Гавань открыта"), ("big5", "港口八點開門")]
)
def test_mail_in_html_and_other_charsets(tmp_path: Path, charset: str, text: str) -> None:
    mail = EmailMessage()
    mail["Subject"] = text
    mail.set_content(f"<p>{text}</p>", subtype="html", charset=charset)
    document = read_one(tmp_path, "m.eml", bytes(mail))
    assert document.text == f"Subject: {text}\n\n{text}"


def test_a_mailbox_is_a_document_per_message(tmp_path: Path) -> None:
    first, second = message("One.\n\n>From here on.\n"), message("Two.", "Zwei")
    data = b"".join(
        b"From ana@example.org Tue Mar  5 10:00:00 2024\n" + bytes(mail) + b"\n" for mail in (first, second)
    )
    (tmp_path / "box.mbox").write_bytes(data)
    documents = list(read_paths([tmp_path]).documents)
    assert [(document.id, document.title) for document in documents] == [
        ("box.mbox#1", "Öffnungszeiten"),
        ("box.mbox#2", "Zwei"),
    ]
    assert documents[0].text.endswith("One.\n\nFrom here on.")


def test_removed_characters_and_images_are_counted(tmp_path: Path) -> None:
    text = "Harbor\x01 office\u200b.\ufeff ![A dial](data:image/png;base64,iVBO)"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    reading = read_paths([tmp_path])
    assert [document.text for document in reading.documents] == ["Harbor office. A dial"]
    assert "control and invisible characters removed: 3 in 1 file" in reading.notes
    assert "embedded images (base64) replaced by their description: 1 in 1 file" in reading.notes


class FakeResult:
    def __init__(self, pieces: list[tuple[int, int, int, int, str]]) -> None:
        self.boxes = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h, _ in pieces]
        self.txts = [text for *_, text in pieces]


def scan() -> bytes:
    """Write a PDF with a page of text and one with an image."""
    image = (
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length 1 >>"
    )
    shown = b"q 600 0 0 700 0 0 cm /I Do Q"
    return pdf_of([
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /XObject << /I 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        image + b"\nstream\n\xff\nendstream",
    ])  # fmt: skip


def test_scanned_pages_are_read_if_the_extra_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [
        (10, 10, 300, 20, "The harbor office"),
        (320, 11, 200, 20, "opens at 8."),
        (10, 34, 300, 20, "Das Hafenamt öffnet"),
        (10, 120, 300, 20, "Overtime is paid."),
    ]
    monkeypatch.setattr(ocr, "can_read", lambda: True)
    monkeypatch.setattr(ocr, "_engine", lambda: lambda image: FakeResult(pieces))
    found = convert_bytes(scan(), ".pdf")
    assert found.parts[0].text == "The harbor office opens at 8.\nDas Hafenamt öffnet\n\nOvertime is paid."
    assert found.removed["scanned pages read by OCR, possibly with errors"] == 1
    monkeypatch.setattr(ocr, "_engine", lambda: lambda image: FakeResult([(10, 10, 600, 20, "   .")]))  # Cyrillic
    assert convert_bytes(scan(), ".pdf").parts[0].text == ""


def test_lines_that_recur_on_the_pages_of_a_site_are_left_out(tmp_path: Path) -> None:
    for site, count in (("docs", 8), ("few", 3)):
        (tmp_path / site).mkdir()
        for n in range(count):
            middle = "".join(f"<p>Rule {line} of page {n}.</p>" for line in range(20))
            (tmp_path / site / f"{n}.html").write_text(
                f"<div>Hafenamt Nord</div><h2>Beschreibung</h2>{middle}<p>Kontakt: Pier 3</p>",
                encoding="utf-8",
            )
    reading = read_paths([tmp_path])
    for document in reading.documents:
        assert ("Hafenamt Nord" in document.text, "Pier 3" in document.text) == (("few" in document.id,) * 2)
        assert "## Beschreibung" in document.text
        assert document.text.count("Rule ") == 20
    assert f"{RECURRING}: 16 in 8 files" in reading.notes
    assert without_recurring("Only this.", frozenset(["Only this."])) == ("Only this.", 0)


def test_the_body_of_a_mail_is_the_part_that_says_most(tmp_path: Path) -> None:
    mixed = message("Sent with a free program", "Mixed")
    page = EmailMessage()
    page.set_content(f"<p>{WORDS} Again.</p>", subtype="html")
    mixed.make_mixed()
    mixed._payload.insert(0, page)  # type: ignore[attr-defined]
    text = read_one(tmp_path, "a.eml", mixed.as_bytes()).text
    assert f"{WORDS} Again." in text
    assert text.endswith("Sent with a free program")
    stub = message("Please use HTML.", "Stub")
    stub.add_alternative(f"<p>{WORDS * 3}</p>", subtype="html")
    assert "Please use" not in read_one(tmp_path, "b.eml", stub.as_bytes()).text
    both = message(WORDS, "Both")
    both.add_alternative(f"<p><b>{WORDS}</b></p>", subtype="html")
    assert "**" not in read_one(tmp_path, "c.eml", both.as_bytes()).text
    marked = message(WORDS, "Marked")
    marked.replace_header("Content-Type", 'text/markdown; charset="utf-8"')
    assert WORDS in read_one(tmp_path, "d.eml", marked.as_bytes()).text


def test_a_sentence_that_begins_with_from_starts_no_message(tmp_path: Path) -> None:
    start = b"From ana@example.org Sat Nov 28 14:00:00 2026\n"
    (tmp_path / "a.mbox").write_bytes(
        start + b"Subject: One\n\nHello.\n\nFrom now on it opens at eight.\n\n" + start + b"Subject: Two\n\nBye.\n"
    )
    reading = read_paths([tmp_path])
    assert len(reading.documents) == 2
    assert "From now on it opens at eight." in reading.documents[0].text


def test_text_attachments_are_decoded_by_their_charset(tmp_path: Path) -> None:
    mail = message()
    mail.add_attachment(
        "Часы работы конторы порта".encode("koi8-r"), maintype="text", subtype="plain", filename="a.txt"
    )
    mail.get_payload()[-1].set_param("charset", "koi8-r")  # type: ignore[union-attr,index]
    (tmp_path / "a.eml").write_bytes(mail.as_bytes())
    assert [document.text for document in read_paths([tmp_path]).documents][-1] == "Часы работы конторы порта"


def test_superscripts_readings_and_spans_of_a_page_keep_their_meaning(tmp_path: Path) -> None:
    page = (
        f"<p>{WORDS} About 10<sup>6</sup> ships and 5 m<sup>2</sup>, "
        "the 1<sup>st</sup> of them.<sup>3</sup> H<sub>2</sub>O"
        " <ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby></p><table><tr><th>Pier</th><th>Ship</th></tr>"
        "<tr><td rowspan=2>North</td><td>Ada|1</td></tr><tr><td>Bob</td></tr><tr><td>South</td><td>Cy</td></tr></table>"
    )
    text = read_one(tmp_path, "a.html", page.encode()).text
    assert "About 10^6 ships and 5 m^2, the 1st of them.[3] H2O 漢字(かんじ)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == ["| North | Ada\\|1 |", "| North | Bob |", "| South | Cy |"]


def test_word_files_keep_fields_and_moves_and_lose_hidden_text(tmp_path: Path) -> None:
    def run(text: str, properties: str = "") -> str:
        return f"<w:r><w:rPr>{properties}</w:rPr><w:t xml:space='preserve'>{text}</w:t></w:r>"

    raised = run("6", '<w:vertAlign w:val="superscript"/>')
    body = (
        f"<w:p>{run('About 10')}{raised}{run(' ships. ')}{run('secret', '<w:vanish/>')}"
        f"{run('shown ', '<w:vanish w:val=&quot;0&quot;/>'.replace('&quot;', chr(34)))}"
        f"<w:moveTo w:id='1'>{run('moved ')}</w:moveTo><w:moveFrom w:id='2'>{run('from here')}</w:moveFrom>"
        f"<w:fldSimple w:instr='X'>{run('field ')}</w:fldSimple>"
        f"<w:customXml w:element='a'>{run('custom')}</w:customXml></w:p>"
    )
    (tmp_path / "a.docx").write_bytes(docx(body))
    reading = read_paths([tmp_path])
    assert reading.documents[0].text == "About 10^6 ships. shown moved field custom"
    assert "hidden passages left out of Word files: 1 in 1 file" in reading.notes
