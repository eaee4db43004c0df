from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.documents import decoding, read_paths
from sizewise.documents.decoding import Unreadable, decode_file

GERMAN = "Wo ist die Tür?\nDie Tür ist über dem Fluß, der Käse kostet 5 €.\n"
RUSSIAN = "Привет, как дела? Это правила дома, где живёт школа.\n" * 2


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", GERMAN), ("utf-8-sig", GERMAN), ("utf-16", GERMAN), ("utf-32", GERMAN), ("utf-16-le", GERMAN),
        ("utf-16-be", GERMAN), ("cp1252", GERMAN), ("cp1252", "The jalapeño of Mr Muñoz costs \u201c5 €\u201d.\n" * 9),
        ("cp1252", "L\u2019été, le café est fermé à cause de l\u2019œuvre.\n" * 3), ("cp1251", RUSSIAN),
    ],
)  # fmt: skip
def test_text_is_read_in_its_encoding(tmp_path: Path, encoding: str, text: str) -> None:
    if encoding.startswith("cp"):
        pytest.importorskip("charset_normalizer")
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert decode_file(path) == (text, encoding if encoding.startswith("cp") else "")


def test_a_guessed_encoding_is_noted(tmp_path: Path) -> None:
    pytest.importorskip("charset_normalizer")
    (tmp_path / "a.txt").write_bytes(GERMAN.encode("cp1252"))
    reading = read_paths([tmp_path])
    assert reading.documents[0].text == GERMAN.strip()
    assert reading.notes == ["a.txt: decoded as cp1252 (a guess); save the file as UTF-8 to be sure"]


def test_a_tie_between_encodings_is_not_broken(tmp_path: Path) -> None:
    pytest.importorskip("charset_normalizer")
    path = tmp_path / "a.txt"
    path.write_bytes(("Zavřeno v pondělí, šatna je v přízemí. " * 2).encode("cp1250"))
    with pytest.raises(Unreadable, match=r"not UTF-8 \(could be cp1250 or cp1252\)"):
        decode_file(path)


def test_without_the_optional_package_nothing_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "find_spec", lambda name: None)
    path = tmp_path / "a.txt"
    path.write_bytes(GERMAN.encode("cp1252"))
    with pytest.raises(Unreadable, match="not UTF-8"):
        decode_file(path)
