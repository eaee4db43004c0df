"""Reasoning apart from answers: how much a model may reason, and a token limit of its own for the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sizewise.errors import UsageError
from sizewise.models.token_counts import estimate_tokens
from sizewise.records import Completion, Request

THINKING_TOKENS = 16_384
"""Tokens for reasoning where no other number is given."""
MIN_ANTHROPIC_TOKENS = 1_024
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SUFFIX = re.compile(
    r"\?((?:reasoning_effort|reasoning_tokens)=[^?&#]*(?:&(?:reasoning_effort|reasoning_tokens)=[^?&#]*)*)$"
)
_EXPECTED = f"reasoning_effort={'|'.join(EFFORTS)} or reasoning_tokens=NUMBER"


class Reasoning(NamedTuple):
    """How much a model is asked to reason, as its URI says: `openai:o3?reasoning_effort=low`."""

    effort: str = ""
    """One of `EFFORTS`; `none` turns reasoning off, and empty leaves it to the model."""
    tokens: int | None = None
    """Most tokens of reasoning before an answer; None leaves it to the model, up to `THINKING_TOKENS`."""

    @property
    def off(self) -> bool:
        """Whether the model is asked not to reason."""
        return self.effort == "none" or self.tokens == 0

    @property
    def asked(self) -> bool:
        """Whether the model is asked to reason."""
        return not self.off and bool(self.effort or self.tokens)

    @property
    def room(self) -> int:
        """Tokens that a request gets for reasoning, beside those of the answer."""
        return THINKING_TOKENS if self.tokens is None else self.tokens


def split_reasoning(uri: str) -> tuple[str, Reasoning]:
    """Split a model's URI into the model and how much it reasons: `...?reasoning_effort=low&reasoning_tokens=4096`.

    Raises:
        UsageError: an effort is unknown, or the tokens aren't a number.
    """
    found = _SUFFIX.search(uri)
    if not found:
        return uri, Reasoning()
    stated = dict(part.split("=", 1) for part in found[1].split("&"))
    effort, tokens = stated.get("reasoning_effort", ""), stated.get("reasoning_tokens", "")
    if (effort and effort not in EFFORTS) or not re.fullmatch(r"\d{0,7}", tokens) or not (effort or tokens):
        raise UsageError(f"'{found[1]}' doesn't say how much a model reasons.", _EXPECTED, uri[: found.start()])
    return uri[: found.start()], Reasoning(effort, int(tokens) if tokens else None)


def reasoning_settings(kind: str, reasoning: Reasoning, max_tokens: int, takes_budget: bool) -> dict[str, Any]:
    """Return the parameters by which a provider is told how much to reason; empty if that is left to the model.

    Args:
        kind: URI scheme; `http` and `https` are servers such as vLLM and SGLang.
        reasoning: how much the model is asked to reason.
        max_tokens: limit of reasoning and answer together.
        takes_budget: whether the model takes a number of tokens; newer ones of Anthropic only take an effort.

    Raises:
        UsageError: the provider takes no such number of tokens.
    """
    if not reasoning.off and not reasoning.asked:
        return {}
    if kind in ("http", "https"):
        more: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": not reasoning.off}}
        if reasoning.effort:
            more["reasoning_effort"] = reasoning.effort
        return {"extra_body": more}
    if reasoning.tokens and takes_budget and kind == "anthropic":
        if reasoning.tokens < MIN_ANTHROPIC_TOKENS:
            raise UsageError(
                f"Anthropic takes no reasoning_tokens={reasoning.tokens}.",
                f"at least {MIN_ANTHROPIC_TOKENS}, or 0 for no reasoning",
                f"reasoning_tokens={MIN_ANTHROPIC_TOKENS}",
            )
        budget = min(reasoning.tokens, max_tokens - 1)
        return {"anthropic_thinking": {"type": "enabled", "budget_tokens": budget}}
    if reasoning.tokens and kind == "google":
        return {"google_thinking_config": {"include_thoughts": True, "thinking_budget": reasoning.tokens}}
    return {"thinking": False if reasoning.off else reasoning.effort or True}


def cut_by_reasoning(answer: Completion) -> bool:
    """Check whether an answer with reasoning hit its limit, so that the reasoning may have used it up."""
    return answer.finish == "length" and bool(answer.reasoning or answer.reasoning_tokens)


def with_counted_reasoning(answer: Completion) -> Completion:
    """Estimate the reasoning tokens of a provider that shows reasoning but doesn't count it, such as Anthropic."""
    if not answer.reasoning or answer.reasoning_tokens:
        return answer
    visible = estimate_tokens([answer.text])[0] if answer.text else 0
    return answer.model_copy(update={"reasoning_tokens": max(0, answer.completion_tokens - visible)})


