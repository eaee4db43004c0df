"""Models side by side in Chromium: at desktop and phone width, in the dark theme, and with a typed sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.report.model_page import write_model_page
from sizewise.studies.side_by_side import compare_models
from tests.browser.conftest import Browser
from tests.browser.test_pages import DARK
from tests.studies.measured_store import RUN, measured_store

pytestmark = pytest.mark.browser

PLAIN = "*:not(.tokens *):not(.kind):not(.notice, .notice *):not(textarea, select, option)"
CONTRAST = """(() => {
    const light = color => {
        const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const page = light(getComputedStyle(document.body).backgroundColor);
    return Math.min(...[...document.querySelectorAll('main PLAIN')]
        .filter(one => one.checkVisibility() && !one.closest('svg')
            && [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
        .map(one => light(getComputedStyle(one).color))
        .map(text => (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05)));
})()""".replace("PLAIN", PLAIN)
TYPE = """(() => {
    const text = document.getElementById('sentence');
    text.value = 'Kleine Modelle reichen oft, große kosten mehr.';
    text.oninput();
    const blocks = document.getElementById('blocks');
    blocks.value = 3;
    blocks.oninput();
    return 1;
})()"""
READING = "document.getElementById('reading').textContent"


def test_the_page_of_two_models(browser: Browser, tmp_path: Path) -> None:
    store = measured_store(tmp_path / "store")
    page = write_model_page(compare_models(["gpt-4o", RUN], store=store), tmp_path / "models.html").as_uri()
    for width in (1280, 390):
        browser.open(page, width, 900)
        assert not browser.wide()
        assert "52 [49, 55] (n = 120)" in browser.js("document.body.innerText")
        assert "looks at 20 of 20 tokens with full attention, at 4 with the window" in browser.js(READING)
        browser.shot(f"models-{width}")
        browser.js(TYPE)
        browser.until(f"{READING}.includes('through 3 blocks')")
        pairs = "document.querySelectorAll('#{}-matrix .direct').length"
        count = browser.js("document.getElementById('tokens').children.length")
        assert browser.js(pairs.format("full")) == count * (count + 1) / 2
        assert browser.js(pairs.format("window")) == 4 * count - 6
        browser.js("document.getElementById('tokens').children[1].click(); 1")
        assert "looks at 2 of 2 tokens" in browser.js(READING)
        browser.js("document.getElementById('attention').scrollIntoView(); 1")
        browser.shot(f"attention-{width}")
        assert not browser.wide()
        assert browser.js(CONTRAST) >= 4.5
    browser.js(DARK)
    assert browser.js(CONTRAST) >= 4.5
    browser.shot("models-dark")
    assert browser.complaints() == []
