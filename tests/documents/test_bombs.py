"""Files made to exhaust or mislead parsers: each ends within limits, with a reason or with its own text."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import re
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sizewise.documents import Reading, read_paths
from sizewise.documents.containers import check_container
from sizewise.documents.converting import Converters
from sizewise.documents.parts import CannotConvert
from sizewise.errors import SizewiseError
from tests.documents.builders import docx, epub, odt, paragraph, pdf, pdf_of, pptx, xlsx, zip_of

SECONDS, MEMORY = 10.0, 3 * 2**30
ZEROS = bytes(17 * 2**20)
FEW_ZEROS = bytes(2**20)
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
PARAMETER = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY % a SYSTEM "http://127.0.0.1/x.dtd"> %a;]>'
QUADRATIC = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "{"x" * 50_000}">]>'


def with_member(data: bytes, name: str, content: bytes | str) -> bytes:
    """Replace or add a member of an office file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members: dict[str, bytes | str] = {one: archive.read(one) for one in archive.namelist()}
    return zip_of({**members, name: content})


def overlapping(data: bytes) -> bytes:
    """Let a second entry of the table of contents use the bytes of the first (Fifield, 2019, A better zip bomb)."""
    at = data.rindex(b"PK\x05\x06")
    count, size, start = struct.unpack("<HII", data[at + 10 : at + 20])
    length = 46 + sum(struct.unpack("<HHH", data[start + 28 : start + 34]))
    entry = data[start : start + length]
    end = data[at : at + 8] + struct.pack("<HHII", count + 1, count + 1, size + len(entry), start) + data[at + 20 :]
    return data[:at] + entry + end


def lying(data: bytes) -> bytes:
    """Declare a smaller size than a member has."""
    at = data.index(b"PK\x01\x02")
    return data[: at + 24] + struct.pack("<I", 3) + data[at + 28 :]


