"""Tokenizers: train a small one, and turn texts and conversations into token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sizewise.errors import SizewiseError
from sizewise.lm.control_tokens import Rendered, control_tokens, encode, hide, shown
from sizewise.lm.packing import Unit
from sizewise.records import Message

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_PLACE = "\u2045answer\u2046"  # stands for an answer where a template is looked at
_THOUGHTS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))


def train_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE, so that any text can be written and given back exactly.

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


def encoded_text(tokenizer: Any, text: str, prefix: bool = True) -> tuple[list[int], list[int]]:
    """Return a text's tokens, led by one that is not predicted, and where each predicted one begins.

    Args:
        tokenizer: of the model.
        text: the text.
        prefix: put `prefix_id` before the text; else only what the tokenizer itself puts there, and if that is
            nothing the first token of the text is not predicted.
    """
    ids, starts = encode(tokenizer, hide(tokenizer, text))
    if prefix or len(tokenizer("a").input_ids) > len(tokenizer("a", add_special_tokens=False).input_ids):
        return [prefix_id(tokenizer), *ids], starts
    return ids, starts[1:]


def prefix_id(tokenizer: Any) -> int:
    """Give the token that stands before a text, so that its first token is predicted too.

    The tokenizer's own beginning-of-text token where it adds one; else the end-of-text token that
    separated documents in pretraining; else whatever begins or ends a text.
    """
    with_special = tokenizer("a").input_ids
    without = tokenizer("a", add_special_tokens=False).input_ids
    if len(with_special) > len(without):
        return int(with_special[0])
    known = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    if known is not None and tokenizer.convert_ids_to_tokens(known) == END_OF_TEXT:  # else it is the unknown token
        return int(known)
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise SizewiseError(
        "The tokenizer has no token that begins or ends a text.", "a tokenizer with bos or eos token", ""
    )


def text_ids(tokenizer: Any, text: str, begin: bool = False) -> list[int]:
    """Encode text: control tokens that people wrote are text, those that a template wrote act.

    Args:
        tokenizer: the model's tokenizer.
        text: people's text, or what `render_chat` returned.
        begin: put what the tokenizer begins a text with before it.
    """
    return encode(tokenizer, text if isinstance(text, Rendered) else hide(tokenizer, text), begin).ids


def render_chat(
    tokenizer: Any, messages: Sequence[Message], answer: str | None = None, prompt: bool | None = None
) -> Rendered:
    """Put a conversation into the model's own chat template (sandboxed by transformers).

    Args:
        tokenizer: the model's tokenizer.
        messages: the conversation.
        answer: the assistant's answer; without it the text ends where the assistant would begin.
        prompt: whether the text ends where the assistant would begin; by default if there is no answer.

    Returns:
        What the template wrote; control tokens that stand in the contents are hidden in it, see `control_tokens`.
    """
    said = [(message.role, message.content) for message in messages] + [("assistant", answer)] * (answer is not None)
    turns = [{"role": role, "content": str(hide(tokenizer, content or ""))} for role, content in said]
    begins = answer is None if prompt is None else prompt
    try:
        return Rendered(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=begins))
    except (TemplateError, ValueError, TypeError) as error:
        raise SizewiseError(
            f"The model's chat template refuses this conversation: {shown(tokenizer, str(error)).splitlines()[0]}",
            "a template that takes these roles",
            "choose another model: sizewise models",
        ) from error


def chat_sequence(tokenizer: Any, messages: Sequence[Message], answer: str) -> Unit:
    """Encode a conversation with its answer; only the answer and the end of the turn count in the loss.

    The answer is learnt after the very prompt that the model is asked with. Where that opens thoughts, as
    DeepSeek-R1's does, what is learnt closes them before the answer. A template that writes no token after an answer
    would teach answers without an end: the end-of-text token is added.

    Raises:
        SizewiseError: the template has no generation prompt, so the answer's place cannot be known.
    """
    prompt = render_chat(tokenizer, messages)
    learnt = _after_prompt(tokenizer, messages, prompt, answer)
    if learnt is None:
        raise SizewiseError(
            "The model's chat template has no generation prompt: the place of the answer cannot be known.",
            "a template that honours add_generation_prompt",
            "choose another model: sizewise models",
        )
    prompt_ids, answer_ids = text_ids(tokenizer, prompt), text_ids(tokenizer, learnt)
    if (
        turn_end(tokenizer) is None
        and tokenizer.eos_token_id is not None
        and answer_ids[-1:] != [tokenizer.eos_token_id]
    ):
        answer_ids.append(tokenizer.eos_token_id)
    return Unit(prompt_ids + answer_ids, len(prompt_ids))


def _after_prompt(tokenizer: Any, messages: Sequence[Message], prompt: Rendered, answer: str) -> Rendered | None:
    """Return what a model writes after its prompt; None where the template does not say."""
    whole, empty = render_chat(tokenizer, messages, answer), render_chat(tokenizer, messages, "")
    if whole.startswith(prompt) and prompt != empty:
        return Rendered(whole[len(prompt) :].rstrip("\n"))
    if prompt == render_chat(tokenizer, messages, prompt=False):
        return None
    before, found, after = render_chat(tokenizer, messages, _PLACE).rpartition(_PLACE)
    if not found or not whole.startswith(before) or not whole.endswith(after):
        return None
    said = whole[len(before) : len(whole) - len(after)]
    return Rendered(_closing_thoughts(prompt) + (said + after).rstrip("\n"))


def _closing_thoughts(prompt: str) -> str:
    """Return what ends the thoughts that a prompt leaves open, as Qwen3's template writes empty ones."""
    for begin, end in _THOUGHTS:
        if prompt.rpartition(begin)[2].strip() == "" and begin in prompt:
            return f"{'' if prompt.endswith(chr(10)) else chr(10)}\n{end}\n\n"
    return ""


def turn_end(tokenizer: Any) -> int | None:
    """Return the control token that the chat template writes after an answer; None where it writes none."""
    if not tokenizer.chat_template:
        return None
    try:
        after = render_chat(tokenizer, (Message(role="user", content="a"),), _PLACE).rpartition(_PLACE)[2]
    except SizewiseError:
        return None
    control = set(control_tokens(tokenizer).values())
    return next((i for i in text_ids(tokenizer, Rendered(after)) if i in control), None) if after else None


def end_ids(network: Any, tokenizer: Any) -> set[int]:
    """Return the tokens that end an answer: the tokenizer's, the network's, and the one after an answer in a chat."""
    configured = getattr(network.generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list | tuple) else [configured]
    return {end for end in (tokenizer.eos_token_id, turn_end(tokenizer), *listed) if end is not None}
