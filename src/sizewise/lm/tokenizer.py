"""Tokenizers: train a small one, and turn texts and conversations into token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sizewise.errors import SizewiseError
from sizewise.lm.packing import Unit
from sizewise.records import Message

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


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
    """Give a text's tokens, led by one that is not predicted, and where each predicted one begins.

    Args:
        tokenizer: of the model.
        text: the text.
        prefix: put `prefix_id` before the text; else only what the tokenizer itself puts there, and if that is
            nothing the first token of the text is not predicted.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, starts = list(encoded.input_ids), [start for start, _ in encoded.offset_mapping]
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


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Encode plain text without special tokens."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def render_chat(tokenizer: Any, messages: Sequence[Message], answer: str | None = None) -> str:
    """Put a conversation into the model's own chat template (sandboxed by transformers).

    Args:
        tokenizer: the model's tokenizer.
        messages: the conversation.
        answer: the assistant's answer; without it the text ends where the assistant would begin.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer is None))
    except (TemplateError, ValueError, TypeError) as error:
        raise SizewiseError(
            f"The model's chat template refuses this conversation: {str(error).splitlines()[0]}",
            "a template that takes these roles",
            "choose another model: sizewise models",
        ) from error


def chat_sequence(tokenizer: Any, messages: Sequence[Message], answer: str) -> Unit:
    """Encode a conversation with its answer; only the answer and the end of the turn count in the loss.

    Raises:
        SizewiseError: the template has no generation prompt, so the answer's place cannot be known.
    """
    prompt = render_chat(tokenizer, messages)
    whole = render_chat(tokenizer, messages, answer)
    if not whole.startswith(prompt) or prompt == render_chat(tokenizer, messages, ""):
        raise SizewiseError(
            "The model's chat template has no generation prompt: the place of the answer cannot be known.",
            "a template that honours add_generation_prompt",
            "choose another model: sizewise models",
        )
    prompt_ids = text_ids(tokenizer, prompt)
    return Unit(prompt_ids + text_ids(tokenizer, whole[len(prompt) :].rstrip("\n")), len(prompt_ids))
