"""How long an answer may be, and whose answer it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sizewise.datasets import read
from sizewise.evaluation import evaluate
from sizewise.store import Store
from tests.cases.conftest import Command, values, write_rows
from tests.cases.speaker import Speaker

pytest.importorskip("pydantic_ai")

BYTES_A_TOKEN = 4
"""More than any vocabulary holds of such text on average; with fewer tokens a right answer is cut."""


def _order(number: int) -> str:
    lines = [{"article": f"B{k}-{number}", "pieces": k, "each": 3.25 * k, "shelf": f"R{k}"} for k in range(1, 9)]
    return json.dumps({"order": f"O{number:06d}", "lines": lines, "sum": 663.0}, separators=(",", ":"))


def _chinese(number: int) -> str:
    return (
        f"第{number}号温室每天清晨六点由园丁打开天窗换气上午十点浇水一次下午两点检查温度和湿度傍晚关窗并锁门"
        "如果遇到大风天气必须提前关好所有窗户并把放在外面的花盆搬进来"
    )


def _english(number: int) -> str:
    return (
        f"Greenhouse {number} is aired at six by the gardener, watered at ten, checked for warmth and damp at two, "
        "and locked in the evening once all pots that stood outside are back in."
    )


# lm-evaluation-harness#2798, #3400, #3124
@pytest.mark.parametrize("right", [_order, _chinese, _english], ids=["json", "zh", "en"])
def test_a_model_may_write_as_much_as_the_right_answers_take(
    tmp_path: Path, store: Store, speaker: Speaker, right: Callable[[int], str]
) -> None:
    rows = [{"prompt": f"What holds for greenhouse {i}?", "answer": right(i)} for i in range(20)]
    data = read([write_rows(tmp_path / "rows.jsonl", rows)], store=store)
    evaluate(speaker.uri, data.id, ["exact_match"], store=store)
    assert speaker.bodies
    needed = max(len(right(i).encode()) for i in range(20)) / BYTES_A_TOKEN
    for body in speaker.bodies:
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        assert most is None or most >= needed


# lm-evaluation-harness#4063, #2715, pytorch/ao PR#3073
def test_another_model_at_the_same_address_is_measured_or_the_old_answers_are_told(
    tmp_path: Path, command: Command, speaker: Speaker
) -> None:
    rows = [
        {"id": f"q{i}", "prompt": f"Which bus to hill {i}?", "answer": f"Bus {i + 40} to hill {i}."} for i in range(8)
    ]
    data = write_rows(tmp_path / "test.jsonl", rows)
    ask = ("evaluate", speaker.uri, "--data", data, "--metrics", "exact_match", "--json")
    speaker.say = lambda asked: "There is no bus."
    first = command(*ask)
    assert first.told["record"]["scores"]["exact_match@all"]["value"] == 0.0
    right = {row["prompt"]: row["answer"] for row in rows}
    speaker.say = lambda asked: right[asked]  # new weights under the same name
    second = command(*ask)
    assert second.code == 0
    value = second.told["record"]["scores"]["exact_match@all"]["value"]
    told = f"{second.err} {second.told['record']['notes']}".lower()
    assert value == 1.0 or any(word in told for word in ("again", "earlier", "kept", "already", "before", "new-run"))


def test_a_second_run_of_the_same_model_is_not_paid_for_twice(tmp_path: Path, store: Store, speaker: Speaker) -> None:
    rows = [{"id": f"q{i}", "prompt": f"Which bus to hill {i}?", "answer": f"Bus {i + 40}."} for i in range(8)]
    data = write_rows(tmp_path / "test.jsonl", rows)
    record = evaluate(speaker.uri, data, ["exact_match"], store=store).record
    assert values(record)["exact_match"] == 0.0
    paid = len(speaker.bodies)
    evaluate(speaker.uri, data, ["exact_match"], store=store)
    assert len(speaker.bodies) == paid
