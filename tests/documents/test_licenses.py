from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.documents import read_paths
from sizewise.documents.licenses import license_name, stated_license


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("<!-- SPDX-License-Identifier: Apache-2.0 -->\nText.", "Apache-2.0"),
        ("# SPDX-License-Identifier: MIT OR GPL-2.0-only\n", "MIT OR GPL-2.0-only"),
        ("---\ntitle: Fees\nlicense: CC BY-SA 4.0\n---\nText.", "CC-BY-SA-4.0"),
        ("---\nlicence: 'MIT'\n---\nText.", "MIT"),
        ("---\ntitle: license\n---\nThe license: MIT is popular.", ""),
        ("Text.\n\nLizenziert unter https://creativecommons.org/licenses/by-nc/3.0/de/", "CC-BY-NC-3.0"),
        (
            "This work is under a Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 License.",
            "CC-BY-NC-ND-4.0",
        ),
        ("Creative Commons Attribution-ShareAlike 4.0 International", "CC-BY-SA-4.0"),
        ("Released under CC0 1.0, see creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("Text under CC BY 4.0.", "CC-BY-4.0"),
        ("Write to a colleague, cc Byron, in Creative writing.", ""),
        ("The licence of the harbor pilot expires.", ""),
    ],
)
def test_a_text_states_its_license(text: str, license: str) -> None:
    assert stated_license(text) == license


def test_names_of_creative_commons_licenses() -> None:
    assert license_name("http://creativecommons.org/licenses/by-nc-sa/2.5/") == "CC-BY-NC-SA-2.5"
    assert license_name("all rights reserved") == ""


@pytest.mark.parametrize(
    ("name", "text", "license"),
    [
        ("LICENSE", "Apache License\nVersion 2.0, January 2004", "Apache-2.0"),
        ("LICENSE.txt", "Permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
        ("COPYING", "GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007", "GPL-3.0"),
        ("LICENSE", "Creative Commons Attribution 4.0 International Public License", "CC-BY-4.0"),
        ("LICENSE", "Only for the harbor office.", "see LICENSE"),
    ],
)
def test_the_license_of_a_folder_counts_for_its_files(tmp_path: Path, name: str, text: str, license: str) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    (folder / "a.md").write_text("Text one.", encoding="utf-8")
    (folder / "b.md").write_text("<!-- SPDX-License-Identifier: ISC -->\nText two.", encoding="utf-8")
    licenses = {document.id: document.license for document in read_paths([folder]).documents}
    assert (licenses["a.md"], licenses["b.md"]) == (license, "ISC")
