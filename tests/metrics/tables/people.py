"""People's grades, and how much of the reference an answer says."""

from __future__ import annotations

from sizewise.metrics import AnswerItem
from tests.metrics.tables.cases import NOT_MEASURED, Case, a


def g(grade: float | None) -> AnswerItem:
    """Make an item whose answer has a grade."""
    return AnswerItem("answer", (), "", "", None, grade)


CASES = {
    "human_grade": [
        Case([g(1)], 1, "one grade"),
        Case([g(0)], 0, "the lowest grade is a grade"),
        Case([g(1), g(0)], 0.5, "mean"),
        Case([g(0.75), g(0.25), g(0.5)], 0.5, "mean of three"),
        Case([g(None)], NOT_MEASURED, "nobody graded it"),
        Case([g(0.5), g(0.25)], 0.375, "fractions"),
        Case([g(100)], NOT_MEASURED, "on another scale than 0 to 1, which only a comparison knows"),
        Case([g(0.25)] * 7, 0.25, "seven equal ones"),
        Case([g(1), g(1), g(0), g(0), g(0)], 0.4, "2 of 5"),
        Case([g(0.1), g(0.2)], 0.15, "mean of tenths"),
        Case([g(-1)], NOT_MEASURED, "below the scale"),
        Case([g(0.5)] * 2 + [g(1)], 2 / 3, "mean of three"),
    ],
    "reference_recall": [
        Case([a("the cat sat", "cat sat")], 1, "all words"),
        Case([a("cat", "cat sat")], 0.5, "1 of 2"),
        Case([a("dog", "cat sat")], 0, "none"),
        Case([a("", "cat sat")], 0, "empty"),
        Case([a("a long story of a cat that sat there all day", "cat sat")], 1, "length costs nothing"),
        Case([a("sat cat", "cat sat")], 1, "order doesn't count"),
        Case([a("cat", "cat sat", "cat")], 1, "best reference"),
        Case([a("Cat SAT", "cat sat")], 1, "case doesn't count"),
        Case([a("cat sat", "cat sat"), a("", "cat sat")], 0.5, "mean of items"),
        Case([a("1901", "1901 Stockholm")], 0.5, "numbers are words"),
        Case([a("東京", "東京")], 1, "a script without spaces"),
        Case([a("cat sat", "cat sat.")], 1, "punctuation doesn't count"),
        Case([a("cat cat", "cat cat dog dog")], 0.5, "2 of 4, each counted"),
        Case([a("chat noir", "le chat noir")], 2 / 3, "2 of 3 in another language"),
        Case([a("Mu\u0308ller", "Müller")], 1, "NFD is NFC"),
        Case([a("alpha beta gamma", "alpha beta gamma delta")], 0.75, "3 of 4"),
        Case([a("alpha", "beta", "gamma")], 0, "no reference"),
        Case([a("東", "東京")], 0, "two ideographs are one term"),
    ],
}
