"""The live page of a running study in Chromium: desktop and phone width, keyboard, stop button, end and death."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.records import Score
from sizewise.studies.live_page import LivePage
from sizewise.studies.progress import BoardRow, StudyProgress
from tests.browser.conftest import Browser

pytestmark = pytest.mark.browser

HOSTILE = "small <img src=x onerror=\"document.title='hacked'\">"
SCRIPT = "<script>document.title='hacked'</script> dateTime"


def score(value: float, ci_low: float, ci_high: float) -> Score:
    return Score(metric="accuracy", value=value, ci_low=ci_low, ci_high=ci_high, n=80, unit="share", signature="s")


def running() -> StudyProgress:
    progress = StudyProgress(budget_s=600)
    progress.begin("Which data type?")
    progress.plan([("Read the data", 5), ("Rules and baselines", 10), ("Train small", 120), ("Bias test", 60)])
    for stage in ("Read the data", "Rules and baselines"):
        progress.start(stage)
        progress.finish(stage, "80 items")
    progress.start("Train small")
    progress.advance("Train small", 3, 10, "1,200 tokens/s")
    progress.show_board(
        [
            BoardRow("embeddings + logistic head", "accuracy", score(0.78, 0.72, 0.84)),
            BoardRow(HOSTILE, "accuracy", score(0.71, 0.65, 0.77), "stopped early: it can no longer win"),
            BoardRow("most frequent answer", "accuracy", score(0.22, 0.16, 0.28), baseline=True),
            BoardRow("large", "accuracy", None),
        ]
    )
    for step in range(12):
        progress.add_point("small", 5.0 * step, 2.5 - step / 8, "Training loss (nats per token)")
        progress.add_point("smaller", 5.0 * step, 2.6 - step / 12, "Training loss (nats per token)")
    progress.show_sample("Which type holds the date of a claim?", {"embeddings": "dateTime", HOSTILE: SCRIPT, "c": ""})
    progress.show_verdict("Use embeddings + logistic head for now: it leads by 7 points.", "pick", provisional=True)
    progress.say(f"Evaluating {HOSTILE}")
    return progress


def test_a_study_from_the_verdict_so_far_to_the_report(browser: Browser, tmp_path: Path) -> None:
    progress = running()
    with LivePage(progress) as page:
        browser.open(page.url)
        browser.until("document.querySelectorAll('#board tbody tr').length === 4")
        browser.shot("live-desktop")
        shown = browser.js("document.body.innerText")
        assert HOSTILE in shown
        assert SCRIPT in shown
        assert "78% [72, 84]" in shown
        assert browser.js("document.images.length + document.querySelectorAll('.answer script').length") == 0
        assert "hacked" not in browser.js("document.title")
        assert browser.js("document.querySelectorAll('#curves path').length") == 4  # two curves, two in the legend
        browser.size(390, 844)
        browser.shot("live-phone")
        assert not browser.wide()
        browser.js("window.scrollTo(0, 600); 1")
        browser.shot("live-phone-2")
        browser.size(1200, 1500)
        browser.shot("live-desktop-long")

        progress.show_verdict("Too close to call.", "inconclusive", provisional=True)
        browser.until("document.querySelector('#verdict p').textContent === 'Too close to call.'")  # without reload
        assert browser.js("performance.getEntriesByType('navigation').length") == 1

        browser.js("document.getElementById('stop').focus(); document.activeElement.click(); 1")
        assert browser.js("document.activeElement.id") == "no"  # the safe choice has the focus
        browser.press("Escape")
        assert browser.js("document.activeElement.id") == "stop"
        browser.js("document.getElementById('stop').click(); document.getElementById('yes').click(); 1")
        browser.until("document.getElementById('stopping').textContent.startsWith('Stopping after')")
        assert progress.stop_requested

        report = tmp_path / "report.html"
        report.write_text("<h1>The report</h1>", encoding="utf-8")
        progress.show_report(report)
        progress.show_verdict("Use embeddings + logistic head.", "pick", provisional=False)
        progress.end()
        browser.until("document.getElementById('kicker').textContent.includes('finished')")
        browser.size(1200, 800)
        browser.shot("live-finished")
        assert "final" in browser.js("document.getElementById('verdict').innerText")
        assert browser.js("document.getElementById('actions').hidden")
        assert str(report) in browser.js("document.getElementById('reports').innerText")
    browser.js("document.querySelector('#reports a').click(); 1")  # the process of the study is gone by now
    browser.until("document.getElementById('reports').innerText.includes('Open the file')")
    assert not [one for one in browser.complaints() if "ERR_CONNECTION_REFUSED" not in one]


def test_the_page_says_that_the_process_has_died(browser: Browser) -> None:
    progress = running()
    with LivePage(progress) as page:
        browser.open(page.url)
        browser.until("document.querySelectorAll('#board tbody tr').length === 4")
    browser.until("document.getElementById('lost').innerText.includes('run the same command again')")
    assert browser.js("document.getElementById('actions').hidden")
    browser.shot("live-dead")
