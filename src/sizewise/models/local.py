"""Models in a Hugging Face folder, run with transformers on this machine."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sizewise.errors import SizewiseError
from sizewise.lm.placement import IN_4_BITS
from sizewise.lm.text_stream import token_texts
from sizewise.models.answering import Answer
from sizewise.models.base import (
    Cancel,
    Deliver,
    Model,
    Piece,
    ScoredPrompt,
    ScoredRun,
    ScoredText,
    TokenRun,
    complete_all,
    failed,
)
from sizewise.models.batching import MAX_BATCH, Batcher
from sizewise.models.machine import machine_bytes
from sizewise.models.size import cache_bytes, stored_shapes, weight_bytes
from sizewise.models.thinking import Reasoning, ReasoningRoom, split_reasoning
from sizewise.records import Completion, Message, ModelDescription, Question, Request, closing_thought, opened_thought

if TYPE_CHECKING:
    from sizewise.decisions.options import OptionDecider
    from sizewise.lm.control_tokens import Rendered
    from sizewise.lm.execution import Execution

ENGINE = "transformers"
DEFAULT_CONTEXT = 2048  # of models that state none
WINDOW_SHARE = 1 / 8  # of the machine's memory, for what one pass over a window needs beside the weights
MIN_WINDOW = 2048
CACHE_TOKENS = 1024
SAME_LENGTH = 32  # answers shortened to fit the context are batched together if their limits differ by less
OPENING = 16  # trailing prompt tokens that may contain a reasoning tag


class LocalModel(Model):
    """A causal language model in a folder.

    Args:
        folder: a Hugging Face folder with safetensors.
        uri: URI that the model was opened with.
        revision: distinguishes two states of the same URI.
        origin: where the weights come from.
        license: license of the weights.
        precision: `bf16`, `fp16`, `fp32`, or `nf4` for linear layers in 4 bits (bitsandbytes); by default the device's
            native precision.
        device: `auto`, `cpu`, `cuda` or `mps`.
        trained_on: dataset id, if the model was trained here.
        start: model URI that training started from, if the model was trained here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        uri: str,
        revision: str,
        origin: str,
        license: str,
        precision: str | None = None,
        device: str = "auto",
        trained_on: str | None = None,
        start: str | None = None,
    ) -> None:
        from sizewise.lm import hf_format
        from sizewise.lm.device import choose_device, chosen_precision, device_bytes
        from sizewise.lm.execution import execution_of
        from sizewise.lm.template_dates import template_date, template_hash
        from sizewise.lm.tokenizer import end_ids

        device = choose_device(device)
        precision = chosen_precision(precision, device, hf_format.load_config(folder).model_type)
        self._network = _load(folder, precision, device)
        self._tokenizer = hf_format.load_tokenizer(folder)
        hf_format.check_tokenizer(self._network, self._tokenizer, folder)
        self._rows = int(self._network.get_input_embeddings().num_embeddings)
        self._batcher = Batcher(self._network, self._tokenizer)
        self._decider: OptionDecider | None = None
        asked = split_reasoning(uri)[1]
        self._reasoning = ReasoningRoom(asked, known=opens_thought(self._tokenizer, asked), tokenizer=self._tokenizer)
        self._ends = end_ids(self._network, self._tokenizer)
        execution, config = execution_of(self._network), self._network.config
        width = self._network.dtype.itemsize
        settings = hf_format.settings_of(config)
        self._window = _window_of(execution, width, device_bytes(device))
        self._device = device
        self._description = ModelDescription(
            uri=uri,
            revision=revision,
            origin=origin,
            license=license,
            engine=ENGINE,
            precision=precision,
            attention=hf_format.attention_words(config),
            context=execution.context,
            parameters=hf_format.parameters_of(self._network),
            memory_bytes=hf_format.held_bytes(self._network) + cache_bytes(settings, CACHE_TOKENS, width),
            disk_bytes=weight_bytes(folder),
            can_score=True,
            can_chat=bool(self._tokenizer.chat_template),
            template=template_hash(self._tokenizer),
            template_date=template_date(self._tokenizer),
            offers=("ids", "sampling", "logprobs", "echo", "embeddings", "tools"),
            cache_tokens=MAX_BATCH * CACHE_TOKENS,
            trained_on=trained_on,
            start=start,
            reasoning_effort="none" if asked.off else asked.effort,
            reasoning_tokens=asked.tokens,
            notes=execution.notes(),
        )

    def describe(self) -> ModelDescription:
        """Describe the model."""
        return self._description

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        from sizewise.lm.tokenizer import prefix_ids

        prefix = "".join(self._tokenizer.convert_ids_to_tokens(prefix_ids(self._tokenizer)))
        return (
            f"window:{self._window}|stride:{self._window // 2}|prefix:{prefix}"
            f"|precision:{self._description.precision}|engine:{ENGINE}"
            + (f"|device:{self._device}" if self._device != "cpu" else "")
        )

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers in batches; greedy ones in large batches, sampled ones in those of `start`."""
        yield from self._reasoning.complete(requests, self._answers)

    def _answers(self, requests: Sequence[Request]) -> Iterator[Completion]:
        yield from self._greedy_answers([request for request in requests if request.temperature == 0])
        last = time.perf_counter()
        for answer in complete_all(self, [request for request in requests if request.temperature > 0]):
            now = time.perf_counter()
            yield answer.model_copy(update={"seconds": now - last})
            last = now

    def _greedy_answers(self, requests: Sequence[Request]) -> Iterator[Completion]:
        from sizewise.lm.generate import generate

        prompts = self._prompts(requests)
        groups: dict[tuple[int, tuple[str, ...], bool], list[int]] = {}
        context = self._description.context
        for i, request in enumerate(requests):
            refusal = refuse_too_long(fitted(request, len(prompts[i]), context), len(prompts[i]), context)
            if refusal:
                yield refusal
                continue
            limit = fitted(request, len(prompts[i]), context, step=SAME_LENGTH).max_tokens
            groups.setdefault((limit, request.stop, bool(request.messages)), []).append(i)
        for (max_tokens, stop, chat), members in groups.items():
            answers = generate(
                self._network,
                self._tokenizer,
                [prompts[i] for i in members],
                max_tokens=max_tokens,
                stop=stop,
                thoughts=[opened_by(self._tokenizer, prompts[i]) for i in members] if chat else None,
                logprobs=any(requests[i].logprobs for i in members),
            )
            for answer in answers:
                i = members[answer.prompt]
                yield Completion(
                    id=requests[i].id,
                    text=opened_by(self._tokenizer, prompts[i]) + answer.text,
                    prompt_tokens=len(prompts[i]),
                    completion_tokens=answer.tokens,
                    seconds=answer.seconds,
                    finish="stop" if answer.finish == "stop" else "length",
                    confidence=None if answer.mean_logprob is None else math.exp(min(0.0, answer.mean_logprob)),
                )

    def _prompts(self, requests: Sequence[Request]) -> list[list[int]]:
        return [prompt_ids(self._tokenizer, self._description, request, self._rows) for request in requests]

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering. Waiting requests form a batch; later requests wait until it is done."""
        begun = begin_answer(self._tokenizer, self._description, request, deliver, self._rows)
        if begun is None:
            return lambda: None
        ids, answer = begun
        self._batcher.put(ids, answer, self._ends)
        return answer.cancelled.set

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text."""
        return tokens_in(self._tokenizer, texts)

    def score_prompts(self, requests: Sequence[Request]) -> list[ScoredPrompt]:
        """Compute log-likelihoods of the tokens of prompts."""
        from sizewise.lm.score import likeliest_ids

        prompts = self._prompts(requests)
        found = []
        likeliest = likeliest_ids(self._network, prompts, self._window)
        for request, ids, scores in zip(requests, prompts, likeliest, strict=True):
            tokens = token_texts(self._tokenizer, ids, of_text=request.text is not None)
            better = [
                None if best == token else (str(self._tokenizer.decode([best])), -float(nat))
                for token, best, nat in zip(ids[1:], scores.best.tolist(), scores.best_nats, strict=True)
            ]
            found.append(ScoredPrompt(tokens, [-float(nat) for nat in scores.nats], better))
        return found

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Compute an embedding of each prompt; return the vectors and the number of tokens.

        Raises:
            SizewiseError: a prompt is longer than the context.
        """
        from sizewise.lm.embed import embed_ids

        prompts = self._prompts(requests)
        longest, context = max(map(len, prompts)), self._description.context
        if context is not None and longest > context:
            raise SizewiseError(f"A text has {longest} tokens, more than the context of {context}.", "a shorter text")
        return embed_ids(self._network, prompts).tolist(), sum(map(len, prompts))

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute token log-likelihoods over a rolling window."""
        from sizewise.lm.score import score_texts

        for scores in score_texts(self._network, self._tokenizer, texts, self._window, prefix):
            yield ScoredText(scores.nats, scores.starts)

    def score_after(self, texts: Sequence[str], after: Sequence[int], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Score the tokens that begin at or after a character; common beginnings of texts are computed once."""
        from sizewise.lm.score import score_texts_after

        for scores in score_texts_after(self._network, self._tokenizer, texts, after, self._window, prefix):
            yield ScoredText(scores.nats, scores.starts)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, for callers that encode text by their own rules."""
        return self._tokenizer

    @property
    def window(self) -> int:
        """Longest input, in tokens, that is scored in one pass."""
        return self._window

    def score_runs(self, runs: Sequence[TokenRun], *, greedy: bool = True) -> list[ScoredRun]:
        """Compute log-likelihoods of the last tokens of token sequences; common beginnings are computed once.

        Args:
            runs: token ids, longer than a window at most by one.
            greedy: not used; whether the tokens are the most likely ones is always known.
        """
        from sizewise.lm.score import score_ends

        found = score_ends(self._network, [run.ids for run in runs], [run.first for run in runs], self._window)
        return [
            ScoredRun(float(one.nats.sum()), bool((one.best == run.ids[run.first :]).all()))
            for run, one in zip(runs, found, strict=True)
        ]

    def decide(self, question: Question, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Compute the probability of each option from its likelihood, (texts, options).

        The likelihoods are corrected by those after texts without content. What the question's prompts have in common
        is kept between calls.

        Raises:
            SizewiseError: the options are longer than the context.
        """
        if self._decider is None:
            from sizewise.decisions.options import OptionDecider

            self._decider = OptionDecider(self._network, self._tokenizer, self._description.context or DEFAULT_CONTEXT)
        return self._decider.decide(question, texts)

    def close(self) -> None:
        """Free the weights."""
        self._batcher.close()
        self._decider = None
        del self._network, self._batcher
        gc.collect()


