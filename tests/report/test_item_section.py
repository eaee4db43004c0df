from __future__ import annotations

from sizewise.comparison import analyze_items
from sizewise.metrics.display import measure_of
from sizewise.records import ItemAnalysis
from sizewise.report.environment import make_environment
from tests.comparison.test_item_review import ladder, rows_of


def render(found: ItemAnalysis | None) -> str:
    template = make_environment().get_template("item_review.html.jinja")
    return str(template.render(item_analysis=found, measures={"exact_match": measure_of("exact_match")}))


def test_items_to_review_are_listed_with_who_passed_and_failed() -> None:
    scores = ladder(candidates=12)
    answers = ["<b>truth</b>"] * len(scores)
    page = render(analyze_items({f"m{c}": rows_of(scores[:, c], answers) for c in range(12)}, "comparison-1"))
    assert page.count("<details>") <= 10
    first = page.partition("<details>")[2].partition("</details>")[0]
    assert "Question 30?" in first
    assert "answer 30" in first
    assert "Strong candidates fail, weak ones pass: discrimination -" in first
    assert "Passed: m5, m4" in first
    assert "Failed: m11, m10" in first
    assert "&lt;b&gt;truth" in first
    assert "1 is negative beyond chance" in page


def test_without_items_to_review_there_is_no_section() -> None:
    assert render(None).strip() == ""
    sound = ladder()
    sound[30] = 1 - sound[30]
    sound = sound[sound.any(axis=1)]
    assert render(analyze_items({f"m{c}": rows_of(sound[:, c]) for c in range(12)}, "comparison-1")).strip() == ""
