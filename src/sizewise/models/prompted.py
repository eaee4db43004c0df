"""Serve a model with the prompt format of its evaluation, so that the deployed model is the measured one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizewise import datasets
from sizewise.models.base import Deliver, Model, Piece
from sizewise.models.opening import LLAMACPP_SUFFIX, OPENVINO_SUFFIX
from sizewise.models.prompts import choose_shots, make_request, stop_texts
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, Evaluation, Example, ModelDescription, Request
from sizewise.store import Saved, Store


def as_evaluated(model: Model, evaluation: str, store: Store) -> Model:
    """Wrap a model so that conversations get the prompt format of an evaluation. The chat format needs no wrapper.

    Args:
        model: the evaluated model.
        evaluation: id of the evaluation.
        store: store that holds the records.
    """
    measured = store.read(Evaluation, evaluation)
    if measured.prompting is None or measured.prompting.form == "chat":
        return model
    contents = datasets.load(store, measured.data)
    known = contents.examples["train"] or contents.examples["test"]
    shots, limit = choose_shots(contents, measured.seed), measured.prompting.max_tokens
    return FewShotModel(model, shots, stop_texts(known), evaluation, limit)


def latest_evaluation(description: ModelDescription, store: Store) -> Saved[Evaluation] | None:
    """Return the newest evaluation of a model's answers in its present state; None if there is none.

    Of an adapted model, evaluations on its own dataset come first.
    """
    found = [
        saved
        for saved in store.saved(Evaluation)
        if saved.record.prompting is not None
        and saved.record.model.uri == description.uri
        and _state(saved.record.model) == _state(description)
    ]

    def order(saved: Saved[Evaluation]) -> tuple[bool, str]:
        record = saved.record
        return record.data == description.trained_on, record.conditions.started if record.conditions else ""

    return max(found, key=order, default=None)


def _state(description: ModelDescription) -> str:
    return description.revision.removesuffix(OPENVINO_SUFFIX).removesuffix(LLAMACPP_SUFFIX)


class FewShotModel(PromptWrapper):
    """Prompts a model with few-shot examples in plain text.

    Args:
        model: model that answers.
        shots: the few-shot examples.
        stop: stop texts of plain-text answers.
        evaluation: id of the evaluation that used this format.
        max_tokens: its maximum length of an answer, for requests that state none; None if it has none.
    """

    def __init__(
        self,
        model: Model,
        shots: Sequence[Example],
        stop: tuple[str, ...],
        evaluation: str,
        max_tokens: int | None = None,
    ) -> None:
        super().__init__(model)
        self._shots, self._stop, self._evaluation, self._max_tokens = tuple(shots), stop, evaluation, max_tokens

    @property
    def wrapped(self) -> Model:
        """The model behind the prompt format."""
        return self._model

    def describe(self) -> ModelDescription:
        """Describe the model and its prompt format."""
        description = self._model.describe()
        count = len(self._shots)
        form = f"prompted with {count} few-shot example{'s' if count != 1 else ''}, as in {self._evaluation}"
        return description.model_copy(update={"can_chat": True, "origin": f"{description.origin}; {form}"})

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers and strip the leading space of plain-text answers."""
        for answer in super().complete(requests):
            yield answer.model_copy(update={"text": answer.text.strip()})

    def wrap_deliver(self, request: Request, deliver: Deliver) -> Deliver:
        """Strip the leading space of a plain-text answer."""
        if not request.messages:
            return deliver
        begun = False

        def deliver_stripped(piece: Piece) -> None:
            nonlocal begun
            text = piece.text if begun else piece.text.lstrip()
            begun = begun or bool(text)
            end = piece.end.model_copy(update={"text": piece.end.text.lstrip()}) if piece.end else None
            if text or piece.tokens or end:
                deliver(piece._replace(text=text, end=end))

        return deliver_stripped

    def rewrite(self, request: Request) -> Request:
        """Append a conversation to the few-shot examples; plain texts pass unchanged."""
        if not request.messages:
            return request
        turns = tuple(message for message in request.messages if message.content or message.tool_calls)
        example = Example(id=request.id, messages=turns, tools=request.tools, source=request.id)
        limit = min(request.max_tokens, self._max_tokens or request.max_tokens) if request.fit else request.max_tokens
        prompt = make_request(example, "few_shot", self._shots, limit, self._stop)
        stop = tuple(dict.fromkeys((*request.stop, *self._stop)))
        return request.model_copy(update={"text": prompt.text, "stop": stop, "max_tokens": limit})
