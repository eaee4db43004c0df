"""Limits on ZIP containers (DOCX, XLSX, PPTX, ODT, EPUB and archives), checked before anything parses them."""

from __future__ import annotations

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
_WITH_DOCTYPE = (".opf", ".ncx")  # older EPUBs name a DTD there; no parser of ours loads it


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
            if suffix in _XML:
                _check_xml(archive, member, _DECLARED[:3] if suffix in _WITH_DOCTYPE else _DECLARED)
    file.seek(0)


def _check_xml(archive: zipfile.ZipFile, member: zipfile.ZipInfo, forbidden: tuple[bytes, ...]) -> None:
    before = b""
    with archive.open(member) as content:
        while chunk := content.read(CHUNK):
            if any(mark in before + chunk for mark in forbidden):
                raise CannotConvert(f"{member.filename[:60]} defines XML entities, which could expand without limit")
            before = chunk[-32:]
