from __future__ import annotations

import json
from pathlib import Path

from sizewise.records import Study
from sizewise.store import Saved, Store
from sizewise.studies import study
from tests.languages import PASSAGES

STUDY = """
[study]
name = "海边小镇"
[data]
documents = ["texts"]
examples = "examples.jsonl"
[[candidates]]
name = "小模型"
model = "scratch"
train = { parameters = 1000000, context = 64, tokens = 600, rows_per_step = 1 }
[[candidates]]
name = "记录"
model = "recorded:said.jsonl"
[needs]
quality = "token_f1"
"""


def chinese_study(folder: Path, store: Store) -> Saved[Study]:
    """Run a study whose recorded answers are the references."""
    (folder / "texts").mkdir()
    rows, said = [], []
    for i, passage in enumerate(PASSAGES["zh"]):
        (folder / "texts" / f"文{i}.txt").write_text(passage.text, encoding="utf-8" if i % 2 else "utf-16")
        row = {"id": f"问{i}", "prompt": passage.question, "references": [passage.answer], "source": f"文{i}.txt"}
        rows.append(json.dumps(row, ensure_ascii=False))
        said.append(json.dumps({"id": f"问{i}", "completion": passage.answer + "\u3002"}, ensure_ascii=False))
    (folder / "examples.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "said.jsonl").write_text("\n".join(said), encoding="utf-8")
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    return study(folder / "study.toml", store=store)


def test_a_study_of_chinese_texts_ends_in_a_verdict(tmp_path: Path, store: Store) -> None:
    made = chinese_study(tmp_path, store)
    # Fewer than eight test documents show nothing, not even that the references are better than a rule.
    assert (made.record.outcome, made.record.pick, made.record.provisional) == ("inconclusive", None, "记录")
    assert made.record.summary.startswith("Not enough data")
    report = (made.path.parent / "report.html").read_text(encoding="utf-8")
    assert "Languages: zh" in report
    assert "which are defined for English, and the data are in Chinese (zh)" in report
    (dataset,) = (path for path in (store.home / "dataset").iterdir() if path.name == made.record.dataset)
    assert json.loads((dataset / "record.json").read_text(encoding="utf-8"))["record"]["languages"] == {"zh": 24}
