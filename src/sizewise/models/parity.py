"""Compare an export with its model: greedy tokens after the same prompts and log-likelihoods of the same texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import isfinite, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise import datasets
from sizewise.documents.python_manual import read_manual_topics
from sizewise.lm.generate import generate, near_best, next_tokens
from sizewise.lm.score import score_ids
from sizewise.lm.template_dates import today
from sizewise.lm.tokenizer import prefix_ids, render_chat, text_ids
from sizewise.models import llamacpp, openvino
from sizewise.models.prompts import question_prompt
from sizewise.records import Message, Parity, Score
from sizewise.records.tool_calls import conversation_text, text_turns
from sizewise.stats import estimate, wilson
from sizewise.stats.inference import FloatArray
from sizewise.store import Joined, Store

ANSWER_TOKENS = 48
TEXT_TOKENS = 512
TEXT_CHARACTERS, PROMPT_CHARACTERS = 4_000, 200
MAX_SEQUENCE = 2_048
"""Longest prompt with its reference answer that is scored, in tokens."""
MAX_ROUNDS = 20
LLAMA_TOKENS = 16_384
"""Tokens in llama.cpp's cache, over all prompts of a comparison that are answered at a time."""
TIE = 0.025
"""Tokens are tied if their logits differ by at most this share of the standard deviation of all logits, 0.09 nats in
SmolLM2-135M: which of them is chosen depends on rounding. With weights in Q8_0, llama.cpp also rounds activations to
8 bits; it chooses 93.2 % of SmolLM2-135M's greedy tokens, 98.6 % with ties (docs/decisions/0028)."""
FIRST_WORD = 8
"""Tokens at the beginning of a text that a reader may encode otherwise."""


class Bounds(NamedTuple):
    """Tolerance between an export and its model."""

    agreement: float
    """Minimum share of identical greedy tokens."""
    bits: float
    """Maximum difference in bits per byte, relative to the model's value."""


EXACT = Bounds(0.99, 0.005)
"""For exports whose weights and precision are the model's own."""
BF16 = Bounds(0.96, 0.01)
"""For engines that compute in bf16, if the processor supports it."""


class Material(NamedTuple):
    """What a model and its export are compared on."""

    conversations: Sequence[tuple[Message, ...]]
    """Prompts."""
    replies: Sequence[str]
    """A reference answer to each prompt, whose probability is compared; "" if there is none."""
    texts: Sequence[str]
    """Texts whose probability is compared."""


class Reference(NamedTuple):
    """Outputs of the model itself in fp32."""

    conversations: tuple[tuple[Message, ...], ...]
    prompts: tuple[list[int], ...]
    answers: tuple[list[int], ...]
    """Greedy tokens after each prompt."""
    near: tuple[list[frozenset[int]], ...]
    """For each greedy token, those that are tied with it, itself included."""
    texts: tuple[str, ...]
    sequences: tuple[list[int], ...]
    """Tokens of the texts, each preceded by the prefix token, and of the prompts with a reference answer."""
    firsts: tuple[int, ...]
    """Index of the first token of each sequence whose likelihood counts."""
    sizes: tuple[int, ...]
    """Size of the counted text of each sequence in bytes."""
    nats: tuple[npt.NDArray[np.float64], ...]
    """Negative log-likelihood of each counted token."""


class Reader(NamedTuple):
    """A program that loads an export."""

    name: str
    precision: str
    greedy: Callable[[Reference], list[int]]
    """Counts the positions of each answer at which the reader's greedy choice is the reference's, or tied with it."""
    nats: Callable[[Sequence[list[int]]], Sequence[npt.NDArray[np.float64]]] | None
    """Negative log-likelihoods of every token but the first; None if the reader doesn't provide them."""
    encode: Callable[[Sequence[Message] | str], list[int]]
    """Encodes a conversation or a text with the export's own template and tokenizer."""