def within_limit(answer: Completion, max_tokens: int, tokenizer: Any) -> Completion:
    """Count the reasoning of a local model, and cut the answer after it at the answer's own limit.

    Args:
        answer: answer of a request with additional tokens for reasoning.
        max_tokens: limit of the answer alone.
        tokenizer: the model's tokenizer.
    """
    if not answer.reasoning:
        return answer
    ids = _answer_ids(answer, tokenizer)
    counted = {"reasoning_tokens": max(0, answer.completion_tokens - len(ids))}
    if len(ids) <= max_tokens:
        return answer.model_copy(update=counted)
    text = str(tokenizer.decode(ids[:max_tokens], clean_up_tokenization_spaces=False)).strip()
    return answer.model_copy(update={**counted, "text": text, "finish": "length"})


def with_reasoning_tokens(answer: Completion, tokenizer: Any) -> Completion:
    """Count the reasoning of a local model: all tokens but those of the answer."""
    if not answer.reasoning:
        return answer
    tokens = answer.completion_tokens - len(_answer_ids(answer, tokenizer))
    return answer.model_copy(update={"reasoning_tokens": max(0, tokens)})


def _answer_ids(answer: Completion, tokenizer: Any) -> list[int]:
    return list(tokenizer(answer.text, add_special_tokens=False).input_ids) if answer.text else []


class ReasoningRoom:
    """Raises the token limit of requests once a model is known to reason.

    A model's name doesn't reliably show whether it reasons, and without reasoning a higher limit only invites rambling.
    The limit is therefore raised after the first answer that contains reasoning; at once, if the model was asked to
    reason or its chat template begins with reasoning.

    Args:
        reasoning: how much the model is asked to reason.
        known: whether its chat template begins with reasoning.
        tokenizer: counts the tokens of answers, which end at their own limit; None leaves them as they are.
    """

    def __init__(self, reasoning: Reasoning = Reasoning(), *, known: bool = False, tokenizer: Any = None) -> None:  # noqa: B008 - immutable
        self._seen = known or reasoning.asked
        self._room = reasoning.room or THINKING_TOKENS
        self._tokenizer = tokenizer

    def complete(
        self, requests: Sequence[Request], complete: Callable[[Sequence[Request]], Iterator[Completion]]
    ) -> Iterator[Completion]:
        """Generate answers. Requests whose answer was cut off by reasoning are repeated with a higher limit."""
        by_id = {request.id: request for request in requests}
        repeated: list[Request] = []
        known = self._seen
        for answer in complete([self._widened(request) for request in requests] if known else requests):
            if not known and cut_by_reasoning(answer):
                self._seen = True
                repeated.append(self._widened(by_id[answer.id]))
            else:
                yield self._within_limit(answer, by_id[answer.id])
        for answer in complete(repeated) if repeated else ():
            yield self._within_limit(answer, by_id[answer.id])

    def _widened(self, request: Request) -> Request:
        if request.json_schema is not None and self._tokenizer is not None:
            return request  # a local model's grammar leaves it no room to reason
        return request.model_copy(update={"max_tokens": request.max_tokens + self._room, "fit": True})

    def _within_limit(self, answer: Completion, request: Request) -> Completion:
        return answer if self._tokenizer is None else within_limit(answer, request.max_tokens, self._tokenizer)
