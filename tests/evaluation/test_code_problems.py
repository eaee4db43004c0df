"""Generated functions: their calls hold, an answer's code is found, and it runs apart from everything."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizewise.errors import UsageError
from sizewise.evaluation.code_problems import code_of, code_problems, code_request, code_stats
from sizewise.evaluation.options import EvaluationOptions
from sizewise.evaluation.rescoring import rescore
from sizewise.evaluation.sandbox import run_calls
from sizewise.evaluation.suite_run import evaluate_suite
from sizewise.evaluation.suite_types import SuiteItem
from sizewise.models.fake import FakeModel
from sizewise.records import Completion, ItemRow, Request
from sizewise.store import Store

ITEMS = code_problems(None)
HEAD = 'def add(a, b):\n    """Add."""\n'
SOLVED = {
    "sum_divisible": "def sum_divisible(numbers):\n    return sum(n for n in numbers if n % {k} == 0)",
    "parts": "def parts(items):\n    return [items[i:i + {k}] for i in range(0, len(items), {k})]",
    "count_long": "def count_long(text):\n    return len([w for w in text.split() if len(w) > {k}])",
    "counts": (
        "from collections import Counter\ndef counts(rows):\n"
        "    return dict(Counter(row['name'] for row in rows if row['amount'] > {k}))"
    ),
    "days_below": (
        "from itertools import accumulate\ndef days_below(amounts):\n"
        "    return sum(balance < {k} for balance in accumulate(amounts))"
    ),
}


def calls_of(item: SuiteItem) -> dict[str, object]:
    found: dict[str, object] = json.loads(item.texts[0].text)
    return found


def row_of(item: SuiteItem, answer: str) -> ItemRow:
    return ItemRow(
        item=item.id, kind="choice", cluster=item.id, uncontaminated=True, prompt=item.question,
        references=(item.texts[0].text.strip(),), completion=answer,
    )  # fmt: skip


def solution(item: SuiteItem) -> str:
    """Write a function from the description, with its number."""
    number = next(word for word in re.findall(r"-?\d+", item.question) if word != "0")
    return SOLVED[str(calls_of(item)["name"])].replace("{k}", number)


def test_the_suite_has_200_different_functions_that_stay_the_same() -> None:
    assert len({item.question for item in ITEMS}) == len({item.id for item in ITEMS}) == 200
    assert set(Counter(item.group for item in ITEMS).values()) == {40}
    assert [(item.question, item.texts) for item in code_problems(None)] == [(one.question, one.texts) for one in ITEMS]
    with pytest.raises(UsageError, match="takes no data"):
        code_problems(Path("x"))


@pytest.mark.parametrize("name", SOLVED)
def test_functions_written_from_the_description_are_right(name: str) -> None:
    item = next(item for item in ITEMS if calls_of(item)["name"] == name)
    assert code_stats(row_of(item, f"```python\n{solution(item)}\n```")) == {"code": (1.0, 1.0)}
    assert code_stats(row_of(item, f"def {name}(x):\n    return 7")) == {"code": (0.0, 1.0)}


@pytest.mark.parametrize(
    "answer",
    [
        "```python\ndef add(a, b):\n    return a + b\n```\nIt adds.",
        "First:\n```\ndef add(a, b):\n    return a - b\n```\nNo, better:\n```py\ndef add(a, b):\n    return a + b\n```",
        "```python\ndef add(a, b):\n    return a + b",
        "Here it is.\n\nimport math\n\ndef add(a, b):\n    return int(math.fsum([a, b]))\n\nThis function adds.",
        "    return a + b\n\nThat's all.",
        "    total = a + b\n    return total\n",
    ],
)
def test_code_is_found_in_an_answer(answer: str) -> None:
    assert run_calls(code_of(answer, "add", HEAD), "add", [[2, 3], [0, -1]]).values == (5, -1)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return open('/etc/hostname').read()", "isn't available"),
        ("import os\n    return os.getcwd()", "isn't available"),
        ("import socket\n    return 1", "isn't available"),
        ("return __import__('subprocess').getoutput('id')", "isn't available"),
        ("return 'x' * 10**10", "MemoryError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("return {1, 2}", "TypeError"),
        ("return float('nan')", "ValueError"),
        ("return f()", "RecursionError"),
        ("g = [c for c in object.__subclasses__() if c.__name__ == '_wrap_close'][0].__init__.__globals__\n"
         "    return g['system']('true')", "isn't available"),
    ],
)  # fmt: skip
def test_code_gets_no_files_no_modules_and_little_memory(body: str, said: str) -> None:
    found = run_calls(f"def f():\n    {body}", "f", [[]])
    assert said in found.error
    assert found.values == ()


def test_code_that_never_ends_is_ended() -> None:
    found = run_calls("def f():\n    while True:\n        pass", "f", [[]], seconds=1.0)
    assert found.error == "no result within 1 s of processor time"


def test_what_code_prints_is_no_result() -> None:
    code = 'print(\'{"values": [3], "error": ""}\')\ndef f():\n    print("x" * 100)\n    return [4, (5, {"a": None})]'
    assert run_calls(code, "f", [[]]).values == ([4, [5, {"a": None}]],)
    assert "KeyError" in run_calls("x = 1", "f", [[]]).error
    assert "SyntaxError" in run_calls("def f(:", "f", [[]]).error


def test_truth_values_are_no_numbers_and_order_counts() -> None:
    item = next(item for item in ITEMS if calls_of(item)["name"] == "is_closed")
    assert code_stats(row_of(item, "def is_closed(text):\n    return 1")) == {"code": (0.0, 1.0)}


def test_a_model_without_a_chat_template_continues_the_function() -> None:
    asked = code_request(ITEMS[0], 99, chat=False)
    assert asked.text is not None
    assert asked.text.endswith(str(calls_of(ITEMS[0])["head"]))
    assert "\ndef " in (asked.stop or ())
    assert ITEMS[0].question in code_request(ITEMS[0], 99, chat=True).messages[0].content


def test_the_suite_runs_with_consent_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="runs Python code that the model writes"):
        evaluate_suite("fake:echo", "code", store=store)
    with pytest.raises(UsageError, match="runs no code"):
        evaluate_suite("fake:echo", "arithmetic", store=store, options=EvaluationOptions(run_code=True))
    answers = {item.id: solution(item) for item in ITEMS if calls_of(item)["name"] in SOLVED}

    def complete(self: FakeModel, requests: list[Request]) -> Iterator[Completion]:
        for one in requests:
            said = answers.get(one.id, "I can't.")
            yield Completion(id=one.id, text=said, prompt_tokens=1, completion_tokens=1, seconds=0.0, finish="stop")

    monkeypatch.setattr(FakeModel, "complete", complete)
    saved = evaluate_suite("fake:echo", "code", store=store, limit=20, options=EvaluationOptions(run_code=True))
    rows = store.read_rows(saved.path.parent, "items.jsonl", ItemRow)
    score = saved.record.scores["code"]
    assert score.n == 20
    assert score.value == sum(row.item in answers for row in rows) / 20
    assert "run in a process of its own" in score.signature
    assert rescore(store, saved.record, rows).measured == 0, "an audit runs no code"
