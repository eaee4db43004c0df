"""Sentence encoders as models: embeddings through the official client; no answers and no log-likelihoods."""

from __future__ import annotations

from pathlib import Path

import pytest

from sizewise.errors import SizewiseError
from sizewise.models import model_size, open_model
from sizewise.models.encoding import EncoderModel
from sizewise.records import Request
from sizewise.retrieval import Encoder
from sizewise.store import Store
from tests.retrieval.encoders import write_encoder

TEXTS = ["my card", "the loan please"]


def requests(*texts: str) -> list[Request]:
    return [Request(id="", text=text, max_tokens=0) for text in texts]


def test_a_folder_of_an_encoder_computes_embeddings_only(tmp_path: Path, store: Store) -> None:
    folder = write_encoder(tmp_path / "one")
    model = open_model(folder, store=store)
    assert isinstance(model, EncoderModel)
    described = model.describe()
    assert (described.offers, described.context, described.can_chat) == (("embeddings",), 24, False)
    assert described.parameters == Encoder.open(folder).parameters
    size, _, _ = model_size(str(folder), store=store)
    assert (size.parameters, size.context) == (described.parameters, described.context)
    vectors, tokens = model.embed(requests(*TEXTS))
    assert vectors == Encoder.open(folder).encode(TEXTS).tolist()
    assert tokens == sum(model.count_tokens(TEXTS)) == 9
    with pytest.raises(SizewiseError, match="Text 2 of 2 has more than 24 tokens"):
        model.embed(requests("my card", "card " * 40))
    (answer,) = model.complete(requests("my card"))
    assert "only computes embeddings" in (answer.error or "")
    with pytest.raises(SizewiseError, match="no log-likelihoods"):
        model.score(["my card"])
    assert Encoder.open(folder).fingerprint in model.signature()


def test_the_official_client_gets_embeddings(tmp_path: Path, store: Store) -> None:
    pytest.importorskip("openai")
    pytest.importorskip("uvicorn")
    from openai import BadRequestError

    from tests.service.test_service import client, running

    model = open_model(write_encoder(tmp_path / "one"), store=store)
    with running({"encoder": model}) as address:
        found = client(address).embeddings.create(model="encoder", input=TEXTS)
        expected, tokens = model.embed(requests(*TEXTS))  # type: ignore[attr-defined]
        assert [row.embedding for row in found.data] == [pytest.approx(vector, abs=1e-6) for vector in expected]
        assert found.usage.prompt_tokens == tokens
        with pytest.raises(BadRequestError, match="24 tokens"):
            client(address).embeddings.create(model="encoder", input="card " * 40)
