"""A complete judging round in Chromium: study, simulated raters, report, study again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Browser, Serve, sizewise

pytestmark = pytest.mark.browser

LIKED = """(() => {
    const texts = [...document.querySelectorAll("#answers .text")].map(one => one.textContent);
    const right = document.getElementById("passage").textContent;
    const known = text => !right ? text.length : text === right ? 1 : 2;
    const worth = text => text.startsWith("<b>No</b>") ? 0 : known(text);
    return worth(texts[0]) > worth(texts[1]) ? "1" : worth(texts[0]) < worth(texts[1]) ? "2" : "3";
})()"""  # this rater prefers short answers, whatever BLEU says; where there is nothing to compare with, the longer


def judged(browser: Browser, link: str) -> int:
    browser.open(link)
    browser.until("!document.getElementById('intro').hidden")
    browser.shot("judge-before")
    browser.press("Enter")
    votes = 0
    while True:
        browser.until("!document.getElementById('task').hidden || !document.getElementById('end').hidden")
        if browser.js("!document.getElementById('end').hidden"):
            return votes
        before = browser.js("document.getElementById('count').textContent")
        if votes == 2:  # taken back, and judged again
            browser.press("u")
            browser.until(f"document.getElementById('count').textContent !== {json.dumps(before)}")
            browser.press(browser.js(LIKED))
            browser.until(f"document.getElementById('count').textContent === {json.dumps(before)}")
        if votes == 3:
            browser.shot("judge-desktop")
            browser.size(390, 760)
            browser.shot("judge-phone")
            assert not browser.wide()
            browser.size(1200, 800)
        browser.press(browser.js(LIKED))
        browser.until(f"document.getElementById('count').textContent !== {json.dumps(before)}")
        votes += 1


def test_judging_round_changes_the_verdict(recorded_study: Path, browser: Browser, served: Serve) -> None:
    before = json.loads(sizewise("study", str(recorded_study), "--json"))
    links: dict[str, Any] = {}
    opened = json.loads(
        sizewise("judge", "open", before["id"], "--simulated", "--raters", "ann,bob", "--votes-per-item", "2",
                 "--no-serve", "--json")
    )  # fmt: skip
    links = opened["record"]["links"]
    with served("judge", "open", opened["id"], "--port", "0", told="still valid") as (address, *_):
        for rater in ("ann", "bob"):
            votes = judged(browser, f"{address}{links[rater]}")
            assert votes == len(next(one for one in opened["record"]["raters"] if one["name"] == rater)["tasks"])
        browser.open(f"{address}/r/{'x' * 24}", refused=True)
        assert "isn't valid" in browser.js("document.body.innerText")
    assert browser.complaints() == []

    said = json.loads(sizewise("judge", "report", opened["id"], "--json"))
    assert said["record"]["open_tasks"] == 0
    assert said["record"]["origins"] == {"simulated": said["record"]["votes"]}
    assert said["record"]["agreement"]["scores"]["krippendorff_alpha"]["value"] == 1
    browser.open(f"file://{said['path']}")
    page = browser.js("document.body.innerText")
    assert "SIMULATED" in page
    assert "half" in page
    assert not browser.wide()
    browser.shot("judge-report-desktop")
    browser.size(390, 900)
    browser.shot("judge-report-phone")
    assert not browser.wide()

    after = json.loads(sizewise("study", str(recorded_study), "--json"))["record"]
    assert any("changed the verdict" in line for line in after["reasons"]) or (
        "changed the verdict" in json.dumps(after)
    )
    assert before["record"]["pick"] != after["pick"] == "half"
    browser.open(f"file://{after['report']}")
    assert "simula" in browser.js("document.body.innerText").lower()


def test_best_of_several_round(recorded_study: Path, browser: Browser, served: Serve) -> None:
    before = json.loads(sizewise("study", str(recorded_study), "--json"))
    opened = json.loads(
        sizewise(
            "judge", "open", before["id"], "--kind", "best", "--simulated", "--raters", "ann", "--no-serve", "--json"
        )
    )
    with served("judge", "open", opened["id"], "--port", "0", told="still valid") as (address, *_):
        browser.open(address + opened["record"]["links"]["ann"])
        browser.until("!document.getElementById('intro').hidden")
        browser.press("Enter")
        browser.until("document.querySelectorAll('#answers article').length === 3")
        browser.shot("judge-best")
        buttons = browser.js("[...document.querySelectorAll('#buttons button')].map(one => one.dataset.choice)")
        assert buttons == ["1", "2", "3", "none", "skip"]
        browser.js("document.querySelector('#buttons button[data-choice=\"2\"]').click(); 1")
        browser.until("document.getElementById('count').textContent.startsWith('1 of')")
    assert browser.complaints() == []


GUIDELINES = "# What matters\n\n- A **wrong** deadline is worse than none\n"


def test_guidelines_marks_harm_reasons_and_a_click_on_an_answer(
    recorded_study: Path, browser: Browser, served: Serve, tmp_path: Path
) -> None:
    (tmp_path / "guide.md").write_text(GUIDELINES, encoding="utf-8")
    before = json.loads(sizewise("study", str(recorded_study), "--json"))
    opened = json.loads(
        sizewise("judge", "open", before["id"], "--simulated", "--raters", "ann", "--no-serve", "--json",
                 "--guidelines", str(tmp_path / "guide.md"))
    )  # fmt: skip
    with served("judge", "open", opened["id"], "--port", "0", told="still valid") as (address, owner, *_):
        browser.open(address + opened["record"]["links"]["ann"])
        browser.until("!document.getElementById('intro').hidden")
        assert browser.js("document.querySelector('#intro .guide strong').textContent") == "wrong"
        browser.press("Enter")
        browser.until("document.querySelectorAll('#answers article').length === 2")
        assert browser.js("document.querySelectorAll('#guide li').length") == 1
        browser.press("h")
        assert browser.js("document.activeElement.value") == "1"
        browser.press("h")
        browser.js("document.activeElement.click(); document.querySelector('#reasons input[value=unsafe]').click(); 1")
        assert browser.js("document.getElementById('count').textContent").startswith("0 of")  # boxes choose nothing
        browser.js("shownAt -= 1000; document.querySelector('article').click(); 1")
        browser.until("document.getElementById('count').textContent.startsWith('1 of')")
        assert not browser.js("document.getElementById('guide').open")
        browser.js("document.querySelector('article').click(); 1")  # the second click of a double click
        assert browser.js("busy") is False
        browser.open(owner)
        browser.until("document.getElementById('links').textContent === '1 of 1'")
        assert browser.js("location.hash") == ""
        browser.shot("judge-owner-desktop")
        browser.size(390, 800)
        browser.shot("judge-owner-phone")
        assert not browser.wide()
        browser.js("document.getElementById('close').click(); document.getElementById('yes').click(); 1")
        browser.until("document.getElementById('status').textContent === 'This round is closed.'")
    assert browser.complaints() == []
    said = json.loads(sizewise("judge", "report", opened["id"], "--json"))["record"]
    assert said["closed"]
    assert [list(row.values()) for row in said["reasons"].values()] == [[1]]
    assert sorted(score["value"] for score in said["scores"]["harm"].values() if score["n"]) == [0, 1]
