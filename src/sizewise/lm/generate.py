"""Batched generation. Finished rows leave their batch, so they don't slow down the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from sizewise.lm.control_tokens import answer_text
from sizewise.lm.execution import WINDOWS, Execution, Head, execution_of
from sizewise.lm.single import answer_singly
from sizewise.lm.text_stream import Text
from sizewise.lm.tokenizer import end_ids
from sizewise.progress import pulse

TILE = 16_384  # vocabulary entries whose logits are in memory at a time
MIN_SHARED = 16  # tokens; a shorter common prefix isn't worth a separate pass
MAX_ANSWER = 1024  # tokens reserved for the answer when deciding whether a prefix can be shared
ROWS_OF_LOGITS = 16  # positions whose whole logits are in memory at a time
SHRINK_AT = 0.8  # drop finished rows when a smaller share of the batch is still running


class Answer(NamedTuple):
    """One generated answer."""

    prompt: int
    """Index of the prompt in the request."""
    text: str
    """Decoded answer, cut at the stop text."""
    tokens: int
    """Generated tokens, the end token included."""
    finish: str
    """`stop` or `length`."""
    seconds: float
    """Duration of the batch divided by its number of answers."""
    ids: list[int]
    """Token ids, the end token included."""
    mean_logprob: float | None = None
    """Mean log-likelihood of the tokens, in nats, if it was asked for."""


@torch.inference_mode()
def generate(
    network: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_tokens: int,
    stop: Sequence[str] = (),
    thoughts: Sequence[str] | None = None,
    batch: int = 64,
    logprobs: bool = False,
) -> Iterator[Answer]:
    """Generate greedy answers, shortest prompts first, and yield them batch by batch.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        prompts: token ids, special tokens included; no prompt may be empty.
        max_tokens: maximum length of an answer.
        stop: texts that end an answer.
        thoughts: reasoning tag that each prompt leaves open, or "" where there is none. Stop texts then act after the
            reasoning of an answer; by default they act from its beginning.
        batch: prompts per batch. In bf16 an answer may depend on the other prompts of its batch.
        logprobs: compute the log-likelihoods of the tokens, too; a step then takes longer.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    ends, decode = end_ids(network, tokenizer), partial(answer_text, tokenizer)
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        begun = time.perf_counter()
        found: list[list[float]] = [[] for _ in members]
        texts = [Text(decode, stop, thoughts[i] if thoughts else None) for i in members]
        with torch.device(network.device):
            written = run_batch(
                network,
                tokenizer,
                [prompts[i] for i in members],
                partial(_is_done, max_tokens, ends, texts if any(stop) else ()),
                partial(_choose, found if logprobs else None),
            )
        seconds = (time.perf_counter() - begun) / len(members)
        for i, new, known, stopping in zip(members, written, found, texts, strict=True):
            answer = _answer(tokenizer, new, i, ends, stopping, seconds)
            yield answer._replace(mean_logprob=sum(known[: len(new)]) / len(new)) if logprobs else answer


def _choose(
    found: Sequence[list[float]] | None, hidden: torch.Tensor, head: Head, members: Sequence[int]
) -> torch.Tensor:
    """Choose the most likely token of each row, and note its log-likelihood for the prompt of the row."""
    tokens = _argmax(hidden, head)
    if found is not None:
        total, chosen = (torch.full((len(hidden),), -torch.inf) for _ in range(2))
        for start in range(0, head.size, TILE):
            logits = head.logits(hidden, start, start + TILE).float()
            total = torch.logaddexp(total, logits.logsumexp(dim=-1))
            chosen = torch.maximum(chosen, logits.max(dim=-1).values)
        for member, value in zip(members, (chosen - total).tolist(), strict=True):
            found[member].append(value)
    return tokens


def run_batch(
    network: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    is_done: Callable[[int, list[int]], bool],
    choose: Callable[[torch.Tensor, Head, Sequence[int]], torch.Tensor],
    before: Callable[[Sequence[int]], None] | None = None,
) -> list[list[int]]:
    """Generate tokens for a batch of prompts until every prompt is done.

    Args:
        network: a causal language model.
        tokenizer: its tokenizer.
        prompts: token ids.
        is_done: called with a prompt's index and all its new tokens; returns whether the answer is complete.
        choose: called with (rows, width), the head and each row's prompt index; returns (rows,) tokens.
        before: called with each row's prompt index before a forward pass. If given, prompts share no prefix.
    """
    execution = execution_of(network)
    if execution.answers != "batch":
        return answer_singly(execution, prompts, is_done, choose, before)
    written: list[list[int]] = [[] for _ in prompts]
    batch = _Batch(network, tokenizer, written, is_done, choose, before)
    waiting = list(range(len(prompts)))
    while waiting:
        texts = {member: [*prompts[member], *written[member]] for member in waiting}
        short = [member for member in waiting if not execution.is_long(len(texts[member]))]
        members = short or waiting
        done = batch.run(members, [texts[member] for member in members], execution.position_switch if short else None)
        waiting = [member for member in waiting if member not in done]
    return written


