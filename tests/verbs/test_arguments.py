"""Verbs take paths, ids and saved records alike, and say in words what they cannot take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sizewise
from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Dataset, Needs, Study
from sizewise.store import Saved, Store

WRONG: tuple[Any, ...] = (None, 5, "", [None], {})


def test_paths_ids_and_records_name_the_same(dataset: Saved[Dataset], store: Store, tmp_path: Path) -> None:
    by_id = sizewise.evaluate("fake:echo", dataset.id, "token_f1", store=store)
    assert sizewise.evaluate("fake:echo", dataset, ["token_f1"], store=store) == by_id
    other = sizewise.evaluate("fake:silent", dataset, "token_f1", store=store)
    compared = sizewise.compare([by_id, other], store=store)
    assert sizewise.compare([by_id.id, other.id], store=store) == compared
    assert sizewise.compare({"a": by_id, "b": other.id}, store=store).record.evaluations == {
        "a": by_id.id,
        "b": other.id,
    }
    # No quality was named and only this one was measured.
    assert sizewise.choose(compared, store=store).record.quality == "token_f1"
    assert sizewise.choose(compared.id, store=store) == sizewise.choose(compared, store=store)


def test_one_path_is_one_source(text_folder: Path, store: Store) -> None:
    assert sizewise.read(str(text_folder), store=store) == sizewise.read([text_folder], store=store)


def test_a_study_is_a_file_a_folder_or_a_config(tmp_path: Path, text_folder: Path, store: Store) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        f'[study]\nname = "s"\n[data]\ndocuments = ["{text_folder}"]\nmetrics = ["token_f1"]\nbaseline = false\n'
        + "".join(f'[[candidates]]\nname = "{name}"\nmodel = "fake:{name}"\n' for name in ("echo", "silent")),
        encoding="utf-8",
    )
    made: Saved[Study] = sizewise.study(file, store=store)
    assert sizewise.study(str(file), store=store).id == made.id
    chosen = sizewise.choose(made, store=store)
    assert chosen.record.comparison == made.record.comparison
    assert sizewise.choose(made.id, store=store) == chosen
    assert [row["candidate"] for row in made.record.rows()] == ["echo", "silent"]
    page = Path(made.record.report).read_text(encoding="utf-8")
    assert "Answers with the lowest Token F1" in page  # the metric that was measured, not one of ours
    assert "chrF" not in page
    assert "<li>echo: token F1" in page  # a name keeps its first letter
    assert "1 candidates" not in page


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    "verb",
    [
        lambda value, store: sizewise.read(value, store=store),
        lambda value, store: sizewise.study(value, store=store) if value is not None else sizewise.read(value),
        lambda value, store: sizewise.evaluate(value, "data-1", store=store),
        lambda value, store: sizewise.evaluate("fake:echo", value, store=store),
        lambda value, store: sizewise.train(value, "data-1", store=store),
        lambda value, store: sizewise.train("scratch", value, store=store),
        lambda value, store: sizewise.compare(value, store=store),
        lambda value, store: sizewise.choose(value, store=store),
        lambda value, store: sizewise.open_model(value, store=store),
    ],
)
def test_what_cannot_be_taken_is_told_in_words(verb: Callable[[Any, Store], Any], value: Any, store: Store) -> None:
    with pytest.raises(SizewiseError) as told:
        verb(value, store)
    assert told.value.what.endswith(".")


def test_ids_are_not_taken_letter_by_letter(dataset: Saved[Dataset], store: Store) -> None:
    with pytest.raises(UsageError, match="several evaluations, not 'eval-1'"):
        sizewise.compare("eval-1", store=store)
    with pytest.raises(UsageError, match="dataset, not a model"):
        sizewise.evaluate(dataset, dataset, store=store)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="The prompt is 5"):
        sizewise.open_model("fake:echo").ask(5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"file nofile.jsonl doesn't exist"):
        sizewise.evaluate("fake:echo", "nofile.jsonl", store=store)


def test_a_minimum_beyond_the_range_of_its_metric_is_refused(dataset: Saved[Dataset], store: Store) -> None:
    results = [sizewise.evaluate(f"fake:{name}", dataset, "token_f1", store=store) for name in ("echo", "silent")]
    with pytest.raises(UsageError, match="min_quality is 40, but token F1 ranges from 0 to 1"):
        sizewise.choose(sizewise.compare(results, store=store), Needs(min_quality=40), store=store)


def test_tables_become_data_frames(dataset: Saved[Dataset], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sizewise.evaluate("fake:echo", dataset, "token_f1", store=store)
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(DataFrame=list))  # type: ignore[arg-type]
    rows = result.to_polars()
    assert rows == result.record.rows()
    assert {row["score"] for row in rows} == set(result.record.scores)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SizewiseError, match="pandas is not installed"):
        result.to_pandas()
    with pytest.raises(SizewiseError, match="has no table"):
        Needs().rows()


def test_a_notebook_shows_the_summary_and_escapes_names(dataset: Saved[Dataset], store: Store) -> None:
    results = [sizewise.evaluate(f"fake:{name}", dataset, "token_f1", store=store) for name in ("echo", "silent")]
    compared = sizewise.compare({"<script>alert(1)</script>": results[0], "b": results[1]}, store=store)
    for saved in (compared, sizewise.choose(compared, store=store)):
        shown = saved._repr_html_()
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown
    assert sizewise.__version__