def encrypted(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02")
    return data[: at + 8] + b"\x01" + data[at + 9 :]


def utf16_laughs() -> bytes:
    return LAUGHS.replace("?>", ' encoding="utf-16"?>', 1).encode("utf-16")


ENTITIES, BOMB, OVERLAP = "defines XML entities", "decompression bomb", "members overlap"
OFFICE = {
    ".docx": (docx(paragraph("Text.")), "word/document.xml"),
    ".odt": (odt("<text:p>Text.</text:p>"), "content.xml"),
    ".epub": (epub(["<p>Text.</p>"]), "OEBPS/content.opf"),
    ".xlsx": (xlsx([["Text."]]), "xl/sharedStrings.xml"),
    ".pptx": (pptx([("Text.", "Text.")]), "ppt/presentation.xml"),
}
Bomb = tuple[str, str, Callable[[], bytes], str]


def office_bombs() -> Iterator[Bomb]:
    for kind, (data, part) in OFFICE.items():
        yield "ratio", kind, lambda d=data: with_member(d, "x.bin", ZEROS), BOMB
        yield "huge part", kind, lambda d=data, p=part: with_member(d, p, ZEROS), BOMB
        yield "laughs", kind, lambda d=data, p=part: with_member(d, p, LAUGHS + "<l>&j;</l>"), ENTITIES
        yield "outside", kind, lambda d=data, p=part: with_member(d, p, OUTSIDE + "<l>&a;</l>"), ENTITIES
        yield "parameter", kind, lambda d=data, p=part: with_member(d, p, PARAMETER + "<l/>"), ENTITIES
        yield (
            "quadratic",
            kind,
            lambda d=data, p=part: with_member(d, p, f"{QUADRATIC}<l>{'&a;' * 50_000}</l>"),
            ENTITIES,
        )
        yield "utf-16", kind, lambda d=data, p=part: with_member(d, p, utf16_laughs()), ENTITIES
        yield "overlap", kind, lambda d=data: overlapping(d), OVERLAP
        yield "password", kind, lambda d=data: encrypted(d), "password"
        yield "truncated", kind, lambda d=data: d[: len(d) // 2], "not a valid|damaged"
        yield "no zip", kind, lambda: b"PK\x03\x04" + b"x" * 500, "not a valid|damaged"
        yield (
            "deep",
            kind,
            lambda d=data, p=part: with_member(d, p, "<a>" * 20_000 + "</a>" * 20_000),
            "damaged|deep|crash|valid|without text|read",
        )


def pages(kids: bytes, count: int, *others: bytes) -> bytes:
    tree = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, count)
    return pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", tree, *others])


def stream(content: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(content), extra, content)


PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>"
PDF: list[Bomb] = [
    ("itself", ".pdf", lambda: pages(b"2 0 R", 1), "read|deep|damaged"),
    ("circle", ".pdf", lambda: pages(b"3 0 R", 1, b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"), "read|deep|damaged"),
    ("count", ".pdf", lambda: pages(b"3 0 R", 2**31, PAGE, stream(b"")), "read"),
    ("many pages", ".pdf", lambda: pages(b"3 0 R " * 30_000, 30_000, PAGE, stream(b"")), "longer|pages|read"),
    (
        "flate",
        ".pdf",
        lambda: pages(b"3 0 R", 1, PAGE, stream(zlib.compress(FEW_ZEROS), b"/Filter /FlateDecode ")),
        "longer|memory|read",
    ),
    (
        "flate twice",
        ".pdf",
        lambda: pages(
            b"3 0 R", 1, PAGE, stream(zlib.compress(zlib.compress(FEW_ZEROS)), b"/Filter [/FlateDecode /FlateDecode] ")
        ),
        "longer|memory|read",
    ),
    (
        "many marks",
        ".pdf",
        lambda: pages(b"3 0 R", 1, PAGE, stream(zlib.compress(b"q " * 50_000), b"/Filter /FlateDecode ")),
        "longer|memory|read",
    ),
    ("deep arrays", ".pdf", lambda: pages(b"3 0 R", 1, PAGE, stream(b"[" * 50_000)), "read|deep|damaged"),
    ("deep catalog", ".pdf", lambda: pdf_of([b"<< /Pages " * 100_000]), "read|deep|damaged|longer"),
    (
        "length",
        ".pdf",
        lambda: pages(b"3 0 R", 1, PAGE, b"<< /Length 99999999999 >>\nstream\nx\nendstream"),
        "read|damaged",
    ),
    (
        "loop of tables",
        ".pdf",
        lambda: pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Kids [] /Count 0 >>"], b"/Prev 9 "),
        "read|damaged",
    ),
    (
        "protected",
        ".pdf",
        lambda: pdf_of(
            [b"<< /Type /Catalog >>"], b"/Encrypt << /Filter /Standard /V 1 /R 2 /O (x) /U (x) /P -1 >> /ID [(a) (a)] "
        ),
        "password|damaged",
    ),
    ("empty", ".pdf", lambda: b"%PDF-1.7\n", "read|damaged"),
    ("no pdf", ".pdf", lambda: b"MZ" + bytes(999), "not a PDF"),
    (
        "lines",
        ".pdf",
        lambda: pdf(["Text."], "\n".join(f"{n % 600} 0 m 9 {n % 700} l S" for n in range(3_001)), True),
        "longer|read",
    ),
]
MARKUP: list[Bomb] = [
    ("divs", ".html", lambda: b"<div>" * 5_000 + b"Text.", "longer|deep|read"),
    ("lists", ".html", lambda: b"<ul><li>" * 3_000 + b"Text.", "longer|deep|read"),
    ("columns", ".html", lambda: b"<table><tr><td colspan=999999999>Text.</td></tr></table>", "read"),
    ("attributes", ".html", lambda: b"<p " + b"a=b " * 100_000 + b">Text.", "longer|read"),
    ("tags", ".html", lambda: b"<a <a " * 400, "longer|read|text"),
    ("comments", ".html", lambda: b"<!--" * 1_500 + b"Text.", "longer|read|text"),
    ("declarations", ".html", lambda: b"<![CDATA[" * 5_000, "longer|read|damaged|valid"),
    ("laughs", ".xhtml", lambda: (LAUGHS + "<p>&j; Text.</p>").encode(), "read"),
    ("binary", ".html", lambda: bytes(10_000), "binary"),
    ("no encoding", ".html", lambda: bytes(range(128, 256)) * 50, "UTF-8|read"),
    ("groups", ".rtf", lambda: b"{\\rtf1 " + b"{" * 200_000 + b"Text.", "read|deep"),
    ("binary length", ".rtf", lambda: b"{\\rtf1 \\bin999999999 Text.}", "read"),
    ("no character", ".rtf", lambda: b"{\\rtf1 \\u99999999? \\u-99999? \\'zz Text.}", "read|damaged"),
    ("code page", ".rtf", lambda: b"{\\rtf1\\ansicpg99999 M\\'fcller}", "read|damaged"),
    ("no rtf", ".rtf", lambda: b"Text.", "not an RTF"),
    ("arrays", ".ipynb", lambda: b"[" * 200_000, "deep|damaged"),
    ("no cells", ".ipynb", lambda: b'{"cells": 7}', "read|damaged"),
]


def nested_parts(levels: int) -> bytes:
    head = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(levels))
    return f"Subject: deep\n{head}Content-Type: text/plain\n\nText.\n".encode()


def nested_messages(levels: int) -> bytes:
    return b"Subject: deep\n" + b"Content-Type: message/rfc822\n\nSubject: inner\n" * levels + b"\nText.\n"


def with_attachment(name: str, data: bytes) -> bytes:
    head = 'Subject: Text\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\nText.\n--b\n'
    place = f'Content-Disposition: attachment; filename="{name}"\nContent-Transfer-Encoding: base64\n\n'
    return (head + place).encode() + base64.encodebytes(data) + b"--b--\n"


FROM = b"From a@example.org Sat Nov 28 10:00:00 2026\n"
MAILBOX = FROM + b"Subject: x\n\nText.\n\n" + FROM
MAIL: list[Bomb] = [
    ("parts 1,000 deep", ".eml", lambda: nested_parts(1_000), "deep"),
    ("parts 100 deep", ".eml", lambda: nested_parts(100), "deep"),
    ("messages 1,000 deep", ".eml", lambda: nested_messages(1_000), "deep|read"),
    (
        "many parts",
        ".eml",
        lambda: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\nContent-Type: a/b\n\n" * 5_000,
        "parts",
    ),
    ("long header", ".eml", lambda: b"Subject: " + b"x" * 2_000_000 + b"\n\nText.", "read|longer|memory"),
    ("many words", ".eml", lambda: b"Subject: " + b"=?utf-8?q?x?= " * 2_000 + b"\n\nText.", "read|longer|memory"),
    ("many addresses", ".eml", lambda: b"To: " + b"a@b.c, " * 3_000 + b"\n\nText.", "read|longer|memory"),
    ("comments", ".eml", lambda: b"To: " + b"(" * 20_000 + b"\n\nText.", "read|deep|longer"),
    ("headers", ".eml", lambda: b"X: y\n" * 20_000 + b"\nText.", "read|longer|memory"),
    ("bomb attached", ".eml", lambda: with_attachment("a.docx", with_member(OFFICE[".docx"][0], "x", ZEROS)), "read"),
    ("laughs attached", ".eml", lambda: with_attachment("a.odt", odt("", LAUGHS)), "read"),
    (
        "damaged base64",
        ".eml",
        lambda: with_attachment("a.txt", b"").replace(b"\n\n--b--", b"\n\n!!!=A\n--b--"),
        "read",
    ),
    ("charset", ".eml", lambda: b"Subject: x\nContent-Type: text/plain; charset=no-such\n\nText.", "read"),
    ("no mail", ".eml", lambda: b"\x00\x01\x02" * 100, "not an e-mail"),
    ("deep in a mailbox", ".mbox", lambda: MAILBOX + nested_parts(1_000), "read"),
    ("no mailbox", ".mbox", lambda: b"Text.", "not a mailbox"),
]
BOMBS = [*office_bombs(), *PDF, *MARKUP, *MAIL]


@pytest.fixture(scope="module")
def converters() -> Iterator[Converters]:
    with Converters(1, SECONDS, MEMORY) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "kind", "make", "reason"), BOMBS, ids=[f"{kind}-{name}" for name, kind, _, _ in BOMBS]
)
def test_a_bomb_ends_within_limits(
    name: str, kind: str, make: Callable[[], bytes], reason: str, tmp_path: Path, converters: Converters
) -> None:
    path = tmp_path / f"bomb{kind}"
    path.write_bytes(make())
    start = time.monotonic()
    said, texts = "read", []
    try:
        texts = [part.text for part in converters.convert(path).parts]
    except CannotConvert as error:
        said = str(error)
    assert re.search(reason, said), said
    assert len(said) < 200
    assert sum(map(len, texts)) < 3_000_000
    assert not any("root:" in text for text in texts)
    assert time.monotonic() - start < 2 * SECONDS


