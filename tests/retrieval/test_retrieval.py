"""Passages keep whole sentences; search, support and the probability of an answer."""

# ruff: noqa: RUF001
from __future__ import annotations

import random
import time

import pytest

pytest.importorskip("bm25s")

from sizewise.documents.reading import make_document
from sizewise.errors import SizewiseError
from sizewise.records import Document
from sizewise.retrieval import Library, cut
from sizewise.retrieval.lines import split_field
from sizewise.retrieval.term_index import TermIndex
from sizewise.text import sentences_of

PARTS = [
    "boiler",
    "pump",
    "valve",
    "hinge",
    "drawer",
    "lantern",
    "bracket",
    "spindle",
    "gasket",
    "flange",
    "rotor",
    "nozzle",
]
DOES = ["leaks", "rattles", "sticks", "overheats", "squeaks", "vibrates", "corrodes", "stalls"]
CURES = ["tighten", "replace", "clean", "oil", "drain", "realign", "reset", "descale"]


def document(name: str, text: str) -> Document:
    return Document(id=name, title=name, text=text, origin="test", sha256="0" * 64)


def manual(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    made = []
    for number in range(count):
        part, other = draw.choice(PARTS), f"{draw.choice(PARTS)}{number}"
        lines = [
            f"The {part} of model {other} {draw.choice(DOES)} when the {draw.choice(PARTS)} is worn or old.",
            f"To fix it {draw.choice(CURES)} the {other} with tool number {number + 100} and wait a minute.",
            f"Then {draw.choice(CURES)} the {draw.choice(PARTS)} and close the {part} of {other} again by hand.",
        ]
        made.append(document(f"m{number}", f"# Model {other}\n\n" + " ".join(lines)))
    return made


def test_passages_keep_headings_and_whole_sentences() -> None:
    text = "Before.\n\n# One\n\n" + "A sentence of five words. " * 60 + "\n\n## Two\n\nShort."
    passages = cut([document("a", text)], max_words=50)
    assert {one.heading for one in passages} == {"", "One", "One: Two"}
    assert all(len(one.text.split()) <= 50 for one in passages)
    assert all(one.text.endswith(".") for one in passages)
    assert sum(one.text.count("A sentence") for one in passages) == 60


def test_the_right_passage_comes_first() -> None:
    library = Library(cut(manual(60)))
    documents = manual(60)
    found = library.find(f"how do I fix {documents[7].text.split()[2]}")
    assert found.hits[0].passage.document == "m7"
    assert found.probability is not None
    assert library.find("zzz qqq").hits == ()
    assert library.find("zzz qqq").probability == 0.0


def test_the_probability_separates_answered_from_unanswered_questions() -> None:
    """Questions about indexed documents get higher probabilities than questions about held-out documents."""
    documents = manual(120)
    library = Library(cut(documents[:80]))

    def probability(one: Document) -> float:
        found = library.find(sentences_of(one.text)[2]).probability
        assert found is not None
        return found

    there = sorted(probability(one) for one in documents[:40])
    gone = sorted(probability(one) for one in documents[80:])
    assert there[len(there) // 4] > gone[3 * len(gone) // 4]


def test_support_needs_the_words_and_the_numbers() -> None:
    library = Library(cut([document("a", "The refund arrives within 5 working days."), document("b", "Boats float.")]))
    passages = [hit.passage for hit in library.find("refund boats").hits]
    place, share = library.support("Your refund arrives in 5 working days.", passages)
    assert passages[place].document == "a"
    assert share > 0.6
    assert library.support("Your refund arrives in 9 working days.", passages)[1] == 0.0
    assert library.support("Unicorns are free.", passages)[1] == 0.0
    assert library.support("The refund does not arrive within 5 working days.", passages)[1] == 0.0
    assert library.support("The refund arrives within 5 working days, see https://x.example.", passages)[1] == 0.0


def test_few_documents_give_no_probability_and_an_empty_library_is_refused() -> None:
    assert Library(cut([document("a", "Boats float.")])).find("boats").probability is None
    with pytest.raises(SizewiseError, match="no text to search"):
        Library([])


def test_a_list_without_full_stops_is_cut_too() -> None:
    long = make_document("a", "A", "; ".join(f"({i}) item number {i} of the list" for i in range(400)), "test")
    passages = cut([long])
    assert max(len(one.text.split()) for one in passages) <= 320
    assert " ".join(one.text.replace("\n", " ") for one in passages).split() == long.text.split()


FAQ = {
    "Appeals": "A patient may appeal a denied claim within 30 days. The appeal is sent to the review board in writing.",
    "Parking": "Visitors park in garage B. The first two hours are free; each further hour costs 3 euros.",
    "Records": "Copies of medical records are ready in five working days. The fee is 12 euros.",
    "Visits": "Visiting hours are from 14:00 to 19:00 every day. Children under six may not enter intensive care.",
    "Meals": "Lunch is served at noon. Vegetarian meals must be ordered the day before.",
}


def test_question_words_are_ignored() -> None:
    library = Library(cut([document(name, text) for name, text in FAQ.items()]))
    for question, right in (
        ("How many days does a patient have to appeal a denied claim?", "Appeals"),
        ("When is lunch served?", "Meals"),
        ("Where can visitors park?", "Parking"),
    ):
        found = library.find(question)
        assert found.hits[0].passage.document == right
        assert found.in_passage > 0.7
    for question in (
        "What is the capital of France?",
        "Do you have a gym for patients?",
        "Who is the head of surgery?",
    ):
        assert library.find(question).in_passage < 0.5


def test_boilerplate_is_not_an_answer_unless_it_is_asked_for() -> None:
    articles = [
        document(
            f"kb{i}",
            f"# The {part} {DOES[i % 8]}\n\n_Original KB number:_ &nbsp; {3_000 + i}\n\n## Cure\n\n"
            f"To fix it {CURES[i % 8]} the {part} by hand, and wait for a minute.\n\nWas this page of help to you?",
        )
        for i, part in enumerate(PARTS)
    ]
    library = Library(cut(articles))
    found = library.find(f"The {PARTS[3]} {DOES[3]}")
    best = found.hits[0].passage
    assert best.document == "kb3"
    assert library.answers_in(best, f"The {PARTS[3]} {DOES[3]}") == [
        f"To fix it {CURES[3]} the {PARTS[3]} by hand, and wait for a minute."
    ]
    asked = f"What is the original KB number of the {PARTS[3]} {DOES[3]}?"
    assert any("3003" in one for hit in library.find(asked).hits for one in library.answers_in(hit.passage, asked))
    hours = cut([document("shop", "Opening hours: 9:00 to 17:00\n\nPrice: 3 euros an hour\n\nAuthor: 42")])
    assert [one for one in hours if library.answers_in(one, "How much is an hour?")]
    assert library.answers_in(hours[0], "How much is it?") == ["Opening hours: 9:00 to 17:00", "Price: 3 euros an hour"]
    assert "Author: 42" in library.answers_in(hours[0], "Who is the author?")


@pytest.mark.parametrize(
    ("facts", "questions"),
    [
        (
            [
                "储物柜在一楼入口处，每天上午九点开放。",
                "打印机在三楼走廊，每页收费两角。",
                "停车场在图书馆北侧，读者可免费停车。",
            ],
            ["储物柜什么时候开放？", "在哪里可以打印文件？", "可以停车多久？"],
        ),
        (
            [
                "ロッカーは一階の入口にあり、朝九時に開きます。",
                "印刷機は三階の廊下にあります。",
                "駐車場は図書館の北側です。",
            ],
            ["ロッカーはいつ開きますか", "印刷はどこでできますか", "駐車できますか"],
        ),
        (
            ["ห้องสมุดเปิดเวลาเก้าโมงเช้าทุกวัน", "เครื่องพิมพ์อยู่ที่ชั้นสาม", "ที่จอดรถอยู่ทางทิศเหนือ"],
            ["ห้องสมุดเปิดกี่โมง", "เครื่องพิมพ์อยู่ที่ไหน", "จอดรถได้ที่ไหน"],
        ),
        (
            ["पुस्तकालय सुबह नौ बजे खुलता है।", "छपाई की मशीन तीसरी मंज़िल पर है।", "गाड़ी उत्तर की ओर खड़ी करें।"],
            ["पुस्तकालय कब खुलता है?", "छपाई की मशीन कहाँ है?", "गाड़ी कहाँ खड़ी करें?"],
        ),
    ],
)
def test_every_script_is_found(facts: list[str], questions: list[str]) -> None:
    library = Library(cut([document(str(i), fact) for i, fact in enumerate(facts)]))
    assert [library.find(question).hits[0].passage.document for question in questions] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "text",
    [
        "第七条规定读者应当爱护公共财物。" * 3_000,
        "ห้องสมุด" * 6_000,
        "a" * 50_000,
        "図書館" * 9_000,
        ", ".join(f"item {i}" for i in range(9_000)),
    ],
)
def test_no_text_is_one_passage(text: str) -> None:
    passages = cut([document("big", text)])
    assert max(len(one.text) for one in passages) < 5_000
    assert "".join("".join(one.text for one in passages).split()) == "".join(text.split())


def test_support_compares_numbers_by_value() -> None:
    library = Library(
        cut([document("fees", "The deposit for a stand is 1200 euros, for room 12 300 euros.")]), learn=False
    )
    passages = [hit.passage for hit in library.find("deposit").hits]
    for said, right in (("1,200", True), ("1 200", True), ("12,000", False), ("300", True), ("200", False)):
        assert (library.support(f"The deposit for a stand is {said} euros.", passages)[1] > 0.6) is right


def test_short_names_and_capitals_are_found() -> None:
    pages = [
        "Hall R2 belongs to the IT desk.",
        "Ask the WHO about it.",
        *(f"Notice {i} is about it." for i in range(6)),
    ]
    library = Library(cut([document(str(i), text) for i, text in enumerate(pages)]), learn=False)
    for question, right in (("R2?", "0"), ("Where is IT?", "0"), ("who is the WHO", "1")):
        assert library.find(question).hits[0].passage.document == right


def test_a_sentence_of_one_form_in_every_document_is_found_by_its_number() -> None:
    documents = [
        make_document(
            f"w{i}", f"w{i}", f"Page {i} of 9\n\nWard {i} admits visitors until {10 + i} in the evening.", f"w{i}.md"
        )
        for i in range(9)
    ]
    library = Library(cut(documents), learn=False)
    first = library.find("Until when does ward 4 admit visitors?", 1).hits[0].passage
    assert first.document == "w4"
    assert library.answers_in(first, "Until when does ward 4 admit visitors?") == [
        "Ward 4 admits visitors until 14 in the evening."
    ]


def test_versions_of_a_document_take_one_place_where_they_say_the_same() -> None:
    """What stands in ten versions of a policy isn't boilerplate, and isn't found ten times."""
    texts = {year: f"# Leave\n\nStaff have {20 + (year == 2026)} days of leave." for year in range(2017, 2027)}
    versions = [document(f"policy-{year}", f"{text}\n\n# Sick\n\nCall by nine.") for year, text in texts.items()]
    others = [
        document(f"note-{i}", f"The {part} of the office is blue.\n\nWas this of help?") for i, part in enumerate(PARTS)
    ]
    library = Library(cut([*versions, *others]), learn=False)
    found = [hit.passage for hit in library.find("How many days of leave do staff have?").hits]
    assert {passage.text for passage in found[:2]} == {"Staff have 20 days of leave.", "Staff have 21 days of leave."}
    assert len({passage.text for passage in found}) == len(found)
    (office,) = library.find("blue flange", 1).hits
    assert library.answers_in(office.passage, "blue flange") == ["The flange of the office is blue."]


def test_a_list_answers_for_the_heading_above_it() -> None:
    cities = ("Turku", "Oulu", "Lahti", "Vaasa")
    branches = [
        document(
            city.lower(),
            f"# Branch {city}\n\n## Opening hours\n\nMonday: 9:00-17:00\n\nSaturday: 10:00-12:00\n\n## Staff\n\n"
            f"The desk of {city} is staffed by two persons.",
        )
        for city in cities
    ]
    library = Library(cut(branches), learn=False)
    question = "What are the opening hours in Turku?"
    best = library.find(question, 1).hits[0].passage
    assert (best.document, best.heading) == ("turku", "Opening hours")
    assert library.answers_in(best, question) == ["Monday: 9:00-17:00", "Saturday: 10:00-12:00"]
    listed = cut([document("shop", "Opening hours:\nMonday: 9:00-17:00\n\nThe shop sells boats.\nCode: 42")])
    found = Library(listed, learn=False).answers_in(listed[0], "When are the opening hours?")
    assert found == ["Opening hours:", "Monday: 9:00-17:00", "The shop sells boats."]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("Monday 9:00 to 17:00", None),
        ("Mix 3:1 with water", None),
        ("See https://x.example/a", None),
        ("std::vector", None),
        ("Room 12: thirty seats", ("Room 12", "thirty seats")),
        ("Maße: 30 cm", ("Maße", "30 cm")),
        ("Öffnung: 9:00", ("Öffnung", "9:00")),
        ("时间：9:00", ("时间", "9:00")),
        ("Hours:", ("Hours", "")),
    ],
)
def test_times_and_addresses_are_no_fields(line: str, field: tuple[str, str] | None) -> None:
    assert split_field(line) == field


def test_a_document_of_many_passages_takes_no_longer() -> None:
    """The share of a question's words that a document has is looked up in arrays."""
    terms = [f"part{i % 977}" for i in range(400_000)]
    index = TermIndex.of_terms([terms[i : i + 100] for i in range(0, len(terms), 100)])
    begun = time.process_time()
    for _ in range(50):
        assert index.terms_in(["part3", "part976", "bolt"], range(4_000)) == {"part3", "part976"}
    assert time.process_time() - begun < 2
    assert index.terms_in(["part3", "part250"], [0, 2]) == {"part3", "part250"}
    assert index.terms_in(["part150"], [0, 2]) == index.terms_in(["bolt"], range(9)) == index.terms_in([], [0]) == set()
