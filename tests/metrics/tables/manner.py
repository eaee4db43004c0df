# ruff: noqa: RUF001
"""Grounding in the prompt, refusals, length, repetition and language."""

from __future__ import annotations

from tests.metrics.tables.cases import NOT_MEASURED, Case, a

ENGLISH = "The meeting was moved to Thursday because two of the members could not come on the day before."
GERMAN = "Die Sitzung wurde auf Donnerstag verschoben, weil zwei der Mitglieder am Tag davor nicht kommen konnten."

CASES = {
    "lexical_grounding": [
        Case([a("The tower is 300 metres", prompt="a tower of 300 metres")], 1, "tower, 300, metres"),
        Case([a("The tower is 400 metres", prompt="a tower of 300 metres")], 2 / 3, "400 is not there"),
        Case([a("it is so", prompt="x")], None, "no content words"),
        Case([a("", prompt="tower")], None, "empty"),
        Case([a("tower tower bridge", prompt="tower")], 2 / 3, "each time counts"),
        Case([a("TOWER", prompt="tower")], 1, "case doesn't count"),
        Case([a("which would about tower", prompt="tower")], 1, "function words don't count"),
        Case([a("cat", prompt="dog")], None, "three letters are left out"),
        Case([a("東京都", prompt="東京")], 0.5, "bigrams: 東京 is there, 京都 isn't"),
        Case([a("tower", prompt="tower"), a("bridge palace church", prompt="x")], 0.25, "pooled over words"),
    ],
    "refusals": [
        Case([a("I'm sorry, but I can't help with that.")], 1, "the usual one"),
        Case([a("I’m sorry, I can’t.")], 1, "typographic apostrophes"),
        Case([a("As an AI language model, I have no opinion.")], 1, "as an AI"),
        Case([a("I cannot provide medical advice.")], 1, "cannot provide"),
        Case([a("Paris is the capital.")], 0, "an answer"),
        Case([a("")], 0, "empty"),
        Case([a("I can't find any error in your invoice; it was paid.")], 0, "an answer that begins like a refusal"),
        Case([a("I'm sorry to hear that. Your card was blocked at 10:00; call us to unblock it.")], 0, "sympathy"),
        Case([a("Sorry, I am unable to assist with this request.")], 1, "unable to assist"),
        Case([a("The tower has 300 steps. " * 12 + "I can't help with more.")], 0, "after an answer"),
        Case([a("I must decline."), a("Yes.")], 0.5, "mean"),
    ],
    "voice": [  # candidates are measured together: tests/comparison/test_voice.py
        Case([a(answer, *references, prompt=prompt)], NOT_MEASURED, "a single answer has no voice")
        for answer, references, prompt in (
            ("Dear Ms Li, thank you.", ("Dear Ms Li, thanks.",), "Reply to Ms Li."),
            ("", ("Dear Ms Li, thanks.",), "Reply to Ms Li."),
            ("Dear Ms Li, thank you.", (), "Reply to Ms Li."),
            ("hi!", ("hi!",), ""),
            ("Sehr geehrte Frau Li,", ("Hallo Frau Li,",), "Antworte."),
            ("\u60a8\u597d", ("\u4f60\u597d",), "x"),
            ("one", ("one", "two"), "x"),
            ("a" * 5_000, ("b",), "x"),
        )
    ],
    "answer_words": [
        Case([a("one two three")], 3, "three"),
        Case([a("")], 0, "empty"),
        Case([a("  one\n\ttwo ")], 2, "white space"),
        Case([a("don't e-mail")], 2, "split at white space"),
        Case([a("one"), a("one two three")], 2, "mean"),
        Case([a("一二三四")], 2, "two ideographs are one word"),
        Case([a("...")], 1, "a token of punctuation"),
        Case([a("https://example.com/a")], 1, "an address"),
        Case([a("one 一二")], 2, "mixed"),
    ],
    "repetition": [
        Case([a("yes yes yes yes yes")], 0.5, "two runs, the second is the first"),
        Case([a("one two three four five six")], 0, "three different runs"),
        Case([a("one two three")], 0, "too short for a run"),
        Case([a("")], 0, "empty"),
        Case([a("go on and on. Go on and on!")], 1 / 5, "five runs; the last is the first, in other letters"),
        Case([a("a b c d " * 25)], 93 / 97, "97 runs, four different ones"),
        Case([a("我是人我是人我是人")], 0.5, "six runs of four characters, three different"),
        Case([a("1, 2, 3, 4; 1, 2, 3, 4")], 1 / 5, "numbers are words"),
        Case([a("yes yes yes yes yes"), a("fine")], 0.25, "mean over answers, whatever their length"),
    ],
    "answer_language": [
        Case([a(ENGLISH, GERMAN)], 0, "German was expected"),
        Case([a(GERMAN, GERMAN)], 1, "German, as expected"),
        Case([a(ENGLISH, prompt=ENGLISH)], 1, "without a reference, the prompt's language"),
        Case([a(ENGLISH, prompt=GERMAN)], 0, "not the prompt's language"),
        Case([a(GERMAN, GERMAN, prompt=ENGLISH)], 1, "the reference goes before the prompt"),
        Case([a(ENGLISH, GERMAN, ENGLISH)], 1, "any reference"),
        Case([a("ok", GERMAN)], NOT_MEASURED, "too short"),
        Case([a(ENGLISH, "42")], NOT_MEASURED, "a number has no language"),
        Case([a("", prompt=ENGLISH)], NOT_MEASURED, "empty"),
        Case([a(ENGLISH, ENGLISH), a(ENGLISH, GERMAN)], 0.5, "mean"),
    ],
}