def dataset_material(store: Store, data: str, prompts: int, texts: int) -> Material:
    """Take prompts with their reference answers, and texts, from a dataset, from its test split first."""
    contents = datasets.load(store, data)
    examples = Joined([contents.examples[split] for split in ("test", "validation", "train")])[:prompts]
    documents = Joined([contents.documents[split] for split in ("test", "validation", "train")])
    kept = [document.text[:TEXT_CHARACTERS] for document in documents[:texts]]
    if not examples:
        asked = [(Message(role="user", content=document.text[:PROMPT_CHARACTERS]),) for document in documents[:prompts]]
        return Material(asked, [""] * len(asked), kept)
    conversations = [text_turns(example.messages, example.tools) for example in examples]
    return Material(conversations, [example.references[0] if example.references else "" for example in examples], kept)


def manual_texts(texts: int) -> list[str]:
    """Return topics of the CPython manual: running text for models without a dataset.

    Short texts are a poor measure: on 20 questions of ten tokens each, rounding SmolLM2-135M to 8 bits costs 0.6 % bits
    per byte; on running text it costs 0.04 %.
    """
    found = [document.text[:TEXT_CHARACTERS] for document in read_manual_topics()]
    return [text for text in found if len(text) > TEXT_CHARACTERS // 2][:texts]


def make_reference(
    network: Any, tokenizer: Any, material: Material, answer_tokens: int = ANSWER_TOKENS, text_tokens: int = TEXT_TOKENS
) -> Reference:
    """Generate answers and scores with the model itself.

    Args:
        network: the model in fp32.
        tokenizer: its tokenizer.
        material: prompts and texts.
        answer_tokens: maximum length of a generated answer.
        text_tokens: tokens of each text that are scored.
    """
    prompts = [encode(tokenizer, conversation) for conversation in material.conversations]
    answers: list[list[int]] = [[] for _ in prompts]
    for answer in generate(network, tokenizer, prompts, max_tokens=answer_tokens):
        answers[answer.prompt] = answer.ids
    pairs = list(zip(prompts, answers, strict=True))
    near = near_best(network, [p + a for p, a in pairs], [len(p) for p, _ in pairs], TIE)
    prefix = prefix_ids(tokenizer)
    sequences = [prefix + text_ids(tokenizer, text)[:text_tokens] for text in material.texts]
    shortened = [tokenizer.decode(ids[len(prefix) :], clean_up_tokenization_spaces=False) for ids in sequences]
    firsts, sizes = [len(prefix)] * len(sequences), list(map(_bytes, shortened))
    for prompt, reply in zip(prompts, material.replies, strict=True):
        text = reply if tokenizer.chat_template or not reply else f" {reply}"
        ids = text_ids(tokenizer, text)[:answer_tokens] if text and prompt else []
        if ids and len(prompt) + len(ids) <= MAX_SEQUENCE:
            sequences.append(prompt + ids)
            firsts.append(len(prompt))
            sizes.append(_bytes(tokenizer.decode(ids, clean_up_tokenization_spaces=False)))
    nats = [
        found[first - 1 :] for found, first in zip(score_ids(network, sequences, MAX_SEQUENCE), firsts, strict=True)
    ]
    return Reference(
        tuple(material.conversations),
        tuple(prompts),
        tuple(answers),
        tuple(near),
        tuple(shortened),
        tuple(sequences),
        tuple(firsts),
        tuple(sizes),
        tuple(nats),
    )


def encode(tokenizer: Any, prompt: Sequence[Message] | str) -> list[int]:
    """Encode a text, or a conversation as training and evaluation write it: in the chat template, else as a question.

    Args:
        tokenizer: the model's tokenizer.
        prompt: the text or the conversation.
    """
    if isinstance(prompt, str):
        return text_ids(tokenizer, prompt)
    if tokenizer.chat_template:
        return text_ids(tokenizer, render_chat(tokenizer, prompt, date=today()))  # other engines know no pinned date
    return text_ids(tokenizer, plain_prompt(prompt), begin=True)


def plain_prompt(prompt: Sequence[Message]) -> str:
    """Write a conversation for a model without a chat template, as in training and evaluation."""
    return question_prompt(conversation_text(tuple(prompt), ""))


def network_reader(name: str, network: Any, tokenizer: Any) -> Reader:
    """Build the reader that runs an export with transformers in fp32."""

    def count_same(reference: Reference) -> list[int]:
        pairs = list(zip(reference.prompts, reference.answers, strict=True))
        found = next_tokens(network, [p + a for p, a in pairs], [len(p) for p, _ in pairs])
        return [
            sum(token in tied for token, tied in zip(predicted, near, strict=True))
            for predicted, near in zip(found, reference.near, strict=True)
        ]

    return Reader(
        name,
        "fp32",
        count_same,
        lambda sequences: score_ids(network, sequences, MAX_SEQUENCE),
        lambda prompt: encode(tokenizer, prompt),
    )


@contextmanager
def openvino_reader(
    folder: Path, precision: str, encode: Callable[[Sequence[Message] | str], list[int]] | None = None
) -> Iterator[Reader]:
    """Open a folder with openvino-genai in a process of its own, which ends with the block.

    Args:
        folder: folder in openvino-genai's format.
        precision: `bf16` or `fp32`.
        encode: encodes prompts and texts; by default the folder's own template and tokenizer.

    Raises:
        SizewiseError: openvino-genai can't open the folder.
    """
    engine = openvino.Engine(folder, precision)
    try:
        greedy = partial(walk, engine.greedy)
        own = encode or _openvino_encode(folder)
        yield Reader(openvino.engine_name(), precision, greedy, engine.nats, own)
    finally:
        engine.close()


@contextmanager
def llamacpp_reader(
    path: Path, precision: str, encode: Callable[[Sequence[Message] | str], list[int]]
) -> Iterator[Reader]:
    """Open a GGUF file with llama.cpp in a process of its own, which ends with the block.

    Args:
        path: the file.
        precision: what to call its precision.
        encode: encodes prompts and texts.

    Raises:
        SizewiseError: llama.cpp can't open the file.
    """
    engine = llamacpp.Engine(path, LLAMA_TOKENS)
    try:
        yield Reader(llamacpp.engine_name(), precision, partial(walk, engine.greedy), None, encode)
    finally:
        engine.close()


def _openvino_encode(folder: Path) -> Callable[[Sequence[Message] | str], list[int]]:
    import openvino_genai

    tokenizer = openvino_genai.Tokenizer(str(folder))

    def encode(prompt: Sequence[Message] | str) -> list[int]:
        if isinstance(prompt, str) or not tokenizer.chat_template:
            text = prompt if isinstance(prompt, str) else plain_prompt(prompt)
            special = not isinstance(prompt, str)
        else:
            turns = [message.model_dump() for message in prompt]
            text, special = tokenizer.apply_chat_template(turns, add_generation_prompt=True), False
        return [int(i) for i in tokenizer.encode(text, add_special_tokens=special).input_ids.data[0]]

    return encode


def walk(greedy: Callable[[Sequence[list[int]], Sequence[int]], list[list[int]]], reference: Reference) -> list[int]:
    """Count the greedy tokens of an engine that only generates that are the reference's, or tied with them.

    After another token, generation continues from the token of the original model.

    Args:
        greedy: generates a number of tokens after each prompt.
        reference: outputs of the model.
    """
    same = [0] * len(reference.prompts)
    position = [0] * len(reference.prompts)
    for _ in range(MAX_ROUNDS):
        unfinished = [i for i, answer in enumerate(reference.answers) if position[i] < len(answer)]
        if not unfinished:
            break
        generated = greedy(
            [reference.prompts[i] + reference.answers[i][: position[i]] for i in unfinished],
            [len(reference.answers[i]) - position[i] for i in unfinished],
        )
        for i, new in zip(unfinished, generated, strict=True):
            expected = reference.answers[i][position[i] :]
            pairs = enumerate(zip(new, expected, strict=False))
            matching = next((k for k, (token, other) in pairs if token != other), len(new))
            tied = matching < len(new) and new[matching] in reference.near[i][position[i] + matching]
            same[i] += matching + tied
            position[i] += min(matching + 1, len(expected))
    return same


def _ratio(sums: FloatArray) -> FloatArray:
    ratio: FloatArray = sums[..., 0] / sums[..., 1]
    return ratio


def check(reader: Reader, reference: Reference, bounds: Bounds) -> Parity:
    """Compare an export's outputs with the reference."""
    same = reader.greedy(reference)
    lengths = [len(answer) for answer in reference.answers]
    total, hits = sum(lengths), sum(same)
    counts = np.array([same, lengths], dtype=np.float64).T
    spread = estimate(counts, list(map(str, range(len(lengths)))), _ratio, (0.0, 1.0))
    ci_low, ci_high = (spread.ci_low, spread.ci_high) if isfinite(spread.ci_low) else wilson(hits, total)
    signature = (
        f"greedy|after the model's own tokens|ties:{TIE}|tokens:{total}|reader:{reader.name}"
        f"|precision:{reader.precision}"
    )
    agreement = Score(
        metric="token_agreement",
        value=hits / total,
        ci_low=ci_low,
        ci_high=ci_high,
        n=len(lengths),
        unit="share",
        signature=signature,
    )
    bits = _bits(reader, reference)
    reference_bits = sum(float(nats.sum()) for nats in reference.nats) / log(2) / sum(reference.sizes)
    max_difference = bounds.bits * reference_bits
    wrong = [
        i
        for i, conversation in enumerate(reference.conversations)
        if reader.encode(conversation) != reference.prompts[i]
    ]
    texts = zip(reference.texts, reference.sequences, reference.firsts, strict=False)  # replies come after the texts
    wrong_texts = [text for text, ids, first in texts if not _is_alike(reader.encode(text), ids[first:])]
    reasons = []
    if wrong:
        reasons.append(
            f"its chat template or tokenizer encodes {len(wrong)} of {len(reference.prompts)} prompts differently"
        )
    if len(wrong_texts) > len(reference.texts) // 10:  # a text truncated within a word may be tokenized differently
        reasons.append(f"its tokenizer encodes {len(wrong_texts)} of {len(reference.texts)} texts differently")
    if hits / total < bounds.agreement:
        reasons.append(
            f"{hits / total:.1%} of {total} greedy tokens are the same or as likely; "
            f"the minimum is {bounds.agreement:.1%}"
        )
    if bits.value is not None and abs(bits.value) > max_difference:
        reasons.append(
            f"it differs by {bits.value:+z.4f} bits per byte on the same texts; the maximum is {max_difference:.4f}"
        )
    if bits.missing_reason == _NO_NUMBER:
        reasons.append("its log-likelihoods are not finite numbers")
    return Parity(
        reader=reader.name,
        precision=reader.precision,
        prompts=len(lengths),
        agreement=agreement,
        bits=bits,
        min_agreement=bounds.agreement,
        max_bits=bounds.bits,
        same_text=not wrong,
        reasons=tuple(reasons),
    )


def _is_alike(found: list[int], expected: list[int]) -> bool:
    """Check whether a text has the same tokens, apart from those of its first word.

    Some readers of SentencePiece tokenizers put a space before a text; Mistral's puts one before texts, but not between
    control tokens, for which GGUF has no form.
    """
    tail = expected[FIRST_WORD:]
    return found == expected or bool(tail and found[-len(tail) :] == tail)


_NO_NUMBER = "not a number"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))


