"""What counts as a duplicate, and what as contamination."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sizewise.datasets import load
from sizewise.store import Store
from tests.cases.conftest import Measure, ReadIn, write_rows

ROUTES = ["Hand it to the night shift", "Ask for a photo of it", "Tell them to call the works"]
THINGS = ["boiler", "lift", "gate", "lamp", "drain", "window", "railing", "letterbox", "bin", "bell"]


def _fault(number: int) -> str:
    return f"Report {number}: the {THINGS[number % 10]} of staircase {17 * number + 5} is broken, says tenant {number}."


# axolotl#1946, PR#2746
@pytest.mark.parametrize("every", [1, 3], ids=["all", "every third"])
def test_different_questions_with_one_answer_are_all_kept(tmp_path: Path, read_in: ReadIn, every: int) -> None:
    rows = [
        {
            "prompt": _fault(i),
            "answer": ROUTES[i % 3]
            if i % every == 0
            else f"The fitter comes to staircase {17 * i + 5} on day {i + 1}.",
        }
        for i in range(60)
    ]
    read = read_in(write_rows(tmp_path / "reports.jsonl", rows))
    assert len(read.examples) == 60


def test_no_row_of_a_test_file_is_left_out_for_its_answer(measure: Measure) -> None:
    rows = [{"prompt": _fault(i), "answer": ROUTES[0]} for i in range(9)]
    assert measure(rows, [ROUTES[0]] * 9, ["exact_match"]).scores["exact_match@all"].n == 9


def test_the_same_question_with_the_same_answer_is_one_example(tmp_path: Path, read_in: ReadIn) -> None:
    rows = [
        {"prompt": _fault(i % 20), "answer": f"The fitter comes on day {i % 20} in the morning."} for i in range(40)
    ]
    assert len(read_in(write_rows(tmp_path / "twice.jsonl", rows)).examples) == 20


# lm-evaluation-harness#212, llama_index#13866
NOTICE = (
    "进入温室前请先在门口换上胶鞋并用喷壶消毒双手不得携带宠物和食物未成年人须由家长陪同参观路线请按照地上的箭头行走"
    "请勿触摸开花的植物也不要摘取果实如果看到水管漏水请立即通知值班的园丁离开时请把雨伞和手电筒放回原来的架子上"
)
EXTRA = "一二三四五六七八九十百千万东西南北春夏秋冬"
CHARACTERS = (
    "山水火木金土日月星云雨风雪花草树鸟鱼马牛羊狗猫门窗桌椅书笔纸车船桥路城村田井屋墙红黄蓝白黑大小多少高低长短新旧"
)


def test_a_chinese_passage_seen_in_training_except_for_one_character_is_contaminated(
    tmp_path: Path, read_in: ReadIn, store: Store
) -> None:
    folder = tmp_path / "notices"
    folder.mkdir()
    for i in range(20):
        rng = random.Random(i)
        own = "".join(rng.choice(CHARACTERS) for _ in range(70))
        place = 4 + 5 * i
        notice = f"{NOTICE[:place]}{EXTRA[i]}{NOTICE[place:]}"
        (folder / f"house{i}.txt").write_text(f"{own}\n\n{notice}\n", encoding="utf-8")
    contents = load(store, read_in(folder).dataset)
    tested = [document.id for document in contents.documents["test"]]
    assert len(tested) >= 3
    uncontaminated = {
        name: contents.contamination_entries[name].uncontaminated for name in contents.contamination_entries
    }
    assert [name for name in tested if not uncontaminated[f"{name}#0"]] == []
    assert [name for name in tested if uncontaminated[f"{name}#1"]] == []
