"""Find the license that a text states, or that a file beside it holds."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

HEAD, TAIL = 6_000, 6_000
"""Characters at the beginning and the end of a text in which a license is looked for."""
FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md", "COPYING", "UNLICENSE")
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]{2,80}?)[ \t]*(?:\*/|-->|$)", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,4000}?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_LICENSE = re.compile(r"^licen[sc]e:[ \t]*[\"']?([^\n\"']{2,100})", re.MULTILINE | re.IGNORECASE)
_CC_URL = re.compile(
    r"creativecommons\.org/(?:licenses/(by(?:-nc)?(?:-sa|-nd)?)/(\d\.\d)|publicdomain/(zero|mark)/(\d\.\d))",
    re.IGNORECASE,
)
_CC_NAME = re.compile(
    r"\bCC[ -](BY(?:[ -](?:NC|SA|ND)){0,2}|0)(?:[ -]v?(\d\.\d))?(?![\w])|"
    r"Creative Commons[\s,]+(Attribution(?:[\s-]+(?:Non-?Commercial|Share-?Alike|No-?Deriv(?:ative)?s|and))*|Zero)"
    r"(?:[\s(]*(?:CC[ -][A-Z -]+\)?\s*)?v?(\d\.\d)?)?",
    re.IGNORECASE,
)
_TEXTS = (
    ("Apache-2.0", "apache license version 2.0"),
    ("AGPL-3.0", "gnu affero general public license version 3"),
    ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("BSD-3-Clause", "neither the name of"),
    ("BSD-2-Clause", "redistribution and use in source and binary forms, with or without"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    ("OGL-UK-3.0", "open government licence v3.0"),
)


def license_name(text: str) -> str:
    """Return the SPDX identifier of a Creative Commons license named or linked in a text, empty if there is none."""
    match = _CC_URL.search(text)
    if match:
        if match[3]:
            return "CC0-1.0" if match[3].lower() == "zero" else "CC-PDM-1.0"
        return f"CC-{match[1].upper()}-{match[2]}"
    match = _CC_NAME.search(text)
    if not match:
        return ""
    if match[1]:
        parts, version = match[1].upper().replace(" ", "-"), match[2]
    else:
        words = re.sub(r"[\s-]", "", match[3].lower())
        marks = (("noncommercial", "NC"), ("sharealike", "SA"), ("noderiv", "ND"))
        parts = "0" if words == "zero" else "-".join(["BY", *(mark for word, mark in marks if word in words)])
        version = match[4]
    name = "CC0" if parts == "0" else f"CC-{parts}"
    return f"{name}-{version or '1.0'}" if name == "CC0" else f"{name}-{version}" if version else name


def stated_license(text: str) -> str:
    """Return the license that a text states about itself, empty if it states none.

    Looked for are an SPDX line, a key `license` in front matter, and Creative Commons licenses in a sentence about the
    license of the text, all of them near its beginning or end.
    """
    front = _FRONT_MATTER.match(text)
    stated = _FRONT_LICENSE.search(front[1]) if front else None
    if stated:
        return license_name(stated[1]) or stated[1].strip()
    for part in {text[:HEAD], text[-TAIL:]}:
        spdx = _SPDX.search(part)
        if spdx:
            return spdx[1].strip()
    for part in (text[:HEAD], text[-TAIL:]):
        if "creative commons" in part.lower() or "creativecommons.org" in part.lower() or " CC BY" in part:
            name = license_name(part)
            if name:
                return name
    return ""


@lru_cache(maxsize=4096)
def folder_license(folder: Path) -> str:
    """Return the license in a file LICENSE or COPYING of a folder, empty if there is none."""
    for name in FILES:
        path = folder / name
        try:
            if path.is_file():
                with path.open(encoding="utf-8", errors="replace") as file:
                    text = file.read(HEAD)
                return _named(text) or f"see {name}"
        except OSError:
            continue
    return ""


def _named(text: str) -> str:
    words = " ".join(re.sub(r"[^\w.,' -]", " ", text.lower()).replace(",", "").split())
    for name, phrase in _TEXTS:
        if phrase.replace(",", "") in words:
            return name
    spdx = _SPDX.search(text)
    return spdx[1].strip() if spdx else license_name(text)