def _load(folder: Path, precision: str, device: str) -> Any:
    """Load a network onto a device, with 4-bit linear layers for the precision nf4."""
    from sizewise.lm import hf_format
    from sizewise.lm.device import placed

    if precision != IN_4_BITS:
        return hf_format.load_network(folder, precision, **placed(device))
    from sizewise.lm.adapt import PACKED, load_in_4_bits
    from sizewise.lm.device import inference_precision

    own = inference_precision(device, hf_format.load_config(folder).model_type)
    packed = all(shape[0] % PACKED == 0 for shape in stored_shapes(folder).values() if len(shape) == 2)
    return load_in_4_bits(folder, device, own, packed)


def _window_of(execution: Execution, width: int, memory: int | None) -> int:
    """Return the longest input that a network scores in one pass."""
    from sizewise.lm.hf_format import settings_of

    settings, with_logits = settings_of(execution.text_config), execution.logits == "model"
    return scoring_window(settings, execution.context or DEFAULT_CONTEXT, width, with_logits=with_logits, memory=memory)


def scoring_window(
    config: dict[str, Any], context: int, width: int, with_logits: bool = False, memory: int | None = None
) -> int:
    """Return the longest input to score in one pass: the model's context, if the machine's memory permits it.

    One pass holds, for each token, keys and values of one block, a few hidden states and the inner states of a
    feed-forward block.

    Args:
        config: settings of the network.
        context: the model's context.
        width: bytes per number.
        with_logits: whether the engine holds the logits of all tokens of a pass.
        memory: memory of the device in bytes; by default the machine's.
    """
    hidden = int(config.get("hidden_size") or 1)
    inner = int(config.get("intermediate_size") or 4 * hidden)
    per_token = width * (3 * inner + 12 * hidden) + (8 * int(config.get("vocab_size") or 0) if with_logits else 0)
    fitting = max(MIN_WINDOW, int((memory or machine_bytes()) * WINDOW_SHARE / per_token))
    if fitting >= context:
        return context
    return int(2 ** math.floor(math.log2(fitting)))


