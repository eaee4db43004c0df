"""Who gave recorded or served answers: size, place, price and terms, each known, stated or unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sizewise.models.identity as identity
import sizewise.models.recorded_usage as usage
from sizewise.errors import UsageError
from sizewise.evaluation import speed
from sizewise.models import open_model
from sizewise.models.identity import find_entry, identify, recorded_uri, split_recorded
from sizewise.models.price_lists import checked_on, find_prices
from sizewise.records import Completion, ListPrice, Message, ModelDescription, Request, StatedFacts

ROWS = [{"id": "a", "completion": "yes"}, {"id": "b", "completion": "no, not at all"}]


def recording(folder: Path, told: str = "", rows: list[dict[str, Any]] | None = None, **more: Any) -> str:
    path = folder / "answers.jsonl"
    path.write_text("".join(json.dumps(row | more) + "\n" for row in rows or ROWS), encoding="utf-8")
    return f"recorded:{path}" + (f"#{told}" if told else "")


def described(uri: str) -> ModelDescription:
    return open_model(uri).describe()


def answers(uri: str) -> list[Completion]:
    asked = (Message(role="user", content="x" * 400),)
    return list(open_model(uri).complete([Request(id=name, messages=asked) for name in "ab"]))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("gpt-4o", "gpt-4o"),
        ("GPT 4o", "gpt-4o"),
        ("openai:gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4-0613", "gpt-4"),
        ("ChatGPT", "chatgpt"),
        ("claude-sonnet-5-5", "claude-sonnet-5.5"),
        ("deepseek-reasoner", "deepseek-r1"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("Mistral 7B v0.1", "mistral-7b-v0.1"),
        ("gpt-5000", None),
    ],
)
def test_any_spelling_snapshot_and_former_name_finds_its_entry(spelling: str, name: str | None) -> None:
    found = find_entry(spelling)
    assert (found.name if found else None) == name


def test_a_recording_takes_its_models_facts_from_the_catalog(tmp_path: Path) -> None:
    found = described(recording(tmp_path, "gpt-4o"))
    assert (found.of, found.hosted_by, found.local, found.hosted) == ("gpt-4o", "OpenAI", False, True)
    assert (found.parameters, found.parameters_source) == (None, "not published")
    assert found.context == 128_000
    assert found.license == "terms of the provider"
    assert (found.prices[0].input_usd, found.prices[0].output_usd) == (2.5, 10)
    assert found.prices[0].as_of == checked_on() != ""
    assert (found.retires_on, found.unnamed) == ("2027-01-14", False)
    assert found.origin == "2 recorded answers of gpt-4o"


def test_the_file_may_name_the_model_itself(tmp_path: Path) -> None:
    found = described(recording(tmp_path, model="gpt-4o-2024-08-06"))
    assert (found.of, found.hosted_by) == ("gpt-4o", "OpenAI")
    assert "('gpt-4o-2024-08-06')" in found.origin
    other = described(recording(tmp_path, "gpt-4o", model="gpt-4-0613"))
    assert other.of == "gpt-4o"
    assert "the file itself names gpt-4-0613" in other.origin
    mixed = described(recording(tmp_path, rows=[ROWS[0] | {"model": "gpt-4o"}, ROWS[1] | {"model": "chatgpt"}]))
    assert mixed.unnamed
    assert "of chatgpt, gpt-4o" in mixed.origin


def test_a_recording_that_names_no_model_is_of_unknown_size_place_and_price(tmp_path: Path) -> None:
    found = described(recording(tmp_path))
    assert (found.unnamed, found.parameters, found.local, found.hosted_by) == (True, None, False, "not stated")
    assert (found.prices, found.price_basis) == ((), "")
    assert all(answer.usd is None for answer in answers(recording(tmp_path)))


def test_an_estimated_size_is_kept_apart_and_a_model_that_was_shut_down_has_no_price(tmp_path: Path) -> None:
    found = described(recording(tmp_path, "gpt-4"))
    assert (found.parameters, found.parameters_estimate) == (None, 1_760_000_000_000)
    assert "rumor" in found.parameters_source
    assert found.retired
    assert found.prices == ()
    assert all(answer.usd is None for answer in answers(recording(tmp_path, "gpt-4")))


def test_what_the_user_states_counts_more(tmp_path: Path) -> None:
    ours = described(recording(tmp_path, "ours-7b&local=true&parameters=7000000000&license=MIT"))
    assert (ours.local, ours.parameters, ours.license) == (True, 7_000_000_000, "MIT")
    assert ours.parameters_source == "stated in the study file"
    own = described(recording(tmp_path, "pkg:smollm2-135m"))
    assert own.local
    assert own.parameters
    policy = described(recording(tmp_path, "gpt-4o&data_policy=kept 30 days"))
    assert policy.data_policy == "kept 30 days"


def test_costs_are_stated_recorded_counted_or_estimated(tmp_path: Path) -> None:
    (first, second) = answers(recording(tmp_path, "gpt-4o"))
    assert first.usd == pytest.approx((100 * 2.5 + 0.75 * 10) / 1e6)  # four bytes a token
    assert second.usd == pytest.approx((100 * 2.5 + 3.5 * 10) / 1e6)
    found = described(recording(tmp_path, "gpt-4o"))
    assert found.price_basis.startswith("tokens estimated from the text, 3 to 5 bytes each, x list price of gpt-4o")
    assert found.price_factors == pytest.approx((0.8, 4 / 3))
    counted = recording(tmp_path, "gpt-4o", usage={"prompt_tokens": 50, "completion_tokens": 10})
    assert answers(counted)[0].usd == pytest.approx((50 * 2.5 + 10 * 10) / 1e6)
    assert described(counted).price_factors == (1, 1)
    assert [answer.usd for answer in answers(recording(tmp_path, "gpt-4o", cost_usd="0.02"))] == [0.02, 0.02]
    assert [answer.usd for answer in answers(recording(tmp_path, "gpt-4o&usd_per_1000=5"))] == [0.005, 0.005]


def test_people_cost_their_time(tmp_path: Path) -> None:
    staff = recording(tmp_path, "minutes_per_case=4&usd_per_hour=35")
    found = described(staff)
    assert (found.process, found.local, found.parameters, found.of) == ("staff", True, None, "")
    assert found.price_basis == "4 minutes of work per case at 35 USD per hour"
    (first, _) = answers(staff)
    assert first.usd == pytest.approx(4 / 60 * 35)
    assert first.seconds == 240
    timed = recording(tmp_path, "process=staff&usd_per_hour=60", minutes=3)
    assert [answer.usd for answer in answers(timed)] == [3, 3]
    rules = described(recording(tmp_path, "process=rules"))
    assert (rules.parameters, rules.memory_bytes) == (0, 0)
    with pytest.raises(UsageError, match="without a price of that time"):
        open_model(recording(tmp_path, "minutes_per_case=4"))


def test_two_providers_at_different_prices_make_a_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sold(name: str, provider: str = "") -> tuple[ListPrice, ...]:
        prices = (("cheap", 1.0, 2.0), ("dear", 3.0, 6.0))
        return tuple(
            ListPrice(provider=one, model=name, input_usd=read, output_usd=written, as_of="2026-11-01")
            for one, read, written in prices
            if provider in ("", one)
        )

    monkeypatch.setattr(identity, "find_prices", sold)
    uri = recording(tmp_path, "llama-3.1-8b-instruct", prompt_tokens=100, completion_tokens=10)
    assert described(uri).price_factors == (0.5, 1.5)
    assert 'of = "PROVIDER:NAME"' in described(uri).price_basis
    assert answers(uri)[0].usd == pytest.approx((100 * 2 + 10 * 4) / 1e6)
    named = recording(tmp_path, "dear:llama-3.1-8b-instruct", prompt_tokens=100, completion_tokens=10)
    assert described(named).price_factors == (1, 1)
    assert answers(named)[0].usd == pytest.approx((100 * 3 + 10 * 6) / 1e6)
    assert described(named).hosted_by == "dear"


def test_subscriptions_without_a_price_are_no_free_answers() -> None:
    assert all(price.input_usd or price.output_usd for price in find_prices("gpt-4o"))
    assert {price.provider for price in identify("gpt-4o").prices} == {"openai"}
    assert identify("prod-deployment-7").prices == ()


def test_facts_travel_in_the_uri(tmp_path: Path) -> None:
    facts = StatedFacts(of="openai:gpt-4o", local=False, usd_per_1000=2.5, data_policy="a & b, 100 %")
    uri = recorded_uri(str(tmp_path / "answers.jsonl"), facts)
    assert split_recorded(uri.partition(":")[2]) == (tmp_path / "answers.jsonl", facts)
    odd = tmp_path / "run #2.jsonl"
    odd.write_text(json.dumps(ROWS[0]), encoding="utf-8")
    assert split_recorded(str(odd)) == (odd, StatedFacts())
    with pytest.raises(UsageError, match="Unknown key 'price'"):
        split_recorded("answers.jsonl#gpt-4o&price=3")
    with pytest.raises(UsageError, match="parameters = 'seven'"):
        split_recorded("answers.jsonl#x&parameters=seven")


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"usage": {"input_tokens": 5, "output_tokens": "7"}}, usage.Usage(5, 7)),
        ({"latency_ms": 1500, "usd": -1}, usage.Usage(seconds=1.5)),
        ({"usd": "nan", "seconds": True, "created": 1_700_000_000}, usage.Usage(day="2023-11-14")),
        (
            {"model": 7, "model_name": " gpt-4o ", "recorded_on": "2026-05-01"},
            usage.Usage(model="gpt-4o", day="2026-05-01"),
        ),
        ({"timestamp": "yesterday", "cost_usd": 0}, usage.Usage(usd=0.0)),
    ],
)
def test_unusable_values_count_as_not_recorded(row: dict[str, Any], wanted: usage.Usage) -> None:
    assert usage.read_usage(row) == wanted


@pytest.mark.parametrize(
    ("told", "host", "sellers"),
    [
        ("anthropic/claude-sonnet-4-5", "Anthropic", {"anthropic"}),
        ("claude-sonnet-4-5", "Anthropic", {"anthropic"}),
        ("Claude Sonnet 4.5", "Anthropic", {"anthropic"}),
        ("google/claude-sonnet-4-5", "Google", {"google"}),
        ("openrouter/anthropic/claude-sonnet-4.5", "openrouter", {"openrouter"}),
        ("openai/gpt-4o", "OpenAI", {"openai"}),
        ("azure/gpt-4o", "azure", set()),
        ("us.anthropic.claude-3-haiku-20240307-v1:0", "aws", {"aws"}),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", "OpenAI", {"openai"}),
    ],
)
def test_the_provider_in_front_of_a_name_counts_and_without_one_the_maker(
    told: str, host: str, sellers: set[str]
) -> None:
    found = identify(told)
    assert (found.host, {price.provider for price in found.prices}) == (host, sellers)


@pytest.mark.parametrize("told", ["openai/gpt-oss-120b", "google/gemma-3-27b-it", "gpt2", "support-bot-7"])
def test_an_account_in_front_of_open_weights_is_no_provider(told: str) -> None:
    assert (identify(told).host, identify(told).closed) == ("", False)


@pytest.mark.parametrize(
    ("told", "day"),
    [
        ("gpt-4-32k", "2025-06-06"),
        ("GPT 4 32K", "2025-06-06"),
        ("gpt-4-32k-0613", "2025-06-06"),
        ("openai/gpt-4.5-preview-2025-02-27", "2025-07-14"),
        ("gpt-3.5-turbo-0613", "2024-09-13"),
        ("gpt-3.5-turbo-0125", "2026-10-23"),
        ("text-davinci-003", "2024-01-04"),
        ("claude-2.1", "2025-07-21"),
        ("claude-3-opus-20240229", "2026-01-05"),
        ("Claude 3 Opus", "2026-01-05"),
        ("claude-3-5-sonnet-20240620", "2025-10-28"),
        ("anthropic:claude-3-5-sonnet-latest", "2025-10-28"),
        ("gemini-1.5-pro", "2025-09-24"),
        ("google/gemini-1.5-pro-002", "2025-09-24"),
        ("o1-mini-2024-09-12", "2025-10-27"),
        ("gpt-4o-2024-05-13", "2026-10-23"),
    ],
)
def test_models_that_were_shut_down_have_no_price_in_any_spelling(tmp_path: Path, told: str, day: str) -> None:
    found = described(recording(tmp_path, told, prompt_tokens=100, completion_tokens=10))
    assert (found.retired, found.retires_on, found.prices) == (True, day, ())
    assert all(answer.usd is None for answer in answers(recording(tmp_path, told)))


@pytest.mark.parametrize("told", ["gpt-4o", "gpt-4o-2024-08-06", "claude-sonnet-4-5", "aws:claude-3-opus-20240229"])
def test_other_snapshots_and_other_providers_live_on(told: str) -> None:
    assert not identify(told).retires_on or identify(told).retires_on > "2026-11-29"


CACHED = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 900}}
BESIDE = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 0}


def test_tokens_of_the_cache_have_a_price_of_their_own(tmp_path: Path) -> None:
    (first, _) = answers(recording(tmp_path, "gpt-4o", usage=CACHED))
    assert first.usd == pytest.approx((100 * 2.5 + 900 * 1.25 + 10 * 10) / 1e6)
    told = "anthropic/claude-sonnet-4-5"
    (first, _) = answers(recording(tmp_path, told, usage=BESIDE))
    assert first.prompt_tokens == 1000
    assert first.usd == pytest.approx((100 * 3 + 900 * 0.3 + 10 * 15) / 1e6)
    (first, _) = answers(recording(tmp_path, told, usage=BESIDE | {"cache_creation_input_tokens": 200}))
    assert first.usd == pytest.approx((100 * 3 + 900 * 0.3 + 200 * 3.75 + 10 * 15) / 1e6)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        (CACHED, (1000, 900, 0)),
        (BESIDE, (1000, 900, 0)),
        ({"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 900}}, (1000, 900, 0)),
        ({"prompt_tokens": 1000, "cache_read_input_tokens": 900, "cache_creation_input_tokens": 50}, (1000, 900, 50)),
        ({"prompt_tokens": 1000, "prompt_cache_hit_tokens": 400}, (1000, 400, 0)),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 900}}, (10, 10, 0)),
        ({"prompt_tokens": 10, "prompt_tokens_details": None}, (10, 0, 0)),
    ],
)
def test_providers_count_tokens_of_the_cache_in_their_own_way(counts: dict[str, Any], wanted: tuple[int, ...]) -> None:
    found = usage.read_usage({"usage": counts})
    assert (found.prompt_tokens, found.cache_read_tokens, found.cache_write_tokens) == wanted


def test_measured_costs_of_some_answers_count_more_than_an_estimate(tmp_path: Path) -> None:
    uri = recording(tmp_path, "gpt-4o", rows=[ROWS[0] | {"cost_usd": 0.01}, ROWS[1]])
    assert [answer.usd for answer in answers(uri)] == [0.01, None]
    assert described(uri).price_basis == "cost recorded with 1 of 2 answers; others unpriced"
    free = recording(tmp_path, "ours-7b&local=true", cost_usd=0)
    scores = speed._use(answers(free), described(free))
    assert (scores["usd_per_1000"].value, scores["usd_per_1000"].n) == (0.0, 2)
    hits = recording(tmp_path, "gpt-4o", rows=[ROWS[0] | {"cost_usd": 0.01}, ROWS[1] | {"cost_usd": 0}])
    assert [answer.usd for answer in answers(hits)] == [0.01, 0]  # answered from the gateway's cache


def test_each_answer_of_a_log_costs_what_its_own_model_costs(tmp_path: Path) -> None:
    """Teams send easy requests to a cheap model already; their log names both."""
    tokens = {"usage": {"prompt_tokens": 1_000, "completion_tokens": 100}}
    mini, large = ROWS[0] | {"model": "gpt-4o-mini"}, ROWS[1] | {"model": "gpt-4o-2024-08-06"}
    uri = recording(tmp_path, rows=[mini, large], **tokens)
    assert [answer.usd for answer in answers(uri)] == [pytest.approx(0.00021), pytest.approx(0.0035)]
    found = described(uri)
    assert found.price_basis.startswith("recorded tokens x each answer's model at its list price")
    assert "gpt-4o, gpt-4o-mini" in found.price_basis
    assert (found.of, found.local) == ("", False)
    same = recording(tmp_path, rows=[mini | {"model": "gpt-4o"}, large], **tokens)
    assert described(same).of == "gpt-4o"
    partly = recording(tmp_path, rows=[mini, large, {"id": "c", "completion": "x"}], **tokens)
    assert "1 of 3 answers name none and are unpriced" in described(partly).price_basis
    unknown = recording(tmp_path, rows=[mini, large | {"model": "grok-9-fast"}], **tokens)
    assert (described(unknown).price_basis, answers(unknown)[0].usd) == ("", None)
    assert answers(recording(tmp_path, "gpt-4o", rows=[mini, large], **tokens))[0].usd == pytest.approx(0.0035)


def test_costs_that_are_all_zero_are_no_price_of_a_model_that_is_sold(tmp_path: Path) -> None:
    """litellm #37077, Model-Router-Auto-Evaluation #2: models without a known price are logged with a cost of 0."""
    uri = recording(tmp_path, "gpt-4o", cost_usd=0, usage={"prompt_tokens": 50, "completion_tokens": 10})
    assert answers(uri)[0].usd == pytest.approx((50 * 2.5 + 10 * 10) / 1e6)
    assert "recorded costs are all 0" in described(uri).price_basis
    unknown = recording(tmp_path, "grok-9-fast", cost_usd=0)
    assert (described(unknown).price_basis, answers(unknown)[0].usd) == ("", None)
    assert answers(recording(tmp_path, "gpt-4o&usd_per_1000=0"))[0].usd == 0


