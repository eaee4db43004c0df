"""Log-likelihoods of options after a prompt. What options, prompts and earlier calls have in common is computed once.

The options of an item are branches of one sequence: a mask lets every token see its prompt and its own option, never
another option. The keys and values of the prompts' common beginning (instructions and few-shot examples) stay in a
cache between calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache

from sizewise.errors import SizewiseError
from sizewise.lm.attention import additive_masks
from sizewise.lm.control_tokens import Rendered, encode, hide
from sizewise.lm.execution import execution_of
from sizewise.lm.score import normalizers, score_ids
from sizewise.lm.shared_rows import agreeing, can_branch
from sizewise.lm.tokenizer import prefix_ids, text_ids

PASS_TOKENS = 1024  # tokens in a forward pass


class Continuation(NamedTuple):
    """A prompt followed by an option."""

    ids: list[int]
    """Token ids of both."""
    first: int
    """Index of the first token that belongs to the option, at least 1."""


def continue_prompt(tokenizer: Any, prompt: str, option: str) -> Continuation:
    """Encode a prompt and an option.

    Plain text is encoded as a whole, as the model has read it in training. A token that spans both, such as a blank
    that is merged with the option's first word, belongs to the option. After a chat template's output (`Rendered`),
    the option is encoded by itself, as the model would generate it.
    """
    if isinstance(prompt, Rendered):
        before = text_ids(tokenizer, prompt)
        return Continuation(before + text_ids(tokenizer, option), len(before))
    ids, starts = encode(tokenizer, hide(tokenizer, prompt + option))
    if not starts and ids:  # a tokenizer without offsets
        before = text_ids(tokenizer, prompt)
        first = next((i for i, (a, b) in enumerate(zip(ids, before, strict=False)) if a != b), len(before))
    else:
        ends = [*starts[1:], len(prompt) + len(option)]
        first = next((i for i, end in enumerate(ends) if end > len(prompt)), len(ids))
    prefix = prefix_ids(tokenizer)
    return Continuation(prefix + ids, len(prefix) + first)


class _Segment(NamedTuple):
    """Consecutive tokens of a pass that see the same earlier segments."""

    ids: list[int]
    start: int
    """Position of the first token in its text."""
    parent: int | None
    """Segment that comes before; None for the cached prefix."""


class _Branches(NamedTuple):
    """Options of one item, or some of them."""

    item: int
    options: list[int]
    shared: list[int]
    """Tokens that all options of the item share after the cached prefix."""

    def tokens(self, items: Sequence[Sequence[Continuation]], cached: int) -> int:
        """Count the tokens of a pass over these options."""
        start = cached + len(self.shared)
        return len(self.shared) + sum(len(items[self.item][k].ids) - start for k in self.options)


class OptionReader:
    """Computes log-likelihoods of options, and keeps the common prefix of the last prompts in a cache.

    Args:
        network: a causal language model.
        size: maximum tokens of a prompt and an option together.
    """

    def __init__(self, network: Any, size: int) -> None:
        self._network, self._size = network, size
        self._lock = Lock()
        self._cache = DynamicCache()  # without a config, so it also keeps keys that a sliding window has left behind
        self._cached: list[int] = []
        self._last_hidden = torch.zeros(0)

    @torch.inference_mode()
    def nats(self, items: Sequence[Sequence[Continuation]]) -> list[npt.NDArray[np.float64]]:
        """Compute the negative log-likelihood of each option of each item.

        Args:
            items: the options of each item, at least one; their prompts may differ in the last token.

        Raises:
            SizewiseError: a prompt and an option are longer than the context.
        """
        self._check(items)
        if not items:
            return []
        longest = max(len(option.ids) for options in items for option in options)
        if not can_branch(self._network) or execution_of(self._network).is_long(longest):
            flat = score_ids(self._network, [option.ids for options in items for option in options], self._size)
            sums = iter(flat)
            return [np.array([next(sums)[o.first - 1 :].sum() for o in options]) for options in items]
        with self._lock:
            try:
                return self._branched(items)
            except BaseException:  # the cache may hold tokens of an unfinished pass
                self._cache, self._cached = DynamicCache(), []
                raise

    def _branched(self, items: Sequence[Sequence[Continuation]]) -> list[npt.NDArray[np.float64]]:
        prefix = _common_prefix(items)
        self._extend_cache(prefix)
        found = [np.zeros(len(options)) for options in items]
        for some in _passes(items, len(prefix)):
            for branches, nats in zip(some, self._run(items, some), strict=True):
                found[branches.item][branches.options] = nats
        return found

    def _check(self, items: Sequence[Sequence[Continuation]]) -> None:
        for options in items:
            for option in options:
                if len(option.ids) > self._size:
                    tokens = len(option.ids) - option.first
                    raise SizewiseError(
                        f"A prompt of {option.first} tokens and an option of {tokens} tokens don't fit into the "
                        f"model's context of {self._size} tokens.",
                        f"at most {self._size} tokens together",
                        "shorten the text or the option, use fewer examples, or choose a model with a longer context",
                    )

    def _extend_cache(self, prefix: list[int]) -> None:
        """Bring the cache to exactly this prefix, and keep the hidden state of its last token."""
        same = min(agreeing(self._cached, prefix), len(prefix) - 1)
        self._forget(len(self._cached) - same)
        for start in range(same, len(prefix), PASS_TOKENS):
            part = prefix[start : start + PASS_TOKENS]
            self._last_hidden = self._forward([_Segment(part, start, None)], start)[-1]
            self._cached = prefix[: start + len(part)]

    def _forget(self, tokens: int) -> None:
        """Remove the last tokens from the cache."""
        if tokens:
            self._cache.crop(-tokens)

    def _run(self, items: Sequence[Sequence[Continuation]], some: Sequence[_Branches]) -> list[npt.NDArray[np.float64]]:
        """Compute the negative log-likelihoods of options in one pass over the cached prefix."""
        cached = len(self._cached)
        segments: list[_Segment] = []
        # (option, place of the hidden state that predicts a token, the token)
        wanted: list[tuple[int, int, int]] = []
        count, place = 0, 0  # place 0 is the last token of the cached prefix
        for branches in some:
            trunk = len(segments)
            segments.append(_Segment(branches.shared, cached, None))
            trunk_places = [0, *range(place + 1, place + 1 + len(branches.shared))]
            place += len(branches.shared)
            start = cached + len(branches.shared)
            for k in branches.options:
                option = items[branches.item][k]
                own = option.ids[start:]
                segments.append(_Segment(own, start, trunk))
                places = [*trunk_places, *range(place + 1, place + 1 + len(own))]
                place += len(own)
                wanted += [(count, places[t - cached], option.ids[t]) for t in range(option.first, len(option.ids))]
                count += 1
        tokens = self._forward(segments, cached) if place else self._last_hidden[None][:0]
        hidden = torch.cat([self._last_hidden[None], tokens])
        self._forget(place)
        sums = np.zeros(count)
        np.add.at(sums, [option for option, _, _ in wanted], self._nats(hidden, wanted))
        return np.split(sums, np.cumsum([len(branches.options) for branches in some])[:-1])

    def _nats(self, hidden: torch.Tensor, wanted: Sequence[tuple[int, int, int]]) -> npt.NDArray[np.float64]:
        head = execution_of(self._network).head
        places, inverse = np.unique([place for _, place, _ in wanted], return_inverse=True)
        needed = hidden[torch.from_numpy(places).to(hidden.device)]
        rows = torch.from_numpy(inverse).to(hidden.device)
        tokens = torch.tensor([token for _, _, token in wanted], device=hidden.device)
        found = normalizers(needed, head)[rows] - head.target_logits(needed[rows], tokens)
        return found.cpu().double().numpy()

    def _forward(self, segments: Sequence[_Segment], cached: int) -> torch.Tensor:
        """Compute hidden states (tokens, width) of segments after the cached prefix."""
        device = self._network.device
        ids = [token for segment in segments for token in segment.ids]
        positions = np.concatenate([segment.start + np.arange(len(segment.ids)) for segment in segments])
        masks = self._masks(segments, positions.astype(np.int64), cached)
        return execution_of(self._network).hidden_states(
            input_ids=torch.tensor([ids], device=device),
            attention_mask=masks,
            position_ids=torch.from_numpy(positions.astype(np.int64))[None].to(device),
            past_key_values=self._cache,
            use_cache=True,
        )[0]

    def _masks(self, segments: Sequence[_Segment], positions: npt.NDArray[np.int64], cached: int) -> Any:
        """Build the attention masks: each token sees the prefix, its parent segment and its own segment so far."""
        number = np.repeat(np.arange(len(segments)), [len(segment.ids) for segment in segments])
        parent = np.array([-1 if s.parent is None else s.parent for s in segments])[number]
        seen = (number[:, None] == number) | (parent[:, None] == number)
        earlier = positions[:, None] >= positions
        allowed = np.concatenate([np.ones((len(positions), cached), bool), seen & earlier], axis=1)
        distance = positions[:, None] - np.concatenate([np.arange(cached), positions])
        device, dtype = self._network.device, self._network.dtype
        seen_by, apart = torch.from_numpy(allowed).to(device), torch.from_numpy(distance).to(device)
        return additive_masks(execution_of(self._network).text_config, seen_by, apart, dtype)


def _common_prefix(items: Sequence[Sequence[Continuation]]) -> list[int]:
    """Return the tokens that all sequences share before any option begins; at least the first token."""
    flat = [option for options in items for option in options]
    lowest, topmost = min(option.ids for option in flat), max(option.ids for option in flat)
    shared = min(agreeing(lowest, topmost), min(option.first for option in flat))
    return flat[0].ids[: max(1, shared)]


def _passes(items: Sequence[Sequence[Continuation]], cached: int) -> Iterator[list[_Branches]]:
    """Group items, or the options of large items, into passes of at most PASS_TOKENS tokens where possible."""
    waiting: list[_Branches] = []
    filled = 0
    for number, options in enumerate(items):
        lowest, topmost = min(option.ids for option in options), max(option.ids for option in options)
        shared = lowest[cached : max(cached, agreeing(lowest, topmost))]
        for part in _split(number, options, shared, cached):
            tokens = part.tokens(items, cached)
            if waiting and filled + tokens > PASS_TOKENS:
                yield waiting
                waiting, filled = [], 0
            waiting.append(part)
            filled += tokens
    if waiting:
        yield waiting


def _split(number: int, options: Sequence[Continuation], shared: list[int], cached: int) -> Iterator[_Branches]:
    """Split an item's options into parts that fit into a pass together with what they share."""
    part, filled = list[int](), len(shared)
    for k, option in enumerate(options):
        own = len(option.ids) - cached - len(shared)
        if part and filled + own > PASS_TOKENS:
            yield _Branches(number, part, shared)
            part, filled = [], len(shared)
        part.append(k)
        filled += own
    yield _Branches(number, part, shared)
