# ruff: noqa: RUF001
"""Accuracy and macro F1 of labels read from answers."""

from __future__ import annotations

from tests.metrics.tables.cases import NOT_MEASURED, Case, a

MAIL = ("ham", "spam")
ABC = ("a", "b", "c")


def _said(*said: str, right: str = "spam") -> list[object]:
    return [a(one, right) for one in said]


CASES = {
    "accuracy": [
        Case(_said("spam", "SPAM", "**Spam**", "Answer: spam"), 1, "decoration", MAIL),
        Case(_said("It isn't spam."), 0, "denied", MAIL),
        Case(_said("spam or ham"), 0, "contradictory", MAIL),
        Case(_said("ham, no wait. Answer: spam"), 1, "last stated", MAIL),
        Case(_said("Ham? No.\nAnswer: spam"), 1, "asked about, then stated", MAIL),
        Case(_said("spammer"), 0, "inside another word", MAIL),
        Case(_said(""), 0, "empty", MAIL),
        Case(_said("das ist kein Spam", "nicht ham, sondern spam"), 0.5, "German", MAIL),
        Case(_said("（B）", "Ｂ", "B.", "option B", "答案是B", right="b"), 1, "letters in five writings", ABC),
        Case(_said("A guess", right="a"), 0, "an article isn't a choice", ABC),
        Case([a("x", "x"), a("y", "x"), a("x", "x"), a("z", "y")], 0.5, "undeclared labels: each used twice"),
        Case([a(f"{i}", f"{i}") for i in range(4)], NOT_MEASURED, "distinct answers are no labels"),
        Case([a("non-spam", "non spam"), a("spam", "spam")], 1, "one label in two spellings", ("non spam", "spam")),
        Case([a("spam", "ham", "spam"), a("ham", "ham")], 1, "any accepted reference", MAIL),
        Case([a("4 out of 5", "4"), a("5", "5")], 1, "a scale isn't a second answer", ("4", "5")),
        Case([a("٤", "4"), a("4.5", "5")], 0.5, "other digits are the same; 4.5 is neither", ("4", "5")),
    ],
    "macro_f1": [
        Case([a("spam", "spam"), a("ham", "ham")], 1, "all right", MAIL),
        Case([a("spam", "ham"), a("ham", "spam")], 0, "all wrong", MAIL),
        Case([a("ham", "ham"), a("ham", "spam")], 1 / 3, "scikit-learn: f1 2/3 and 0", MAIL),
        Case([a("ham", "ham")] * 9 + [a("ham", "spam")], 9 / 19, "scikit-learn: 18/19 and 0", MAIL),
        Case([a("ham", "ham"), a("?", "spam")], 0.5, "unreadable: no prediction, and recall 0", MAIL),
        Case([a("?", "ham"), a("?", "spam")], 0, "nothing predicted", MAIL),
        Case([a("a", "a"), a("b", "b"), a("a", "b")], 2 / 3, "2/3 and 2/3; c occurs nowhere", ABC),
        Case([a("a", "a"), a("c", "b")], 1 / 3, "1, 0 and 0: c was predicted", ABC),
        Case([a("a", "a"), a("a", "b"), a("b", "c"), a("c", "c")], (2 / 3 + 0 + 2 / 3) / 3, "scikit-learn", ABC),
        Case([a("not spam", "ham"), a("spam", "spam")], 0.5, "denied: recall of ham is 0", MAIL),
        Case([a(f"{i}", f"{i}") for i in range(4)], NOT_MEASURED, "distinct answers are no labels"),
        Case([a("spam, not ham", "spam"), a("Answer: ham", "ham")], 1, "read from words", MAIL),
        Case([a("spam", "ham", "spam"), a("ham", "ham")], 1, "any accepted reference", MAIL),
        Case([a("b", "a"), a("b", "b"), a("b", "c")], 1 / 6, "0, 1/2 and 0", ABC),
    ],
}
