"""Models in a Hugging Face folder, run by transformers on this machine."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sizewise.errors import SizewiseError
from sizewise.models.answering import Answer, token_texts
from sizewise.models.base import Cancel, Deliver, Model, Piece, ScoredPrompt, ScoredText, failed
from sizewise.models.batching import TOGETHER, Batcher
from sizewise.models.size import cache_bytes, weight_bytes
from sizewise.models.thinking import RoomToThink
from sizewise.records import Completion, ModelDescription, Request, opened_thought

ENGINE = "transformers"
# A longer window would cost more time than it gains on documents of a few pages.
LONGEST_WINDOW = 2048
CACHE_TOKENS = 1024
SAME_LENGTH = 32  # answers that the context shortens are written together where they differ by less
OPENING = 16  # last tokens of a prompt, of which some may be the mark of a thought


class LocalModel(Model):
    """A causal language model in a folder.

    Args:
        folder: a Hugging Face folder with safetensors.
        uri: how it was asked for.
        revision: tells two states of the same URI apart.
        origin: where its weights come from.
        licence: licence of the weights.
        precision: `bf16` or `fp32`; by default what the processor computes in.
        trained_on: dataset id, if it was trained here.
        start: model URI that training started from, if it was trained here.
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
        trained_on: str | None = None,
        start: str | None = None,
    ) -> None:
        from sizewise.lm import hf_format as folders
        from sizewise.lm.device import machine_precision
        from sizewise.lm.tokenizer import end_ids

        precision = precision or machine_precision()
        self._network = folders.load_network(folder, precision)
        self._tokenizer = folders.load_tokenizer(folder)
        folders.check_tokenizer(self._network, self._tokenizer, folder)
        self._batcher = Batcher(self._network, self._tokenizer)
        self._thinking = RoomToThink()
        self._ends = end_ids(self._network, self._tokenizer)
        config = self._network.config
        width = 2 if precision == "bf16" else 4
        parameters = folders.parameters_of(self._network)
        self._window = min(int(getattr(config, "max_position_embeddings", LONGEST_WINDOW)), LONGEST_WINDOW)
        self._description = ModelDescription(
            uri=uri,
            revision=revision,
            origin=origin,
            license=license,
            engine=ENGINE,
            precision=precision,
            attention=folders.attention_words(config),
            context=getattr(config, "max_position_embeddings", None),
            parameters=parameters,
            memory_bytes=parameters * width + cache_bytes(folders.settings_of(config), CACHE_TOKENS, width),
            disk_bytes=weight_bytes(folder),
            can_score=True,
            can_chat=bool(self._tokenizer.chat_template),
            offers=("ids", "sampling", "logprobs", "echo", "embeddings"),
            cache_tokens=TOGETHER * CACHE_TOKENS,
            trained_on=trained_on,
            start=start,
        )

    def describe(self) -> ModelDescription:
        """Describe the model."""
        return self._description

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        from sizewise.lm.tokenizer import prefix_id

        prefix = self._tokenizer.convert_ids_to_tokens(prefix_id(self._tokenizer))
        return (
            f"window:{self._window}|stride:{self._window // 2}|prefix:{prefix}"
            f"|precision:{self._description.precision}|engine:{ENGINE}"
        )

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer greedily, in batches."""
        yield from self._thinking.complete(requests, self._answers)

    def _answers(self, requests: Sequence[Request]) -> Iterator[Completion]:
        from sizewise.lm.generate import generate

        prompts = [prompt_ids(self._tokenizer, self._description, request) for request in requests]
        groups: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        context = self._description.context
        for i, request in enumerate(requests):
            refusal = refuse_too_long(fitted(request, len(prompts[i]), context), len(prompts[i]), context)
            if refusal:
                yield refusal
                continue
            most = fitted(request, len(prompts[i]), context, step=SAME_LENGTH).max_tokens
            groups.setdefault((most, request.stop), []).append(i)
        for (max_tokens, stop), members in groups.items():
            answers = generate(
                self._network,
                self._tokenizer,
                [prompts[i] for i in members],
                max_tokens=max_tokens,
                stop=stop,
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
                )

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer; requests that wait are answered together, the next ones when all of these are done."""
        begun = begin_answer(self._tokenizer, self._description, request, deliver)
        if begun is None:
            return lambda: None
        ids, answer = begun
        self._batcher.put(ids, answer, self._ends)
        return answer.cancelled.set

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts."""
        return tokens_in(self._tokenizer, texts)

    def score_prompts(self, requests: Sequence[Request]) -> list[ScoredPrompt]:
        """Give the log-likelihoods of prompts' tokens."""
        from sizewise.lm.score import likeliest_ids

        prompts = [prompt_ids(self._tokenizer, self._description, request) for request in requests]
        found = []
        likeliest = likeliest_ids(self._network, prompts, self._window)
        for request, ids, likely in zip(requests, prompts, likeliest, strict=True):
            tokens = token_texts(self._tokenizer, ids, of_text=request.text is not None)
            better = [
                None if best == one else (str(self._tokenizer.decode([best])), -float(nat))
                for one, best, nat in zip(ids[1:], likely.best.tolist(), likely.best_nats, strict=True)
            ]
            found.append(ScoredPrompt(tokens, [-float(nat) for nat in likely.nats], better))
        return found

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Give a vector for each prompt, and how many tokens were read.

        Raises:
            SizewiseError: a prompt is longer than the context.
        """
        from sizewise.lm.embed import embed_ids

        prompts = [prompt_ids(self._tokenizer, self._description, request) for request in requests]
        longest, context = max(map(len, prompts)), self._description.context
        if context is not None and longest > context:
            raise SizewiseError(f"A text has {longest} tokens, more than the context of {context}.", "a shorter text")
        return embed_ids(self._network, prompts).tolist(), sum(map(len, prompts))

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Give token log-likelihoods over a rolling window."""
        from sizewise.lm.score import score_texts

        for scores in score_texts(self._network, self._tokenizer, texts, self._window, prefix):
            yield ScoredText(scores.nats, scores.starts)

    def close(self) -> None:
        """Free the weights."""
        self._batcher.close()
        del self._network, self._batcher
        gc.collect()


