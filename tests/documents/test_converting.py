"""PDF, DOCX, HTML and tables, written byte by byte here, and limits on what parsers may do."""

from __future__ import annotations

import os
import signal
import threading
import time
import zipfile
from pathlib import Path

import pytest

from sizewise.documents import read_paths
from sizewise.documents.converting import Converter, Converters, cause_of_death
from sizewise.documents.parts import CannotConvert, Conversion, Part

WORDS = "The patient takes two tablets of the medicine each day after the meal."
DOCX_TYPES = """<?xml version="1.0" encoding="UTF-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Override PartName="/word/document.xml"
 ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
DOCX_RELATIONS = """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1"
 Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
 Target="word/document.xml"/></Relationships>"""
DOCX_BODY = """<?xml version="1.0" encoding="UTF-8"?>
<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>
<w:p><w:r><w:t>{words}</w:t></w:r></w:p></w:body></w:document>"""


def make_docx(path: Path, words: str = WORDS) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", DOCX_TYPES)
        file.writestr("_rels/.rels", DOCX_RELATIONS)
        file.writestr("word/document.xml", DOCX_BODY.format(words=words))


def make_pdf(path: Path, words: str = WORDS) -> None:
    stream = f"BT /F1 12 Tf 40 700 Td ({words}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    path.write_bytes(body + b"xref\n0 6\n0000000000 65535 f \n" + table + end)


def test_a_folder_of_office_files_is_read_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    make_docx(tmp_path / "a.docx")
    make_pdf(tmp_path / "b.pdf")
    (tmp_path / "c.html").write_text(
        f"<html><head><script>alert(1)</script></head><body><h1>Dose</h1><p>{WORDS}</p></body></html>", encoding="utf-8"
    )
    (tmp_path / "d.pdf").write_bytes(b"%PDF-1.7 broken")
    (tmp_path / "e.docx").write_bytes(b"no zip")
    make_pdf(tmp_path / "f.pdf", "")
    reading = read_paths([tmp_path])
    assert {document.id for document in reading.documents} == {"a.docx", "b.pdf", "c.html"}
    for document in reading.documents:
        assert WORDS in " ".join(document.text.split()), document.id
        assert "alert" not in document.text
    assert sum(reading.not_read.values()) == 3
    assert any("scanned" in kind for kind in reading.not_read)
    notes = " ".join(reading.notes)
    assert "d.pdf" in notes
    assert "e.docx" in notes


def test_a_file_that_takes_too_long_costs_only_itself(tmp_path: Path) -> None:
    make_pdf(tmp_path / "a.pdf")
    with Converter(seconds=0.01) as converter, pytest.raises(CannotConvert, match="longer than"):
        converter.convert(tmp_path / "a.pdf")
    with Converter() as converter:
        assert "tablets" in converter.convert(tmp_path / "a.pdf").parts[0].text
        assert converter._process is not None
        os.kill(converter._process.pid, signal.SIGKILL)  # as the system does where memory ends
        with pytest.raises(CannotConvert, match="memory"):
            converter.convert(tmp_path / "a.pdf")
        assert "tablets" in converter.convert(tmp_path / "a.pdf").parts[0].text


def test_tables_hold_documents_or_examples(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text('id,text\none,"Line one,\nline two."\ntwo,Other.\n', encoding="utf-8")
    (tmp_path / "examples.tsv").write_text(
        "prompt\treference\tchoices\ttags\nIs it spam?\tham\tham|spam\tshort|mail\n", encoding="utf-8"
    )
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    reading = read_paths([tmp_path])
    assert [document.text for document in reading.documents] == ["Line one,\nline two.", "Other."]
    (example,) = reading.examples
    assert example.references == ("ham",)
    assert example.choices == ("ham", "spam")
    assert example.tags == ("short", "mail")
    assert any("no column" in kind for kind in reading.not_read)


def test_a_pdf_without_unicode_fonts_is_skipped_and_a_few_characters_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        "a.pdf": "(cid:12)(cid:7)(cid:9) (cid:3)\n\n(cid:44)(cid:12)",
        "b.pdf": f"(cid:127) {WORDS}\n\n(cid:127) {WORDS}",
        "c.pdf": "\ue012\ue013\ue014 \ufffd\ufffd 7",
        "d.html": "The text (cid:12) is about (cid:7).",
    }
    monkeypatch.setattr(Converter, "convert", lambda self, path: Conversion([Part(texts[path.name])]))
    for name in texts:
        (tmp_path / name).write_bytes(b"x")
    reading = read_paths([tmp_path])
    assert {d.id: d.text for d in reading.documents} == {"b.pdf": f"{WORDS}\n\n{WORDS}", "d.html": texts["d.html"]}
    (kind,) = reading.not_read
    assert reading.not_read[kind] == 2
    assert "fonts don't map to Unicode" in kind
    assert any("a.pdf, c.pdf" in note for note in reading.notes)
    assert any(note.startswith("b.pdf: 1.7% of the characters were dropped") for note in reading.notes)


def test_pictures_leave_no_data_in_the_text(tmp_path: Path) -> None:
    (tmp_path / "c.html").write_text(
        f'<html><body><p>{WORDS}</p><img alt="A dial" src="data:image/png;base64,iVBORw0KGgo="></body></html>',
        encoding="utf-8",
    )
    (document,) = read_paths([tmp_path]).documents
    assert "data:" not in document.text
    assert "A dial" in document.text


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGKILL, "SIGKILL.*memory"), (signal.SIGSEGV, "crashed .SIGSEGV"), (signal.SIGABRT, "crashed .SIGABRT")],
)
def test_the_reason_for_a_death_is_named(tmp_path: Path, number: signal.Signals, reason: str) -> None:
    make_pdf(tmp_path / "a.pdf")
    with Converter() as converter:
        converter._start()
        assert converter._process is not None
        os.kill(converter._process.pid, number)
        with pytest.raises(CannotConvert, match=reason):
            converter.convert(tmp_path / "a.pdf")
    assert cause_of_death(3) == "its parser ended with exit code 3"


def test_too_little_memory_is_named_and_costs_only_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>" + "word " * 8_000_000, encoding="utf-8")
    (tmp_path / "b.rtf").write_bytes(rb"{\rtf1 Text.}")
    with Converters(1, memory_bytes=2**29) as converters:
        with pytest.raises(CannotConvert, match="memory"):
            converters.convert(tmp_path / "a.html")
        assert converters.convert(tmp_path / "b.rtf").parts[0].text == "Text."


def test_files_are_converted_in_parallel_and_kept_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.rtf" for n in range(40)]
    for n, path in enumerate(paths):
        path.write_bytes(b"{\\rtf1 %s %d.}" % (b"word " * (5_000 if n % 9 == 0 else 1), n))
    with Converters(3) as converters:
        texts = [
            converters.convert(path).parts[0].text for path, _ in converters.ahead(((p, p.name) for p in paths), 2**30)
        ]
        assert len({converter._process for converter in converters._all if converter._process}) == 3
    assert [text.split()[-1] for text in texts] == [f"{n}." for n in range(40)]


def test_hundreds_of_mixed_files_take_bounded_time_and_memory(tmp_path: Path) -> None:
    for n in range(500):
        folder = tmp_path / f"{n % 20}"
        folder.mkdir(exist_ok=True)
        name, text = folder / f"{n}", f"File {n}. {WORDS}"
        match n % 5:
            case 0:
                make_docx(name.with_suffix(".docx"), text)
            case 1:
                name.with_suffix(".md").write_text(text, encoding="utf-8")
            case 2:
                name.with_suffix(".rtf").write_text(f"{{\\rtf1 {text}}}", encoding="utf-8")
            case 3:
                name.with_suffix(".eml").write_text(f"Subject: {n}\n\n{text}", encoding="utf-8")
            case 4:
                name.with_suffix(".jsonl").write_text(f'{{"text": "{text}"}}\n', encoding="utf-8")
    (tmp_path / "x.docx").write_bytes(b"damaged")
    start = time.monotonic()
    reading = read_paths([tmp_path])
    assert len(reading.documents) == 500
    assert len({document.id for document in reading.documents}) == 500
    assert len(reading.not_read) == 1
    assert len(reading.notes) < 10
    assert time.monotonic() - start < 60


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the time that a process computed is read from /proc")
def test_a_converter_that_waits_for_a_processor_gets_more_time(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text("<p>All the words of a page.</p>", encoding="utf-8")
    with Converter(seconds=2) as converter:
        converter.convert(path)
        assert converter._process is not None
        pid = converter._process.pid
        os.kill(pid, signal.SIGSTOP)
        go_on = threading.Timer(3, os.kill, (pid, signal.SIGCONT))
        go_on.start()
        try:
            assert converter.convert(path).parts[0].text == "All the words of a page."
        finally:
            go_on.join()
