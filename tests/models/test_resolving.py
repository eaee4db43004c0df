"""Well-known names in any spelling: one model, a family with its current members first, or similar names."""

from __future__ import annotations

import pytest

from sizewise.errors import UsageError
from sizewise.models.catalog import load_catalog, load_families
from sizewise.models.identity import identify, price_of
from sizewise.models.name_words import words_of_name
from sizewise.models.price_lists import today
from sizewise.models.resolving import (
    family_of,
    find_entry,
    is_retired,
    known_models,
    members_of,
    resolve,
    resolve_one,
)

ONE = {
    "gpt-4o": "gpt-4o",
    "GPT-4o": "gpt-4o",
    "gpt4 o": "gpt-4o",
    "GPT 4 o": "gpt-4o",
    "gpt4o": "gpt-4o",
    "OpenAI GPT-4o": "gpt-4o",
    "openai/gpt-4o": "gpt-4o",
    "openai:gpt-4o-2024-08-06": "gpt-4o",
    "azure/gpt-4o": "gpt-4o",
    "GPT-4o mini": "gpt-4o-mini",
    "gpt 4o-Mini": "gpt-4o-mini",
    "GPT 4": "gpt-4",
    "gpt-4-0613": "gpt-4",
    "chat gpt": "chatgpt",
    "ChatGPT": "chatgpt",
    "Claude Sonnet 5.5": "claude-sonnet-5.5",
    "claude-sonnet-5-5": "claude-sonnet-5.5",
    "Anthropic's Claude 5.5 Sonnet": "claude-sonnet-5.5",
    "claude opus 5.5": "claude-opus-5.5",
    "Claude Haiku 4.5": "claude-haiku-4.5",
    "Claude 3.5 Sonnet": "claude-3-5-sonnet",
    "claude-3-5-sonnet-20240620": "claude-3-5-sonnet",
    "anthropic.claude-3-5-sonnet-20240620-v1:0": "claude-3-5-sonnet",
    "Gemini 2.5 Pro": "gemini-2.5-pro",
    "google/gemini-2.5-flash": "gemini-2.5-flash",
    "Gémini 3.8 Flash": "gemini-3.8-flash",
    "DeepSeek R1": "deepseek-r1",
    "deepseek r 1": "deepseek-r1",
    "deepseek-ai/DeepSeek-R1": "deepseek-r1",
    "DeepSeek-V3": "deepseek-v3",
    "claude v2": "claude-2",
    "ＧＰＴ－４ｏ": "gpt-4o",  # noqa: RUF001
    "deepseek v4 flash": "deepseek-v4-flash",
    "llama3.1-8b-instruct": "llama-3.1-8b-instruct",
    "Llama 3.1 8B": "llama-3.1-8b-instruct",
    "Meta-Llama-3.1-8B-Instruct": "llama-3.1-8b-instruct",
    "meta.llama3-1-8b-instruct-v1:0": "llama-3.1-8b-instruct",
    "Llama-3.1-8B-Instruct-Q4_K_M.gguf": "llama-3.1-8b-instruct",
    "llama 3.3 70 b": "llama-3.3-70b-instruct",
    "llama3.1:8b": "llama-3.1-8b-instruct",
    "qwen2.5:0.5b-instruct-q4_K_M": "qwen2.5-0.5b-instruct",
    "IBM Granite 3.1 2B": "granite-3.1-2b-instruct",
    "granite_3.3_2b_instruct": "granite-3.3-2b-instruct",
    "Orca 2 7B": "orca-2-7b",
    "microsoft/Orca-2-13b": "orca-2-13b",
    "Mistral 7B v0.1": "mistral-7b-v0.1",
    "Mistral-7B-Instruct-v0.3": "mistral-7b-instruct-v0.3",
    "mistral 7 b instruct v0.3": "mistral-7b-instruct-v0.3",
    "gemma3-270m": "gemma-3-270m",
    "Gemma 3 27B it": "gemma-3-27b-it",
    "Qwen3 8B": "qwen3-8b",
    "qwen 2.5 0.5b": "qwen2.5-0.5b-instruct",
    "phi4": "phi-4",
    "Phi-3 mini 4k": "phi-3-mini-4k-instruct",
    "SmolLM2 135M": "smollm2-135m-instruct",
    "smollm2-1.7b": "smollm2-1.7b-instruct",
}
FAMILIES = {
    "claude": "claude-opus-5.5",
    "Anthropic Claude": "claude-opus-5.5",
    "Anthropic": "claude-opus-5.5",
    "gemini": "gemini-4-argon",
    "GPT": "gpt-6.1-sol",
    "llama": "llama-3.3-70b-instruct",
    "LLaMA": "llama-3.3-70b-instruct",
    "Meta Llama": "llama-3.3-70b-instruct",
    "granite": "granite-4.0-h-micro",
    "IBM Granite": "granite-4.0-h-micro",
    "orca": "orca-2-7b",
    "mistral 7b": "mistral-7b-instruct-v0.3",
    "Mistral-7B": "mistral-7b-instruct-v0.3",
    "mistral7b": "mistral-7b-instruct-v0.3",
    "gemma": "gemma-4-31b-it",
    "qwen": "qwen3-8b",
    "phi": "phi-4",
    "Smol LM": "smollm2-1.7b-instruct",
    "deepseek": "deepseek-v4-pro",
}


