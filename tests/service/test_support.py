"""The inbox, the support view, look-ups, drafts and plain answers of the support agent."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("bm25s")

from pydantic import ValidationError
from starlette.testclient import TestClient

from sizewise.retrieval import Library
from sizewise.service.agent import UNKNOWN, Support
from sizewise.service.api_keys import Key, Keys
from sizewise.service.app import create_app
from sizewise.service.lookups import Lookup
from sizewise.service.small_talk import GOODBYE, GREETING, WELCOME, small_talk
from sizewise.service.state import Settings
from sizewise.store import Store
from tests.service import test_agent
from tests.service.test_agent import Talker, ask, text_of

library, talker, client = test_agent.library, test_agent.talker, test_agent.client
NO_IDEA = "Quel temps fait-il?"


def serve(talker: Talker, store: Store, support: Support, *keys: Key) -> TestClient:
    client = TestClient(create_app({"small": talker}, Settings(support=support, keys=Keys(keys)), store))
    with client:
        for _ in range(100):
            if client.get("/health").status_code == 200:
                break
    return client


def key(name: str, **more: Any) -> tuple[Key, dict[str, str]]:
    made = Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), **more)
    return made, {"Authorization": f"Bearer {name}"}


def number_in(text: str) -> str:
    return text.split("the reference is ")[1].split(".")[0]


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Hi!", GREETING),
        ("Guten Morgen", GREETING),
        ("ok, thank you so much!", WELCOME),
        ("Danke", WELCOME),
        ("Thanks, bye!", GOODBYE),
        ("Hi, when do parcels arrive?", ""),
        ("thanks, and the refund?", ""),
        ("help me with my kettle", ""),
        ("great news about the warranty", ""),
        ("hello " * 100, ""),
    ],
)
def test_only_small_talk_gets_a_plain_answer(text: str, reply: str) -> None:
    assert small_talk(text, ["Returns"]) == reply


def test_the_agent_says_what_it_is(client: TestClient, talker: Talker) -> None:
    assert "Returns, Shipping, Warranty, Evil" in text_of(ask(client, "Are you a bot?"))
    assert text_of(ask(client, "Hello")) == GREETING
    assert talker.seen == []


def test_staff_answer_a_customer_who_answers_back(client: TestClient) -> None:
    said = [NO_IDEA, UNKNOWN, "Yes, please"]
    handed = text_of(ask(client, *said))
    (waiting,) = client.get("/support/data").json()["handovers"]
    (why,) = waiting["explanations"]
    assert why["question"] == NO_IDEA
    assert why["reason"] == "No document has a word of the question."
    number = waiting["number"]
    assert number == number_in(handed)
    assert client.post(f"/handovers/{number}/reply", json={"text": "It rains."}).status_code == 200
    assert "added this to your conversation" in text_of(ask(client, *said, handed, "And tomorrow?"))
    thread = client.get(f"/handovers/{number}/messages").json()
    assert [(one["author"], one["text"]) for one in thread["messages"]] == [
        ("staff", "It rains."),
        ("customer", "And tomorrow?"),
    ]
    assert not thread["done"]
    client.post(f"/handovers/{number}/reply", json={"text": "Sun.", "done": True, "resolved": True, "example": True})
    assert client.get(f"/handovers/{number}/messages").json()["done"]
    assert client.post(f"/handovers/{number}/reply", json={"text": "?"}).status_code == 404
    assert text_of(ask(client, *said, handed, NO_IDEA)) == UNKNOWN  # closed: the agent answers again
    rows = [json.loads(line) for line in client.get("/corrections").text.splitlines()]
    assert rows == [{"prompt": "Yes, please", "answer": "Sun.", "rejected": "", "source": "staff"}]


def test_only_the_key_that_handed_over_and_staff_read_a_conversation(
    talker: Talker, library: Library, store: Store
) -> None:
    (ada, as_ada), (eve, as_eve), (boss, as_boss) = key("ada"), key("eve"), key("boss", staff=True)
    client = serve(talker, store, Support(library), ada, eve, boss)
    body = {"model": "support", "messages": [{"role": "user", "content": "I want to talk to a human"}]}
    handed = client.post("/v1/chat/completions", json=body, headers=as_ada)
    path = f"/handovers/{number_in(text_of(handed))}"
    assert client.get(f"{path}/messages", headers=as_ada).status_code == 200
    assert client.get(f"{path}/messages", headers=as_boss).status_code == 200
    assert client.get(f"{path}/messages", headers=as_eve).status_code == 404
    assert client.post(f"{path}/reply", headers=as_ada, json={"text": "x"}).status_code == 403
    for one in ("/support/data", "/corrections"):
        assert client.get(one, headers=as_ada).status_code == 403
    talk = [
        *body["messages"],
        {"role": "assistant", "content": text_of(handed)},
        {"role": "user", "content": "hi there"},
    ]
    other = client.post("/v1/chat/completions", json={"model": "support", "messages": talk}, headers=as_eve)
    assert text_of(other) == GREETING  # eve may not write into ada's conversation
    assert client.get(f"{path}/messages", headers=as_ada).json()["messages"] == []


def test_outcomes_are_counted_by_topic_without_text(client: TestClient, talker: Talker) -> None:
    talker.says = "Goods may be returned within 30 days of delivery."
    ask(client, "When may goods be returned after delivery?")
    ask(client, NO_IDEA)
    ask(client, "Hello")
    ask(client, "I want to talk to a human")
    data = client.get("/support/data?days=1").json()
    figures = data["figures"]
    assert figures["outcomes"] == {"answered": 1, "unknown": 1, "small_talk": 1, "handed_over": 1}
    assert figures["conversations"] == 4
    assert figures["containment"]["value"] == 0.75
    assert figures["containment"]["ci_low"] < 0.75 < figures["containment"]["ci_high"]
    assert figures["answered_rate"]["value"] == 0.5
    assert figures["by_topic"]["Returns"]["answered_rate"]["value"] == 1.0
    assert figures["waiting"] == 1
    assert [one["question"] for one in data["unanswered"]] == [NO_IDEA]
    assert client.get("/support/data?days=0").status_code == 400
    page = client.get("/support")
    assert page.status_code == 200
    assert "Waiting for a person" in page.text


def test_a_draft_waits_for_staff_and_its_edit_becomes_an_example(
    talker: Talker, library: Library, store: Store
) -> None:
    client = serve(talker, store, Support(library, draft=True))
    talker.says = "Goods may be returned within 30 days of delivery."
    question = "When may goods be returned after delivery?"
    answer = ask(client, question)
    assert "A colleague checks" in text_of(answer)
    assert "30 days" not in answer.text
    streamed = ask(client, question, stream=True).text
    assert "A colleague checks" in streamed
    assert "30 days" not in streamed
    waiting = client.get("/support/data").json()["handovers"][0]
    assert waiting["draft"].startswith("Goods may be returned within 30 days of delivery. [1]")
    edited = {"text": "You have 30 days.", "done": True, "resolved": True}
    client.post(f"/handovers/{waiting['number']}/reply", json=edited)
    (row,) = [json.loads(line) for line in client.get("/corrections").text.splitlines()]
    assert (row["prompt"], row["answer"], row["rejected"]) == (question, "You have 30 days.", waiting["draft"])


def test_a_citation_opens_its_passage_and_corrections_are_kept(client: TestClient) -> None:
    cited = {"document": "returns.md", "sentence": "The refund arrives within 5 working days. [1]"}
    found = client.post("/passages", json=cited).json()
    assert found["title"] == "Returns"
    assert "Opened software cannot be returned." in found["text"]
    assert client.post("/passages", json=cited | {"document": "other.md"}).status_code == 404
    better = {"prompt": "Refund?", "answer": "In 5 working days.", "rejected": "Never."}
    assert client.post("/corrections", json=better).status_code == 200
    assert json.loads(client.get("/corrections").text) == better | {"source": "chat"}


ORDERS = {
    "name": "order",
    "title": "the state of your order",
    "when": ["where .*(order|parcel)", "track"],
    "parameters": {"order": r"\b[A-Z]{2}-\d{4}\b"},
    "say": "Order {order} is {status}; it arrives on {day}.",
}


def orders(customer: str, order: str) -> dict[str, str]:
    if customer != "c-7":
        raise LookupError(order)
    return {"status": "on its way", "day": "Friday"}


def looking_up(talker: Talker, library: Library, store: Store, **more: Any) -> tuple[TestClient, dict[str, str], Any]:
    lookup = Lookup.model_validate(ORDERS | more)
    (app, as_app), (guest, as_guest) = key("app", vouches=True, staff=True), key("guest")
    return serve(talker, store, Support(library, lookups=(lookup,)), app, guest), as_app, as_guest


def say(client: TestClient, as_key: dict[str, str], customer: str | None, *said: str) -> str:
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    body = {"model": "support", "messages": messages} | ({"user": customer} if customer else {})
    return text_of(client.post("/v1/chat/completions", json=body, headers=as_key))


def test_a_fact_is_looked_up_for_the_customer_only(talker: Talker, library: Library, store: Store) -> None:
    client, as_app, as_guest = looking_up(talker, library, store, function="tests.service.test_support:orders")
    asked = say(client, as_app, "c-7", "Where is my order?")
    assert asked == "To look up the state of your order, I need: order."
    found = say(client, as_app, "c-7", "Where is my order?", asked, "It's AB-1234")
    assert found == (
        "Order AB-1234 is on its way; it arrives on Friday.\n\nLooked up: the state of your order (AB-1234)."
    )
    question = "Where is my order AB-1234?"
    assert "couldn't look up" in say(client, as_app, "c-8", question)
    for as_key, customer in ((as_app, None), (as_guest, "c-7")):  # a guest's word for the customer doesn't count
        assert "I don't know who you are" in say(client, as_key, customer, question)
    with store.service_ledger() as ledger:
        audit = list(ledger.entries("lookups").values())
    assert [one["status"] for one in audit] == ["missing", "found", "failed", "unknown_customer", "unknown_customer"]
    assert audit[1]["customer"] == "c-7"
    assert "Friday" not in json.dumps(audit)


class _Orders(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if "XX-0000" in self.path:
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
            return
        body = json.dumps({"status": "lost [x](http://evil)\n\nSources:", "day": 5, "more": {"x": 1}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    _Orders.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Orders)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_is_asked_with_the_customer_and_never_leads_elsewhere(
    talker: Talker, library: Library, store: Store, shop: str
) -> None:
    client, as_app, _ = looking_up(talker, library, store, url=f"{shop}/orders/{{order}}?of={{customer}}")
    assert say(client, as_app, "a&b=/c", "Track AB-1234").startswith(
        "Order AB-1234 is lost [x](http://evil) Sources:; "
    )
    assert _Orders.asked == ["/orders/AB-1234?of=a%26b%3D%2Fc"]
    assert "couldn't look up" in say(client, as_app, "c-7", "Track XX-0000")
    assert "/secret" not in _Orders.asked


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"url": "http://{customer}.example/", "function": ""},
        {"url": "file:///etc/passwd"},
        {"url": "http://a.example/", "function": "a:b"},
        {"url": "http://a.example/", "when": ["("]},
    ],
)
def test_wrong_look_ups_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Lookup.model_validate(ORDERS | wrong)
