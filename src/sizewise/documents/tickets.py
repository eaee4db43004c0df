"""Read what customers asked and support staff answered from exports of Zendesk, Intercom and ServiceNow."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sizewise.documents.tables import Row
from sizewise.documents.values import BadRow, reason_of

ZENDESK = "Zendesk tickets (the last public answer is the reference)"
INTERCOM = "Intercom conversations (the last answer is the reference)"
SERVICENOW = "ServiceNow records (the close notes are the reference)"
_CLOSED = ("solved", "closed", "resolved", "6", "7")
_BLOCK = re.compile(r"(?i)<(?:br\s*/?|/p|/div|/li|/h\d)>")
_TAG = re.compile(r"<[^<>]{0,2000}>")
_CUSTOMERS = ("user", "lead", "contact", "customer")
Turn = tuple[str, str]


def ticket_rows(row: Row) -> list[Row] | None:
    """Return the solved tickets of a row as rows with `messages`; None if the row is no ticket.

    Tickets that are open or have no answer of staff are rows without cells. Internal notes are left out.
    """
    cells = row.cells
    for key, is_one, read, form in (
        ("tickets", _is_zendesk, _of_zendesk, ZENDESK),
        ("conversations", _is_intercom, _of_intercom, INTERCOM),
        ("result", _is_servicenow, _of_servicenow, SERVICENOW),
        ("records", _is_servicenow, _of_servicenow, SERVICENOW),
    ):
        listed = cells.get(key)
        if is_one(cells):
            items: list[Any] = [cells]
        elif isinstance(listed, list) and listed and all(isinstance(one, dict) and is_one(one) for one in listed):
            items = listed
        else:
            continue
        made = []
        for item in items:
            try:
                found = read(item)
            except BadRow as error:
                made.append(Row(row.line, {}, reason_of(error), form))
                continue
            made.append(Row(row.line, found or {}, form=form))
        return made
    return None


def _is_zendesk(item: Mapping[str, Any]) -> bool:
    return isinstance(item.get("comments"), list) and "requester_id" in item and ("subject" in item or "status" in item)


def _of_zendesk(item: Mapping[str, Any]) -> dict[str, Any] | None:
    if str(item.get("status", "solved")) not in _CLOSED:
        return None
    turns = []
    for comment in _objects(item["comments"]):
        if comment.get("public") is not False:
            said = comment.get("plain_body") or comment.get("body") or _text(str(comment.get("html_body") or ""))
            turns.append(("user" if comment.get("author_id") == item["requester_id"] else "assistant", str(said)))
    return _example(item, turns, item.get("subject"), item.get("created_at"), item.get("tags"))


def _is_intercom(item: Mapping[str, Any]) -> bool:
    return isinstance(item.get("source"), dict) and isinstance(item.get("conversation_parts"), dict | list)


def _of_intercom(item: Mapping[str, Any]) -> dict[str, Any] | None:
    if item.get("open") is True or item.get("state") in ("open", "snoozed"):
        return None
    parts = item["conversation_parts"]
    parts = parts.get("conversation_parts") if isinstance(parts, dict) else parts
    turns = []
    for part in (item["source"], *_objects(parts)):
        if part.get("part_type", "comment") in ("comment", "open", "close") and part.get("body"):
            author = part.get("author")
            kind = str(author.get("type", "")) if isinstance(author, dict) else ""
            turns.append(("user" if kind in _CUSTOMERS else "assistant", _text(str(part["body"]))))
    tags = item.get("tags")
    names = [one.get("name") for one in _objects(tags.get("tags") if isinstance(tags, dict) else tags)]
    subject = _text(str(item["source"].get("subject") or ""))
    return _example(item, turns, subject, item.get("created_at"), [name for name in names if name])


def _is_servicenow(item: Mapping[str, Any]) -> bool:
    return "short_description" in item and ("close_notes" in item or "sys_id" in item)


def _of_servicenow(item: Mapping[str, Any]) -> dict[str, Any] | None:
    fields = {key: _shown(value) for key, value in item.items()}
    answer, state = fields.get("close_notes", ""), fields.get("state", "closed").lower()
    if not answer.strip() or not any(state.startswith(word) for word in _CLOSED):
        return None
    asked = fields["short_description"], fields.get("description", "")
    question = "\n\n".join(part for part in dict.fromkeys(map(_text, asked)) if part)
    tags = [tag for tag in (fields.get("category", ""), fields.get("subcategory", "")) if tag]
    named = {"id": fields.get("number") or fields.get("sys_id")}
    return _example(named, [("user", question), ("assistant", _text(answer))], "", fields.get("opened_at", ""), tags)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("display_value") or value.get("value")
    return "" if value is None else str(value)


def _objects(items: Any) -> Iterable[Mapping[str, Any]]:
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise BadRow("its messages are no list of objects")
    return items


def _text(body: str) -> str:
    """Return the text of a message in HTML."""
    if "<" not in body and "&" not in body:
        return body.strip()
    plain = html.unescape(_TAG.sub("", _BLOCK.sub("\n", body))).replace("\xa0", " ")
    return re.sub(r"\n{3,}", "\n\n", plain).strip()


def _example(item: Mapping[str, Any], turns: list[Turn], subject: Any, when: Any, tags: Any) -> dict[str, Any] | None:
    """Build a row that ends with an answer of staff; None if there is none after a question."""
    joined: list[dict[str, str]] = []
    for role, text in turns:
        if not text.strip() or (not joined and role == "assistant"):
            continue
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] += f"\n\n{text.strip()}"
        else:
            joined.append({"role": role, "content": text.strip()})
    while joined and joined[-1]["role"] == "user":
        joined.pop()
    if not joined:
        return None
    first = joined[0]["content"]
    if isinstance(subject, str) and subject.strip() and subject.strip() not in first:
        joined[0]["content"] = f"{subject.strip()}\n\n{first}"
    row: dict[str, Any] = {"messages": joined, "tags": [str(tag) for tag in tags] if isinstance(tags, list) else []}
    return row | {"id": str(item["id"])} | {"time": when or ""} if item.get("id") is not None else row