def prompt_ids(tokenizer: Any, description: ModelDescription, request: Request) -> list[int]:
    """Turn a request into tokens.

    Raises:
        SizewiseError: it is a conversation, and the model has no chat template; or its tokens are none, or unknown.
    """
    from sizewise.lm.tokenizer import render_chat, text_ids

    if request.ids is not None:
        wrong = next((one for one in request.ids if not 0 <= one < len(tokenizer)), None)
        if wrong is not None or not request.ids:
            told = "no tokens" if wrong is None else f"the token {wrong}"
            raise SizewiseError(f"The prompt has {told}.", f"tokens from 0 to {len(tokenizer) - 1}")
        return list(request.ids)
    if request.text is not None:
        ids = text_ids(tokenizer, request.text, begin=True) or [tokenizer.bos_token_id]
        if ids == [None]:
            raise SizewiseError("The prompt is empty, and this model has no token that begins a text.", "some text")
        return ids
    if not description.can_chat:
        raise SizewiseError(
            f"{description.uri} has no chat template.",
            "a plain prompt, or a model with a chat template",
            "sizewise models",
        )
    return text_ids(tokenizer, render_chat(tokenizer, request.messages))


def begin_answer(
    tokenizer: Any, description: ModelDescription, request: Request, deliver: Deliver
) -> tuple[list[int], Answer] | None:
    """Give a request's tokens and the answer that is to be written to it; None where it was refused for its length.

    Raises:
        SizewiseError: it cannot be turned into tokens.
    """
    ids = prompt_ids(tokenizer, description, request)
    request = fitted(request, len(ids), description.context)
    refusal = refuse_too_long(request, len(ids), description.context)
    if refusal:
        deliver(Piece(end=refusal))
        return None
    return ids, Answer(tokenizer, request, len(ids), deliver, opened_by(tokenizer, ids))


def tokens_in(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Count the tokens of texts, without those that begin or end one."""
    if not texts:
        return []
    return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids]


def opened_by(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the mark of a thought that a prompt has begun, which what is written after it goes on with."""
    return opened_thought(str(tokenizer.decode(list(ids[-OPENING:]))))


def fitted(request: Request, prompt_tokens: int, context: int | None, step: int = 1) -> Request:
    """Shorten the answer to what the context leaves, where the request allows it.

    Args:
        request: what is asked.
        prompt_tokens: tokens of its prompt.
        context: longest input of the model.
        step: a shortened answer of more tokens than this is one of its multiples, so that several are of one length.
    """
    if not request.fit or context is None or prompt_tokens >= context:
        return request
    left = context - prompt_tokens
    if left >= request.max_tokens:
        return request
    return request.model_copy(update={"max_tokens": left - left % step if left > step else left})


def refuse_too_long(request: Request, prompt_tokens: int, context: int | None) -> Completion | None:
    """Say by how much a request is too long for a context; nothing is ever cut."""
    need = prompt_tokens + request.max_tokens
    if context is None or need <= context:
        return None
    if request.fit:
        reason = f"the prompt has {prompt_tokens} tokens: with an answer, more than the context of {context}"
        return failed(request, reason, prompt_tokens)
    reason = f"prompt and answer need {need} tokens, {need - context} more than the context of {context}"
    return failed(request, reason, prompt_tokens)
