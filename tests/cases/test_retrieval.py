"""Finding passages in any script, and numbers and names as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("bm25s")

from sizewise.documents import read_paths
from sizewise.retrieval import Library, Passage, cut

CHINESE = {
    "水壶": ("浇水壶放在北门旁边的木架上。", "浇水壶放在哪里?"),
    "蜂蜜": ("蜂蜜每年七月采收,由会员平分。", "蜂蜜什么时候采收?"),
    "堆肥": ("堆肥箱每两个月翻动一次。", "堆肥箱多久翻动一次?"),
    "钥匙": ("工具房的钥匙由陈女士保管。", "谁保管工具房的钥匙?"),
    "篱笆": ("篱笆的高度不得超过一米二。", "篱笆最高可以多高?"),
}
JAPANESE = {
    "傘": ("忘れた傘は事務室で三か月間保管します。", "傘は事務室で何か月保管しますか"),
    "鍵": ("倉庫の鍵は管理人の佐藤さんが持っています。", "倉庫の鍵は誰が持っていますか"),
    "窓": ("窓の掃除は毎年十月に行います。", "窓の掃除はいつですか"),
    "犬": ("犬は中庭では綱につないでください。", "中庭で犬を放してもいいですか"),
    "灯油": ("灯油は地下室に置いてはいけません。", "灯油を地下室に置けますか"),
}


# llama_index#13866, claude-obsidian#120, quant-mind PR#146, hindsight#1077
@pytest.mark.parametrize("facts", [CHINESE, JAPANESE], ids=["Chinese", "Japanese"])
def test_a_question_finds_its_passage_in_a_script_without_blanks(
    tmp_path: Path, facts: dict[str, tuple[str, str]]
) -> None:
    folder = tmp_path / "garden"
    folder.mkdir()
    for name, (fact, _) in facts.items():
        (folder / f"{name}.txt").write_text(f"{name}\n\n{fact}\n", encoding="utf-8")
    library = Library(cut(read_paths([folder]).documents), learn=False)
    found = {name: library.find(question).hits[:1] for name, (_, question) in facts.items()}
    assert [name for name, hits in found.items() if [h.passage.document for h in hits] != [f"{name}.txt"]] == []


def test_a_long_text_without_blanks_is_cut_into_passages(tmp_path: Path) -> None:
    path = tmp_path / "rules.txt"
    text = "".join(f"第{i}条会员应在天黑以前锁好园门。" for i in range(2_500))
    path.write_text(text, encoding="utf-8")
    passages = cut(read_paths([path]).documents)
    assert max(len(passage.text) for passage in passages) < 3_000
    assert sum(len("".join(passage.text.split())) for passage in passages) >= len(text)


# needle PR#123, #120, helm#4337
@pytest.fixture
def library() -> tuple[Library, list[Passage]]:
    told = [
        Passage("rent.md", "Rent", "", "The rent of a plot is 2400 crowns a year. It is due within 14 days."),
        Passage("huts.md", "Huts", "", "Hut B4 is kept by the PR group. Hut B5 has no stove."),
    ]
    rest = [
        Passage(f"n{i}.md", f"Note {i}", "", f"Note {i} tells where the rake of row {i} hangs in autumn.")
        for i in range(6)
    ]
    return Library([*told, *rest], learn=False), told


@pytest.mark.parametrize(
    ("number", "holds"),
    [
        ("2400", True),
        ("2,400", True),
        ("2 400", True),
        ("2\u202f400", True),
        ("24,000", False),
        ("240", False),
        ("24000", False),
    ],
    ids=ascii,
)
def test_a_sentence_is_supported_by_the_same_number_in_any_grouping(
    library: tuple[Library, list[Passage]], number: str, holds: bool
) -> None:
    searched, told = library
    assert (searched.support(f"The rent of a plot is {number} crowns a year.", told)[1] >= 0.6) == holds


@pytest.mark.parametrize("question", ["B4?", "What is B5", "Where is PR?"])
def test_short_names_are_found(library: tuple[Library, list[Passage]], question: str) -> None:
    assert [hit.passage.document for hit in library[0].find(question).hits[:1]] == ["huts.md"]
