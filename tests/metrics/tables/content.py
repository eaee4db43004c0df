"""Whether an answer says what a short reference says: the same words, the same number, the same yes or no."""

from __future__ import annotations

from tests.metrics.tables.cases import NOT_MEASURED, Case, a

CASES = {
    "reference_match": [
        Case([a("It was in 1901, in Stockholm", "1901")], 1, "other words around it"),
        Case([a("Lyon", "Paris")], 0, "something else"),
        Case([a("", "Paris")], 0, "empty"),
        Case([a("I don't know.", "Paris")], 0, "a refusal"),
        Case([a("I don't know.", "No")], 0, "a refusal isn't a no"),
        Case([a("Yes, it does.", "Yes")], 1, "the same verdict"),
        Case([a("No, it doesn't.", "Yes")], 0, "the other verdict"),
        Case([a("Paris", "Yes")], 0, "neither yes nor no"),
        Case([a("-4.2%", "4.2%")], 0, "the sign counts"),
        Case([a("He was found guilty.", "not guilty")], 0, "the negation counts"),
        Case([a("Eminem", "Ja Rule")], 0, "a name that begins with a yes"),
        Case([a("Paris", "Paris"), a("Rome", "Paris")], 0.5, "1 of 2"),
        Case([a("It takes two months", "2 months")], 1, "a number in words"),
        Case([a("It takes three months", "two months")], 0, "another number in words"),
    ],
    "numeric_match": [
        Case([a("It cost 1,234.5", "1234.5")], 1, "separators of thousands"),
        Case([a("-5", "5")], 0, "the sign counts"),
        Case([a("5 miles", "5 km")], 0, "another unit"),
        Case([a("5000 m", "5 km")], 1, "the same length"),
        Case([a("120 million", "120")], 0, "another magnitude"),
        Case([a("0.15", "15%")], 1, "a share"),
        Case([a("at 12:30", "12:30")], 1, "a time"),
        Case([a("none", "Paris")], NOT_MEASURED, "the reference has no number"),
        Case([a("fifty-five days", "55")], 1, "a number in words"),
        Case([a("55 days", "fifty-five days")], 1, "the reference in words"),
        Case([a("fifty-six days", "55")], 0, "another number in words"),
        Case([a("three quarters of them", "75%")], 1, "a fraction in words"),
        Case([a("1/2", "0.5")], 1, "a fraction"),
        Case([a("one half", "1/2")], 1, "a fraction in words and in digits"),
        Case([a("1/3", "1/2")], 0, "another fraction"),
        Case([a("24/7", "24/7")], 1, "a ratio stays a ratio"),
        Case([a("2 1/2 cups", "two and a half cups")], 1, "a mixed number"),
        Case([a("8", "8"), a("9", "8")], 0.5, "1 of 2"),
    ],
    "contains_reference": [
        Case([a("It was in 1901, in Stockholm", "1901")], 1, "among other words"),
        Case([a("1901", "1901")], 1, "alone"),
        Case([a("11901", "1901")], 0, "inside another number"),
        Case([a("Parisians", "Paris")], 0, "inside another word"),
        Case([a("paris", "Paris")], 1, "case doesn't count"),
        Case([a("In Lyon", "Paris", "Lyon")], 1, "any reference"),
        Case([a("", "Paris")], 0, "empty"),
        Case([a("Es war Mu\u0308ller", "Müller")], 1, "NFD is NFC"),
        Case([a("首都は東京です", "東京")], 1, "a script without spaces"),
        Case([a("Paris", "Paris"), a("Rome", "Paris")], 0.5, "1 of 2"),
    ],
}
