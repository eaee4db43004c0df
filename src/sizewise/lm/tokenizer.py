"""Tokenizers: train a small one, and encode texts and conversations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sizewise.errors import SizewiseError
from sizewise.lm.chat_templates import render_chat as render_chat
from sizewise.lm.control_tokens import Rendered, control_tokens, encode, hide
from sizewise.lm.packing import Unit
from sizewise.records import Message

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_PLACEHOLDER = "\u2045answer\u2046"  # stands for an answer while a template is analyzed
_REASONING_TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which reproduces any text exactly.

    Source: Sennrich et al. (2016) for BPE; Radford et al. (2019) for the byte-level form.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=context,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


class EncodedText(NamedTuple):
    """A text as tokens, of which the first ones aren't predicted."""

    ids: list[int]
    starts: list[int]
    """First character of each predicted token."""
    first: int
    """Index of the first predicted token, at least 1."""


def encoded_text(tokenizer: Any, text: str, prefix: bool = True) -> EncodedText:
    """Encode a text after tokens that aren't predicted.

    Args:
        tokenizer: the model's tokenizer.
        text: the text.
        prefix: put `prefix_ids` before the text. If False, only the tokenizer's own beginning-of-text tokens are added;
            without any, the first token of the text isn't predicted.
    """
    ids, starts = encode(tokenizer, hide(tokenizer, text))
    before = prefix_ids(tokenizer) if prefix else begin_ids(tokenizer)
    return EncodedText([*before, *ids], starts, len(before)) if before else EncodedText(ids, starts[1:], 1)


def begin_ids(tokenizer: Any) -> list[int]:
    """Return the tokens that the tokenizer puts before a text, without those that it may put after one."""
    marked = tokenizer("a").input_ids
    plain = tokenizer("a", add_special_tokens=False).input_ids
    found = (n for n in range(len(marked) - len(plain) + 1) if marked[n : n + len(plain)] == plain)
    return [int(token) for token in marked[: next(found, 0)]]


def prefix_ids(tokenizer: Any) -> list[int]:
    """Return the tokens to put before a text, so that its first token is predicted too; none of them counts itself.

    These are the beginning-of-text tokens that the tokenizer adds (GLM adds two), else the end-of-text token that
    separated documents in pretraining, else any token that begins or ends a text.

    Raises:
        SizewiseError: the tokenizer has no such token.
    """
    if before := begin_ids(tokenizer):
        return before
    known = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    if known is not None and tokenizer.convert_ids_to_tokens(known) == END_OF_TEXT:  # otherwise it's the unknown token
        return [int(known)]
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [int(token)]
    raise SizewiseError(
        "The tokenizer has no token that begins or ends a text.", "a tokenizer with a bos or eos token", ""
    )


def text_ids(tokenizer: Any, text: str, begin: bool = False) -> list[int]:
    """Encode text. Control tokens take effect only in the output of a template, not in users' text.

    Args:
        tokenizer: the model's tokenizer.
        text: a user's text, or the result of `render_chat`.
        begin: add the tokenizer's beginning-of-text tokens.
    """
    before = begin_ids(tokenizer) if begin else []
    return before + encode(tokenizer, text if isinstance(text, Rendered) else hide(tokenizer, text)).ids


def chat_sequence(tokenizer: Any, messages: Sequence[Message], answer: str, tools: str = "") -> Unit:
    """Encode a conversation for training. Only the answer and its end-of-turn token count in the loss.

    Raises:
        SizewiseError: see `chat_texts`.
    """
    prompt, learned = (text_ids(tokenizer, text) for text in chat_texts(tokenizer, messages, answer, tools))
    return Unit(prompt + with_end(learned, missing_end(tokenizer)), len(prompt))


def chat_texts(tokenizer: Any, messages: Sequence[Message], answer: str, tools: str = "") -> tuple[Rendered, Rendered]:
    """Render a conversation for training as its prompt and the text to learn. Earlier answers belong to the prompt.

    The prompt is the same as at inference. If it opens a reasoning block, as DeepSeek-R1's does, the learned text
    closes the block before the answer.

    Raises:
        SizewiseError: the template rejects the conversation, or has no generation prompt, so the answer can't be
            located.
    """
    prompt = render_chat(tokenizer, messages, tools=tools)
    learned = _after_prompt(tokenizer, messages, prompt, answer, tools)
    if learned is None:
        raise SizewiseError(
            "The model's chat template has no generation prompt, so the answer can't be located in its output.",
            "a template that supports add_generation_prompt",
            "choose another model: sizewise models",
        )
    return prompt, learned


