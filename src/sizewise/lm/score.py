"""Log-likelihood of text over a rolling window that predicts each token exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sizewise.lm.device import DEVICE_PASS
from sizewise.lm.execution import Head, execution_of
from sizewise.lm.packing import Unit
from sizewise.lm.shared_rows import Row, can_branch, row_masks, share_rows
from sizewise.lm.tokenizer import encoded_text, prefix_ids, text_ids
from sizewise.progress import pulse

TILE = 4096  # vocabulary entries whose logits are computed at a time; they fit in the processor's cache
READ_TOKENS = 4096  # positions whose logits of a tile are in memory at a time
COLUMNS = 3
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
    return [rows[:, 0] for rows in _over_windows(network, sequences, size, _nats)]


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
    found = _over_windows(network, sequences, size, _nats_and_best)
    return [Likeliest(rows[:, 0], rows[:, 1].astype(np.int64), rows[:, 2]) for rows in found]


def score_ends(network: Any, sequences: Sequence[list[int]], firsts: Sequence[int], size: int) -> list[Likeliest]:
    """Compute log-likelihoods of the tokens from a place on. What sequences begin with in common is computed once.

    Args:
        network: a causal language model.
        sequences: token ids.
        firsts: index of the first token to score in each sequence, at least 1.
        size: maximum input length; a longer sequence is scored window by window, by itself.
    """
    found: list[Any] = [None] * len(sequences)
    ends = [i for i, ids in enumerate(sequences) if 1 < len(ids) <= size + 1 and can_branch(network)]
    rest = [i for i in range(len(sequences)) if i not in set(ends)]
    whole = likeliest_ids(network, [sequences[i] for i in rest], size)
    for i, one in zip(rest, whole, strict=True):
        start = firsts[i] - 1
        found[i] = Likeliest(one.nats[start:], one.best[start:], one.best_nats[start:])
    columns = _over_rows(network, [sequences[i] for i in ends], [firsts[i] for i in ends])
    for i, rows in zip(ends, columns, strict=True):
        found[i] = Likeliest(rows[:, 0], rows[:, 1].astype(np.int64), rows[:, 2])
    return found


# Computes columns, (targets, columns) in fp64, from hidden states (places, width), the head, the place that predicts
# each target, and the targets.
_Read = Callable[[torch.Tensor, Head, torch.Tensor, torch.Tensor], torch.Tensor]


@torch.inference_mode()
def _over_windows(
    network: Any, sequences: Sequence[list[int]], size: int, read: _Read
) -> list[npt.NDArray[np.float64]]:
    """Compute columns from the hidden states that predict each token: (tokens - 1, columns) per sequence."""
    results = [np.zeros((max(0, len(ids) - 1), COLUMNS)) for ids in sequences]
    parts = [(i, w) for i, ids in enumerate(sequences) for w in windows(len(ids), size)]
    parts.sort(key=lambda part: (part[1].start - part[1].end, part[0], part[1].start))
    execution, most = execution_of(network), _most_tokens(network)
    head, device = execution.head, execution.device
    while parts:
        longest = parts[0][1].end - parts[0][1].start - 1
        batch, parts = _split_at(parts, max(1, most // max(1, longest)) if execution.padded else 1)
        if execution.is_long(longest):  # by the longest text of a batch, all positions would be rotated
            alike = sum(execution.is_long(w.end - w.start - 1) for _, w in batch)
            batch, parts = batch[:alike], batch[alike:] + parts
        inputs = torch.zeros((len(batch), longest), dtype=torch.long)
        pulse()
        for row, (i, w) in enumerate(batch):
            inputs[row, : w.end - w.start - 1] = torch.tensor(sequences[i][w.start : w.end - 1])
        # Padding is on the right, where causal attention ignores it, so no mask is needed.
        hidden = execution.hidden_states(input_ids=inputs.to(device), use_cache=False)
        states = torch.cat(
            [hidden[row, w.first - w.start - 1 : w.end - w.start - 1] for row, (_, w) in enumerate(batch)]
        )
        targets = torch.tensor([token for i, w in batch for token in sequences[i][w.first : w.end]], device=device)
        found = _in_parts(read, states, head, targets).split([w.end - w.first for _, w in batch])
        for (i, w), rows in zip(batch, found, strict=True):
            results[i][w.first - 1 : w.end - 1, : rows.shape[1]] = rows.numpy()
    return results


def _in_parts(read: _Read, states: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    """Read columns of one target after each state, in parts whose logits fit into memory."""
    parts = zip(states.split(READ_TOKENS), targets.split(READ_TOKENS), strict=True)
    return torch.cat([read(some, head, torch.arange(len(some), device=some.device), wanted) for some, wanted in parts])


@torch.inference_mode()
def _over_rows(network: Any, sequences: Sequence[list[int]], firsts: Sequence[int]) -> list[npt.NDArray[np.float64]]:
    """Compute the columns of `_nats_and_best` of each token from the first one on, in rows with common beginnings."""
    results: list[Any] = [None] * len(sequences)
    is_long = [execution_of(network).is_long(len(ids) - 1) for ids in sequences]
    if any(is_long) and not all(is_long):
        for side in (True, False):
            where = [i for i, other in enumerate(is_long) if other == side]
            found = _over_rows(network, [sequences[i] for i in where], [firsts[i] for i in where])
            for i, columns in zip(where, found, strict=True):
                results[i] = columns
        return results
    rows = share_rows([ids[:-1] for ids in sequences])
    rows.sort(key=lambda row: (not row.branches, -len(row.ids), row.members))
    most = _most_tokens(network)
    while rows:
        longest, branches = len(rows[0].ids), rows[0].branches
        fitting = max(1, most // longest)
        batch = [row for row in rows[:fitting] if row.branches == branches]
        rows = rows[len(batch) :]
        pulse()
        hidden = _row_states(network, batch, longest).flatten(0, 1)
        members = [(i, n * longest + places) for n, row in enumerate(batch) for i, places in row.with_places()]
        wanted = np.concatenate([places[firsts[i] - 1 :] for i, places in members])
        needed, after = np.unique(wanted, return_inverse=True)
        targets = [token for i, _ in members for token in sequences[i][firsts[i] :]]
        device = hidden.device
        found = _nats_and_best(
            hidden[torch.from_numpy(needed).to(device)],
            execution_of(network).head,
            torch.from_numpy(after).to(device),
            torch.tensor(targets, dtype=torch.long, device=device),
        ).split([len(sequences[i]) - firsts[i] for i, _ in members])
        for (i, _), columns in zip(members, found, strict=True):
            results[i] = columns.numpy()
    return results


def _row_states(network: Any, rows: Sequence[Row], length: int) -> torch.Tensor:
    """Compute the hidden states of rows, (rows, length, width)."""
    ids, positions = (torch.zeros((len(rows), length), dtype=torch.long) for _ in range(2))
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        positions[number, : len(row.ids)] = torch.tensor(row.positions)
    more: dict[str, Any] = {}
    if rows[0].branches:
        more = {"attention_mask": row_masks(network, rows, length), "position_ids": positions.to(network.device)}
    return execution_of(network).hidden_states(input_ids=ids.to(network.device), use_cache=False, **more)


def _most_tokens(network: Any) -> int:
    """Return the tokens of one forward pass; a graphics card needs more of them to be busy."""
    return BATCH_TOKENS if network.device.type == "cpu" else DEVICE_PASS


def _split_at(parts: list[tuple[int, Window]], size: int) -> tuple[list[Any], list[Any]]:
    return parts[:size], parts[size:]


def _nats(states: torch.Tensor, head: Head, after: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute -log p of the targets: -> (targets, 1)."""
    return (normalizers(states, head)[after] - head.target_logits(states[after], targets)).cpu().double()[:, None]