def prompt_ids(tokenizer: Any, description: ModelDescription, request: Request, rows: int | None = None) -> list[int]:
    """Encode a request.

    Args:
        tokenizer: the model's tokenizer.
        description: the model.
        request: the request.
        rows: tokens that have an embedding; by default all of the tokenizer's.

    Raises:
        SizewiseError: the request is a conversation and the model has no chat template, or its token ids are invalid.
    """
    from sizewise.lm.tokenizer import text_ids

    if request.ids is not None:
        known = min(len(tokenizer), rows or len(tokenizer))
        unknown = next((token for token in request.ids if not 0 <= token < known), None)
        if unknown is not None or not request.ids:
            found = "no tokens" if unknown is None else f"the unknown token {unknown}"
            raise SizewiseError(f"The prompt contains {found}.", f"token ids from 0 to {known - 1}")
        return list(request.ids)
    if request.text is not None:
        ids = text_ids(tokenizer, request.text, begin=True) or [tokenizer.bos_token_id]
        if ids == [None]:
            raise SizewiseError(
                "The prompt is empty, and this model has no beginning-of-text token.", "a prompt with text"
            )
        return ids
    if not description.can_chat:
        raise SizewiseError(
            f"{description.uri} has no chat template.",
            "a plain prompt, or a model with a chat template",
            "sizewise models",
        )
    return text_ids(tokenizer, _rendered(tokenizer, description.reasoning_effort, request))


