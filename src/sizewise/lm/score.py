"""Log-likelihood of text: a rolling window in which each token is predicted exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm.logits import head_of, hidden_states
from sizewise.lm.packing import Unit
from sizewise.lm.tokenizer import encoded_text, prefix_id, text_ids

TILE = 4096  # words of the vocabulary whose logits exist at once: they stay in the processor's cache
BATCH_TOKENS = 1024  # enough for the processor, and little padding
GROUP_TOKENS = 16 * BATCH_TOKENS  # texts that are sorted by length and scored together


class Window(NamedTuple):
    """Part of a token sequence that goes through the network at once."""

    start: int
    """First input token."""
    end: int
    """One past the last token that is predicted."""
    first: int
    """First token that is predicted here."""


def windows(tokens: int, size: int) -> list[Window]:
    """Cover tokens 1 to `tokens` - 1 (token 0 is the prefix): each is predicted exactly once.

    All but the first window begin half a window back, so that each prediction has at least half a window
    of context.

    Args:
        tokens: length with the prefix.
        size: longest input.
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
    """Give the negative log-likelihood, in nats, of all tokens but the first of each sequence."""
    return [rows[:, 0] for rows in _over_windows(network, sequences, size, _nats, columns=1)]


class Likeliest(NamedTuple):
    """Log-likelihoods of a sequence's tokens but the first, and what would have been likeliest in their places."""

    nats: npt.NDArray[np.float64]
    """(tokens - 1,) negative log-likelihood."""
    best: npt.NDArray[np.int64]
    """(tokens - 1,) the likeliest token."""
    best_nats: npt.NDArray[np.float64]
    """(tokens - 1,) its negative log-likelihood."""


def likeliest_ids(network: Any, sequences: Sequence[list[int]], size: int) -> list[Likeliest]:
    """Give log-likelihoods as `score_ids` does, with the likeliest token of each place."""
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
    """Read columns off the states before all tokens but the first: (tokens - 1, columns) for each sequence."""
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
        # Padding stands at the right, where a causal network does not see it: no mask is needed.
        hidden = hidden_states(network, input_ids=inputs.to(head.device), use_cache=False)
        states = [hidden[row, w.first - w.start - 1 : w.end - w.start - 1] for row, (_, w) in enumerate(batch)]
        wanted = torch.tensor([token for i, w in batch for token in sequences[i][w.first : w.end]], device=head.device)
        found = read(torch.cat(states), head, wanted).split([len(some) for some in states])
        for (i, w), rows in zip(batch, found, strict=True):
            results[i][w.first - 1 : w.end - 1] = rows.numpy()
    return results


def _split_at(parts: list[tuple[int, Window]], size: int) -> tuple[list[Any], list[Any]]:
    return parts[:size], parts[size:]


def _nats(hidden: torch.Tensor, head: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Give -log p of wanted tokens: (tokens, width), (vocabulary, width), (tokens,) -> (tokens, 1) in fp64."""
    normaliser = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    for _, logits in _tiles(hidden, head):
        normaliser = torch.logaddexp(normaliser, torch.logsumexp(logits, dim=-1))
    return (normaliser - _chosen(hidden, head, wanted)).cpu().double()[:, None]


def _nats_and_best(hidden: torch.Tensor, head: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Give -log p of wanted tokens, the likeliest token and its -log p: -> (tokens, 3) in fp64."""
    normaliser = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    most, best = normaliser.clone(), torch.zeros_like(wanted)
    for start, logits in _tiles(hidden, head):
        normaliser = torch.logaddexp(normaliser, torch.logsumexp(logits, dim=-1))
        here, place = logits.max(dim=-1)
        best = torch.where(here > most, start + place, best)
        most = torch.maximum(here, most)
    columns = (normaliser - _chosen(hidden, head, wanted), best, normaliser - most)
    return torch.stack([one.cpu().double() for one in columns], dim=1)


def _tiles(hidden: torch.Tensor, head: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    for start in range(0, head.shape[0], TILE):
        yield start, (hidden @ head[start : start + TILE].T).float()


def _chosen(hidden: torch.Tensor, head: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    chosen = (hidden.float() * head[wanted].float()).sum(-1)
    # rounded as the logits in the normaliser are
    return chosen if hidden.dtype == torch.float32 else chosen.to(hidden.dtype).float()


def score_texts(
    network: Any, tokenizer: Any, texts: Sequence[str], size: int, prefix: bool = True
) -> Iterator[TokenScores]:
    """Score texts, each from its own beginning; short ones that follow each other go through the network at once.

    Without `prefix` a text begins as the tokenizer begins it, see `encoded_text`.
    """
    waiting: list[list[int]] = []
    places: list[npt.NDArray[np.int64]] = []
    for number, text in enumerate(texts, start=1):
        ids, starts = encoded_text(tokenizer, text, prefix)
        waiting.append(ids)
        places.append(np.array(starts, dtype=np.int64))
        if number == len(texts) or sum(len(ids) for ids in waiting) >= GROUP_TOKENS:
            for nats, begins in zip(score_ids(network, waiting, size), places, strict=True):
                yield TokenScores(nats, begins)
            waiting, places = [], []


def bits_per_byte(network: Any, tokenizer: Any, texts: Sequence[str], size: int) -> float:
    """Give bits per byte of UTF-8 over all texts together."""
    prefix = prefix_id(tokenizer)
    nats = score_ids(network, [[prefix, *text_ids(tokenizer, text)] for text in texts], size)
    total = sum(float(some.sum()) for some in nats)
    return total / np.log(2) / sum(len(text.encode("utf-8")) for text in texts)


def answer_bits(network: Any, sequences: Sequence[Unit], answers: Sequence[str], size: int) -> float:
    """Give bits per byte of answers after their questions, over all together.

    Args:
        network: a causal language model.
        sequences: questions with their answers, encoded.
        answers: the answers' texts.
        size: longest input.
    """
    nats = score_ids(network, [sequence.ids for sequence in sequences], size)
    total = sum(float(some[one.first_target - 1 :].sum()) for some, one in zip(nats, sequences, strict=True))
    return total / np.log(2) / sum(len(answer.encode("utf-8")) for answer in answers)


class Place(NamedTuple):
    """Tokens between two places of their texts, and how well they are predicted."""

    first: int
    last: int
    tokens: int
    bits: float
    """Mean bits a token."""


def bits_by_place(network: Any, tokenizer: Any, texts: Sequence[str], size: int, nearest: int = 64) -> list[Place]:
    """Give bits a token by distance from the beginning of the text, in ranges that double.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        texts: each from its own beginning; what lies beyond `size` tokens is left out.
        size: tokens of a text that are looked at.
        nearest: tokens in the first range.
    """
    prefix = prefix_id(tokenizer)
    nats = score_ids(network, [[prefix, *text_ids(tokenizer, text)][: size + 1] for text in texts], size)
    found, first = [], 0
    while first < size:
        end = min(size, max(nearest, 2 * first))
        inside = np.concatenate([np.zeros(0), *(some[first:end] for some in nats)])
        if len(inside):
            found.append(Place(first, end - 1, len(inside), float(inside.mean() / np.log(2))))
        first = end
    return found
