"""Statements, quotations and citations that passages support."""

from __future__ import annotations

from sizewise.metrics import AnswerItem
from tests.metrics.tables.cases import NOT_MEASURED, Case

TOWER = "The tower was completed in 1889. It is 330 metres tall and made of iron."
BRIDGE = "The bridge opened to traffic in 1937. Its designer Joseph Strauss died a year later."
LIBRARY = "\u56fe\u4e66\u9986\u6bcf\u5929\u4e0a\u5348\u4e5d\u70b9\u5f00\u653e\u3002"
DIALOGUE = "Doctor: Do you have any chest pain? Patient: I have no chest pain. I take two tablets of aspirin a day."


def g(answer: str, *passages: str, prompt: str = "") -> AnswerItem:
    """Make an item with passages."""
    return AnswerItem(answer, (), prompt, passages=passages)


CASES = {
    "groundedness": [
        Case([g("The tower is 330 metres tall.", TOWER)], 1, "in the passage"),
        Case([g("The tower is 300 metres tall.", TOWER)], 0, "another number"),
        Case([g("The iron tower was completed in 1889.", TOWER)], 1, "words from two sentences"),
        Case([g("The tower was not completed in 1889.", TOWER)], 0, "the statement denies what the passage says"),
        Case([g("The patient has chest pain.", DIALOGUE)], 0, "the passage denies what the statement says"),
        Case([g("The patient denies chest pain.", DIALOGUE)], 1, "both deny"),
        Case([g("He takes 2 aspirin tablets a day.", DIALOGUE)], 1, "a number in words"),
        Case([g("The designer of the bridge was Joseph Strauss.", BRIDGE)], 1, "the name"),
        Case([g("The designer of the bridge was Charles Ellis.", BRIDGE)], 0, "another name"),
        Case([g("The tower is tall. The palace has golden gates.", TOWER)], 0.5, "one of two"),
        Case([g("The tower is tall. The bridge opened in 1937.", TOWER, BRIDGE)], 1, "two passages"),
        Case([g("The bridge opened in 1889.", TOWER, BRIDGE)], 0, "words of one and the number of another passage"),
        Case([g("I don't know.", TOWER)], None, "a refusal states nothing"),
        Case([g("", TOWER)], None, "empty"),
        Case([g("The tower is tall [1].", prompt=TOWER)], 1, "without passages the prompt counts"),
        Case([g("The tower is tall.")], NOT_MEASURED, "neither passages nor a prompt"),
    ],
    "quotes_verbatim": [
        Case([g('It says "made of iron" there.', TOWER)], 1, "word for word"),
        Case([g('It says "made of pure iron" there.', TOWER)], 0, "a word was added"),
        Case([g("It says \u201cMade  of iron.\u201d", TOWER)], 1, "case, spaces and a full stop don't count"),
        Case([g('It says "330 metres ... of iron".', TOWER)], 1, "an omission"),
        Case([g('It says "of iron ... 330 metres".', TOWER)], 0, "parts in another order"),
        Case([g('It says "made of iro".', TOWER)], 0, "part of a word"),
        Case([g('The "tower" is tall.', TOWER)], None, "one word isn't a quotation"),
        Case([g('"made of iron" and "made of steel"', TOWER)], 0.5, "one of two"),
        Case([g("made of steel", TOWER)], None, "no quotation marks"),
        Case([g('"opened to traffic"', TOWER, BRIDGE)], 1, "in any passage"),
        Case([g("\u201dmade of iron\u201d and \u201dmade of steel\u201d", TOWER)], 0.5, "Finnish and Swedish marks"),
        Case([g("\u00bbmade of iron\u00ab and \u00bbmade of steel\u00ab", TOWER)], 0.5, "German guillemets"),
        Case([g("\u2018it\u2019s made of steel\u2019 and \u2018made of iron\u2019", TOWER)], 0.5, "British marks"),
        Case([g("It isn\u2019t what the visitors\u2019 guide says.", TOWER)], None, "apostrophes"),
        Case([g('It says \u201cmade of iron" there.', TOWER)], 1, "marks of two kinds"),
        Case([g('"**made of iron**"', TOWER)], 1, "signs of Markdown"),
        Case(
            [g('"The sign \u2018keep out\u2019 \u2013 red"', 'The sign "keep out" \u2014 red.')],
            1,
            "marks inside of it",
        ),
        Case(
            [g("\u300c\u6bcf\u5929\u4e0a\u5348\u4e5d\u70b9\u5f00\u653e\u300d", LIBRARY)], 1, "between other characters"
        ),
        Case([g("\u300c\u6bcf\u5929\u4e0b\u5348\u4e5d\u70b9\u5f00\u653e\u300d", LIBRARY)], 0, "another character"),
    ],
    "citation_recall": [
        Case([g("The tower is 330 metres tall [1].", TOWER, BRIDGE)], 1, "the cited passage supports it"),
        Case([g("The tower is 330 metres tall [2].", TOWER, BRIDGE)], 0, "another passage supports it"),
        Case([g("The tower is 330 metres tall.", TOWER, BRIDGE)], 0, "no citation"),
        Case([g("The tower is 330 metres tall. [1] The bridge opened in 1937. [2]", TOWER, BRIDGE)], 1, "behind"),
        Case([g("The tower is 330 metres tall [1][2].", TOWER, BRIDGE)], 1, "one of two is enough"),
        Case([g("The tower was completed in 1889, and the bridge opened in 1937 [1-2].", TOWER, BRIDGE)], 1, "a range"),
        Case([g("The tower is 330 metres tall [7].", TOWER, BRIDGE)], 0, "there is no such passage"),
        Case([g("The tower is tall [1]. The bridge is red and wide [2].", TOWER, BRIDGE)], 0.5, "one of two"),
        Case([g("The tower is tall [1].", prompt=f"[1] {TOWER}\n[2] {BRIDGE}\n\nHow tall?")], 1, "in the prompt"),
        Case([g("The tower is tall [1].", prompt=TOWER)], NOT_MEASURED, "nothing is numbered"),
        Case([g("The tower is tall\u30101\u2020source\u3011.", TOWER)], 1, "other brackets"),
    ],
    "citation_precision": [
        Case([g("The tower is 330 metres tall [1].", TOWER, BRIDGE)], 1, "needed"),
        Case([g("The tower is 330 metres tall [1, 2].", TOWER, BRIDGE)], 0.5, "the second adds nothing"),
        Case([g("The tower is 330 metres tall [2].", TOWER, BRIDGE)], 0, "it doesn't support the statement"),
        Case([g("The tower is 330 metres tall.", TOWER, BRIDGE)], None, "no citation"),
        Case(
            [g("The tower was completed in 1889, and the bridge opened in 1937 [1, 2].", TOWER, BRIDGE)],
            1,
            "both needed",
        ),
        Case([g("The tower is 330 metres tall [1, 9].", TOWER, BRIDGE)], 0.5, "there is no ninth"),
        Case([g("The tower is tall [1]. It is 330 metres tall [2].", TOWER, BRIDGE)], 0.5, "one of two"),
        Case([g("The tower is tall [1, 2].", TOWER, TOWER)], 1, "each alone is enough"),
        Case([g("The tower is tall [1, 1].", TOWER)], 1, "the same citation twice is one"),
        Case([g("What is tall [1]?", TOWER)], None, "a question states nothing"),
    ],
}
