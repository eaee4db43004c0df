"""Parquet, Arrow and Feather, and the folders that Hugging Face datasets save."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import ReadOptions, columnar, read_paths
from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.records import Request

pa = pytest.importorskip("pyarrow")

ROWS = [{"text": f"请问第{i}号包裹在哪里", "label": i % 2} for i in range(40)]
FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["运输", "退款"], "_type": "ClassLabel"}}


def table(rows: list[dict[str, Any]], features: dict[str, Any] | None = None) -> Any:
    made = pa.Table.from_pylist(rows)
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})} if features else {}
    )


def save(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(data, path, row_group_size=7)
    elif path.suffix == ".feather":
        import pyarrow.feather

        pyarrow.feather.write_feather(data, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, data.schema) as writer:
            writer.write_table(data, max_chunksize=9)
    return path


@pytest.mark.parametrize("kind", [".parquet", ".feather", ".arrow"])
def test_rows_are_read_with_the_names_of_their_labels(tmp_path: Path, kind: str) -> None:
    reading = read_paths([save(tmp_path / f"x{kind}", table(ROWS, FEATURES))])
    assert [(e.prompt, e.label, e.references) for e in reading.examples] == [
        (row["text"], ("运输", "退款")[row["label"]], (("运输", "退款")[row["label"]],)) for row in ROWS
    ]
    assert next(iter(reading.examples)).id == f"x{kind}:1"
    assert dict(reading.forms) == {"text + label": 40}


def test_labels_without_names_stay_numbers_and_wrong_ones_are_rejected(tmp_path: Path) -> None:
    reading = read_paths([save(tmp_path / "x.parquet", table(ROWS))])
    assert {e.label for e in reading.examples} == {"0", "1"}
    wrong = [*ROWS, {"text": "other", "label": -1}]
    reading = read_paths([save(tmp_path / "x.parquet", table(wrong, FEATURES))])
    assert [row.reason for row in reading.rejected] == ["'label' is -1, but the labels are numbered from 0 to 1"]


def test_nested_columns_dates_and_decimals_are_kept(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [{"role": "user", "content": f"Price {i}?"}, {"role": "assistant", "content": f"It is {i}."}],
            "created_at": datetime.datetime(2026, 1, i + 1, tzinfo=datetime.UTC),
            "tags": ["a", "b"],
        }
        for i in range(5)
    ]
    first = next(iter(read_paths([save(tmp_path / "x.parquet", table(rows))]).examples))
    assert (first.prompt, first.references, first.tags) == ("Price 0?", ("It is 0.",), ("a", "b"))
    assert first.time == "2026-01-01T00:00:00+00:00"
    prices = [
        {"prompt": "Price?", "answer": decimal.Decimal("4.50")},
        {"prompt": "Other?", "answer": decimal.Decimal("1.10")},
    ]
    found = read_paths([save(tmp_path / "y.parquet", table(prices))]).examples
    assert [e.references for e in found] == [("4.50",), ("1.10",)]


def test_what_is_no_text_is_rejected(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q{i}?", "answer": "A", "image": None} for i in range(30)]
    bad = [{"prompt": "Q?", "answer": None, "image": {"bytes": b"\x89PNG", "path": None}}]
    reading = read_paths([save(tmp_path / "x.parquet", table([*rows, *bad]))])
    assert [(row.line, row.reason) for row in reading.rejected] == [
        (31, "the reference answer is missing: 'answer' is null")
    ]


def test_saved_datasets_keep_their_splits_and_label_names(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    for split, rows in (("train", ROWS[:30]), ("test", ROWS[30:])):
        save(folder / split / "data-00000-of-00001.arrow", table(rows))
        (folder / split / "dataset_info.json").write_text(json.dumps({"features": FEATURES}), encoding="utf-8")
        (folder / split / "state.json").write_text('{"_data_files": []}', encoding="utf-8")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}', encoding="utf-8")
    reading = read_paths([folder])
    assert [e.split for e in reading.examples] == ["test"] * 10 + ["train"] * 30
    assert {e.label for e in reading.examples} == {"运输", "退款"}
    assert reading.not_read == {}


def test_folders_as_on_the_hub_keep_their_splits_and_leave_the_card_out(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    for split, rows in (("train", ROWS[:30]), ("validation", ROWS[30:34]), ("test", ROWS[34:])):
        save(folder / "data" / f"{split}-00000-of-00001.parquet", table(rows, FEATURES))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A dataset\n", encoding="utf-8")
    reading = read_paths([folder])
    assert [e.split for e in reading.examples] == ["test"] * 6 + ["train"] * 30 + ["validation"] * 4
    assert len(reading.documents) == 0
    assert any("README.md" in note for note in reading.notes)


def test_large_row_groups_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "_BYTES", 20_000)
    rows = [{"text": f"{i} " + "x" * 5_000} for i in range(50)]
    import pyarrow.parquet

    pyarrow.parquet.write_table(table(rows), tmp_path / "x.parquet")
    sizes = [batch.num_rows for batch in columnar._batches(tmp_path / "x.parquet")]
    assert sum(sizes) == 50
    assert max(sizes) <= 50
    assert len(read_paths([tmp_path / "x.parquet"]).documents) == 50


def test_damaged_files_and_a_missing_package_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (".parquet", ".arrow", ".feather"):
        (tmp_path / f"x{kind}").write_bytes(b"PAR1 no such thing")
        with pytest.raises(SizewiseError, match=f"{kind}, damaged or of an unknown kind"):
            read_paths([tmp_path / f"x{kind}"])
    monkeypatch.setattr(columnar, "find_spec", lambda name: None)
    with pytest.raises(SizewiseError) as error:
        read_paths([tmp_path / "x.parquet"])
    assert "[data]" in error.value.what
    assert "[data]" in error.value.next_step


def test_answers_recorded_in_parquet_are_found(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", table([{"id": i, "completion": f"answer {i}"} for i in range(3)]))
    (answer,) = open_model(f"recorded:{path}").complete([Request(id="0", text="?")])
    assert answer.text == "answer 0"


def test_labels_in_lists_and_under_a_named_column_have_their_names(tmp_path: Path) -> None:
    for feature in ({"feature": FEATURES["label"], "_type": "Sequence"}, [FEATURES["label"]]):
        rows = [{"text": row["text"], "labels": [row["label"]]} for row in ROWS]
        features = {"text": FEATURES["text"], "labels": feature}
        reading = read_paths([save(tmp_path / "x.parquet", table(rows, features))])
        assert {e.label for e in reading.examples} == {"运输", "退款"}
    rows = [{"text": row["text"], "Thema": row["label"]} for row in ROWS]
    path = save(tmp_path / "x.parquet", table(rows, {"text": FEATURES["text"], "Thema": FEATURES["label"]}))
    assert {e.label for e in read_paths([path], ReadOptions(label="Thema")).examples} == {"运输", "退款"}
    assert {e.references for e in read_paths([path], ReadOptions(reference="Thema")).examples} == {("运输",), ("退款",)}


def test_keys_that_other_rows_have_are_no_arguments(tmp_path: Path) -> None:
    def row(arguments: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
        call = {"function": {"name": "find", "arguments": arguments}}
        turns = [{"role": "user", "content": "Wo?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
        return {"messages": turns, "tools": [{"name": "find", "parameters": properties}]}

    data = table([row({"city": "東京"}, {"city": {"type": "string"}}), row({"price": 3}, {"price": {"type": "int"}})])
    found = list(read_paths([save(tmp_path / "x.parquet", data)]).examples)
    assert [json.loads(e.references[0])["arguments"] for e in found] == [{"city": "東京"}, {"price": 3}]
    assert [list(json.loads(e.tools)[0]["parameters"]) for e in found] == [["city"], ["price"]]


def test_only_files_that_a_saved_dataset_names_are_read(tmp_path: Path) -> None:
    save(tmp_path / "d" / "data-00000-of-00001.arrow", table(ROWS))
    save(tmp_path / "d" / "cache-1f2e3d.arrow", table(ROWS))
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (tmp_path / "d" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    reading = read_paths([tmp_path / "d"])
    assert len(reading.examples) == len(ROWS)
    assert any("cache-1f2e3d.arrow: not part of the saved dataset" in note for note in reading.notes)
