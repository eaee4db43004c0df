from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sizewise.store import numbered_lines, read_jsonl, sha256_of


def test_line_numbers_count_blank_lines_and_only_line_feeds_end_a_line() -> None:
    text = '\ufeff{"a": 1}\n\n{"text": "one\u2028two"}\r\n\ufeff{"b": 2}'
    assert list(numbered_lines(text)) == [(1, '{"a": 1}'), (3, '{"text": "one\u2028two"}\r'), (4, '{"b": 2}')]


def test_a_json_lines_file_is_parsed_with_its_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": "\u2028"}\n\n[1, 2]\n'.encode())
    assert read_jsonl(path) == [(1, {"a": "\u2028"}), (3, [1, 2])]


def test_an_invalid_line_is_named_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": \n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 is not valid JSON"):
        read_jsonl(path)
    assert read_jsonl(path, skip_invalid=True) == [(1, {"a": 1})]


def test_files_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="utf-8"):
        read_jsonl(path)


def test_sha256_of_hashes_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert sha256_of(path) == hashlib.sha256(b"content").hexdigest()
