"""Does an export do what the model did? Its tokens after the same text, and its likelihood of the same text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.lm.generate import generate, next_tokens
from sizewise.lm.score import score_ids
from sizewise.lm.tokenizer import prefix_id, render_chat, text_ids
from sizewise.records import Message, Parity, Score
from sizewise.stats import interval, wilson

ANSWER_TOKENS = 48
TEXT_TOKENS = 512
RESAMPLES, SEED = 2_000, 0
MOST_ROUNDS = 20


class Bounds(NamedTuple):
    """How far an export may be from its model."""

    agreement: float
    """Least share of greedy tokens that are the same."""
    bits: float
    """Most difference in bits a byte, as a share of the model's own."""


class Reference(NamedTuple):
    """What the model itself says, in fp32."""

    conversations: tuple[tuple[Message, ...], ...]
    prompts: tuple[list[int], ...]
    answers: tuple[list[int], ...]
    """Greedy tokens after each prompt."""
    texts: tuple[str, ...]
    sequences: tuple[list[int], ...]
    """Tokens of the texts, each after the token that stands before a text."""
    nats: tuple[npt.NDArray[np.float64], ...]
    """Negative log-likelihood of each token of the texts."""


class Reader(NamedTuple):
    """A program that read an export."""

    name: str
    precision: str
    greedy: Callable[[Reference], list[int]]
    """Number of the reference's tokens that it finds likeliest, of each answer."""
    nats: Callable[[Sequence[list[int]]], Sequence[npt.NDArray[np.float64]]] | None
    """Negative log-likelihoods of all tokens but the first of each sequence; None where it gives none."""
    encode: Callable[[Sequence[Message] | str], list[int]]
    """Turn a conversation, or a text, into tokens with the export's own template and tokenizer."""


def make_reference(
    network: Any, tokenizer: Any, conversations: Sequence[tuple[Message, ...]], texts: Sequence[str]
) -> Reference:
    """Let the model answer and score.

    Args:
        network: the model, in fp32.
        tokenizer: its tokenizer.
        conversations: what it is asked; with no chat template the last message is continued.
        texts: what it scores, the first tokens of each.
    """
    prompts = [encode(tokenizer, conversation) for conversation in conversations]
    answers: list[list[int]] = [[] for _ in prompts]
    for answer in generate(network, tokenizer, prompts, max_tokens=ANSWER_TOKENS):
        answers[answer.prompt] = answer.ids
    prefix = prefix_id(tokenizer)
    sequences = [[prefix, *text_ids(tokenizer, text)[:TEXT_TOKENS]] for text in texts]
    shortened = [tokenizer.decode(ids[1:], clean_up_tokenization_spaces=False) for ids in sequences]
    nats = score_ids(network, sequences, TEXT_TOKENS)
    return Reference(
        tuple(conversations), tuple(prompts), tuple(answers), tuple(shortened), tuple(sequences), tuple(nats)
    )


def encode(tokenizer: Any, asked: Sequence[Message] | str) -> list[int]:
    """Turn a conversation or a text into tokens."""
    if isinstance(asked, str):
        return text_ids(tokenizer, asked)
    if tokenizer.chat_template:
        return text_ids(tokenizer, render_chat(tokenizer, asked))
    return text_ids(tokenizer, asked[-1].content, begin=True)


def network_reader(name: str, network: Any, tokenizer: Any) -> Reader:
    """Let transformers read an export, in fp32."""

    def same(reference: Reference) -> list[int]:
        pairs = list(zip(reference.prompts, reference.answers, strict=True))
        found = next_tokens(network, [p + a for p, a in pairs], [len(p) for p, _ in pairs])
        return [
            sum(one == other for one, other in zip(said, answer, strict=True))
            for said, answer in zip(found, reference.answers, strict=True)
        ]

    return Reader(
        name,
        "fp32",
        same,
        lambda sequences: score_ids(network, sequences, TEXT_TOKENS),
        lambda asked: encode(tokenizer, asked),
    )