@pytest.mark.parametrize(("spelling", "name"), ONE.items())
def test_a_name_in_any_spelling_finds_its_model(spelling: str, name: str) -> None:
    found = resolve(spelling).model
    assert found is not None
    assert found.name == name
    assert identify(spelling).name == name  # recordings that name it so are of this model, too


@pytest.mark.parametrize(("spelling", "first"), FAMILIES.items())
def test_a_family_lists_its_members_the_current_one_first(spelling: str, first: str) -> None:
    found = resolve(spelling)
    assert found.model is None
    assert found.members[0].name == first
    retired = [is_retired(model) for model in found.members]
    assert retired == sorted(retired)  # models that were shut down come last
    assert find_entry(spelling) is None  # a recording of "a Claude" is of no known model


@pytest.mark.parametrize("name", ["our-gpt-4o-tuned", "support-bot-7", "gpt-5000", "ft:gpt-4o:us::x", "7b", "base", ""])
def test_other_names_are_no_known_model(name: str) -> None:
    assert find_entry(name) is None


def test_models_with_similar_names_stay_apart() -> None:
    assert words_of_name("o4-mini") != words_of_name("4o-mini")
    assert {resolve(name).model.name for name in ("o4-mini", "gpt-4o-mini")} == {"o4-mini", "gpt-4o-mini"}  # type: ignore[union-attr]
    assert find_entry("llama 3.1 8b base") is None
    assert find_entry("claude 4.5 sonnet") != find_entry("claude 4 sonnet")


def test_words_in_another_order_and_apart_are_the_same() -> None:
    assert words_of_name("Claude 3.5 Sonnet") == words_of_name("claude-sonnet-3-5")
    assert words_of_name("Mistral 7 B v 0.1") == words_of_name("mistral-7b-v0.1")
    assert words_of_name("Granite 4.0 Micro") == words_of_name("granite-4-micro")


def test_several_models_are_listed_and_unknown_names_have_similar_ones() -> None:
    sonnets = resolve("sonnet").members
    assert sonnets[0].name == "claude-sonnet-5.5"
    assert all("sonnet" in model.name for model in sonnets)
    assert {model.name for model in resolve("llama 3").members} >= {"llama-3.1-8b-instruct", "llama-3.3-70b-instruct"}
    assert "Gemini" in resolve("gemni").close
    assert resolve("Sonnet 4.5").model == find_entry("claude-sonnet-4-5") != find_entry("Sonnet 4.5")
    assert resolve("R1").members[0].name == "deepseek-r1"
    assert (resolve("Llama 3 8B").model, len(resolve("Llama 3 8B").members)) == (None, 1)  # 3.1 isn't 3
    with pytest.raises(UsageError, match=r"isn't known; llama-3\.1-8b-instruct is similar"):
        resolve_one("Llama 3 8B")
    with pytest.raises(UsageError, match="names 2 models") as several:
        resolve_one("orca")
    assert several.value.next_step.endswith("orca-2-7b")
    with pytest.raises(UsageError, match="doesn't name a model") as nothing:
        resolve_one("mistrall-7b-v0.1")
    assert "mistral-7b-v0.1" in str(nothing.value.expected)


def test_every_current_model_is_known_and_running() -> None:
    for family in load_families():
        for name in family.current:
            assert name in known_models(), f"{family.name}: {name}"
            assert not is_retired(known_models()[name])
        assert len(members_of(family)) > 1
    assert family_of("gpt-4o") is not None
    assert {family.name for family in load_families()} >= {"Claude", "Gemini", "Llama", "Granite", "Orca", "Mistral 7B"}


def test_no_model_that_was_shut_down_has_a_price() -> None:
    retired = [model for model in known_models().values() if is_retired(model)]
    assert {"gpt-4", "claude-3-opus", "deepseek-chat"} <= {model.name for model in retired}
    assert [model.name for model in retired if identify(model.uri).prices or price_of(model.uri)] == []
    assert identify("deepseek-chat").retires_on == "2026-07-24" < today()
    assert identify("gemini-2.5-pro").retires_on == identify("Gemini 2.5 Flash").retires_on == "2026-12-01"


def test_all_providers_of_open_weights_are_found_however_they_spell_the_name() -> None:
    prices = identify("llama-3.1-8b-instruct").prices
    assert len({price.provider for price in prices}) == len(prices) > 3
    assert len({(price.input_usd, price.output_usd) for price in prices}) > 1
    assert all(find_entry(price.model) == load_catalog()["llama-3.1-8b-instruct"] for price in prices)