class _Batch(NamedTuple):
    """What prompts of a batch have in common."""

    network: Any
    tokenizer: Any
    written: list[list[int]]
    """New tokens of each prompt."""
    is_done: Callable[[int, list[int]], bool]
    choose: Callable[[torch.Tensor, Head, Sequence[int]], torch.Tensor]
    before: Callable[[Sequence[int]], None] | None

    def run(self, members: Sequence[int], texts: Sequence[list[int]], switch: int | None) -> set[int]:
        """Continue texts until each is done, or until one would become longer than the switch of its positions.

        Args:
            members: index of each text's prompt.
            texts: token ids.
            switch: most tokens of a text; then the cache must be computed again, with positions rotated otherwise.

        Returns:
            The prompts that are done.
        """
        execution = execution_of(self.network)
        cache = DynamicCache(config=self.network.config)
        shared = 0 if self.before or not _may_share(execution, cache, texts) else _shared_prefix(texts)
        if execution.is_long(len(texts[0])) and not execution.is_long(shared):
            shared = 0
        if shared:
            # Few-shot examples precede every question: process them once for the whole batch.
            execution.hidden_states(input_ids=torch.tensor([texts[0][:shared]]), past_key_values=cache, use_cache=True)
            cache.batch_repeat_interleave(len(texts))
        padding_id = self.tokenizer.pad_token_id
        if padding_id is None or padding_id >= self.network.get_input_embeddings().num_embeddings:
            padding_id = 0  # the mask hides it
        ids, mask = _left_padded(texts, shared, padding_id)
        active = list(members)  # row of the batch -> prompt
        done: set[int] = set()
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
        while True:
            pulse()
            if self.before:
                self.before(active)
            hidden = execution.hidden_states(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )[:, -1]
            ids = self.choose(hidden, execution.head, active)[:, None]
            self._append(ids[:, 0].tolist(), active, done)
            positions = positions[:, -1:] + 1
            if len(done) == len(members) or (switch is not None and int(positions.max()) >= switch):
                return done
            running = [row for row, member in enumerate(active) if member not in done]
            if len(running) < SHRINK_AT * len(active) and _all_support(cache, "batch_select_indices"):
                keep = torch.tensor(running)
                cache.batch_select_indices(keep)
                ids, positions, mask = ids[keep], positions[keep], mask[keep]
                active = [active[row] for row in running]
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)

    def _append(self, tokens: Sequence[int], active: Sequence[int], done: set[int]) -> None:
        """Append a token to each answer that isn't done."""
        for member, token in zip(active, tokens, strict=True):
            if member not in done:
                self.written[member].append(token)
                if self.is_done(member, self.written[member]):
                    done.add(member)


def _left_padded(prompts: Sequence[list[int]], shared: int, padding_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (rows, tokens) of the prompts after their shared prefix, and the mask (rows, prefix + tokens)."""
    longest = max(len(prompt) for prompt in prompts) - shared
    ids = torch.full((len(prompts), longest), padding_id)
    mask = torch.ones((len(prompts), shared + longest), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        padding = longest - (len(prompt) - shared)
        ids[row, padding:] = torch.tensor(prompt[shared:])
        mask[row, shared : shared + padding] = 0
    return ids, mask


def _all_support(cache: DynamicCache, operation: str) -> bool:
    """Check whether all layers of a cache support an operation; linear attention and convolutions don't."""
    return all(hasattr(layer, operation) for layer in cache.layers)


def _may_share(execution: Execution, cache: DynamicCache, prompts: Sequence[list[int]]) -> bool:
    """Check whether a common prefix can be processed once for all prompts.

    The padding of shorter prompts then follows the prefix, where a sliding window would count it as text.
    """
    windows = [size for name in WINDOWS if (size := getattr(execution.text_config, name, None))]
    reach = max(map(len, prompts)) + MAX_ANSWER
    fits = all(reach <= window for window in windows)
    return execution.shares_prefix and fits and _all_support(cache, "batch_repeat_interleave")


def _shared_prefix(prompts: Sequence[list[int]]) -> int:
    """Count the leading tokens that all prompts share, leaving at least one each; 0 if that isn't worthwhile."""
    first, last = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    shared = next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))
    return shared if len(prompts) > 1 and shared >= MIN_SHARED else 0


def _argmax(hidden: torch.Tensor, head: Head) -> torch.Tensor:
    """Find the most likely token of each row, (rows, width) -> (rows,), one tile of the vocabulary at a time."""
    best = torch.full((len(hidden),), -torch.inf, dtype=hidden.dtype)
    token = torch.zeros(len(hidden), dtype=torch.long)
    for start in range(0, head.size, TILE):
        value, index = head.logits(hidden, start, start + TILE).max(dim=-1)
        better = value > best
        best = torch.where(better, value, best)
        token = torch.where(better, index + start, token)
    return token


