"""The Model protocol: the interface of every model, regardless of its engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol, Self, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from sizewise.errors import EngineError, UsageError
from sizewise.lm.template_dates import today
from sizewise.models.prompts import question_prompt
from sizewise.models.token_counts import estimate_tokens
from sizewise.progress import pulse
from sizewise.records import Completion, Message, ModelDescription, Request

T = TypeVar("T")
_END_OF_ANSWER = "\nQuestion:"  # from here, a model without a chat template goes on to write another question


PULSE_S = 0.5
"""Longest wait between two looks at whether the work should end."""


class ScoredText(NamedTuple):
    """Log-likelihoods of one text."""

    nats: npt.NDArray[np.float64]
    """(tokens,) negative log-likelihood of each token."""
    starts: npt.NDArray[np.int64]
    """(tokens,) index of each token's first character."""


class TokenRun(NamedTuple):
    """Token ids, of which the last ones are scored."""

    ids: list[int]
    first: int
    """Index of the first token to score, at least 1."""


class ScoredRun(NamedTuple):
    """Log-likelihood of the scored tokens of a `TokenRun`."""

    nats: float
    """Negative log-likelihood of these tokens together."""
    greedy: bool | None
    """Whether each of them is the most likely one at its place; None if the engine wasn't asked to tell."""


class Token(str):
    """Text of a token, with the bytes that it adds to the answer.

    They differ from those of the text if the token is a part of a character, or isn't part of the answer.

    Args:
        text: text of the token alone.
        data: its bytes; by default those of the text.
    """

    data: bytes

    def __new__(cls, text: str, data: bytes | None = None) -> Self:
        """Create a token."""
        token = super().__new__(cls, text)
        token.data = text.encode("utf-8", "replace") if data is None else data
        return token


def bytes_of(token: str) -> bytes:
    """Return the bytes that a token adds to the answer."""
    return token.data if isinstance(token, Token) else token.encode("utf-8", "replace")


class Piece(NamedTuple):
    """Part of a streamed answer. The last piece has no text and carries the complete answer."""

    text: str = ""
    tokens: tuple[str, ...] = ()
    """Text of each token, if the request asks for log-likelihoods; a `Token` where its bytes are others."""
    logprobs: tuple[float, ...] = ()
    """Log-likelihood of each of these tokens; NaN where the engine states none."""
    end: Completion | None = None
    """The complete answer, in the last piece only."""


class ScoredPrompt(NamedTuple):
    """Tokens of a prompt with their log-likelihoods."""

    tokens: list[str]
    logprobs: list[float]
    """Log-likelihood of every token but the first."""
    likeliest: list[tuple[str, float] | None] | None
    """For every token but the first: the most likely token with its log-likelihood, or None if that is the prompt's own
    token. The whole field is None if the engine doesn't report alternatives."""


class AskOptions(TypedDict, total=False):
    """Options of `Model.ask`. They mean the same as the fields of `Request` and have the same defaults."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    json_schema: str | None


Deliver = Callable[[Piece], None]
"""Receives the pieces of an answer; may be called from any thread."""
Cancel = Callable[[], None]
"""Stops an answer early; has no effect once the answer has ended."""


class Model(Protocol):
    """A model that answers requests, and scores text if `describe().can_score`.

    Plug-ins may implement the protocol without deriving from this class; deriving adds `ask` and `repr`.
    """

    def describe(self) -> ModelDescription:
        """Describe the model: origin, license, size, engine and capabilities."""
        ...

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers, yielded in the order in which they finish."""
        ...

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering a request and return immediately. Pieces are delivered as they are generated."""
        ...

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute token log-likelihoods of texts, in order.

        Args:
            texts: texts to score, each independent of the others.
            prefix: put a token in front of each text, so that its first token is predicted too. If False, a token is
                added only if the tokenizer adds one itself. Servers follow their own rules; see `signature`.

        Raises:
            SizewiseError: the model doesn't provide log-likelihoods.
        """
        ...

    def signature(self) -> str:
        """Return how log-likelihoods are computed: window, prefix and precision."""
        ...

    def close(self) -> None:
        """Free memory, connections and files."""
        ...

    def ask(self, prompt: str, **options: Unpack[AskOptions]) -> str:
        """Generate the answer to one prompt and return its text.

        The prompt is sent as a user message in the model's chat template. A model without a template gets
        "Question: ... Answer:". Decoding is greedy unless `temperature` is set, and stops after `max_tokens`.

        Raises:
            UsageError: an option is unknown or has an invalid value.
            EngineError: the model failed to answer.
        """
        return ask(self, prompt, **options)

    def __repr__(self) -> str:
        description = self.describe()
        return f"<{type(self).__name__} {description.uri} ({description.engine}, {description.precision})>"


