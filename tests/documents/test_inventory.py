from __future__ import annotations

from sizewise.documents import Inventory
from sizewise.documents.reading import make_document
from sizewise.records import Example, Message
from tests.languages import PASSAGES


def example(prompt: str, answer: str) -> Example:
    return Example(id=prompt, messages=(Message(role="user", content=prompt),), references=(answer,), source=prompt)


def test_a_reference_in_another_language_than_its_prompt_is_noted() -> None:
    inventory = Inventory()
    for german, chinese in zip(PASSAGES["de"], PASSAGES["zh"], strict=True):
        inventory.add(example(german.question, german.text))
        inventory.add(example(german.question, chinese.text))
        inventory.add(make_document(chinese.question, "", chinese.text, "x.txt"))
    (note,) = (note for note in inventory.notes() if "another language" in note)
    assert note == (
        "12 of the first 24 examples have a reference answer in another language than the prompt (de to zh 12)"
    )
    assert inventory.languages["zh"] >= 12


def test_short_answers_have_no_language_of_their_own() -> None:
    inventory = Inventory()
    for passage in PASSAGES["fi"]:
        inventory.add(example(passage.question, "OK 42"))
    assert not [note for note in inventory.notes() if "another language" in note]
