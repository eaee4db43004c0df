from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.models import open_model
from sizewise.records import Request


def test_recorded_answers_are_found_by_id(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "a", "completion": "yes, it is"}\n\n{"id": 2, "completion": "no"}\n', encoding="utf-8")
    model = open_model(f"recorded:{path}")
    answers = list(model.complete([Request(id="a", text="?"), Request(id="2", text="?"), Request(id="c", text="?")]))
    assert [answer.text for answer in answers] == ["yes, it is", "no", ""]
    assert answers[2].finish == "error"
    assert not model.describe().can_score
    with pytest.raises(SizewiseError, match="log-likelihoods"):
        model.score(["x"])


@pytest.mark.parametrize("text", ["", "not json", '{"id": 1}', "[1]"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SizewiseError, match="answers"):
        open_model(f"recorded:{path}")
