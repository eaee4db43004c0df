"""Files of any size and with damaged bytes: row by row, with constant memory, without losing the other rows."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import Reading, ReadOptions, read_paths, reading, text_lines
from sizewise.errors import SizewiseError
from sizewise.records import Document, Example, RejectedRow
from sizewise.store import RowFile

MEGABYTE = 2**20
WORDS = {
    "cp1251": "Привет, как дела? Это правила дома номер {}, где живёт школа.",
    "cp932": "鍵は{}番のフックにあります。ドアは左側です。",
    "cp949": "열쇠는 {}번 고리에 있습니다. 문은 왼쪽에 있습니다.",
    "gb18030": "钥匙在{}号挂钩上。门在左边。我们的办公室在右边。",
    "big5": "鑰匙在{}號掛鉤上。門在左邊。我們的辦公室在右邊。",
}


def lines(count: int, text: str = "Où est la clé {} ?") -> list[str]:
    return [json.dumps({"prompt": text.format(i), "answer": "Là."}, ensure_ascii=False) for i in range(count)]


def on_disk(folder: Path) -> Reading:
    return Reading(
        RowFile(folder / "d", Document, new=True),
        RowFile(folder / "e", Example, new=True),
        rejected=RowFile(folder / "r", RejectedRow, new=True),
    )


def peak(task: Callable[[], Any]) -> float:
    """Return the peak of the memory of Python objects in MB."""
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1] / MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["lines", "list", "table"])
def test_a_row_of_64_mb_is_rejected_without_being_held(tmp_path: Path, shape: str) -> None:
    path = tmp_path / ("x.csv" if shape == "table" else "x.json" if shape == "list" else "x.jsonl")
    before, after = lines(30), lines(30, "Wo ist {}?")
    with path.open("w", encoding="utf-8") as file:
        if shape == "table":
            file.write("prompt,answer\n" + "".join(f"Frage {i},Antwort\n" for i in range(30)) + '"')
        else:
            file.write("[" if shape == "list" else "")
            file.write("".join(line + (",\n" if shape == "list" else "\n") for line in before) + '{"prompt": "')
        for _ in range(64):
            file.write(('so lang { [ \\" wie ' * (MEGABYTE // 20)).replace('\\"', '""' if shape == "table" else '\\"'))
        if shape == "table":
            file.write('",A\n' + "".join(f"Noch {i},Antwort\n" for i in range(30)))
        else:
            file.write('", "answer": "A"}' + (",\n" if shape == "list" else "\n"))
            file.write((",\n" if shape == "list" else "\n").join(after) + ("]" if shape == "list" else ""))
    into = on_disk(tmp_path)
    assert peak(lambda: read_paths([path], into=into)) < 110
    assert len(into.examples) == 60
    (rejected,) = into.rejected
    assert rejected.line == (32 if shape == "table" else 31)
    assert "a row of" in rejected.reason


def test_a_large_file_is_read_with_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_HELD_ROWS", 200)
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines(4_000, "Où est la clé {} ? " + "x" * 2_000)), encoding="utf-8")
    into = on_disk(tmp_path)
    assert peak(lambda: read_paths([path], into=into)) < 5
    assert len(into.examples) == 4_000
    assert into.examples[3_999].id == "x.jsonl:4000"


def test_rows_put_on_disk_early_are_counted_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_HELD_ROWS", 10)
    rows = lines(100)
    rows[3] = "{"
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    found = read_paths([path])
    assert (len(found.examples), len(found.rejected)) == (99, 1)
    assert "x.jsonl: 1 of 100 rows was rejected (see rejected.jsonl)" in found.notes
    path.write_text("\n".join(rows[:50] + ["{"] * 50), encoding="utf-8")
    with pytest.raises(SizewiseError, match="51 of 100 rows") as error:
        read_paths([path])
    assert error.value.what.count("\n  line") == 10


def test_a_list_that_breaks_off_after_rows_were_kept_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_HELD_ROWS", 10)
    path = tmp_path / "x.json"
    path.write_text("[" + ",\n".join(lines(100)), encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"cannot be read to its end: .*invalid at line 100"):
        read_paths([path])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", *WORDS])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "json"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_are_read_in_their_encoding(tmp_path: Path, encoding: str, kind: str, end: str) -> None:
    text = WORDS.get(encoding, "Où est la clé de l'été {} ? Près du café.")
    path = tmp_path / f"x.{kind}"
    rows = lines(40, text)
    table = ["prompt,answer", *(f'"{text.format(i)}",Là.' for i in range(40))]
    whole = end.join(table) if kind == "csv" else f"[{f',{end}'.join(rows)}]" if kind == "json" else end.join(rows)
    raw = (whole if encoding not in WORDS else whole.replace("Là", "La")).encode(encoding)
    path.write_bytes(raw)
    found = read_paths([path])
    assert [example.prompt for example in found.examples] == [text.format(i) for i in range(40)]
    assert len(found.rejected) == 0
    guessed = [note for note in found.notes if f"decoded as {encoding}" in note]
    assert len(guessed) == (encoding in ("cp1252", *WORDS))


def test_a_row_in_another_encoding_costs_at_most_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [line.encode() for line in lines(60)]
    rows[7] = lines(60, "Où est la clé de l'été {} ? Près du café, à côté.")[7].encode("cp1252")
    path.write_bytes(b"\n".join(rows))
    found = read_paths([path])
    assert len(found.examples) == 60
    assert list(found.examples)[7].prompt == "Où est la clé de l'été 7 ? Près du café, à côté."
    assert any("UTF-8, cp1252 in 1 row (a guess)" in note for note in found.notes)
    rows[9] = rows[9].replace("é".encode(), b"\x81\x9d\xff")
    path.write_bytes(b"\n".join(rows))
    found = read_paths([path])
    assert [row.line for row in found.rejected] == [10]
    assert "isn't UTF-8" in next(iter(found.rejected)).reason


def test_an_element_of_a_list_in_another_encoding_costs_at_most_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    rows = [line.encode() for line in lines(60)]
    rows[7] = lines(60, "Où est la clé de l'été {} ? Près du café, à côté.")[7].encode("cp1252")
    rows[9] = rows[9].replace("é".encode(), b"\x81\x9d\xff")
    path.write_bytes(b"[" + b",\n".join(rows) + b"]")
    found = read_paths([path])
    assert list(found.examples)[7].prompt == "Où est la clé de l'été 7 ? Près du café, à côté."
    assert [row.line for row in found.rejected] == [10]
    assert "a byte that isn't UTF-8" in next(iter(found.rejected)).reason


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_nul_bytes_cost_only_their_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    rows = [line.encode() for line in lines(60)] if kind == "jsonl" else [f"Frage {i},Ja.".encode() for i in range(60)]
    rows[5] = rows[5].replace(b"a", b"\x00")
    rows[6] = b"\x00" * 400  # what a file system leaves behind after a crash
    path.write_bytes(b"\n".join(rows if kind == "jsonl" else [b"prompt,answer", *rows]))
    found = read_paths([path])
    assert len(found.examples) == 58
    assert [row.line for row in found.rejected] == ([6, 7] if kind == "jsonl" else [7, 8])
    assert "NUL" in next(iter(found.rejected)).reason


def test_a_text_with_a_damaged_line_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    text = [f"La clé numéro {i} est là, près du café.".encode() for i in range(60)]
    text[30] = "La clé est là-bas, à côté du café.".encode("cp1252")
    path.write_bytes(b"\n".join(text))
    found = read_paths([path])
    assert "La clé est là-bas, à côté du café." in next(iter(found.documents)).text
    assert any("cp1252 in 1 line" in note for note in found.notes)


def test_line_separators_inside_texts_are_no_ends_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes("\r\n".join(lines(5, "Eins\u2028zwei\u0085drei {}")).encode())
    assert [example.prompt for example in read_paths([path]).examples] == [
        f"Eins\u2028zwei\u0085drei {i}" for i in range(5)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_compressed_files_are_read(tmp_path: Path, kind: str) -> None:
    between = "\t" if kind == "tsv" else ","
    table = [f"prompt{between}answer", *(f"Frage {i}{between}Antwort" for i in range(40))]
    text = "\n".join(table) if kind in ("csv", "tsv") else f"[{','.join(lines(40))}]" if kind == "json" else None
    path = tmp_path / f"x.{kind}.gz"
    path.write_bytes(gzip.compress((text or "\n".join(lines(40))).encode()))
    found = read_paths([tmp_path])
    assert len(found.examples) == 40
    assert next(iter(found.examples)).id.startswith(f"x.{kind}.gz:")


def test_compressed_files_that_are_damaged_or_grow_without_limit_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(lines(5)), encoding="utf-8")
    whole = gzip.compress("\n".join(lines(400, "Frage {} " + "abc" * 99)).encode())
    (tmp_path / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jsonl.gz").write_bytes(b"no gzip at all")
    monkeypatch.setattr(text_lines, "_FREE_BYTES", MEGABYTE)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b"x" * (40 * MEGABYTE)))
    found = read_paths([tmp_path])
    assert len(found.examples) == 5
    assert found.not_read == {"damaged (gzip)": 2, "expands to more than 200 times its size": 1}


def test_an_open_quote_costs_only_its_line(tmp_path: Path) -> None:
    rows = [f"Frage {i},Antwort {i}" for i in range(60)]
    rows[20] = '"Frage 20,Antwort 20'
    path = tmp_path / "x.csv"
    path.write_text("\n".join(["prompt,answer", *rows]), encoding="utf-8")
    found = read_paths([path])
    assert len(found.examples) == 59
    assert [(row.line, row.reason) for row in found.rejected] == [(22, "the quote opened in line 22 is never closed")]


def test_an_invalid_element_of_a_list_costs_only_itself(tmp_path: Path) -> None:
    rows = lines(60)
    rows[20] = '{"prompt": "Q", "answer": }'
    path = tmp_path / "x.json"
    path.write_text("[" + ",\n".join(rows) + "]", encoding="utf-8")
    found = read_paths([path])
    assert len(found.examples) == 59
    assert [row.line for row in found.rejected] == [21]


def test_ids_that_repeat_or_are_0_are_kept_as_they_are(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        rows = [json.dumps({"id": i // 2, "prompt": f"{name} {i}?", "answer": "A"}) for i in range(4)]
        (tmp_path / name).write_text("\n".join(rows), encoding="utf-8")
    assert [example.id for example in read_paths([tmp_path]).examples] == ["0", "0", "1", "1"] * 2


def test_more_rows_than_allowed_stop_a_streamed_table(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,answer\n" + "Q,A\n" * 30 + "Q,A,B\n" * 3, encoding="utf-8")
    with pytest.raises(SizewiseError, match=r"3 of 33 rows cannot be used \(9.1%\)"):
        read_paths([path])
    assert len(read_paths([path], ReadOptions(0.1)).examples) == 30
