"""RetrievingModel: a model with an organisation's documents at hand, `rag:DATA:MODEL` (Lewis et al., 2020).

Each question is put behind the passages of the dataset's documents that fit it best (BM25). All documents are at hand,
those of the test split too, as they would be in service: what is measured is whether the model finds and uses what
stands there, not what it learnt.
"""

from __future__ import annotations

from sizewise import datasets
from sizewise.errors import SizewiseError
from sizewise.models.base import Model
from sizewise.models.wrapper import Changed
from sizewise.records import SPLITS, ModelDescription, Request
from sizewise.retrieval import Library, cut
from sizewise.store import Store

PASSAGES = 3


class RetrievingModel(Changed):
    """Asks a model with passages before the question.

    Args:
        model: what answers.
        data: dataset id.
        store: where it lives.

    Raises:
        SizewiseError: the dataset has no documents.
        MissingExtraError: bm25s is not installed.
    """

    def __init__(self, model: Model, data: str, store: Store) -> None:
        super().__init__(model)
        contents = datasets.load(store, data)
        documents = [document for split in SPLITS for document in contents.documents[split]]
        if not documents:
            raise SizewiseError(f"{data} has no documents to look things up in.", "a dataset with documents", "")
        self._data, self._count = data, len(documents)
        self._library = Library(cut(documents), learn=False)

    def describe(self) -> ModelDescription:
        """Say what the model is, and what it has at hand."""
        told = self._model.describe()
        hand = f"with {PASSAGES} passages of {self._count} documents before each question"
        return told.model_copy(
            update={
                "uri": f"rag:{self._data}:{told.uri}", "origin": f"{told.origin}, {hand}", "can_score": False,
                "start": f"rag:{self._data}:{told.start}" if told.start else None,
                "offers": tuple(one for one in told.offers if one not in ("echo", "ids", "embeddings")),
            }
        )  # fmt: skip

    def change(self, request: Request) -> Request:
        """Put the passages before the last question, or before the whole of a plain text."""
        asked = request.messages[-1].content if request.messages else request.text or ""
        found = [hit.passage for hit in self._library.find(asked, PASSAGES).hits]
        if not found:
            return request
        shown = "\n\n".join(
            f"{one.title}{': ' + one.heading if one.heading else ''}\n{one.text}" for one in found
        )  # fmt: skip
        if request.text is not None:
            return request.model_copy(update={"text": f"{shown}\n\n{request.text}"})
        content = f"{shown}\n\nUse these passages where they help. {asked}"
        last = request.messages[-1].model_copy(update={"content": content})
        return request.model_copy(update={"messages": (*request.messages[:-1], last)})