BATCH = {"custom_id": "a", "response": {"status_code": 200, "body": {
    "model": "gpt-4o", "choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 50, "completion_tokens": 10}}}}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "factors", "said"),
    [
        ([BATCH], (0.5, 1), "batch requests cost 0.5 to 1 times as much"),
        ([ROWS[0] | {"usage": {"prompt_tokens": 50, "completion_tokens": 10}, "model": "gpt-4o"}], (1, 1), ""),
        ([ROWS[0] | {"model": "gpt-4o", "service_tier": "priority", "prompt_tokens": 5, "completion_tokens": 1}],
         (1, 2), "priority requests cost 1 to 2 times as much"),
        ([ROWS[0] | {"model": "gpt-4o", "service_tier": "flex"}], (0.4, 4 / 3), "flex requests"),
    ],
)  # fmt: skip
def test_a_batch_costs_half_of_the_list_price(
    tmp_path: Path, rows: list[dict[str, Any]], factors: tuple[float, float], said: str
) -> None:
    """litellm #9077: batches were priced like other requests."""
    found = described(recording(tmp_path, rows=rows))
    assert found.price_factors == pytest.approx(factors)
    assert said in found.price_basis


def test_a_long_prompt_has_the_price_of_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm #39861: providers charge more above a number of tokens."""
    asked: list[int] = []

    def charged(seller: str, name: str, used: Any, at: Any = None) -> float:
        asked.append(used.input_tokens)
        assert at.hour == 12
        return 3.0

    monkeypatch.setattr(usage, "seller_cost", charged)
    long = recording(tmp_path, "gpt-4o", prompt_tokens=250_000, completion_tokens=10)
    assert [answer.usd for answer in answers(long)] == [3.0, 3.0]
    assert asked == [250_000, 250_000]
    short = recording(tmp_path, "gpt-4o", prompt_tokens=100, completion_tokens=10)
    assert answers(short)[0].usd == pytest.approx((100 * 2.5 + 10 * 10) / 1e6)


GEMINI = {"promptTokenCount": 324, "candidatesTokenCount": 1364, "thoughtsTokenCount": 495, "totalTokenCount": 2183}
LANGCHAIN = {"input_tokens": 1000, "output_tokens": 50, "input_token_details": {"cache_read": 800, "cache_creation": 9}}
BESIDE_ANSWER = {"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 319,
                 "completion_tokens_details": {"reasoning_tokens": 300}}  # fmt: skip
WITHIN = {"prompt_tokens": 10, "completion_tokens": 309, "total_tokens": 319,
          "completion_tokens_details": {"reasoning_tokens": 300}}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"usageMetadata": GEMINI}, usage.Usage(324, 1859)),
        ({"usage_metadata": LANGCHAIN}, usage.Usage(1000, 50, cache_read_tokens=800, cache_write_tokens=9)),
        ({"usage": BESIDE_ANSWER}, usage.Usage(10, 309)),
        ({"usage": WITHIN}, usage.Usage(10, 309)),
        ({"usage": {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10}}, usage.Usage(10, 0)),
        ({"usage": {"input_tokens": 5, "output_tokens": 7, "service_tier": "batch"}},
         usage.Usage(5, 7, service_tier="batch")),
        ({"created": 1_700_000_000_000}, usage.Usage(day="2023-11-14")),
        ({"date": 20_231_114}, usage.Usage()),
    ],
)  # fmt: skip
def test_tokens_of_reasoning_are_billed_however_a_provider_counts_them(
    row: dict[str, Any], wanted: usage.Usage
) -> None:
    """langfuse #12531 and #4590: Gemini's thoughts and LangChain's cached tokens weren't counted."""
    assert usage.read_usage({name.lower(): value for name, value in row.items()}) == wanted