def normalizers(hidden: torch.Tensor, head: Head) -> torch.Tensor:
    """Compute the log of the softmax's normalizer at each position: (tokens, width) -> (tokens,) in fp32."""
    normalizer = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    for _, logits in _tiles(hidden, head):
        normalizer = torch.logaddexp(normalizer, torch.logsumexp(logits, dim=-1))
    return normalizer


def _nats_and_best(states: torch.Tensor, head: Head, after: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute -log p of the targets, the most likely token and its -log p: -> (targets, 3)."""
    normalizer = torch.full((len(states),), -torch.inf, device=states.device)
    highest, best = normalizer.clone(), torch.zeros(len(states), dtype=torch.long, device=states.device)
    for start, logits in _tiles(states, head):
        normalizer = torch.logaddexp(normalizer, torch.logsumexp(logits, dim=-1))
        value, index = logits.max(dim=-1)
        best = torch.where(value > highest, start + index, best)
        highest = torch.maximum(value, highest)
    found = normalizer[after] - head.target_logits(states[after], targets)
    columns = (found, best[after], (normalizer - highest)[after])
    return torch.stack([column.cpu().double() for column in columns], dim=1)


def _tiles(hidden: torch.Tensor, head: Head) -> Iterator[tuple[int, torch.Tensor]]:
    for start in range(0, head.size, TILE):
        yield start, head.logits(hidden, start, start + TILE).float()


def score_texts(
    network: Any, tokenizer: Any, texts: Sequence[str], size: int, prefix: bool = True
) -> Iterator[TokenScores]:
    """Score texts independently of each other, in batches of similar length.

    Without `prefix`, only the tokenizer's own beginning-of-text token is added, see `encoded_text`.
    """
    for group in _encoded_groups(tokenizer, texts, [0] * len(texts), prefix):
        for nats, encoded in zip(score_ids(network, [one.ids for one in group], size), group, strict=True):
            yield TokenScores(nats[encoded.first - 1 :], encoded.starts)


def score_texts_after(
    network: Any, tokenizer: Any, texts: Sequence[str], after: Sequence[int], size: int, prefix: bool = True
) -> Iterator[TokenScores]:
    """Score the tokens of each text that begin at or after a character; common beginnings are computed once.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        texts: texts to score.
        after: index of the first character whose tokens count, for each text.
        size: maximum input length.
        prefix: see `score_texts`.
    """
    for group in _encoded_groups(tokenizer, texts, after, prefix):
        found = score_ends(network, [one.ids for one in group], [one.first + one.skipped for one in group], size)
        for scores, encoded in zip(found, group, strict=True):
            yield TokenScores(scores.nats, encoded.starts[encoded.skipped :])


class _Encoded(NamedTuple):
    """A text as tokens."""

    ids: list[int]
    starts: npt.NDArray[np.int64]
    """First character of each predicted token."""
    first: int
    """Index of the first predicted token."""
    skipped: int
    """Predicted tokens that don't count."""


def _encoded_groups(
    tokenizer: Any, texts: Sequence[str], after: Sequence[int], prefix: bool
) -> Iterator[list[_Encoded]]:
    """Encode texts and yield them in groups of limited size."""
    waiting: list[_Encoded] = []
    for number, (text, begin) in enumerate(zip(texts, after, strict=True), start=1):
        ids, starts, first = encoded_text(tokenizer, text, prefix)
        characters = np.array(starts, dtype=np.int64)
        waiting.append(_Encoded(ids, characters, first, int(np.searchsorted(characters, begin))))
        if number == len(texts) or sum(len(one.ids) for one in waiting) >= GROUP_TOKENS:
            yield waiting
            waiting = []


def bits_per_byte(network: Any, tokenizer: Any, texts: Sequence[str], size: int) -> float:
    """Compute bits per byte (UTF-8) over all texts."""
    return sum(bits_of_texts(network, tokenizer, texts, size)) / sum(len(text.encode("utf-8")) for text in texts)


def bits_of_texts(network: Any, tokenizer: Any, texts: Sequence[str], size: int) -> list[float]:
    """Compute the bits of each text."""
    nats = score_text_ids(network, tokenizer, [text_ids(tokenizer, text) for text in texts], size)
    return [float(values.sum() / np.log(2)) for values in nats]


def score_text_ids(
    network: Any, tokenizer: Any, texts: Sequence[list[int]], size: int
) -> list[npt.NDArray[np.float64]]:
    """Compute the negative log-likelihood in nats of every token of texts, which begin after `prefix_ids`."""
    prefix = prefix_ids(tokenizer)
    return [nats[len(prefix) - 1 :] for nats in score_ids(network, [prefix + ids for ids in texts], size)]


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
    fitting = size + 1 - len(prefix_ids(tokenizer))
    nats = score_text_ids(network, tokenizer, [text_ids(tokenizer, text)[:fitting] for text in texts], size)
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
