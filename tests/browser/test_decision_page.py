"""The page of a study of decisions in Chromium: costs of errors, the ladder, and rates by group."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.browser.conftest import Browser, sizewise

pytestmark = pytest.mark.browser

STATUS = "document.getElementById('cheapest').textContent"
ROWS = "[...document.querySelectorAll('#costs-table tr')].map(row => [...row.cells].map(cell => cell.textContent))"


def study_of_decisions(folder: Path) -> Path:
    """Write messages that are fraud or fine, a tenth of them labeled at random, from two branches; and a study."""
    rng = random.Random(0)
    words = {"fraud": ["gift card", "wire today", "new account"], "fine": ["lunch", "invoice paid", "meeting"]}
    rows = []
    for i in range(500):
        label = "fraud" if rng.random() < 0.3 else "fine"
        seen = label if rng.random() > 0.1 else rng.choice(["fraud", "fine"])
        branch = rng.choice(["north", "south"])
        rows.append({"text": f"{rng.choice(words[seen])} case {i}", "label": label, "branch": branch})
    path = folder / "cases.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    study = folder / "study.toml"
    study.write_text(
        f"""
[data]
examples = "{path}"
groups = ["branch"]
[[candidates]]
name = "words"
model = "tfidf"
train = {{ method = "linear" }}
[[candidates]]
name = "few examples"
model = "tfidf"
train = {{ method = "linear", max_examples = 5 }}
[[candidates]]
name = "frequencies"
model = "none"
train = {{ method = "frequent" }}
[needs]
quality = "accuracy"
""",
        encoding="utf-8",
    )
    return study


def move(which: str, value: int) -> str:
    """Return a script that moves a slider of the costs."""
    return (
        f"{{ const one = document.querySelector('#costs [name={which}]'); one.value = {value};"
        " one.dispatchEvent(new Event('input', {bubbles: true})); } 1"
    )


def test_an_expert_sets_the_costs_of_errors(tmp_path: Path, browser: Browser) -> None:
    made = json.loads(sizewise("study", str(study_of_decisions(tmp_path)), "--json"))
    browser.open(Path(made["record"]["report"]).as_uri(), 1280, 900)
    assert "compared by branch" in browser.js("document.querySelector('.reasons').innerText")
    browser.js("location.hash = '#error-costs'; 1")
    assert browser.js("document.querySelectorAll('#costs input[type=range]').length") == 2
    even = browser.js(ROWS)
    assert {row[0] for row in even} >= {"words", "frequencies"}
    assert browser.js(STATUS).startswith(f"{even[0][0]} is cheapest at these costs: ")
    browser.shot("decisions-even")
    browser.js(move("second", 100))  # missing fraud costs 1,000, a false alarm 1
    missed = browser.js(ROWS)
    assert missed != even
    assert browser.js("document.querySelector('#costs [name=second]').getAttribute('aria-valuetext')") == "1,000"
    threshold = {row[0]: row[4] for row in missed}["words"]
    assert float(threshold.removeprefix("from ").removesuffix("%")) < 50
    browser.js(move("first", 100))
    browser.js(move("second", 0))  # a false alarm costs 1,000: decided only when certain, or never
    cautious = {row[0]: row[4] for row in browser.js(ROWS)}["words"]
    assert cautious == "never" or float(cautious.removeprefix("from ").removesuffix("%")) > 50
    price = "{ const one = document.querySelector('#costs [name=price]'); one.value = 0.5;"
    browser.js(price + " one.dispatchEvent(new Event('input', {bubbles: true})); } 1")
    rest = {row[0]: row for row in browser.js(ROWS)}["words"]
    assert float(rest[3].removesuffix("%")) > 0  # people decide the rest
    assert float(rest[1].partition(", ")[2].removesuffix("]").replace(",", "")) < 1_000  # no error can cost 1,000
    browser.js("location.hash = '#error-cost-table'; 1")
    browser.shot("decisions-costs")
    browser.js("location.hash = '#groups'; 1")
    assert browser.js("document.getElementById('groups').innerText") == "Decisions by branch"
    shown = browser.js("document.querySelector('.panel.open').innerText")
    assert "north" in shown
    assert "False positives" in shown
    browser.shot("decisions-groups")
    browser.js("location.hash = '#decisions'; 1")
    titles = browser.js("[...document.querySelectorAll('figure')].map(one => one.textContent).join(' ')")
    assert "against cost and latency" in titles
    browser.shot("decisions-ladder")
    browser.size(390, 844)
    for part in ("error-costs", "error-cost-table", "decisions", "groups"):
        browser.js(f"location.hash = '#{part}'; 1")
        assert not browser.wide(), part
    browser.shot("decisions-phone")
    assert browser.complaints() == []
