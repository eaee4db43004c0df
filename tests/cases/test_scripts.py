"""Text without spaces between words: other scripts, JSON, code."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sizewise.datasets import load, read
from sizewise.evaluation import evaluate
from sizewise.retrieval import Library, cut
from sizewise.store import Store
from sizewise.synthesis.drafts import draft
from sizewise.synthesis.making import Options
from tests.cases.conftest import Measure, ReadIn, values, write_rows
from tests.cases.speaker import Speaker

THAI = "กรุณาถอดรองเท้าก่อนเข้าเรือนกระจกและปิดประตูทุกครั้งห้ามเด็ดดอกไม้หรือผลไม้โดยไม่ได้รับอนุญาตจากคนสวน"
JAPANESE = (
    "温室に入る前に長靴に履き替えて手を消毒してください花や実に触れないで"
    "矢印に沿って歩き水漏れを見つけたら庭師に知らせてください"
)
KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわ"
THAI_LETTERS = "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศสหอฮ"


def _settings(number: int) -> str:
    rng = random.Random(number)
    values_ = {f"k{rng.randrange(10**6)}": rng.randrange(10**6) for _ in range(14)}
    return json.dumps(values_, separators=(",", ":"))


SAME_SETTINGS = json.dumps({f"valve_{i}": {"open": i * 3 % 7, "max": i * 11} for i in range(12)}, separators=(",", ":"))


def _random_text(letters: str) -> Callable[[int], str]:
    return lambda number: "".join(random.Random(number).choices(letters, k=80))


# the kind of lm-evaluation-harness#212
@pytest.mark.parametrize(
    ("shared", "own"),
    [
        (THAI, _random_text(THAI_LETTERS)),
        (JAPANESE, _random_text(KANA)),
        (SAME_SETTINGS, _settings),
    ],
    ids=["Thai", "Japanese", "JSON"],
)
def test_an_edited_copy_is_contaminated_in_any_script(
    tmp_path: Path, read_in: ReadIn, store: Store, shared: str, own: Callable[[int], str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(15):
        place = len(shared) * (i + 1) // 17
        (folder / f"t{i}.txt").write_text(f"{own(i)}\n\n{shared[:place]}{own(99)[i]}{shared[place:]}\n", "utf-8")
    contents = load(store, read_in(folder).dataset)
    tested = [document.id for document in contents.documents["test"]]
    assert [name for name in tested if not contents.contamination_entries[f"{name}#0"].uncontaminated] == []
    assert [name for name in tested if contents.contamination_entries[f"{name}#1"].uncontaminated] == []


# the kind of lm-evaluation-harness#2798
@pytest.mark.parametrize(
    "right",
    [
        lambda i: f"กรุณานำกุญแจห้องเก็บของหมายเลข{i}ไปคืนที่สำนักงานก่อนหกโมงเย็นของทุกวันและลงชื่อในสมุดที่วางอยู่ข้างประตู",
        lambda i: (
            f"https://archive.example/search?collection=plans&sheet={i:06d}&year=1931&format=tiff&layer=ground-floor"
            f"&signature={'0a9f4c7e' * 8}"
        ),
        lambda i: f"SELECT(name,place,{','.join(f'count_{k}_{i}' for k in range(20))})FROM(plans)WHERE(sheet={i})",
    ],
    ids=["Thai", "address", "code"],
)
def test_answers_of_any_script_have_room(
    tmp_path: Path, store: Store, speaker: Speaker, right: Callable[[int], str]
) -> None:
    pytest.importorskip("pydantic_ai")
    rows = [{"prompt": f"What belongs to number {i}?", "answer": right(i)} for i in range(20)]
    data = read([write_rows(tmp_path / "rows.jsonl", rows)], store=store)
    evaluate(speaker.uri, data.id, ["exact_match"], store=store)
    needed = max(len(right(i).encode()) for i in range(20)) / 5
    limits = [body.get("max_completion_tokens") or body.get("max_tokens") for body in speaker.bodies]
    assert limits
    assert all(most is None or most >= needed for most in limits)


# the kind of sacrebleu#147
@pytest.mark.parametrize(
    "reference",
    [
        "倉庫{}の鍵は事務室の棚にあります",
        "กุญแจห้อง{}อยู่บนชั้นในสำนักงาน",
        "Avain numero {} riippuu toimiston naulassa oven vieressä",
    ],
    ids=["Japanese", "Thai", "Finnish"],
)
def test_equal_answers_have_the_best_score_in_any_script(measure: Measure, reference: str) -> None:
    rows = [{"prompt": f"{i}?", "answer": reference.format(i)} for i in range(12)]
    record = measure(rows, [reference.format(i) for i in range(12)], ["bleu", "token_f1", "rouge_l"])
    for name, value in values(record).items():
        if name in ("bleu", "token_f1", "rouge_l"):
            assert value is None or value >= (99 if name == "bleu" else 1.0)
            assert value is not None or record.scores[f"{name}@all"].missing_reason


# the kind of llama_index#13866
FACTS = {
    "Thai": {
        "เรือ": ("เรือพายจอดอยู่หลังโรงเก็บของ", "เรือพายจอดอยู่ที่ไหน"),
        "กุญแจ": ("กุญแจห้องครัวอยู่กับคุณสมชาย", "กุญแจห้องครัวอยู่กับใคร"),
        "ขยะ": ("รถเก็บขยะมาทุกวันพฤหัสบดี", "รถเก็บขยะมาวันไหน"),
        "น้ำ": ("ปิดวาล์วน้ำหลังสี่ทุ่ม", "ปิดวาล์วน้ำกี่โมง"),
    },
    "Korean": {
        "우산": ("우산은 현관 옆 선반에 보관합니다.", "우산을 어디에 보관하나요?"),
        "열쇠": ("창고 열쇠는 관리인이 가지고 있습니다.", "창고 열쇠를 누가 가지고 있나요?"),
        "소음": ("밤 열 시 이후에는 세탁기를 쓸 수 없습니다.", "세탁기는 몇 시까지 쓸 수 있나요?"),
        "택배": ("택배 상자는 지하 일층에 둡니다.", "택배 상자를 어디에 두나요?"),
    },
}


@pytest.mark.parametrize("language", list(FACTS))
def test_a_question_finds_its_passage_in_thai_and_korean(language: str) -> None:
    from sizewise.retrieval import Passage

    pytest.importorskip("bm25s")
    facts = FACTS[language]
    library = Library([Passage(name, name, "", fact) for name, (fact, _) in facts.items()], learn=False)
    first = {name: [hit.passage.document for hit in library.find(q).hits[:1]] for name, (_, q) in facts.items()}
    assert first == {name: [name] for name in facts}


def test_a_long_text_in_korean_is_cut_into_passages_that_can_be_shown() -> None:
    from sizewise.documents.reading import make_document

    text = " ".join(f"제{i}조 회원은 해가 지기 전에 정원 문을 잠가야 합니다." for i in range(1_500))
    passages = cut([make_document("rules", "rules", text, "rules.txt")])
    assert max(len(passage.text) for passage in passages) < 3_000


def test_documents_in_chinese_give_examples_of_their_own(tmp_path: Path, read_in: ReadIn) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(12):
        sentences = [f"第{k}号温室由第{(k * 7 + i) % 20}组负责浇水和通风。" for k in range(i, i + 12)]
        (folder / f"t{i}.txt").write_text("".join(sentences), encoding="utf-8")
    assert read_in(folder).examples


def test_documents_in_chinese_can_be_drafted_from(tmp_path: Path, store: Store, speaker: Speaker) -> None:
    pytest.importorskip("pydantic_ai")
    folder = tmp_path / "texts"
    folder.mkdir()
    fact = "园门的备用钥匙挂在工具房左侧的钉子上"
    for i in range(6):
        text = f"第{i}号花园的规定如下。{fact}。雨天请穿胶鞋并走石板路。第{i}组负责在天黑以前锁好园门并关灯。"
        (folder / f"t{i}.txt").write_text(text, encoding="utf-8")
    speaker.say = lambda asked: json.dumps({"question": "园门的备用钥匙挂在哪里?", "answer": fact}, ensure_ascii=False)
    made = draft([folder], speaker.uri, tmp_path / "drafts.jsonl", Options(6), store=store)
    assert made.kept >= 1


def test_a_huge_prompt_without_blanks_is_no_worked_example(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sizewise.models.prompts import choose_shots

    rows = [{"prompt": "规" * 9_000 + f"第{i}条", "answer": f"第{i}条规定每天浇水{i}次。"} for i in range(20)]
    data = read([write_rows(tmp_path / "rows.jsonl", rows)], store=store)
    shots = choose_shots(load(store, data.id), 0)
    assert sum(len(shot.prompt) for shot in shots) < 9_000
