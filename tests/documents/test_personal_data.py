"""Personal data is counted, masked or dropped, in every script and in every part of an example."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sizewise.documents import Inventory, Reading, ReadOptions, read_paths
from sizewise.documents.personal_data import CHUNK, PersonalData, check_choice, find_all, kinds_at_a_glance
from sizewise.documents.reading import make_document
from sizewise.errors import UsageError
from sizewise.records import Example, Message, ToolCall

WORDS = "The harbor office opens at eight. "
PERSONAL = [
    ("Write to ana@example.org today.", "email", "ana@example.org"),
    ("Schreiben Sie an müller\uff20example.org bitte.", "email", "müller\uff20example.org"),
    ("Überweisen Sie auf DE89 3704 0044 0532 0130 00 bis Montag.", "iban", "DE89 3704 0044 0532 0130 00"),
    ("请致电 +86 10 6552 9988 咨询。", "phone", "+86 10 6552 9988"),
    ("Karte 4111 1111 1111 1111 gesperrt.", "card", "4111 1111 1111 1111"),
    ("Сервер 203.0.113.77 недоступен.", "ip", "203.0.113.77"),
]


@pytest.mark.parametrize(("text", "kind", "value"), PERSONAL)
def test_masking_keeps_the_text_readable(text: str, kind: str, value: str) -> None:
    document = make_document("a", "a", f"{WORDS}\n\n{text} {value}", "a.txt")
    masked = PersonalData("mask").document(document)
    assert masked is not None
    assert masked.text == f"{WORDS}\n\n{text} {value}".replace(value, f"[{kind.upper()}_1]")
    assert masked.sha256 != document.sha256
    counts: Counter[str] = Counter()
    assert PersonalData("drop", counts).document(document) is None
    assert counts == {"documents and examples left out because they hold personal data": 1}
    assert PersonalData("keep").document(document) is document
    assert kind in kinds_at_a_glance(document.text)


def test_all_texts_of_an_example_share_their_tokens() -> None:
    example = Example(
        id="1",
        messages=(Message(role="user", content="I am ana@example.org, not bo@example.org."),),
        references=("Hello ana@example.org",),
        rejected=("Hello bo@example.org",),
        source="s",
    )
    masked = PersonalData("mask").example(example)
    assert masked is not None
    assert masked.prompt == "I am [EMAIL_1], not [EMAIL_2]."
    assert (masked.references, masked.rejected) == (("Hello [EMAIL_1]",), ("Hello [EMAIL_2]",))
    assert PersonalData("drop").example(example) is None
    plain = example.model_copy(
        update={"messages": (Message(role="user", content=WORDS),), "references": (), "rejected": ()}
    )
    assert PersonalData("mask").example(plain) is plain


def test_every_field_is_masked_or_makes_an_item_drop() -> None:
    value = "ana@example.org"
    names = ("id", "source", "group", "label", "copy_text", "answer_schema", "tools")
    for name in (*names, "tags", "choices", "references", "rejected", "call", "name"):
        call = ToolCall(name="send", arguments=f'{{"to": "{value}"}}')
        extra = {"tool_calls": (call,)} if name == "call" else {"name": value} if name == "name" else {}
        messages = (Message(role="user", content=WORDS), Message(role="assistant", content=WORDS, **extra))
        plain = Example(id="1", messages=messages, source="s")
        stated = value if name in names else (value,)
        example = plain if extra else plain.model_copy(update={name: stated})
        masked = PersonalData("mask").example(example)
        assert masked is not None, name
        assert value not in masked.model_dump_json(), name
        assert "[EMAIL_1]" in masked.model_dump_json(), name
        assert PersonalData("drop").example(example) is None, name
        inventory = Inventory()
        inventory.add(example)
        assert inventory.personal_data == {"email": 1}, name
    for name in ("id", "title", "origin", "group"):
        document = make_document("a", "a", WORDS, "a.txt").model_copy(update={name: f"mails of {value}"})
        hidden = PersonalData("mask").document(document)
        assert hidden is not None, name
        assert getattr(hidden, name) == "mails of [EMAIL_1]"
        assert PersonalData("drop").document(document) is None


def test_labels_stay_distinct_and_sources_keep_their_document() -> None:
    personal = PersonalData("mask")
    document = personal.document(make_document("post/bo@example.org.txt", "", WORDS, "a.txt"))
    assert document is not None
    found = [
        personal.example(
            Example(
                id=f"{i}",
                messages=(Message(role="user", content=WORDS),),
                references=(address,),
                label=address,
                choices=(address, "nobody"),
                source="post/bo@example.org.txt",
            )
        )
        for i, address in enumerate(["ana@example.org", "bo@example.com", "ana@example.org"])
    ]
    assert [example.label for example in found if example] == ["[EMAIL_2]", "[EMAIL_3]", "[EMAIL_2]"]
    assert all(example and example.references[0] == example.label == example.choices[0] for example in found)
    assert {example.source for example in found if example} == {document.id}


def test_arguments_of_calls_stay_json() -> None:
    calls = ('{"phone": 4915112345678, "n": 3}', '{"to": ["ana@example.org", 7]}', "{broken ana@example.org")
    for arguments in calls:
        call = ToolCall(name="call", arguments=arguments)
        message = Message(role="assistant", content="", tool_calls=(call,))
        masked = PersonalData("mask").example(Example(id="1", messages=(message,), source="s"))
        assert masked is not None
        text = masked.messages[0].tool_calls[0].arguments
        assert text != arguments
        if not arguments.startswith("{b"):
            assert len(json.loads(text)) == len(json.loads(arguments))


LOOKALIKES = [
    *("Please use version 10.2.0.1 of it.", "Firmware 2.10.0.15 is out.", "npm i @types/node@18.0.0", "lodash@4.17.21"),
    *("Es leben 1 234 567 890 Einwohner dort.", "Il y a 1.234.567.890 habitants.", "On 2024-01-13 12:33:22 it stopped"),
    *("HS 8471300000 is the code.", "order 12345678901 was sent", "订单号 13812345678", "SKU 5901234123457"),
]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_versions_packages_and_quantities_are_no_personal_data(text: str) -> None:
    assert find_all(text) == []


@pytest.mark.parametrize(
    "text",
    ["Tel. 1 234 567 890", "The server 10.2.0.1 failed", "Call 030 1234567 today", "In order to ring 030 1234567"],
)
def test_what_may_be_personal_is_masked(text: str) -> None:
    assert find_all(text)


def test_long_texts_are_searched_to_their_end() -> None:
    text = WORDS * (3 * CHUNK // len(WORDS)) + "ana@example.org"
    assert [text[found.start : found.end] for found in find_all(text)] == ["ana@example.org"]
    assert find_all("x" * 3 * CHUNK) == []


def test_files_are_masked_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{WORDS} ana@example.org", encoding="utf-8")
    (tmp_path / "b.txt").write_text(WORDS, encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"prompt": "Who is bo@example.org?", "reference": "Bo"}\n', encoding="utf-8")
    masked = read_paths([tmp_path], ReadOptions(personal_data="mask"))
    assert [document.text.rpartition(" ")[2] for document in masked.documents] == ["[EMAIL_1]", "eight."]
    assert [example.prompt for example in masked.examples] == ["Who is [EMAIL_2]?"]
    assert "documents and examples whose personal data was masked (email): 2" in masked.notes
    dropped = read_paths([tmp_path], ReadOptions(personal_data="drop"))
    assert ([document.id for document in dropped.documents], len(dropped.examples)) == (["b.txt"], 0)
    assert "documents and examples left out because they hold personal data: 2" in dropped.notes


def test_the_choice_is_one_of_three() -> None:
    assert check_choice("mask") == "mask"
    with pytest.raises(UsageError, match="'hide'"):
        check_choice("hide")


def test_an_inventory_counts_languages_personal_data_and_origins() -> None:
    inventory = Inventory()
    texts = {
        "en": WORDS * 5,
        "de": "Das Hafenamt öffnet um acht Uhr und schließt am Samstag. " * 5,
        "zh": "港口办公室周六上午八点开门。" * 5,
    }
    for origin, (language, text) in zip(
        ["x/a.PDF", "https://example.org/a", "all.zip/b.docx"], texts.items(), strict=True
    ):
        inventory.add(make_document(language, language, text, origin, "MIT" if language == "zh" else "not stated"))
    inventory.add(Example(id="1", messages=(Message(role="user", content="ana@example.org"),), source="s"))
    assert inventory.languages == {"en": 1, "de": 1, "zh": 1, "unknown": 1}
    assert inventory.origins == {".pdf": 1, "example.org": 1, ".docx": 1}
    assert inventory.licenses == {"not stated": 2, "MIT": 1}
    assert inventory.personal_data == {"email": 1}
    (note,) = inventory.notes()
    assert note.startswith("At least 1 of 4 documents and examples hold personal data (email 1)")
    assert "--personal-data mask" in note
    assert list(inventory.notes("mask")) == []


def test_an_inventory_without_the_extra_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sizewise.documents.personal_data.find_spec", lambda name: None)
    inventory = Inventory()
    inventory.add(make_document("a", "a", "ana@example.org", "a.txt"))
    assert inventory.personal_data == {}
    (note,) = inventory.notes()
    assert "was not looked for" in note
    assert "guard" in note


def test_a_reading_counts_files_once() -> None:
    reading = Reading()
    reading.count_removed(Counter({"x": 2, "y": 0}))
    reading.count_removed(Counter({"x": 1}))
    reading.note_removed()
    reading.note_removed()
    assert reading.notes == ["x: 3 in 2 files"]