def _rendered(tokenizer: Any, effort: str, request: Request) -> Rendered:
    """Render a conversation. Where a schema constrains the answer from its first token, it leaves no reasoning open."""
    from sizewise.lm.tokenizer import render_chat

    def render(effort: str) -> Rendered:
        return render_chat(tokenizer, request.messages, tools=request.tools, effort=effort, date=request.date)

    rendered = render(effort)
    if request.json_schema is None or not opened_thought(rendered):
        return rendered
    without = render("none")
    return type(without)(without + closing_thought(without))


def begin_answer(
    tokenizer: Any, description: ModelDescription, request: Request, deliver: Deliver, rows: int | None = None
) -> tuple[list[int], Answer] | None:
    """Encode a request and create its answer; deliver a failure and return None if the request is too long.

    Args:
        tokenizer: the model's tokenizer.
        description: the model.
        request: the request.
        deliver: receives the pieces of the answer.
        rows: tokens that have an embedding; by default all of the tokenizer's.

    Raises:
        SizewiseError: the request can't be encoded.
    """
    ids = prompt_ids(tokenizer, description, request, rows)
    request = fitted(request, len(ids), description.context)
    refusal = refuse_too_long(request, len(ids), description.context)
    if refusal:
        deliver(Piece(end=refusal))
        return None
    return ids, Answer(tokenizer, request, len(ids), deliver, opened_by(tokenizer, ids))


def tokens_in(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Count the tokens of each text, without special tokens."""
    if not texts:
        return []
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids]


def opens_thought(tokenizer: Any, reasoning: Reasoning) -> bool:
    """Check whether the chat template leaves a reasoning block open at the end of every prompt."""
    from sizewise.lm.tokenizer import render_chat

    if not tokenizer.chat_template:
        return False
    try:
        effort = "none" if reasoning.off else reasoning.effort
        return bool(opened_thought(str(render_chat(tokenizer, (Message(role="user", content="a"),), effort=effort))))
    except SizewiseError:
        return False


def opened_by(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the reasoning tag that a prompt leaves open; the answer continues after it."""
    return opened_thought(str(tokenizer.decode(list(ids[-OPENING:]))))


def fitted(request: Request, prompt_tokens: int, context: int | None, step: int = 1) -> Request:
    """Lower `max_tokens` to the space left in the context, if the request allows it.

    Args:
        request: the request.
        prompt_tokens: tokens of its prompt.
        context: context length of the model.
        step: round the lowered limit down to a multiple of this, so that more requests share a limit.
    """
    if not request.fit or context is None or prompt_tokens >= context:
        return request
    left = context - prompt_tokens
    if left >= request.max_tokens:
        return request
    return request.model_copy(update={"max_tokens": left - left % step if left > step else left})


def refuse_too_long(request: Request, prompt_tokens: int, context: int | None) -> Completion | None:
    """Return a failed completion if a request exceeds the context, else None. Prompts are never truncated."""
    need = prompt_tokens + request.max_tokens
    if context is None or need <= context:
        return None
    if request.fit:
        reason = f"the prompt has {prompt_tokens} tokens; with the answer, it needs more than the context of {context}"
        return failed(request, reason, prompt_tokens)
    reason = f"prompt and answer need {need} tokens, {need - context} more than the context of {context}"
    return failed(request, reason, prompt_tokens)
