"""BLEU, chrF and TER: values of sacrebleu 2.6 on the same texts."""

from __future__ import annotations

from tests.metrics.tables.cases import NOT_MEASURED, Case, a

TEXTS = [
    [a("the cat sat on the mat", "the cat sat on the mat")],
    [a("the cat sat on a mat", "the cat sat on the mat")],
    [a("the the the the the the the", "the cat is on the mat")],
    [a("", "the cat sat on the mat")],
    [a("cat", "the cat sat on the mat")],
    [a("the cat sat on the mat and then it went to sleep", "the cat sat on the mat")],
    [a("mat the on sat cat the", "the cat sat on the mat")],
    [a("The Cat Sat On The Mat", "the cat sat on the mat")],
    [a("the cat, sat on the mat.", "the cat sat on the mat")],
    [a("one two three four", "one two three four"), a("a b", "five six seven eight nine")],
    [a("the record of code", "a record of code", "the record when")],
    [a("price is 1,234.50 USD", "price is 1,234.50 USD now")],
    [a("naïve café and a soup", "naive cafe and a soup")],
]
CASES = {
    name: [Case(items, "sacrebleu", "sacrebleu", unprepared=True) for items in TEXTS]
    for name in ("bleu", "chrf", "ter")
}
CASES["bleu"] += [
    Case([a("a b c d", "a b c d"), a("x", "a b c d")], "sacrebleu", "brevity over the corpus, not the item"),
    Case([a("yes", "yes")], NOT_MEASURED, "no 4-gram fits into one word"),
]
CASES["ter"] += [Case([a("一只猫", "一只猫")], 0, "no edits"), Case([a("แมว", "แมว")], NOT_MEASURED, "no spaces")]