@pytest.mark.parametrize(
    ("told", "name", "host", "closed"),
    [
        ("llama3.1:8b", "llama-3.1-8b-instruct", "", False),
        ("qwen2.5:0.5b-instruct-q4_K_M", "qwen2.5-0.5b-instruct", "", False),
        ("mixtral:8x7b", "mixtral:8x7b", "", False),
        ("deepseek-r1:7b", "deepseek-r1:7b", "", False),
        ("http://127.0.0.1:11434/v1#deepseek-r1:7b", "deepseek-r1:7b", "", False),
        ("http://127.0.0.1:8080/v1#qwen.gguf", "qwen.gguf", "", False),
        ("mistral:latest", "mistral:latest", "", False),
        ("codellama:7b-code", "codellama:7b-code", "", False),
        ("meta-llama/llama-3.3-70b-instruct:free", "llama-3.3-70b-instruct", "", False),
        ("anthropic/claude-sonnet-4-5:thinking", "claude-sonnet-4-5", "Anthropic", True),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0", None, "aws", True),
        ("anthropic.claude-3-haiku-20240307-v1:0:200k", None, "aws", True),
        ("https://models.example.org/v1#our-7b", "our-7b", "models.example.org", False),
        ("http://127.0.0.1:8000/v1#gpt-4o", "gpt-4o", "OpenAI", True),
        ("http://[broken#our-7b", "our-7b", "", False),
        ("xai/grok-4-fast", "xai/grok-4-fast", "", True),
        ("bedrock:claude-sonnet-4-5", "claude-sonnet-4-5", "aws", True),
    ],
)
def test_what_is_around_a_name_is_told_from_a_provider(told: str, name: str | None, host: str, closed: bool) -> None:
    found = identify(told)
    assert (found.host, found.closed) == (host, closed)
    assert name is None or found.name == name
    if told.endswith((":free", "deepseek-r1:7b")) or told.startswith("http"):
        assert found.prices == ()


def test_a_name_with_a_colon_has_no_provider_of_that_name(tmp_path: Path) -> None:
    found = described(recording(tmp_path, model="mixtral:8x7b"))
    assert (found.hosted_by, found.license, found.of) == ("not stated", "not stated", "mixtral:8x7b")


def test_a_model_and_a_process_at_once_are_refused_and_an_hourly_price_means_people(tmp_path: Path) -> None:
    for told in ("gpt-4o&minutes_per_case=4&usd_per_hour=35", "gpt-4o&process=rules", "of=gpt-4o&usd_per_hour=35"):
        with pytest.raises(UsageError, match="names a model, of = 'gpt-4o', and a process"):
            open_model(recording(tmp_path, told))
    timed = recording(tmp_path, "usd_per_hour=60", minutes=3)
    assert described(timed).process == "staff"
    assert [answer.usd for answer in answers(timed)] == [3, 3]


def test_answers_that_are_found_by_id_and_by_prompt_are_counted_once(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"prompt": "Is it?", "cost_usd": 0.01}, ROWS[1] | {"prompt": "Was it?"}]
    assert described(recording(tmp_path, "gpt-4o", rows=rows)).price_basis == (
        "cost recorded with 1 of 2 answers; others unpriced"
    )
