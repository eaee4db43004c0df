# ruff: noqa: RUF001
"""Exact match, token F1 (SQuAD) and ROUGE-L."""

from __future__ import annotations

from tests.metrics.tables.cases import Case, a

CASES = {
    "exact_match": [
        Case([a("Paris", "Paris")], 1, "equal"),
        Case([a(" paris\n", "Paris")], 1, "case and white space don't count"),
        Case([a("Paris.", "Paris")], 0, "punctuation counts, as in lm-evaluation-harness without its filters"),
        Case([a("Lyon", "Paris", "Lyon")], 1, "any reference"),
        Case([a("", "Paris")], 0, "an empty answer"),
        Case([a("Mu\u0308ller", "Müller")], 1, "NFD is NFC"),
        Case([a("ＡＢＣ１", "abc1")], 1, "full width is the same letter"),
        Case([a("10²", "102")], 0, "a superscript isn't a digit"),
        Case([a("½", "1/2")], 0, "other characters"),
        Case([a("STRASSE", "Straße")], 1, "case folding of ß is ss"),
        Case([a("don’t", "don't")], 1, "typographic apostrophe"),
        Case([a("yes", "yes"), a("no", "yes"), a("", "yes"), a("yes", "no")], 0.25, "1 of 4"),
        Case([a("so\u00adfa", "sofa")], 1, "soft hyphen"),
        Case([a("İstanbul", "istanbul")], 1, "Turkish dotted capital I"),
    ],
    "token_f1": [
        Case([a("the cat sat", "a cat sat")], 1, "articles don't count: {cat, sat} twice"),
        Case([a("cat", "cat sat")], 2 / 3, "precision 1, recall 1/2"),
        Case([a("cat cat", "cat")], 2 / 3, "multiset: 1 of 2, 1 of 1"),
        Case([a("", "cat")], 0, "no words against one"),
        Case([a("the", "a")], 1, "neither side has words left, as in SQuAD"),
        Case([a("the", "cat")], 0, "only one side has words"),
        Case([a("dog", "cat")], 0, "nothing shared"),
        Case([a("New York City", "NYC", "New York")], 0.8, "best reference: 2 of 3 and 2 of 2"),
        Case([a("sat cat", "cat sat")], 1, "order doesn't count"),
        Case([a("don't know", "don't know!")], 1, "punctuation is left out"),
        Case([a("東京", "東京都")], 0.8, "each ideograph is a word: 2 of 2 and 2 of 3"),
        Case([a("x b", "b c"), a("b", "b")], 0.75, "mean of 1/2 and 1"),
        Case([a("is not", "is")], 2 / 3, "it barely notices a negation"),
    ],
    "rouge_l": [
        Case([a("the cat sat", "the cat sat")], 1, "equal"),
        Case([a("police kill the gunman", "police killed the gunman")], 0.75, "Lin (2004): 3 of 4"),
        Case([a("the gunman kill police", "police killed the gunman")], 0.5, "Lin (2004): 2 of 4"),
        Case([a("cat", "the cat sat")], 0.5, "rouge-score: P 1, R 1/3"),
        Case([a("", "the cat")], 0, "empty"),
        Case([a("a b c d", "d c b a")], 0.25, "longest common subsequence of 1"),
        Case([a("The CAT", "the cat")], 1, "case doesn't count"),
        Case([a("a x b y c", "a b c")], 0.75, "gaps are allowed: 2*3/(5+3)"),
        Case([a("b c", "a b", "b c d")], 0.8, "best reference"),
        Case([a("one two", "one two"), a("one", "two")], 0.5, "mean over items"),
    ],
}
