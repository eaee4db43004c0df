from __future__ import annotations

import pytest

from sizewise.models import find_model, load_catalog, price_of
from sizewise.records import CatalogModel

FACTS = set(CatalogModel.model_fields) - {"name", "maker", "uri", "weights", "sources", "hardware"}


@pytest.mark.parametrize("name", load_catalog())
def test_every_fact_has_a_source(name: str) -> None:
    model = load_catalog()[name]
    told = {fact.strip() for source in model.sources for fact in source.fact.split(",")}
    stated = {fact for fact in FACTS if getattr(model, fact) not in (None, ())}
    if model.parameters_note and not any(letter.isdigit() for letter in model.parameters_note):
        stated.discard("parameters_note")  # that nothing is published stands nowhere
    assert stated <= told
    assert all(source.url.startswith("https://") for source in model.sources)


def test_the_models_that_people_ask_about_are_there() -> None:
    names = " ".join(load_catalog())
    for asked in (
        "chatgpt",
        "gpt-4",
        "gpt-4o",
        "claude",
        "gemini",
        "deepseek-r1",
        "llama",
        "granite",
        "orca",
        "mistral-7b",
    ):
        assert asked in names


def test_what_is_not_published_is_absent_and_an_estimate_is_called_one() -> None:
    gpt_4 = find_model("openai:gpt-4")
    assert gpt_4 is not None
    assert gpt_4.parameters is None
    assert "estimate" in str(gpt_4.parameters_note) or "rumor" in str(gpt_4.parameters_note)
    assert find_model("no-such-model") is None


def test_prices_come_from_a_list_and_are_absent_for_open_weights() -> None:
    price = price_of("openai:gpt-4o")
    assert price is not None
    assert 0 < price.read < price.written
    assert price_of("hf:mistralai/Mistral-7B-v0.1") is None
    assert price_of("openai:no-such-model") is None
