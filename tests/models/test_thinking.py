from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sizewise.models import open_model
from sizewise.models.local import prompt_ids
from sizewise.models.thinking import THINKING_TOKENS, ReasoningRoom
from sizewise.records import Completion, Message, Request, opened_thought, split_thoughts
from sizewise.store import Store

WRITTEN = {
    "<think>Could be A.</think>\n\nB": ("B", "Could be A."),
    "\n<THINK>\nhm\n</THINK>\nB\n": ("B", "hm"),
    "<think></think>B": ("B", ""),
    "the prompt began it</think>\n\nB": ("B", "the prompt began it"),
    "<think>cut in the mid": ("", "cut in the mid"),
    "<think>one</think>First.<think>two</think> Second.": ("First. Second.", "one\ntwo"),
    "<thinking>A?</thinking> B": ("B", "A?"),
    "<reasoning>A?</reasoning>\nB": ("B", "A?"),
    "[THINK]A?[/THINK]B": ("B", "A?"),
    "◁think▷A?◁/think▷B": ("B", "A?"),
    "<seed:think>A?</seed:think>B": ("B", "A?"),
    "<|channel>thought\nA?<channel|>B": ("B", "A?"),
    "<|begin_of_thought|>A?<|end_of_thought|>\n<|begin_of_solution|>B<|end_of_solution|>": ("B", "A?"),
    "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>": ("B", "A?"),
    "analysisIs it A?assistantfinalB": ("B", "Is it A?"),
    "<|channel|>final<|message|>town<|return|>": ("town", ""),
    "<|start|>assistant<|channel|>final<|message|>town": ("town", ""),
    "<think>A?</thinking>\nB": ("B", "A?"),
    "<thinking>A?</think>\nB": ("B", "A?"),
    "<|think|>A?<|/think|>B": ("B", "A?"),
    "<unused94>thought\nA?<unused95>B": ("B", "thought\nA?"),
    "<longcat_think>A?</longcat_think>B": ("B", "A?"),
    "<longcat_think>A?": ("", "A?"),
    "Let me see.\n<thinking>\nA?\n</thinking>\nB": ("Let me see.\n\nB", "A?"),
    "B\n<think>but is it": ("B", "but is it"),
    "It may be A. </think> B": ("B", "It may be A."),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_thoughts_are_split_from_the_answer(text: str) -> None:
    assert split_thoughts(text) == WRITTEN[text]
    once = split_thoughts(text)[0]
    assert split_thoughts(once) == (once, "")


@pytest.mark.parametrize(
    "text",
    ["", " plain ", "I think <b>so</b>.", "The tag <thinking> opens it.", "analysis of the finals", "a </b> b",
     "The tag </think> ends reasoning.", "The tag <think> opens it.", "Use `<think>` and `</think>`.",
     "Write <think>why</think> before it.", "```\n<think>\nwhy\n</think>\n```", "Between (<think>) and (</think>)."],
)  # fmt: skip
def test_a_text_without_thoughts_stays_as_it_is(text: str) -> None:
    assert split_thoughts(text) == (text, "")


def test_a_prompt_that_begins_a_thought_is_seen() -> None:
    assert opened_thought("<|Assistant|><think>\n") == "<think>"
    assert opened_thought("<think>\n\n</think>\n\n") == ""
    assert opened_thought("Question: why?\nAnswer:") == ""


def test_a_completion_keeps_its_thoughts_apart_whatever_made_it() -> None:
    what = {"id": "a", "prompt_tokens": 1, "completion_tokens": 1, "seconds": 0.0, "finish": "stop"}
    made = Completion.model_validate(what | {"text": "<think>hm</think>B", "reasoning": "first"})
    assert (made.text, made.reasoning) == ("B", "first\nhm")
    assert Completion.model_validate_json(made.model_dump_json()) == made


class Thinker:
    """Thinks for 300 tokens, then answers in 20."""

    def __init__(self, thinks: bool) -> None:
        self.thinks, self.asked = thinks, list[Request]()

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for request in requests:
            self.asked.append(request)
            cut = request.max_tokens < 320
            yield Completion(
                id=request.id, text=("<think>hm" if cut else "<think>hm</think>yes") if self.thinks else "yes, and on",
                prompt_tokens=1, completion_tokens=min(320, request.max_tokens), seconds=0.0,
                finish="length" if cut else "stop",
            )  # fmt: skip


def test_thoughts_have_room_beside_the_limit_of_an_answer() -> None:
    thinker, room = Thinker(thinks=True), ReasoningRoom()
    requests = [Request(id=str(i), text="?", max_tokens=64) for i in range(3)]
    assert [answer.text for answer in room.complete(requests, thinker.complete)] == ["yes"] * 3
    assert [one.max_tokens for one in thinker.asked] == [64] * 3 + [64 + THINKING_TOKENS] * 3
    assert all(one.fit for one in thinker.asked[3:])
    assert [answer.text for answer in room.complete(requests, thinker.complete)] == ["yes"] * 3
    assert len(thinker.asked) == 9  # from then on it is asked once


def test_a_model_that_only_writes_on_gets_no_further_room() -> None:
    thinker, room = Thinker(thinks=False), ReasoningRoom()
    requests = [Request(id=str(i), text="?", max_tokens=64) for i in range(3)]
    assert [answer.finish for answer in room.complete(requests, thinker.complete)] == ["length"] * 3
    assert len(thinker.asked) == 3


def test_what_follows_an_opened_thought_is_no_answer(tiny_folder: Path) -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}"
    (tiny_folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model = open_model(str(tiny_folder))
    asked = [
        Request(id=str(i), messages=(Message(role="user", content=f"Why {i} of {word}?"),), max_tokens=8, fit=True)
        for i, word in enumerate(("claims", "rooms", "bridges", "the library", "hall nine", "ships"))
    ]
    answers = list(model.complete(asked))
    model.close()
    assert not any(answer.text for answer in answers)
    thought = [answer for answer in answers if answer.reasoning]
    assert thought
    assert all(answer.completion_tokens > 8 for answer in thought)  # they were asked again, with room


@pytest.mark.parametrize("switch", [True, False])
def test_a_schema_constrains_the_answer_not_an_opened_thought(tiny_folder: Path, store: Store, switch: bool) -> None:
    opened = "{% if enable_thinking is defined and not enable_thinking %}No.{% else %}<think>\n{% endif %}"
    template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}"
        + (opened if switch else "<think>\n")
        + "{% endif %}"
    )
    (tiny_folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model = open_model(str(tiny_folder), store=store, precision="fp32", engine="openvino")
    schema = '{"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"], "additionalProperties": false}'
    plain = Request(id="1", messages=(Message(role="user", content="Why?"),), max_tokens=60)
    shaped = plain.model_copy(update={"json_schema": schema})
    ends = [model.tokenizer.decode(prompt_ids(model.tokenizer, model.describe(), r)) for r in (plain, shaped)]
    assert ends[0].endswith("<think>\n")
    assert ends[1].endswith("No." if switch else "<think>\n\n</think>\n\n")
    (answer,) = model.complete([shaped])
    model.close()
    assert answer.text.lstrip().startswith("{")
    assert not answer.reasoning
    assert answer.completion_tokens <= 60
