"""Sentence encoders as models: they compute embeddings and answer nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sizewise.errors import SizewiseError
from sizewise.models.base import Cancel, Deliver, Model, ScoredText, answer_whole, failed
from sizewise.models.size import BITS, read_config, weight_bytes
from sizewise.records import Completion, ModelDescription, ModelSize, Request
from sizewise.retrieval import Encoder
from sizewise.retrieval.encoder_folder import read_settings, read_tensors

ENGINE = "onnxruntime"
_REASON = "a sentence encoder only computes embeddings"


def encoder_size(folder: Path, uri: str, free_bytes: int | None) -> ModelSize:
    """Compute the size of a sentence encoder. It generates no tokens, so no cache grows.

    Args:
        folder: folder of the encoder.
        uri: URI of the encoder.
        free_bytes: free memory of this machine.
    """
    settings, tensors = read_settings(folder), read_tensors(folder)
    parameters = sum(values.size for values in tensors.values())
    looked_up = sum(values.size for name, values in tensors.items() if name.endswith("_embeddings.weight"))
    weights = {name: round(parameters * bits / 8) for name, bits in BITS.items()}
    return ModelSize(
        uri=uri,
        architecture=str((read_config(folder).get("architectures") or [settings.family])[0]),
        attention="full",
        context=settings.max_tokens,
        parameters=parameters,
        active_parameters=parameters,
        weight_bytes=weights,
        cache_bytes={settings.max_tokens: 0},
        full_cache_bytes={settings.max_tokens: 0},
        operations=2 * (parameters - looked_up) + 4 * settings.layers * settings.width * settings.max_tokens,
        free_bytes=free_bytes,
        fits={} if free_bytes is None else {name: size <= free_bytes for name, size in weights.items()},
    )


class EncoderModel(Model):
    """Computes embeddings with a sentence encoder.

    Args:
        folder: folder of the encoder.
        uri: URI that it was opened with.
        revision: state of a user's folder; empty for encoders that never change.
        origin: where the weights come from.
        license: license of the weights.

    Raises:
        SizewiseError: the folder has no encoder that can be opened.
    """

    def __init__(self, folder: Path, *, uri: str, revision: str, origin: str, license: str) -> None:
        self._encoder = encoder = Encoder.open(folder)
        self._description = ModelDescription(
            uri=uri,
            revision=revision,
            origin=origin,
            license=license,
            engine=ENGINE,
            precision="fp32",
            attention="full",
            context=encoder.max_tokens,
            parameters=encoder.parameters,
            memory_bytes=encoder.memory_bytes,
            disk_bytes=weight_bytes(folder),
            offers=("embeddings",),
        )

    def describe(self) -> ModelDescription:
        """Describe the encoder."""
        return self._description

    def signature(self) -> str:
        """Return how vectors are computed."""
        return f"encoder:{self._encoder.fingerprint}|window:{self._encoder.max_tokens}|engine:{ENGINE}"

    def embed(self, requests: Sequence[Request]) -> tuple[list[list[float]], int]:
        """Compute an embedding of each prompt; return the vectors and the number of tokens.

        Raises:
            SizewiseError: a prompt is longer than the encoder reads.
        """
        texts = [request.messages[-1].content if request.messages else request.text or "" for request in requests]
        encoded = self._encoder.read(texts)
        if encoded.truncated.any():
            raise SizewiseError(
                f"Text {int(encoded.truncated.argmax()) + 1} of {len(texts)} has more than "
                f"{self._encoder.max_tokens} tokens, the most that this encoder reads.",
                "shorter texts",
                "split long texts into passages",
            )
        return encoded.vectors.tolist(), int(encoded.tokens.sum())

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens that are read of each text."""
        return self._encoder.count_tokens(texts)

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Fail every request: an encoder writes no answers."""
        for request in requests:
            yield failed(request, _REASON)

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Deliver the failure."""
        return answer_whole(self, request, deliver)

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Refuse: an encoder has no log-likelihoods.

        Raises:
            SizewiseError: always.
        """
        raise SizewiseError(
            f"{self._description.uri} has no log-likelihoods: {_REASON}.", "a language model", "sizewise models"
        )

    def close(self) -> None:
        """Do nothing; memory is freed with the model."""
