"""The [decision] table of a study file."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import UsageError
from sizewise.studies.config import config_text, read_config

STUDY = """
[data]
examples = "rows.csv"
[decision]
{table}
[[candidates]]
model = "fake:echo"
"""


def write(folder: Path, table: str) -> Path:
    path = folder / "study.toml"
    path.write_text(STUDY.format(table=table), encoding="utf-8")
    return path


def test_the_question_is_read_written_and_used(tmp_path: Path) -> None:
    table = """type = "predicate"
instructions = "Is it fraud?"
positive = "fraud"
options = [{value = "legit", description = "paid by the owner"}, {value = "fraud"}]"""
    config = read_config(write(tmp_path, table))
    assert config.question is not None
    assert [option.value for option in config.question.options] == ["fraud", "legit"]
    assert config.columns.question == config.question
    again = tmp_path / "again.toml"
    again.write_text(config_text(config), encoding="utf-8")
    assert read_config(again).question == config.question


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('type = "binary"', "the type 'binary'"),
        ('type = "predicate"\noptions = ["a", "b", "c"]', "names 3 options"),
        ('options = ["a", "a"]', "'a' occurs twice"),
        ('type = "predicate"\noptions = ["a", "b"]\npositive = "c"', "the positive option 'c'"),
        ('kind = "choice"', "kind"),
    ],
)
def test_an_invalid_question_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_config(write(tmp_path, table))