def _bits(reader: Reader, reference: Reference) -> Score:
    """Compute a reader's extra bits per byte compared with the model, with a bootstrap interval over texts."""
    name, unit = "bits_per_byte_more", "bits/byte"
    signature = f"tokens:{sum(map(len, reference.nats))}|reader:{reader.name}|precision:{reader.precision}"
    if reader.nats is None:
        reason = f"{reader.name} provides no log-likelihoods of text"
        return Score(metric=name, n=0, unit=unit, signature=signature, missing_reason=reason)
    nats = [found[first - 1 :] for found, first in zip(reader.nats(reference.sequences), reference.firsts, strict=True)]
    extra = [float((found - expected).sum()) / log(2) for found, expected in zip(nats, reference.nats, strict=True)]
    if not np.isfinite(extra).all():
        return Score(metric=name, n=len(extra), unit=unit, signature=signature, missing_reason=_NO_NUMBER)
    rows = np.array([extra, reference.sizes], dtype=np.float64).T
    found = estimate(rows, list(map(str, range(len(extra)))), _ratio)
    return Score(
        metric=name,
        value=found.value,
        ci_low=found.ci_low if isfinite(found.ci_low) else None,
        ci_high=found.ci_high if isfinite(found.ci_high) else None,
        n=len(extra),
        unit=unit,
        signature=signature,
    )
