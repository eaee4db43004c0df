"""Tasks of lm-evaluation-harness; needs the extra [harness]."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="needs the extra [harness]")

from sizewise.errors import SizewiseError
from sizewise.evaluation import evaluate_suite
from sizewise.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")
TASK = """
task: colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: {rows}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{right}}}}"
metric_list:
  - metric: acc
"""


def test_a_local_task_becomes_a_record(tmp_path: Path, store: Store) -> None:
    rows = [{"question": f"Colour {i}?", "choices": ["red", "ultramarine"], "right": i % 2} for i in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "colours.yaml").write_text(TASK.format(rows=tmp_path / "rows.jsonl"), encoding="utf-8")
    stored = evaluate_suite("fake:echo", "lm-eval:colours", tmp_path, store=store)
    (score,) = [score for name, score in stored.record.scores.items() if name.endswith("acc")]
    assert score.value == 0.5  # every byte equally likely: the short one is always chosen
    assert score.n == 20
    assert score.ci_low is not None
    assert evaluate_suite("fake:echo", "lm-eval:colours", tmp_path, store=store).id == stored.id
    with pytest.raises(SizewiseError):
        evaluate_suite("fake:echo", "lm-eval:no_such_task_here", tmp_path, store=store)
