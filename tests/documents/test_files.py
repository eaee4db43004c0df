from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizewise.documents import clean_text, read_paths
from sizewise.errors import SizewiseError


def test_text_markdown_and_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\r\n\r\n\r\n\r\nTwo.", encoding="utf-8")
    (tmp_path / "b.md").write_text("# Title\n\nText.", encoding="utf-8")
    rows = [{"text": "Three.", "id": "t3", "license": "CC0"}, {"prompt": "Q?", "references": ["A"], "source": "a.txt"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    reading = read_paths([tmp_path])
    assert [d.text for d in reading.documents] == ["One.\n\nTwo.", "# Title\n\nText.", "Three."]
    assert reading.documents[2].license == "CC0"
    assert reading.examples[0].references == ("A",)
    assert reading.not_read == {}


def test_skipped_files_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Fine.", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(bytes(range(128, 256)))
    (tmp_path / "c.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "d.doc").write_bytes(b"old")
    (tmp_path / "e.txt").write_text("  \n ", encoding="utf-8")
    reading = read_paths([tmp_path])
    assert reading.not_read == {"not UTF-8": 1, "binary": 1, "unsupported type .doc": 1, "empty": 1}
    assert any("b.txt" in note for note in reading.notes)


def test_utf16_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Grüße".encode("utf-16"))
    assert read_paths([tmp_path]).documents[0].text == "Grüße"


@pytest.mark.parametrize("make", ["empty", "binary", "absent"])
def test_nothing_to_read_is_an_error_with_the_next_command(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "in"
    if make != "absent":
        folder.mkdir()
    if make == "binary":
        (folder / "x.bin").write_bytes(b"\x00")
    with pytest.raises(SizewiseError) as error:
        read_paths([folder])
    assert "sizewise read" in error.value.next_step


@pytest.mark.parametrize(
    "row",
    [
        '{"prompt": "Q", "references": []}',
        '{"prompt": "Q", "refrences": ["A"]}',
        '{"prompt": "Q", "references": {"text": "A"}}',
        '{"prompt": "Q", "messages": [{"role": "user", "content": "R"}], "references": ["A"]}',
        "[1]",
        "{broken",
        '{"messages": [{"role": "robot", "content": "x"}], "references": ["A"]}',
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "Q", "references": ["A"]}\n' + row, encoding="utf-8")
    with pytest.raises(SizewiseError, match="line 2"):
        read_paths([path])


def test_other_names_for_the_same_thing_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"question": "Q?", "answer": "A", "url": "u"}), encoding="utf-8")
    reading = read_paths([path])
    assert (reading.examples[0].prompt, reading.examples[0].references) == ("Q?", ("A",))
    assert reading.notes == ["x.jsonl: unused columns: url"]


def test_a_misspelled_key_is_suggested(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "Q", "refrences": ["A"]}', encoding="utf-8")
    with pytest.raises(SizewiseError, match="did you mean 'references' instead of 'refrences'"):
        read_paths([path])


@given(st.text())
def test_cleaning_is_idempotent(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)
