"""A conversation of the imitation test in Chromium, from the first message to the verdict."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest

from sizewise.judging import ConversationDesign, open_conversations, report_conversations
from tests.browser.conftest import Browser, Serve

pytestmark = pytest.mark.browser


def get(address: str) -> object:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return json.loads(answer.read())


def post(address: str, body: dict[str, object]) -> object:
    sent = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(sent, timeout=10) as answer:
        return json.loads(answer.read())


def visible(name: str) -> str:
    return f"!document.getElementById({json.dumps(name)}).hidden"


def test_an_interrogator_talks_and_decides(browser: Browser, served: Serve) -> None:
    design = ConversationDesign(
        ["fake:silent"], ["ann"], ["bob"], conversations=2, minutes=2, topic="the weather", origin="simulated"
    )
    opened = open_conversations(design)
    assert opened.stored.record.interrogators[0].partners == ("person", "fake:silent")
    links = {one.rater: f"/c/{one.token}" for one in (*opened.interrogators, *opened.witnesses)}
    with served("judge", "converse", opened.stored.id, "--port", "0", told="still valid") as (address, *_):
        browser.open(f"{address}{links['ann']}")
        browser.until(visible("ready"))
        browser.shot("converse-ready")
        browser.js("document.getElementById('start').click(); 1")
        browser.until(visible("waiting"))
        bob, end = f"{address}{links['bob']}", time.monotonic() + 20
        while not browser.js(visible("chat")) and time.monotonic() < end:
            get(f"{bob}/state")
            time.sleep(0.2)
        browser.js("document.getElementById('text').value = 'hi, how is the weather?'; 1")
        browser.js("document.getElementById('send').click(); 1")
        browser.until("document.getElementById('send').disabled")
        post(f"{bob}/say", {"text": "grey <b>again</b>", "nonce": "bob-bob-1"})
        browser.until("document.querySelectorAll('.message').length === 2")
        assert browser.js("document.getElementById('log').innerText").split("\n")[-1] == "grey <b>again</b>"
        browser.shot("converse-chat")
        browser.open(f"{address}{links['ann']}")  # a reload
        browser.until("document.querySelectorAll('.message').length === 2")
        browser.js("document.getElementById('decide').click(); 1")
        browser.until(visible("verdict"))
        browser.size(390, 760)
        browser.shot("converse-verdict-phone")
        assert not browser.wide()
        browser.js("document.querySelector('input[value=person]').click(); 1")
        browser.js("document.querySelector('input[value=\"80\"]').click(); 1")
        browser.js("document.querySelector('#judge button').click(); 1")
        browser.until(f"{visible('ready')} && document.getElementById('count').textContent.startsWith('1 of 2')")
        assert "bob" not in browser.js("document.documentElement.outerHTML")
    assert [one for one in browser.complaints() if "ERR_" not in one] == []
    said = report_conversations(opened.stored.id)
    assert (said.counted, said.taken_for_a_person["person"].value) == (1, 1.0)
    assert "simulated" in said.notes[0]