def test_the_converter_goes_on_after_bombs(tmp_path: Path, converters: Converters) -> None:
    (tmp_path / "a.docx").write_bytes(docx(paragraph("Text.")))
    assert converters.convert(tmp_path / "a.docx").parts[0].text == "Text."


def tar_of(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def nested_zip(levels: int) -> bytes:
    data = zip_of({"a.txt": "Text."})
    for _ in range(levels):
        data = zip_of({"in.zip": data})
    return data


def linked_zip() -> bytes:
    member = zipfile.ZipInfo("link.txt")
    member.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return file.getvalue()


def small(opener: Callable[[bytes], bytes]) -> bytes:
    return opener(bytes(17 * 2**20))


TEXT = zip_of({"a.txt": "Text."})
LISTED = TEXT.index(b"PK\x01\x02")
ARCHIVES: list[tuple[str, str, Callable[[], bytes], str]] = [
    ("ratio", "a.zip", lambda: zip_of({"a.txt": ZEROS}), "decompression bomb"),
    ("overlap", "a.zip", lambda: overlapping(TEXT), "members overlap"),
    ("size", "a.zip", lambda: lying(TEXT), "damaged|members"),
    ("password", "a.zip", lambda: encrypted(TEXT), "password"),
    ("nested", "a.zip", lambda: nested_zip(3), "an archive inside 2 others"),
    ("truncated", "a.zip", lambda: TEXT[:-10], "damaged"),
    (
        "checksum",
        "a.zip",
        lambda: zip_of({"a.txt": "Text."}, zipfile.ZIP_STORED).replace(b"Text.", b"Test."),
        "damaged",
    ),
    ("method", "a.zip", lambda: TEXT[:8] + b"c" + TEXT[9 : LISTED + 10] + b"c" + TEXT[LISTED + 11 :], "cannot be read"),
    ("link", "a.zip", linked_zip, "a link"),
    ("above", "a.zip", lambda: zip_of({"../../a.txt": "Text."}), "outside"),
    ("absolute", "a.zip", lambda: zip_of({"/etc/a.txt": "Text."}), "outside"),
    ("drive", "a.zip", lambda: zip_of({"C:\\a.txt": "Text."}), "outside"),
    ("backslash", "a.zip", lambda: zip_of({"x\\..\\..\\a.txt": "Text."}), "outside"),
    ("many", "a.zip", lambda: zip_of({f"{n}.txt": "" for n in range(20_001)}, zipfile.ZIP_STORED), "more than 20,000"),
    (
        "bomb inside",
        "a.zip",
        lambda: zip_of({"a.docx": with_member(OFFICE[".docx"][0], "x", ZEROS)}),
        "decompression bomb",
    ),
    ("symbolic link", "a.tar", lambda: tar_of((tar_member("a.txt", tarfile.SYMTYPE, "/etc/passwd"), b"")), "a link"),
    ("hard link", "a.tar", lambda: tar_of((tar_member("a.txt", tarfile.LNKTYPE, "/etc/passwd"), b"")), "a link"),
    ("device", "a.tar", lambda: tar_of((tar_member("a.txt", tarfile.CHRTYPE), b"")), "not a regular file"),
    ("fifo", "a.tar", lambda: tar_of((tar_member("a.txt", tarfile.FIFOTYPE), b"")), "not a regular file"),
    ("above", "a.tar.gz", lambda: tar_of((tar_member("../a.txt"), b"Text."), mode="w:gz"), "outside"),
    ("absolute", "a.tgz", lambda: tar_of((tar_member("/tmp/a.txt"), b"Text."), mode="w:gz"), "outside"),
    ("ratio", "a.tar.bz2", lambda: tar_of((tar_member("a.txt"), bytes(17 * 2**20)), mode="w:bz2"), "bomb"),
    ("truncated", "a.tar", lambda: tar_of((tar_member("a.txt"), b"Text." * 999))[:700], "damaged"),
    ("no tar", "a.tar", lambda: b"Text." * 999, "damaged"),
    ("ratio", "a.txt.gz", lambda: small(gzip.compress), "bomb"),
    ("ratio", "a.txt.bz2", lambda: small(bz2.compress), "bomb"),
    ("ratio", "a.txt.xz", lambda: lzma.compress(bytes(17 * 2**20), preset=0), "bomb"),
    ("truncated", "a.txt.gz", lambda: gzip.compress(b"Text." * 999)[:-20], "damaged"),
]


@pytest.mark.parametrize(
    ("name", "file", "make", "reason"), ARCHIVES, ids=[f"{file}-{name}" for name, file, _, _ in ARCHIVES]
)
def test_an_archive_that_misleads_is_not_unpacked(
    name: str, file: str, make: Callable[[], bytes], reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / file).write_bytes(make())
    with pytest.raises(SizewiseError, match=reason):
        read_paths([folder])
    assert [path.name for path in tmp_path.rglob("*")] == ["in", file]


def test_archives_are_read_like_folders(tmp_path: Path) -> None:
    inner = zip_of({"deep/b.md": "# Inner\n\nWords.", "__MACOSX/x.txt": "no", ".hidden.txt": "no"})
    members: dict[str, bytes | str] = {"大/a.txt": "Text one.", "in.zip": inner, "c.docx": docx(paragraph("Text two."))}
    (tmp_path / "all.zip").write_bytes(zip_of(members))
    (tmp_path / "b.tar.gz").write_bytes(tar_of((tar_member("x/d.jsonl"), b'{"text": "Text three."}\n'), mode="w:gz"))
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress(b"Text four."))
    reading: Reading = read_paths([tmp_path])
    found = {document.id: (document.text, document.origin) for document in reading.documents}
    root = f"{tmp_path}/all.zip"
    assert found["all.zip/大/a.txt"] == ("Text one.", f"{root}/大/a.txt")
    assert found["all.zip/in.zip/deep/b.md"] == ("# Inner\n\nWords.", f"{root}/in.zip/deep/b.md")
    assert found["all.zip/c.docx"] == ("Text two.", f"{root}/c.docx")
    assert ("Text four.", f"{tmp_path}/e.txt.gz") in found.values()
    assert "Text three." in {text for text, _ in found.values()}
    assert len(found) == 5


@pytest.mark.parametrize("name", ["word/media/a.dat", "word/part", "customXml/x.bin", "a.PNG"])
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf\n" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b'<?xml version="1.0" encoding="UTF-7"?>' + text.encode("utf-7"),
    ],
)
def test_entities_are_refused_in_every_part(name: str, encode: Callable[[str], bytes]) -> None:
    data = zip_of({"word/document.xml": "<a/>", name: encode('<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>')})
    with pytest.raises(CannotConvert, match=r"entities|encoding"):
        check_container(io.BytesIO(data))
    check_container(io.BytesIO(zip_of({"word/document.xml": "<a/>", name: b"\x89PNG <!DOCTYPE in a picture"})))
