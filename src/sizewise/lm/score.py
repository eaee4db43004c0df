"""Log-likelihood of text over a rolling window that predicts each token exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm.logits import head_of, hidden_states
from sizewise.lm.packing import Unit
from sizewise.lm.tokenizer import encoded_text, prefix_id, text_ids

TILE = 4096  # vocabulary entries whose logits are computed at a time; they fit in the processor's cache
BATCH_TOKENS = 1024  # large enough to keep the processor busy, with little padding
GROUP_TOKENS = 16 * BATCH_TOKENS  # texts up to this total are sorted by length and scored together


class Window(NamedTuple):
    """Part of a token sequence that is processed in one forward pass."""

    start: int
    """First input token."""
    end: int
    """One past the last predicted token."""
    first: int
    """First token predicted in this window."""


def windows(tokens: int, size: int) -> list[Window]:
    """Split a sequence into windows that predict tokens 1 to `tokens` - 1 exactly once (token 0 is the prefix).

    Every window but the first starts half a window earlier, so each prediction has at least half a window of context.

    Args:
        tokens: length of the sequence, prefix included.
        size: maximum input length.
    """
    found: list[Window] = []
    first = 1
    while first < tokens:
        start = 0 if first == 1 else first - size // 2
        end = min(tokens, start + size + 1)
        found.append(Window(start, end, first))
        first = end
    return found


class TokenScores(NamedTuple):
    """Log-likelihoods of one text's tokens."""

    nats: npt.NDArray[np.float64]
    """(tokens,) negative log-likelihood."""
    starts: npt.NDArray[np.int64]
    """(tokens,) first character of each token."""


def score_ids(network: Any, sequences: Sequence[list[int]], size: int) -> list[npt.NDArray[np.float64]]:
    """Compute the negative log-likelihood in nats of every token but the first of each sequence."""
    return [rows[:, 0] for rows in _over_windows(network, sequences, size, _nats, columns=1)]


class Likeliest(NamedTuple):
    """Log-likelihoods of every token but the first, with the most likely token at each position."""

    nats: npt.NDArray[np.float64]
    """(tokens - 1,) negative log-likelihood."""
    best: npt.NDArray[np.int64]
    """(tokens - 1,) most likely token."""
    best_nats: npt.NDArray[np.float64]
    """(tokens - 1,) its negative log-likelihood."""


def likeliest_ids(network: Any, sequences: Sequence[list[int]], size: int) -> list[Likeliest]:
    """Compute log-likelihoods like `score_ids`, with the most likely token at each position."""
    found = _over_windows(network, sequences, size, _nats_and_best, columns=3)
    return [Likeliest(rows[:, 0], rows[:, 1].astype(np.int64), rows[:, 2]) for rows in found]


