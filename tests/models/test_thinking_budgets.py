"""Reasoning has tokens of its own, is counted, and is never an answer: at every provider and in local folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizewise.errors import SizewiseError, UsageError
from sizewise.evaluation import evaluate
from sizewise.models import open_model, patience
from sizewise.models.remote import RemoteModel
from sizewise.models.thinking import THINKING_TOKENS, Reasoning, split_reasoning
from sizewise.records import Message, Request
from sizewise.store import Store
from tests.models.thinkers import THOUGHT_TOKENS, Thinker, scripted_folder

pytest.importorskip("pydantic_ai")

ENDINGS = {"openai": "/v1", "anthropic": "", "deepseek": ""}
ADDRESSES = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL", "deepseek": "DEEPSEEK_BASE_URL"}
REASONERS = {
    "openai:o3": "hidden",
    "openai:o3?reasoning_effort=low": "hidden",
    "anthropic:claude-haiku-4-5?reasoning_tokens=2048": "shown",
    "anthropic:claude-sonnet-5-5?reasoning_effort=high": "shown",
    "deepseek:deepseek-reasoner": "shown",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Thinker]:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    standing = Thinker()
    for kind, name in ADDRESSES.items():
        monkeypatch.setenv(name, standing.url + ENDINGS[kind])
        monkeypatch.setenv(f"{kind.upper()}_API_KEY", "secret")
    yield standing
    standing.close()


def asked(count: int, tokens: int = 20) -> list[Request]:
    said = ((f"q{i}", (Message(role="user", content=f"question {i}"),)) for i in range(count))
    return [Request(id=name, messages=messages, max_tokens=tokens) for name, messages in said]


@pytest.mark.parametrize("uri", REASONERS)
def test_every_answer_is_complete_and_its_reasoning_is_counted_and_paid(server: Thinker, uri: str) -> None:
    model = open_model(uri, max_usd=5.0)
    assert isinstance(model, RemoteModel)
    answers = sorted(model.complete(asked(6)), key=lambda answer: answer.id)
    model.close()
    assert [answer.text for answer in answers] == [f"echo: question {i}" for i in range(6)]
    assert {answer.finish for answer in answers} == {"stop"}
    assert all(bool(answer.reasoning) == (REASONERS[uri] == "shown") for answer in answers)
    thought = THOUGHT_TOKENS // 4 if "low" in uri else THOUGHT_TOKENS
    for answer in answers:
        assert answer.completion_tokens == thought + 5
        assert thought - 5 <= answer.reasoning_tokens <= thought + 5
    paid = [answer.usd for answer in answers if answer.usd is not None]
    assert len(paid) == 6
    assert model.spent_usd >= sum(paid) > 0
    assert model.spent_usd <= 5.0


@pytest.mark.parametrize("uri", REASONERS)
def test_spend_stays_within_the_limit_with_reasoning(server: Thinker, uri: str) -> None:
    probe = open_model(uri)
    one = next(iter(probe.complete(asked(1)))).usd
    probe.close()
    assert one
    limit = 20 * one
    model = open_model(uri, max_usd=limit)
    assert isinstance(model, RemoteModel)
    with pytest.raises(SizewiseError, match="budget"):
        list(model.complete(asked(200)))
    model.close()
    assert model.spent_usd <= limit


def test_each_provider_is_told_in_its_own_parameters(server: Thinker) -> None:
    def sent(uri: str) -> dict[str, object]:
        model = open_model(uri)
        answers = list(model.complete(asked(1)))
        model.close()
        assert [answer.text for answer in answers] == ["echo: question 0"], uri
        return server.bodies[-1]

    body = sent("openai:o3?reasoning_effort=low&reasoning_tokens=3000")
    assert (body["reasoning_effort"], body["max_completion_tokens"]) == ("low", 3_020)
    assert "max_tokens" not in body
    body = sent("anthropic:claude-haiku-4-5?reasoning_tokens=2048")
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2_048}
    assert (body["max_tokens"], body.get("temperature")) == (2_068, None)
    body = sent("anthropic:claude-haiku-4-5")
    assert (body.get("thinking"), body["max_tokens"]) == (None, 20)
    body = sent(f"{server.url}/v1#vllm-qwen3?reasoning_effort=none")
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 20
    body = sent(f"{server.url}/v1#vllm-qwen3?reasoning_effort=high")
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert body["reasoning_effort"] == "high"
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 20 + THINKING_TOKENS


def test_the_fields_of_reasoning_of_vllm_and_sglang_are_both_read(server: Thinker) -> None:
    for name in ("vllm-qwen3", "sglang-qwen3"):
        model = open_model(f"{server.url}/v1#{name}")
        (answer,) = model.complete(asked(1))
        model.close()
        assert (answer.text, answer.reasoning.strip()) == ("echo: question 0", "let me think, B or C?")
        assert abs(answer.reasoning_tokens - THOUGHT_TOKENS) <= 5


def test_reasoning_in_a_uri_is_read_or_refused(server: Thinker) -> None:
    assert split_reasoning("openai:o3") == ("openai:o3", Reasoning())
    assert split_reasoning("hf:Qwen/Qwen3-1.7B?reasoning_effort=none") == ("hf:Qwen/Qwen3-1.7B", Reasoning("none"))
    assert split_reasoning("openai:o3?reasoning_tokens=0")[1].off
    assert split_reasoning("http://h:1/v1?key=a#m")[1] == Reasoning()
    for wrong in ("openai:o3?reasoning_effort=much", "openai:o3?reasoning_tokens=many", "openai:o3?reasoning_effort="):
        with pytest.raises(UsageError, match="reason"):
            open_model(wrong)
    with pytest.raises(UsageError, match="Anthropic"):
        open_model("anthropic:claude-haiku-4-5?reasoning_tokens=100")


def test_two_efforts_of_one_model_are_two_models_with_one_price(server: Thinker) -> None:
    plain, low = open_model("openai:o3"), open_model("openai:o3?reasoning_effort=low")
    described = plain.describe(), low.describe()
    plain.close()
    low.close()
    assert described[0].uri != described[1].uri
    assert described[0].prices == described[1].prices != ()
    assert (described[1].reasoning_effort, described[1].origin) == ("low", described[0].origin)


def test_an_evaluation_counts_reasoning(server: Thinker, tmp_path: Path, store: Store) -> None:
    rows = [{"id": f"q{i}", "prompt": f"question {i}", "references": [f"echo: question {i}"]} for i in range(4)]
    path = tmp_path / "job.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    record = evaluate("openai:o3", path, ["exact_match"], store=store).record
    assert record.scores["exact_match"].value == 1.0
    assert record.scores["exact_match"].truncated == 0
    assert record.scores["reasoning_tokens"].value == THOUGHT_TOKENS
    assert any("came with reasoning, 600 tokens on average" in note for note in record.notes)


# -- local folders ------------------------------------------------------------------------------------------

TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
LONG = [f"thought{i}" for i in range(90)]
ANSWER = ["gl", "ass", "<|im_end|>"]
END = "<|im_end|>"


def _r1(folder: Path, script: list[str]) -> Path:
    """DeepSeek-R1's distills: the generation prompt opens the thought."""
    template = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    return scripted_folder(folder, template, {}, [["Ċ", *script, END], ["<think>"], ["</think>"]])


