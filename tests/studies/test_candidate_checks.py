"""What a study file can't ask for is refused when it is read, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import UsageError
from sizewise.studies import find_config, read_config
from sizewise.studies.baselines import NAMES

FILE = """
[data]
examples = "examples.jsonl"
[[candidates]]
name = "first"
model = "{model}"
[[candidates]]
name = "{name}"
model = "fake:silent"
[needs]
{needs}
"""


def write(tmp_path: Path, model: str = "fake:echo", name: str = "second", needs: str = "") -> Path:
    path = tmp_path / "study.toml"
    path.write_text(FILE.format(model=model, name=name, needs=needs), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [*sorted(NAMES), " Copying (Baseline) "])
def test_the_name_of_a_baseline_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="like a baseline"):
        read_config(write(tmp_path, name=name))


@pytest.mark.parametrize(
    ("needs", "named"),
    [
        ('incumbent = "first"', "without max_loss"),
        ("max_loss = 0.1", "without incumbent"),
        ('incumbent = "frist"\nmax_loss = 0.1', "Did you mean 'first'"),
        ('incumbent = "first"\nmax_loss = 0.1\nmin_quality = 0.5', "min_quality and incumbent"),
        ('today = "gpt"', "The today 'gpt'"),
    ],
)
def test_needs_that_name_no_candidate_are_refused(tmp_path: Path, needs: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_config(write(tmp_path, needs=needs))


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("pkg:doesnotexist", "pkg:doesnotexist"),
        ("pkg:smollm2-135", "Did you mean pkg:smollm2-135m"),
        ("fake:ecco", "Did you mean fake:echo"),
        ("recorded:absent.jsonl", "absent.jsonl"),
        ("recorded:demo:absent", "demo:absent"),
        ("gguf:absent.gguf", "absent.gguf"),
        ("opennai:gpt", "opennai:gpt"),
        ("rag:data-1:pkg:absent", "pkg:absent"),
        ("no-such-folder", "no-such-folder"),
    ],
)
def test_a_model_that_cannot_exist_is_refused_with_its_candidate(tmp_path: Path, model: str, named: str) -> None:
    with pytest.raises(UsageError, match=named) as refused:
        read_config(write(tmp_path, model=model))
    assert "'first'" in refused.value.what


def test_models_that_may_exist_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "answers.jsonl").write_text("", encoding="utf-8")
    for model in (
        "pkg:minilm",
        "hf:org/name",
        "run:checkpoint-1",
        "openai:gpt",
        "http://127.0.0.1:1/v1#x",
        "folder",
        "recorded:answers.jsonl",
    ):
        read_config(write(tmp_path, model=model))


@pytest.mark.parametrize("name", ["my odd.csv", "x.jsonl", "x.xlsx", "x.parquet", "x.csv.gz"])
def test_a_table_given_as_a_study_is_answered_with_the_command_for_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a,b\n1,2\n")
    with pytest.raises(UsageError, match="table of examples") as refused:
        find_config(tmp_path / name)
    path = str(tmp_path / name)
    quoted = f"'{path}'" if " " in path else path
    assert refused.value.next_step == f"sizewise init --domain support --examples {quoted}"


@pytest.mark.parametrize("name", ["x.pdf", "x.docx", "x.txt", "x.md"])
def test_a_document_given_as_a_study_is_studied(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text")
    assert find_config(tmp_path / name).documents == (str(tmp_path / name),)


def test_a_study_file_may_have_any_name(tmp_path: Path) -> None:
    for name in ("study.txt", "study"):
        assert find_config(write(tmp_path).rename(tmp_path / name)).candidates[0].name == "first"