def missing_end(tokenizer: Any) -> int | None:
    """Return the end-of-text token if the template writes no token after an answer, else None.

    Without such a token, the model would never learn to stop.
    """
    return tokenizer.eos_token_id if turn_end(tokenizer) is None else None


def with_end(learned: list[int], end: int | None) -> list[int]:
    """Add the token from `missing_end` to a learned answer."""
    return learned if end is None or learned[-1:] == [end] else [*learned, end]


def _after_prompt(
    tokenizer: Any, messages: Sequence[Message], prompt: Rendered, answer: str, tools: str
) -> Rendered | None:
    """Return the text that follows the prompt; None if the template doesn't determine it."""
    if prompt == render_chat(tokenizer, messages, prompt=False, tools=tools):  # the template has no generation prompt
        return _without_generation_prompt(tokenizer, messages, answer, tools)
    full = render_chat(tokenizer, messages, answer, tools=tools)
    if full.startswith(prompt):
        return Rendered(full[len(prompt) :].rstrip("\n"))
    before, found, after = render_chat(tokenizer, messages, _PLACEHOLDER, tools=tools).rpartition(_PLACEHOLDER)
    if not found or not full.startswith(before) or not full.endswith(after):
        return None
    rendered = full[len(before) : len(full) - len(after)]
    return Rendered(_end_of_reasoning(prompt) + (rendered + after).rstrip("\n"))


def _without_generation_prompt(tokenizer: Any, messages: Sequence[Message], answer: str, tools: str) -> Rendered | None:
    """Return the text that follows the last question, if the template writes only white space before an answer.

    Mistral's templates are such, and some of them write the system message before the last question only while no
    answer follows.
    """
    question = (*messages[:-1], messages[-1].model_copy(update={"content": _PLACEHOLDER}))
    end = render_chat(tokenizer, question, tools=tools).rpartition(_PLACEHOLDER)[2]
    both = render_chat(tokenizer, question, _PLACEHOLDER, tools=tools).rpartition(_PLACEHOLDER)
    between = both[0].rpartition(_PLACEHOLDER)[2]
    following = render_chat(tokenizer, question, answer, tools=tools).rpartition(_PLACEHOLDER)[2]
    if not (both[2] and between.startswith(end) and following.startswith(end)) or between[len(end) :].strip():
        return None
    return Rendered(following[len(end) :].rstrip("\n"))


def _end_of_reasoning(prompt: str) -> str:
    """Return the text that closes a reasoning block left open by the prompt, like the empty blocks of Qwen3."""
    for begin, end in _REASONING_TAGS:
        if prompt.rpartition(begin)[2].strip() == "" and begin in prompt:
            return f"{'' if prompt.endswith(chr(10)) else chr(10)}\n{end}\n\n"
    return ""


def turn_end(tokenizer: Any) -> int | None:
    """Return the control token that the chat template writes after an answer, or None."""
    if not tokenizer.chat_template:
        return None
    try:
        after = render_chat(tokenizer, (Message(role="user", content="a"),), _PLACEHOLDER).rpartition(_PLACEHOLDER)[2]
    except SizewiseError:
        return None
    control = set(control_tokens(tokenizer).values())
    return next((i for i in text_ids(tokenizer, Rendered(after)) if i in control), None) if after else None


def end_ids(network: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: from the tokenizer, the network's config and the chat template."""
    configured = getattr(network.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list | tuple) else [configured]
    return {end for end in (tokenizer.eos_token_id, turn_end(tokenizer), *listed) if end is not None}


def written_tokens(tokenizer: Any) -> list[int]:
    """Return the added tokens that may be in a prompt: by the chat template, around a text, or as text itself."""
    added = tokenizer.added_tokens_decoder
    named = set(tokenizer.all_special_tokens)
    found = {int(i) for i, token in added.items() if not token.special and token.content not in named}
    found |= set(begin_ids(tokenizer))
    if tokenizer.chat_template:
        try:
            texts = chat_texts(tokenizer, (Message(role="user", content="a"),), "a")
            found |= {token for text in texts for token in text_ids(tokenizer, text)}
        except SizewiseError:  # the verbs that need the template say so
            pass
    return sorted(found & set(added))