def _qwen3(folder: Path) -> Path:
    """Qwen3: the model opens the thought itself, and a switch of the template closes it at once."""
    opened = "{% if add_generation_prompt %}<|im_start|>assistant\n"
    switch = (
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n<|direct|>{% else %}<|go|>"
    )
    template = f"{TURNS}{opened}{switch}{{% endif %}}{{% endif %}}"
    scripts = [["<|go|>", "<think>", *LONG, "</think>", *ANSWER], ["<|direct|>", "gl"]]
    return scripted_folder(folder, template, {}, scripts)


def _channels(folder: Path) -> Path:
    """Gemma: channels between control tokens, which other decoders leave out."""
    template = TURNS + "{% if add_generation_prompt %}<|im_start|>model\n<|go|>{% endif %}"
    marks = {"<|channel>": True, "<channel|>": True}
    return scripted_folder(folder, template, marks, [["<|go|>", "<|channel>", "thought", *LONG, "<channel|>", *ANSWER]])


def _harmony(folder: Path, thoughts: list[str]) -> Path:
    """gpt-oss: analysis and final answer are messages in two channels; a token stands once, so the marks differ."""
    template = TURNS + "{% if add_generation_prompt %}<|start|>assistant<|go|>{% endif %}"
    marks = dict.fromkeys(("<|channel|>", "<|message|>", "<|start|>", "<|end|>"), True)
    scripts = [["<|go|>", "<|channel|>", "analysis", "<|message|>", *thoughts, END], ["<|start|>"], ["<|end|>"]]
    return scripted_folder(folder, template, marks, scripts)


