"""Retrieval-augmented models, `rag:DATA:MODEL` (Lewis et al., 2020).

Each question is preceded by the passages of the dataset's documents that match it best: by words (BM25), and by meaning
too if an encoder was fetched before. All splits are indexed,
the test split included, as they would be in production. The score therefore shows whether the model finds and uses the
passages, not what it has learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from sizewise import datasets
from sizewise.datasets.indexing import open_documents
from sizewise.errors import SizewiseError
from sizewise.guard import signals_in
from sizewise.models.base import Model
from sizewise.models.given_passages import before_question, passage_text
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import SPLITS, Completion, ModelDescription, Request
from sizewise.retrieval.passages import PASSAGE_WORDS
from sizewise.store import Store
from sizewise.text import count_words

PASSAGES = 3
SHORT_QUESTION = 6
"""Words below which a question of a conversation may rest on the one before it."""
FILLER = "passage " * PASSAGE_WORDS
NOT_OFFERED = ("echo", "ids", "embeddings", "tools")  # features that leave no room for passages


@lru_cache(maxsize=4_096)
def has_signals(passage: str) -> bool:
    """Return whether a passage has signs of prompt injection."""
    return bool(signals_in([passage]))


class RetrievingModel(PromptWrapper):
    """Prompts a model with retrieved passages before the question.

    Args:
        model: model that answers.
        data: dataset id.
        store: store that holds the dataset.

    Raises:
        SizewiseError: the dataset has no documents.
        MissingExtraError: bm25s is not installed.
    """

    def __init__(self, model: Model, data: str, store: Store) -> None:
        super().__init__(model)
        contents = datasets.load(store, data)
        if not any(len(contents.documents[split]) for split in SPLITS):
            raise SizewiseError(
                f"{data} has no documents to search.", "a dataset with documents", "sizewise read FOLDER examples.jsonl"
            )
        opened = open_documents(
            lambda: [document for split in SPLITS for document in contents.documents[split]], data, store
        )
        self._data, self._count = data, sum(len(contents.documents[split]) for split in SPLITS)
        self._library, self._state = opened.library, opened.state

    def describe(self) -> ModelDescription:
        """Describe the model and the documents that it retrieves from."""
        description = self._model.describe()
        found = f"found by {self._library.found_by}"
        retrieval = f"with {PASSAGES} passages of {self._count} documents before each question, {found}"
        return description.model_copy(
            update={
                "uri": f"rag:{self._data}:{description.uri}",
                "origin": f"{description.origin}, {retrieval}",
                "revision": f"search-{self._state}-filtered+{description.revision}",
                "can_score": False,
                "start": f"rag:{self._data}:{description.start}" if description.start else None,
                "offers": tuple(offer for offer in description.offers if offer not in NOT_OFFERED),
            }
        )

    def passages(self, request: Request) -> tuple[str, ...]:
        """Find the passages that match a request's question best, each with its title and heading.

        A short follow-up, such as "And on Sundays?", is looked up with the question before it.

        Passages with signs of prompt injection are left out; the next best ones take their places.
        """
        found = (passage_text(hit.passage) for hit in self._library.find(_searched_text(request), 2 * PASSAGES).hits)
        return tuple(islice((text for text in found if not has_signals(text)), PASSAGES))

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers, each with the passages that it was given."""
        given = {request.id: self.passages(request) for request in requests}
        rewritten = [_with_passages(request, given[request.id]) for request in requests]
        for answer in self._model.complete(rewritten):
            yield answer.model_copy(update={"passages": given.get(answer.id, ())})

    def sized(self, request: Request) -> Request:
        """Rewrite a request with passages of the usual length instead of those that a search would find."""
        return self.inner_sized(_with_passages(request, [FILLER] * PASSAGES))

    def rewrite(self, request: Request) -> Request:
        """Insert the passages before the last message, or before a plain text."""
        return _with_passages(request, self.passages(request))


def _searched_text(request: Request) -> str:
    if not request.messages:
        return request.text or ""
    *earlier, last = request.messages
    before = next((message.content for message in reversed(earlier) if message.role == "user"), "")
    return f"{before} {last.content}" if before and count_words(last.content) < SHORT_QUESTION else last.content


def _with_passages(request: Request, found: Sequence[str]) -> Request:
    if not found:
        return request
    if request.text is not None:
        return request.model_copy(update={"text": "\n\n".join([*found, request.text])})
    content = before_question(found, request.messages[-1].content)
    last = request.messages[-1].model_copy(update={"content": content})
    return request.model_copy(update={"messages": (*request.messages[:-1], last)})
