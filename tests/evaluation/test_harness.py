"""Tasks of lm-evaluation-harness against the harness' own model; needs the extra [harness]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs the extra [harness]")

from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import EvaluationOptions, evaluate_suite
from sizewise.evaluation.options import HarnessOptions
from sizewise.lm import device
from sizewise.records import Evaluation, ItemRow
from sizewise.store import Store
from tests.conftest import make_tiny
from tests.evaluation.harness_tasks import GROUPS, TAG, TASKS, write_tasks

pytestmark = pytest.mark.filterwarnings("ignore")
CHAT = HarnessOptions(num_fewshot=2, apply_chat_template=True, system_instruction="Be brief.")


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return write_tasks(tmp_path / "tasks")


@pytest.fixture
def tiny(tmp_path: Path, text_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(device, "machine_precision", lambda *_: "fp32")
    return make_tiny(tmp_path / "net", text_folder, "full", 256)


def of_harness(tiny: Path, tasks: Path, names: list[str], **options: Any) -> dict[str, Any]:
    """What the harness itself reports."""
    model = HFLM(pretrained=str(tiny), dtype="float32", batch_size=4, device="cpu")
    found = simple_evaluate(
        model=model, tasks=names, task_manager=TaskManager(include_path=str(tasks)), bootstrap_iters=0, **options
    )
    return dict(found or {})


def reported(results: dict[str, Any], name: str) -> dict[str, float]:
    values = results.get("groups", {}).get(name) or results["results"][name]
    return {key.removesuffix(",none"): v for key, v in values.items() if "," in key and "stderr" not in key}


def check_equal(record: Evaluation, results: dict[str, Any], names: list[str]) -> None:
    for name in names:
        for measure, value in reported(results, name).items():
            score = record.scores[f"lm-eval:{name}:{measure}"]
            assert score.value == pytest.approx(value, rel=1e-5, abs=1e-7), (name, measure)


def test_twelve_tasks_and_two_groups_equal_the_harness(tiny: Path, tasks: Path, store: Store) -> None:
    grouped = {"by_index", "labels_f1", "by_text", "first_shots"}  # the harness takes no task twice
    names = [*(name for name in TASKS if name not in grouped), *GROUPS]
    stored = evaluate_suite(str(tiny), f"lm-eval:{','.join(names)}", tasks, store=store)
    results = of_harness(tiny, tasks, names)
    assert len(TASKS) == 12
    check_equal(stored.record, results, [*TASKS, *GROUPS])
    assert not stored.record.failed
    assert not [note for note in stored.record.notes if "left out" in note]
    by_index = stored.record.scores["lm-eval:by_index:acc"]
    assert by_index.ci_low is not None
    assert "|task:by_index@3|shots:0|template:none|" in by_index.signature
    assert "prefix:none" in by_index.signature  # the tokenizer adds no token before a question
    assert "|window:256" in by_index.signature
    assert "prefix:<|endoftext|>" in stored.record.scores["lm-eval:texts:bits_per_byte"].signature
    assert "|shots:2|seed:1234|" in stored.record.scores["lm-eval:with_shots:acc"].signature
    assert "greedy, max_tokens:12" in stored.record.scores["lm-eval:filtered:exact_match,number"].signature
    assert "tasks:2" in stored.record.scores["lm-eval:choices_group:acc"].signature


def test_a_tag_stands_for_its_tasks(tiny: Path, tasks: Path, store: Store) -> None:
    stored = evaluate_suite(str(tiny), f"lm-eval:{TAG}", tasks, store=store, limit=5)
    assert set(stored.record.scores) >= {"lm-eval:writes:exact_match", "lm-eval:writes_after_shots:bleu"}
    assert stored.record.scores["lm-eval:writes:exact_match"].n == 5


def test_chat_template_and_shots_equal_the_harness(tiny: Path, tasks: Path, store: Store) -> None:
    names = ["by_index", "writes", "ends"]
    stored = evaluate_suite(
        str(tiny), f"lm-eval:{','.join(names)}", tasks, store=store, options=EvaluationOptions(harness=CHAT)
    )
    results = of_harness(tiny, tasks, names, num_fewshot=2, apply_chat_template=True, system_instruction="Be brief.")
    check_equal(stored.record, results, names)
    signature = stored.record.scores["lm-eval:by_index:acc"].signature
    assert "shots:2|seed:1234|template:" in signature
    assert "template:none" not in signature
    assert "system:" in signature
    (item, *_) = store.read_rows(store.folder("evaluation", stored.id), "items.jsonl", ItemRow)
    assert item.prompt.count("<|im_start|>user") == 3


def test_prompts_longer_than_the_window_are_counted(
    tmp_path: Path, text_folder: Path, tasks: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "machine_precision", lambda *_: "fp32")
    tiny = make_tiny(tmp_path / "net", text_folder, "full", 64)
    options = EvaluationOptions(harness=HarnessOptions(num_fewshot=6))
    stored = evaluate_suite(str(tiny), "lm-eval:by_index", tasks, store=store, options=options)
    check_equal(stored.record, of_harness(tiny, tasks, ["by_index"], num_fewshot=6), ["by_index"])
    notes = [note for note in stored.record.notes if "was cut to fit the window" in note]
    assert len(notes) == 1


def test_items_without_a_score_are_reported(tiny: Path, tasks: Path, store: Store) -> None:
    stored = evaluate_suite(str(tiny), "lm-eval:unscorable", tasks, store=store)
    rows = store.read_rows(store.folder("evaluation", stored.id), "items.jsonl", ItemRow)
    failed = [row for row in rows if row.error]
    assert 0 < len(failed) < 24
    assert stored.record.failed == len(failed)
    assert all(row.error == "the continuation has no tokens" and not row.stats for row in failed)
    assert stored.record.scores["lm-eval:unscorable:perplexity"].n == 24 - len(failed)


def test_a_model_that_takes_texts(tasks: Path, store: Store) -> None:
    names = "lm-eval:by_index,ends,texts,writes"
    stored = evaluate_suite("fake:echo", names, tasks, store=store)
    score = stored.record.scores["lm-eval:by_index:acc"]
    assert score.n == 24
    assert score.ci_low is not None
    assert evaluate_suite("fake:echo", names, tasks, store=store).id == stored.id
    with pytest.raises(SizewiseError, match="no task, group or tag 'no_such_task_here'"):
        evaluate_suite("fake:echo", "lm-eval:no_such_task_here", tasks, store=store)


def test_other_data_is_another_evaluation(tasks: Path, store: Store) -> None:
    first = evaluate_suite("fake:echo", "lm-eval:by_index", tasks, store=store)
    row = {"question": "New?", "choices": ["a", "b"], "right": 0, "answer": "a", "text": "b"}
    (tasks / "items.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    second = evaluate_suite("fake:echo", "lm-eval:by_index", tasks, store=store)
    assert second.id != first.id
    assert second.record.items == 1


def test_shots_and_templates_are_for_the_harness_only(store: Store) -> None:
    with pytest.raises(UsageError, match="bias isn't a task of lm-evaluation-harness"):
        evaluate_suite("fake:echo", "bias", store=store, options=EvaluationOptions(harness=CHAT))
