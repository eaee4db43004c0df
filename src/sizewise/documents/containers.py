"""Limits on ZIP containers (DOCX, XLSX, PPTX, ODT, EPUB and archives), checked before anything parses them."""

from __future__ import annotations

import re
import zipfile
from typing import BinaryIO

from sizewise.documents.parts import CannotConvert

MAX_MEMBERS = 20_000
MAX_BYTES = 512 * 2**20
MAX_RATIO, RATIO_FROM = 150, 8 * 2**20
"""Compression ratio above which a member is refused, and the size from which it is looked at; text reaches about 20."""
CHUNK = 1 << 20
_XML = (".xml", ".rels", ".opf", ".ncx", ".vml")
_DECLARED = tuple(
    mark.encode(name) for mark in ("<!ENTITY", "<!DOCTYPE") for name in ("ascii", "utf-16-le", "utf-16-be")
)
# Older EPUBs, pages and drawings name a DTD there; no parser of ours loads it.
_WITH_DOCTYPE = (".opf", ".ncx", ".html", ".htm", ".xhtml", ".svg")
_LOOKS_LIKE_XML = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\s\0]*<")
_ENCODING = re.compile(rb"<\?xml[^>]{0,200}encoding\s*=\s*[\"'](?:utf-?7|utf-?32|ucs|ibm|cp037|ebcdic)", re.IGNORECASE)
"""Encodings in which a declaration could be written in other bytes than those that are looked for."""


def check_members(archive: zipfile.ZipFile, max_bytes: int = MAX_BYTES) -> list[zipfile.ZipInfo]:
    """Check the table of contents of a ZIP file, and return its members.

    Raises:
        CannotConvert: It holds too many members or bytes, or members that overlap, or compresses like a bomb.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MAX_MEMBERS:
        raise CannotConvert(f"holds {len(members):,} files, more than {MAX_MEMBERS:,}")
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise CannotConvert(f"would unpack to {total / 2**20:,.0f} MB, more than {max_bytes / 2**20:,.0f} MB")
    free = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < free:
            raise CannotConvert(f"its members overlap ({member.filename[:60]}), as in a decompression bomb")
        free = member.header_offset + 30 + member.compress_size
        if member.file_size > RATIO_FROM and member.file_size > MAX_RATIO * max(1, member.compress_size):
            ratio = member.file_size / max(1, member.compress_size)
            raise CannotConvert(f"{member.filename[:60]} is compressed {ratio:,.0f} times, as in a decompression bomb")
    return members


def check_container(file: BinaryIO) -> None:
    """Check an office file: the limits of a container, and no entity definitions in its XML.

    Raises:
        CannotConvert: The file is a bomb, or isn't a ZIP container.
    """
    if file.read(4) == b"\xd0\xcf\x11\xe0":
        raise CannotConvert("protected by a password, or in the binary format of Office before 2007")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        for member in check_members(archive):
            if member.flag_bits & 1:
                raise CannotConvert("protected by a password")
            suffix = "." + member.filename.rpartition(".")[2].lower()
            _check_xml(archive, member, _DECLARED[:3] if suffix in _WITH_DOCTYPE else _DECLARED, suffix in _XML)
    file.seek(0)


def _check_xml(archive: zipfile.ZipFile, member: zipfile.ZipInfo, forbidden: tuple[bytes, ...], is_xml: bool) -> None:
    """Check a member that is XML, whatever it is called: relationships may name any member as a part."""
    before = b""
    with archive.open(member) as content:
        while chunk := content.read(CHUNK):
            if not before and not is_xml and not _LOOKS_LIKE_XML.match(chunk):
                return
            if not before and _ENCODING.match(chunk.lstrip()):
                raise CannotConvert(f"{member.filename[:60]} is in an encoding that XML parts don't have")
            if any(mark in before + chunk for mark in forbidden):
                raise CannotConvert(f"{member.filename[:60]} defines XML entities, which could expand without limit")
            before = chunk[-32:]