@torch.inference_mode()
def _over_windows(
    network: Any,
    sequences: Sequence[list[int]],
    size: int,
    read: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    columns: int,
) -> list[npt.NDArray[np.float64]]:
    """Compute columns from the hidden states that predict each token: (tokens - 1, columns) per sequence."""
    results = [np.zeros((len(ids) - 1, columns)) for ids in sequences]
    parts = [(i, w) for i, ids in enumerate(sequences) for w in windows(len(ids), size)]
    parts.sort(key=lambda part: (part[1].start - part[1].end, part[0], part[1].start))
    head = head_of(network)
    while parts:
        longest = parts[0][1].end - parts[0][1].start - 1
        batch, parts = _split_at(parts, max(1, BATCH_TOKENS // max(1, longest)))
        inputs = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, (i, w) in enumerate(batch):
            inputs[row, : w.end - w.start - 1] = torch.tensor(sequences[i][w.start : w.end - 1])
        # Padding is on the right, where causal attention ignores it, so no mask is needed.
        hidden = hidden_states(network, input_ids=inputs.to(head.device), use_cache=False)
        states = [hidden[row, w.first - w.start - 1 : w.end - w.start - 1] for row, (_, w) in enumerate(batch)]
        targets = torch.tensor([token for i, w in batch for token in sequences[i][w.first : w.end]], device=head.device)
        found = read(torch.cat(states), head, targets).split([len(state) for state in states])
        for (i, w), rows in zip(batch, found, strict=True):
            results[i][w.first - 1 : w.end - 1] = rows.numpy()
    return results


def _split_at(parts: list[tuple[int, Window]], size: int) -> tuple[list[Any], list[Any]]:
    return parts[:size], parts[size:]


def _nats(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute -log p of the targets: (tokens, width), (vocabulary, width), (tokens,) -> (tokens, 1) in fp64."""
    normalizer = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    for _, logits in _tiles(hidden, head):
        normalizer = torch.logaddexp(normalizer, torch.logsumexp(logits, dim=-1))
    return (normalizer - _target_logits(hidden, head, targets)).cpu().double()[:, None]


def _nats_and_best(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute -log p of the targets, the most likely token and its -log p: -> (tokens, 3) in fp64."""
    normalizer = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    highest, best = normalizer.clone(), torch.zeros_like(targets)
    for start, logits in _tiles(hidden, head):
        normalizer = torch.logaddexp(normalizer, torch.logsumexp(logits, dim=-1))
        value, index = logits.max(dim=-1)
        best = torch.where(value > highest, start + index, best)
        highest = torch.maximum(value, highest)
    columns = (normalizer - _target_logits(hidden, head, targets), best, normalizer - highest)
    return torch.stack([column.cpu().double() for column in columns], dim=1)


def _tiles(hidden: torch.Tensor, head: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    for start in range(0, head.shape[0], TILE):
        yield start, (hidden @ head[start : start + TILE].T).float()


def _target_logits(hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = (hidden.float() * head[targets].float()).sum(-1)
    # round like the logits in the normalizer
    return logits if hidden.dtype == torch.float32 else logits.to(hidden.dtype).float()


def score_texts(
    network: Any, tokenizer: Any, texts: Sequence[str], size: int, prefix: bool = True
) -> Iterator[TokenScores]:
    """Score texts independently of each other, in batches of similar length.

    Without `prefix`, only the tokenizer's own beginning-of-text token is added, see `encoded_text`.
    """
    waiting: list[list[int]] = []
    offsets: list[npt.NDArray[np.int64]] = []
    for number, text in enumerate(texts, start=1):
        ids, starts = encoded_text(tokenizer, text, prefix)
        waiting.append(ids)
        offsets.append(np.array(starts, dtype=np.int64))
        if number == len(texts) or sum(len(ids) for ids in waiting) >= GROUP_TOKENS:
            for nats, first_characters in zip(score_ids(network, waiting, size), offsets, strict=True):
                yield TokenScores(nats, first_characters)
            waiting, offsets = [], []


def bits_per_byte(network: Any, tokenizer: Any, texts: Sequence[str], size: int) -> float:
    """Compute bits per byte (UTF-8) over all texts."""
    return sum(bits_of_texts(network, tokenizer, texts, size)) / sum(len(text.encode("utf-8")) for text in texts)


def bits_of_texts(network: Any, tokenizer: Any, texts: Sequence[str], size: int) -> list[float]:
    """Compute the bits of each text."""
    prefix = prefix_id(tokenizer)
    nats = score_ids(network, [[prefix, *text_ids(tokenizer, text)] for text in texts], size)
    return [float(values.sum() / np.log(2)) for values in nats]


def bits_of_answers(network: Any, sequences: Sequence[Unit], size: int) -> list[float]:
    """Compute the bits of each answer, given its question.

    Args:
        network: a causal language model.
        sequences: encoded questions with answers.
        size: maximum input length.
    """
    nats = score_ids(network, [sequence.ids for sequence in sequences], size)
    return [
        float(values[unit.first_target - 1 :].sum() / np.log(2)) for values, unit in zip(nats, sequences, strict=True)
    ]


class PositionRange(NamedTuple):
    """Bits per token in a range of positions."""

    first: int
    last: int
    tokens: int
    bits: float
    """Mean bits per token."""
    by_text: list[tuple[float, int]]
    """Bits and tokens of each text that reaches the range."""


def bits_by_position(
    network: Any, tokenizer: Any, texts: Sequence[str], size: int, nearest: int = 64
) -> list[PositionRange]:
    """Compute bits per token by position in the text, in ranges of doubling length.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        texts: texts to score.
        size: maximum tokens of each text; the rest is ignored.
        nearest: tokens in the first range.
    """
    prefix = prefix_id(tokenizer)
    nats = score_ids(network, [[prefix, *text_ids(tokenizer, text)][: size + 1] for text in texts], size)
    found, first = [], 0
    while first < size:
        end = min(size, max(nearest, 2 * first))
        inside = [values[first:end] / np.log(2) for values in nats if len(values) > first]
        by_text = [(float(values.sum()), len(values)) for values in inside]
        if by_text:
            bits, tokens = (sum(column) for column in zip(*by_text, strict=True))
            found.append(PositionRange(first, end - 1, int(tokens), bits / tokens, by_text))
        first = end
    return found