def walk(greedy: Callable[[Sequence[list[int]], Sequence[int]], list[list[int]]], reference: Reference) -> list[int]:
    """Count the same tokens with an engine that only writes: after a token of its own it goes on from the model's.

    Args:
        greedy: gives so many tokens after each prompt.
        reference: what the model said.
    """
    same = [0] * len(reference.prompts)
    place = [0] * len(reference.prompts)
    for _ in range(MOST_ROUNDS):
        open_ones = [i for i, answer in enumerate(reference.answers) if place[i] < len(answer)]
        if not open_ones:
            break
        said = greedy(
            [reference.prompts[i] + reference.answers[i][: place[i]] for i in open_ones],
            [len(reference.answers[i]) - place[i] for i in open_ones],
        )
        for i, new in zip(open_ones, said, strict=True):
            wanted = reference.answers[i][place[i] :]
            good = next((k for k, (one, other) in enumerate(zip(new, wanted, strict=False)) if one != other), len(new))
            same[i] += good
            place[i] += min(good + 1, len(wanted))
    return same


def check(reader: Reader, reference: Reference, bounds: Bounds) -> Parity:
    """Compare what an export says with what the model said."""
    same = reader.greedy(reference)
    lengths = [len(answer) for answer in reference.answers]
    total, hits = sum(lengths), sum(same)
    counts = np.array([same, lengths], dtype=np.float64).T
    spread = interval(counts, list(map(str, range(len(lengths)))), lambda s: s[..., 0] / s[..., 1], RESAMPLES, SEED)
    ci_low, ci_high = (spread.ci_low, spread.ci_high) if spread.ci_low < spread.ci_high else wilson(hits, total)
    signature = f"greedy|after the model's own tokens|tokens:{total}|reader:{reader.name}|precision:{reader.precision}"
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
    own = sum(float(some.sum()) for some in reference.nats) / log(2) / sum(map(_bytes, reference.texts))
    most = bounds.bits * own
    wrong = [
        i
        for i, conversation in enumerate(reference.conversations)
        if reader.encode(conversation) != reference.prompts[i]
    ]
    wrong_texts = [i for i, text in enumerate(reference.texts) if reader.encode(text) != reference.sequences[i][1:]]
    reasons = []
    if wrong:
        reasons.append(
            f"its chat template or tokenizer turns {len(wrong)} of {len(reference.prompts)} prompts into other tokens"
        )
    if len(wrong_texts) > len(reference.texts) // 10:  # a text that is cut inside a word may be read otherwise
        reasons.append(f"its tokenizer turns {len(wrong_texts)} of {len(reference.texts)} texts into other tokens")
    if hits / total < bounds.agreement:
        reasons.append(
            f"{hits / total:.1%} of {total} greedy tokens are the same; at least {bounds.agreement:.1%} must be"
        )
    if bits.value is not None and abs(bits.value) > most:
        reasons.append(f"it needs {bits.value:+.4f} bits a byte more of the same text; at most {most:.4f} either way")
    if bits.missing_reason == _NO_NUMBER:
        reasons.append("its log-likelihoods are no numbers")
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


_NO_NUMBER = "not a number"


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))


def _bits(reader: Reader, reference: Reference) -> Score:
    """Give the bits a byte that a reader needs more than the model, texts resampled."""
    name, unit = "bits_per_byte_more", "bits/byte"
    signature = f"tokens:{sum(map(len, reference.nats))}|reader:{reader.name}|precision:{reader.precision}"
    if reader.nats is None:
        reason = f"{reader.name} gives no log-likelihoods of given text"
        return Score(metric=name, n=0, unit=unit, signature=signature, missing_reason=reason)
    its = reader.nats(reference.sequences)
    more = [float((one - other).sum()) / log(2) for one, other in zip(its, reference.nats, strict=True)]
    if not np.isfinite(more).all():
        return Score(metric=name, n=len(more), unit=unit, signature=signature, missing_reason=_NO_NUMBER)
    rows = np.array([more, [_bytes(text) for text in reference.texts]], dtype=np.float64).T
    found = interval(rows, list(map(str, range(len(more)))), lambda s: s[..., 0] / s[..., 1], RESAMPLES, SEED)
    return Score(
        metric=name,
        value=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=len(more),
        unit=unit,
        signature=signature,
    )
