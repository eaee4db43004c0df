"""AskedAs: a model that is asked as an evaluation asked it, so that what is served is what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sizewise import datasets
from sizewise.models import Model
from sizewise.models.base import Deliver, Piece
from sizewise.models.prompts import choose_shots, make_request, stop_texts
from sizewise.models.wrapper import Changed
from sizewise.records import Completion, Evaluation, Example, ModelDescription, Request
from sizewise.store import Store


def asked_as(model: Model, evaluation: str, store: Store) -> Model:
    """Give a model that puts conversations into the form it was measured with; in its own chat form it stays as it is.

    Args:
        model: what was measured.
        evaluation: id of the evaluation.
        store: where records live.
    """
    measured = store.read(Evaluation, evaluation)
    if measured.prompting is None or measured.prompting.form == "chat":
        return model
    contents = datasets.load(store, measured.data)
    known = contents.examples["train"] or contents.examples["test"]
    return AskedAs(model, choose_shots(contents, measured.seed), stop_texts(known), evaluation)


class AskedAs(Changed):
    """Asks a model by worked examples.

    Args:
        model: what answers.
        shots: the worked examples.
        stop: where a plain answer ends.
        evaluation: id of the evaluation that did so.
    """

    def __init__(self, model: Model, shots: Sequence[Example], stop: tuple[str, ...], evaluation: str) -> None:
        super().__init__(model)
        self._shots, self._stop, self._evaluation = tuple(shots), stop, evaluation

    @property
    def asked(self) -> Model:
        """The model that is asked."""
        return self._model

    def describe(self) -> ModelDescription:
        """Say what the model is, and how it is asked."""
        told = self._model.describe()
        form = f"asked by {len(self._shots)} worked examples, as {self._evaluation} measured it"
        return told.model_copy(update={"can_chat": True, "origin": f"{told.origin}; {form}"})

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer requests, without the space that a plain answer begins with."""
        for answer in super().complete(requests):
            yield answer.model_copy(update={"text": answer.text.strip()})

    def told(self, request: Request, deliver: Deliver) -> Deliver:
        """Leave out the space that a plain answer begins with."""
        if not request.messages:
            return deliver
        begun = False

        def without_space(piece: Piece) -> None:
            nonlocal begun
            text = piece.text if begun else piece.text.lstrip()
            begun = begun or bool(text)
            end = piece.end.model_copy(update={"text": piece.end.text.lstrip()}) if piece.end else None
            if text or piece.tokens or end:
                deliver(piece._replace(text=text, end=end))

        return without_space

    def change(self, request: Request) -> Request:
        """Put a conversation behind the worked examples; plain texts stay as they are."""
        if not request.messages:
            return request
        said = tuple(message for message in request.messages if message.content)
        example = Example(id=request.id, messages=said, references=("",), source=request.id)
        asked = make_request(example, "few_shot", self._shots, request.max_tokens, self._stop)
        stop = tuple(dict.fromkeys((*request.stop, *self._stop)))
        return request.model_copy(update={"text": asked.text, "stop": stop})
