"""Exports of Zendesk, Intercom and ServiceNow become examples."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sizewise.documents import read_paths

ZENDESK = {
    "id": 35, "requester_id": 7, "subject": "No e-mail", "status": "solved", "created_at": "2026-02-03T04:05:06Z",
    "tags": ["mail"], "description": "I get no e-mail.",
    "comments": [
        {"author_id": 7, "body": "I get no e-mail.", "public": True},
        {"author_id": 9, "body": "He called before; be nice.", "public": False},
        {"author_id": 9, "plain_body": "Which address?", "body": "**Which** address?", "public": True},
        {"author_id": 7, "body": "a@example.org", "public": True},
        {"author_id": 9, "body": "Please check the spam folder.", "public": True},
        {"author_id": 7, "body": "Thanks!", "public": True},
    ],
}  # fmt: skip
INTERCOM = {
    "type": "conversation", "id": "35", "open": False, "state": "closed", "created_at": 1770091506,
    "tags": {"type": "tag.list", "tags": [{"name": "mail"}]},
    "source": {"subject": "<p>No e-mail</p>", "body": "<p>I get no e-mail.</p>", "author": {"type": "user", "id": "7"}},
    "conversation_parts": {"conversation_parts": [
        {"part_type": "note", "body": "<p>He called before; be nice.</p>", "author": {"type": "admin"}},
        {"part_type": "assignment", "body": None, "author": {"type": "admin"}},
        {"part_type": "comment", "body": "<p>Which address?</p>", "author": {"type": "admin"}},
        {"part_type": "comment", "body": "a@example.org", "author": {"type": "user"}},
        {"part_type": "comment", "body": "<p>Please check the<br>spam&nbsp;folder.</p>", "author": {"type": "bot"}},
    ]},
}  # fmt: skip
SERVICENOW = {
    "number": {"display_value": "INC35", "value": "INC35"}, "short_description": "No e-mail",
    "description": "I get no e-mail.", "close_notes": "Please check the spam folder.",
    "state": {"display_value": "Closed"},
    "category": "mail", "opened_at": "2026-02-03 04:05:06",
}  # fmt: skip


def read(path: Path, body: Any) -> Any:
    path.write_text(json.dumps(body), encoding="utf-8")
    return read_paths([path])


@pytest.mark.parametrize(
    "body",
    [ZENDESK, {"tickets": [ZENDESK]}, INTERCOM, {"conversations": [INTERCOM]}],
    ids=["zendesk", "zendesk list", "intercom", "intercom list"],
)
def test_a_conversation_ends_with_the_last_public_answer(tmp_path: Path, body: Any) -> None:
    (example,) = read(tmp_path / "x.json", body).examples
    assert example.id == "35"
    assert example.tags == ("mail",)
    assert example.references[0].split() == ["Please", "check", "the", "spam", "folder."]
    said = [(message.role, message.content) for message in example.messages]
    assert said == [
        ("user", "No e-mail\n\nI get no e-mail."),
        ("assistant", "Which address?"),
        ("user", "a@example.org"),
    ]
    assert "be nice" not in example.model_dump_json()


def test_a_record_of_servicenow_is_a_question_and_its_close_notes(tmp_path: Path) -> None:
    reading = read(tmp_path / "x.json", {"result": [SERVICENOW, SERVICENOW | {"state": "New"}]})
    (example,) = reading.examples
    assert example.prompt == "No e-mail\n\nI get no e-mail."
    assert (example.id, example.references) == ("INC35", ("Please check the spam folder.",))
    with (tmp_path / "y.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["number", "short_description", "description", "close_notes", "state"])
        rows.writerow(["INC36", "No e-mail", "I get no e-mail.", "Restart it.", "Closed"])
    (example,) = read_paths([tmp_path / "y.csv"]).examples
    assert (example.id, example.references) == ("INC36", ("Restart it.",))


@pytest.mark.parametrize(
    "body",
    [
        ZENDESK | {"status": "open"},
        ZENDESK | {"comments": [ZENDESK["comments"][0]]},  # type: ignore[index]
        INTERCOM | {"open": True},
        SERVICENOW | {"close_notes": ""},
    ],
)
def test_tickets_without_an_answer_are_left_out(tmp_path: Path, body: Any) -> None:
    lines = [json.dumps(one) for one in (ZENDESK, body)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    reading = read_paths([tmp_path / "x.jsonl"])
    assert len(reading.examples) == 1
    assert not reading.rejected
    assert "skipped 1 row" in " ".join(reading.notes)
