"""Which parts of a conversation are learned: every answer as a model would have to generate it at its place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sizewise.lm.chat_templates import Spans, learned_spans
from sizewise.lm.control_tokens import Rendered, control_tokens
from sizewise.lm.tokenizer import chat_texts, missing_end
from sizewise.records import Message
from sizewise.records.tool_calls import answer_of


class Part(NamedTuple):
    """Part of a rendered conversation."""

    text: Rendered
    learned: bool
    """Whether it counts in the loss."""


def earlier_answers(messages: Sequence[Message]) -> list[int]:
    """Return the places of answers inside a conversation that can be learned: after a question, and with content."""
    return [
        place
        for place, message in enumerate(messages)
        if message.role == "assistant"
        and not message.excluded
        and any(before.role == "user" for before in messages[:place])
        and answer_of(message).strip()
    ]


def conversation_parts(
    tokenizer: Any, messages: Sequence[Message], answer: str, tools: str, learned: Collection[int] = ()
) -> list[list[Part]]:
    """Render a conversation for training, with earlier answers learned, too.

    An earlier answer is learned in the same pass if the template writes it in the history as a model generates it.
    Templates of reasoning models, for example, leave out the reasoning block there; such an answer becomes a sequence
    of its own that ends with it. A template with `{% generation %}` blocks chooses the turns to learn.

    Args:
        tokenizer: the model's tokenizer, with a chat template.
        messages: the conversation up to the last question.
        answer: the last answer.
        tools: definitions of tools, as a JSON list.
        learned: places of the earlier answers to learn, from `earlier_answers`.

    Returns:
        Sequences, each as its parts in order; the first one holds the whole conversation.

    Raises:
        SizewiseError: the template rejects the conversation, or an answer can't be located.
    """
    prompt, last = chat_texts(tokenizer, messages, answer, tools)
    if not learned:
        return [[Part(prompt, False), Part(last, True)]]
    marks = _marks(tokenizer, messages, answer, tools)
    own_end = missing_end(tokenizer) is not None  # an end that the template doesn't write in the history
    main, others, place = list[Part](), list[list[Part]](), 0
    for number in sorted(learned):
        before, said = chat_texts(tokenizer, messages[:number], answer_of(messages[number]), tools)
        if marks and not _is_marked(marks, before, said):
            continue
        text = _up_to_end(tokenizer, said)
        if own_end or not prompt.startswith(before + text) or len(before) < place:
            others.append([Part(before, False), Part(said, True)])
            continue
        main += [Part(Rendered(prompt[place : len(before)]), False), Part(Rendered(text), True)]
        place = len(before) + len(text)
    return [[*main, Part(Rendered(prompt[place:]), False), Part(last, True)], *others]


def _marks(tokenizer: Any, messages: Sequence[Message], answer: str, tools: str) -> tuple[Rendered, Spans] | None:
    """Return the whole conversation with the parts that the template marks as the assistant's; None without marks."""
    whole = (*messages, Message(role="assistant", content=answer))
    text, spans = learned_spans(tokenizer, whole, tools)
    return None if spans is None else (text, spans)


def _is_marked(marks: tuple[Rendered, Spans], before: Rendered, said: Rendered) -> bool:
    """Check whether the template marks an answer; one that it writes in another way in the history counts as marked."""
    text, spans = marks
    if not text.startswith(before):
        return True
    begin, end = len(before), len(before) + len(said)
    return any(start < end and begin < stop for start, stop in spans)


def _up_to_end(tokenizer: Any, said: Rendered) -> str:
    """Return a learned answer without the end of text that templates such as Phi-3's write after the last turn."""
    end = tokenizer.eos_token
    if not end or not said.endswith(end):
        return str(said)
    turn = said[: -len(end)].rstrip()
    return turn if any(turn.endswith(mark) for mark in control_tokens(tokenizer)) else str(said)
