from __future__ import annotations

import pytest

from sizewise.documents import clean_text


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x85", "\x1c", "\x1d", "\x1e", "\u2028", "\u2029", "\r", "\r\n"])
def test_what_separates_lines_and_pages_becomes_a_line_end(mark: str) -> None:
    assert clean_text(f"Harbor Office{mark}Pier 3") == "Harbor Office\nPier 3"


def test_a_zero_width_space_stays_only_where_it_is_the_border_of_words() -> None:
    assert clean_text("ភាសា\u200bខ្មែរ") == "ភាសា\u200bខ្មែរ"
    assert clean_text("ภาษา\u200bไทย") == "ภาษา\u200bไทย"
    assert clean_text("with\u200bout") == "without"