def _complete(uri: str, tokens: int = 8) -> list[object]:
    model = open_model(uri)
    (answer,) = model.complete(asked(1, tokens))
    model.close()
    return [answer.text, answer.finish, answer.completion_tokens, answer.reasoning_tokens, bool(answer.reasoning)]


def test_a_distill_of_r1_answers_after_its_thoughts(tmp_path: Path) -> None:
    folder = _r1(tmp_path / "r1", [*LONG, "</think>", *ANSWER[:2]])
    assert _complete(str(folder)) == ["glass", "stop", 94, 92, True]


def test_a_thought_that_never_ends_is_no_answer(tmp_path: Path) -> None:
    folder = _r1(tmp_path / "r1", [*LONG])
    assert _complete(f"{folder}?reasoning_tokens=30") == ["", "length", 38, 38, True]
    ended = _complete(str(folder))
    assert ended[:2] == ["", "stop"]
    assert ended[3] == ended[2]


def test_an_answer_after_reasoning_has_its_own_limit(tmp_path: Path) -> None:
    folder = _r1(tmp_path / "r1", ["thought0", "</think>", *[f"word{i} " for i in range(60)]])
    text, finish, _, _, _ = _complete(str(folder))
    assert (str(text).split(), finish) == ([f"word{i}" for i in range(8)], "length")


def test_a_switch_of_the_template_turns_reasoning_off(tmp_path: Path) -> None:
    folder = _qwen3(tmp_path / "qwen3")
    assert _complete(str(folder)) == ["glass", "stop", 95, 93, True]
    assert _complete(f"{folder}?reasoning_effort=none") == ["glass", "stop", 3, 0, False]


def test_channels_between_control_tokens_are_split(tmp_path: Path) -> None:
    assert _complete(str(_channels(tmp_path / "gemma")))[:2] == ["glass", "stop"]


def test_harmony_that_never_reaches_its_final_channel_is_no_answer(tmp_path: Path) -> None:
    folder = _harmony(tmp_path / "oss", LONG)
    assert _complete(f"{folder}?reasoning_tokens=30")[:2] == ["", "length"]
    assert _complete(str(folder))[0] == ""


def test_streamed_and_batched_answers_split_reasoning_alike(tmp_path: Path) -> None:
    folder = _channels(tmp_path / "gemma")
    model = open_model(str(folder))
    (request,) = asked(1, 200)
    sampled = request.model_copy(update={"temperature": 0.01, "seed": 1})
    greedy, streamed = next(iter(model.complete([request]))), next(iter(model.complete([sampled])))
    model.close()
    assert (greedy.text, greedy.reasoning) == (streamed.text, streamed.reasoning)


def test_an_evaluation_of_a_local_reasoner_scores_answers_only(tmp_path: Path, store: Store) -> None:
    folder = _qwen3(tmp_path / "qwen3")
    rows = [{"id": f"q{i}", "prompt": f"question {i}", "references": ["glass"]} for i in range(4)]
    path = tmp_path / "job.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    record = evaluate(str(folder), path, ["exact_match"], store=store).record
    assert record.scores["exact_match"].value == 1.0
    assert record.scores["reasoning_tokens"].value == 93