def ask(model: Model, prompt: str, **options: Unpack[AskOptions]) -> str:
    """Generate a model's answer to one prompt; see `Model.ask`."""
    if not isinstance(prompt, str):
        raise UsageError(f"The prompt is {prompt!r:.60}.", "a text", 'model.ask("...")')
    description = model.describe()
    request = _ask_request(description, prompt, options)
    if request.json_schema is not None and "json_schema" not in description.offers:
        raise UsageError(
            f"{description.uri} can't follow a JSON schema: its engine is {description.engine}.",
            "a model that supports json_schema, or a request without a schema",
            'open_model(uri, engine="openvino")',
        )
    if request.temperature > 0 or request.json_schema is not None:  # `complete` is greedy and may reuse answers
        queue: SimpleQueue[Completion] = SimpleQueue()
        cancel = model.start(request, lambda piece: queue.put(piece.end) if piece.end is not None else None)
        try:
            answer = next_of(queue)
        finally:
            cancel()
    else:
        (answer,) = model.complete([request])
    if answer.error is not None:
        raise EngineError(f"{description.uri} returned no answer: {answer.error}.", "an answer")
    return answer.text


def _ask_request(description: ModelDescription, prompt: str, options: AskOptions) -> Request:
    try:
        if description.can_chat:
            messages = (Message(role="user", content=prompt),)
            return Request(id="ask", messages=messages, fit=True, date=today(), **options)
        stop = options.get("stop", (_END_OF_ANSWER,))
        return Request(id="ask", text=question_prompt(prompt), fit=True, **{**options, "stop": stop})
    except (ValidationError, TypeError) as error:
        raise UsageError(
            f"ask() can't use these options: {', '.join(f'{name}={value!r}' for name, value in options.items())}.",
            f"valid values for {', '.join(AskOptions.__annotations__)}",
            "help(sizewise.models.Model.ask)",
        ) from error


def answer_whole(model: Model, request: Request, deliver: Deliver) -> Cancel:
    """Deliver an answer in one piece; implements `start` for models that don't stream."""
    (answer,) = model.complete([request])
    if answer.text:
        deliver(Piece(answer.text))
    deliver(Piece(end=answer))
    return lambda: None


def complete_all(model: Model, requests: Sequence[Request]) -> Iterator[Completion]:
    """Start all requests and yield answers as they finish; implements `complete` for engines that batch."""
    ended: SimpleQueue[Completion] = SimpleQueue()

    def keep(piece: Piece) -> None:
        if piece.end is not None:
            ended.put(piece.end)

    cancels = [model.start(request, keep) for request in requests]
    try:
        for _ in requests:
            yield next_of(ended)
    finally:
        for cancel in cancels:
            cancel()


def next_of(ended: SimpleQueue[T]) -> T:
    """Wait for what a queue receives next; the wait may be ended from outside."""
    while True:
        pulse()
        try:
            return ended.get(timeout=PULSE_S)
        except Empty:
            continue


def bypass_cache(model: Model) -> None:
    """Make a remote model answer again instead of returning cached answers. Local models have no cache."""
    bypass: Callable[[], None] | None = getattr(model, "bypass_cache", None)
    if bypass:
        bypass()


def count_tokens(model: Model, texts: Sequence[str]) -> list[int]:
    """Count tokens with the model's own tokenizer; estimate them from bytes if the tokenizer isn't on this machine."""
    counted: Callable[[Sequence[str]], list[int]] | None = getattr(model, "count_tokens", None)
    return counted(texts) if counted else estimate_tokens(texts)


def score_after(
    model: Model, texts: Sequence[str], after: Sequence[int], *, prefix: bool = True
) -> Iterator[ScoredText]:
    """Score the tokens of each text that begin at or after a character, in order.

    Models on this machine compute what texts begin with in common once, and no logits before that character.

    Args:
        model: model that returns log-likelihoods.
        texts: texts to score.
        after: index of the first character whose tokens count, for each text.
        prefix: see `Model.score`.
    """
    own: Callable[..., Iterator[ScoredText]] | None = getattr(model, "score_after", None)
    if own is not None:
        yield from own(texts, after, prefix=prefix)
        return
    for begin, scored in zip(after, model.score(texts, prefix=prefix), strict=True):
        counted = scored.starts >= begin
        yield ScoredText(scored.nats[counted], scored.starts[counted])


def failed(request: Request, reason: str, prompt_tokens: int = 0, *, transient: bool = False) -> Completion:
    """Build the completion of a request that failed.

    Args:
        request: the request.
        reason: why there is no answer.
        prompt_tokens: tokens of the prompt.
        transient: whether a retry of the same request may succeed.
    """
    return Completion(
        id=request.id,
        text="",
        prompt_tokens=prompt_tokens,
        completion_tokens=0,
        seconds=0.0,
        finish="error",
        error=reason,
        transient=transient,
    )