def _is_done(max_tokens: int, ends: set[int], texts: Sequence[Text], member: int, new: list[int]) -> bool:
    """Check whether an answer is complete, and add its last token to its text if there are texts to look at."""
    if new[-1] in ends:
        return True
    if texts:
        texts[member].push(new[-1:])
    return len(new) >= max_tokens or bool(texts and texts[member].stopped)


def _answer(tokenizer: Any, new: list[int], index: int, ends: set[int], stopping: Text, seconds: float) -> Answer:
    ended = new[-1] in ends
    text = answer_text(tokenizer, new[:-1] if ended else new)
    stopping.end()
    if stopping.stopped:
        text, ended = stopping.returned, True
    return Answer(index, text.strip(), len(new), "stop" if ended else "length", seconds, new)


class Wanted(NamedTuple):
    """A request for an answer that is generated in a batch with others."""

    prompt: list[int]
    """Token ids, special tokens included."""
    temperature: float
    """Sampling temperature; zero is greedy."""
    top_p: float
    """Sample from the most likely tokens whose probabilities add up to this value."""
    seed: int | None
    """Sampling seed; None draws one."""
    take: Callable[[int, float], bool]
    """Called with each token and its log-likelihood; returns whether the answer is complete."""


@torch.inference_mode()
def generate_together(
    network: Any, tokenizer: Any, wanted: Sequence[Wanted], before: Callable[[Sequence[int]], None] | None = None
) -> None:
    """Generate several answers in one batch, streamed token by token.

    Args:
        network: a causal language model.
        tokenizer: pads the prompts.
        wanted: the requests.
        before: called with the request index of each row before a forward pass.
    """
    device = network.device
    generators = [
        torch.Generator(device).manual_seed(request.seed) if request.seed is not None else torch.Generator(device)
        for request in wanted
    ]
    for generator, request in zip(generators, wanted, strict=True):
        if request.seed is None:
            generator.seed()
    logprobs: dict[int, float] = {}

    def choose(hidden: torch.Tensor, head: Head, members: Sequence[int]) -> torch.Tensor:
        rows = torch.log_softmax(head.logits(hidden).float(), dim=-1)
        chosen = rows.argmax(dim=-1)
        for row, member in enumerate(members):
            request = wanted[member]
            if request.temperature > 0:
                chosen[row] = _sample(rows[row] / request.temperature, request.top_p, generators[member])
            logprobs[member] = float(rows[row, chosen[row]])
        return chosen

    with torch.device(device):
        run_batch(
            network,
            tokenizer,
            [request.prompt for request in wanted],
            lambda member, new: wanted[member].take(new[-1], logprobs[member]),
            choose,
            before,
        )


def _sample(scores: torch.Tensor, top_p: float, generator: torch.Generator) -> torch.Tensor:
    """Sample a token: (vocabulary,) -> ()."""
    probabilities, order = torch.softmax(scores, dim=-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    probabilities = torch.where(before < top_p, probabilities, 0.0)
    return order[torch.multinomial(probabilities, 1, generator=generator)[0]]


@torch.inference_mode()
def next_tokens(network: Any, sequences: Sequence[list[int]], starts: Sequence[int]) -> list[list[int]]:
    """Predict the most likely token at each position of given texts, from the tokens before it.

    Args:
        network: a causal language model.
        sequences: token ids.
        starts: first position to predict in each sequence; at least 1.
    """
    execution, found = execution_of(network), []
    for ids, start in zip(sequences, starts, strict=True):
        inputs = torch.tensor([ids[:-1]], device=network.device)
        hidden = execution.hidden_states(input_ids=inputs, use_cache=False)[0, start - 1 :]
        with torch.device(network.device):
            found.append(_argmax(hidden, execution.head).tolist())
    return found


@torch.inference_mode()
def near_best(
    network: Any, sequences: Sequence[list[int]], starts: Sequence[int], share: float
) -> list[list[frozenset[int]]]:
    """Return the tokens that are about as likely as the most likely one, at each position of given texts.

    Args:
        network: a causal language model.
        sequences: token ids.
        starts: first position to predict in each sequence; at least 1.
        share: maximum difference between their logits, as a share of the standard deviation of all logits.
    """
    execution, found = execution_of(network), []
    for ids, start in zip(sequences, starts, strict=True):
        inputs = torch.tensor([ids[:-1]], device=network.device)
        hidden = execution.hidden_states(input_ids=inputs, use_cache=False)[0, start - 1 :]
        near = []
        for states in hidden.split(ROWS_OF_LOGITS):
            logits = execution.head.logits(states).float()
            least = logits.amax(-1, keepdim=True) - share * logits.std(-1, keepdim=True)
            near += [row.nonzero().flatten().tolist() for row in logits >= least]
        found.append([frozenset(tokens) for tokens in near])
    return found
