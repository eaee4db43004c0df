"""Encode texts as vectors with a sentence encoder (Reimers and Gurevych, 2019), on onnxruntime and without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.records import fingerprint
from sizewise.retrieval.encoder_folder import NEXT, EncoderSettings, read_settings, read_tensors
from sizewise.retrieval.encoder_graph import IDS, MASK, OUTPUT, build_graph
from sizewise.retrieval.onnx_format import Graph
from sizewise.store import sha256_of

BATCH = 64
MIN_FILLED, MIN_ROWS = 0.6, 8
"""A batch ends where texts are shorter than this share of its longest, because padding takes as long as text; unless it
has fewer rows than that."""
MAX_SCORES = 1 << 24
"""Most attention scores of one layer in a batch (64 MB): long texts are encoded in smaller batches."""
MAX_FILE_BYTES = (1 << 31) - 1
FILES = ("config.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json")

Vectors = npt.NDArray[np.float32]


class Encoded(NamedTuple):
    """Vectors of texts, and what was read of each text."""

    vectors: Vectors
    """(texts, width) unit vectors."""
    tokens: npt.NDArray[np.int64]
    """(texts,) tokens that were read, special tokens included."""
    truncated: npt.NDArray[np.bool_]
    """(texts,) whether the end of the text was cut off because it is longer than the encoder reads."""


class Encoder:
    """A sentence encoder. Texts of similar meaning have vectors with a large dot product.

    Use `Encoder.open`.
    """

    def __init__(self, folder: Path, settings: EncoderSettings, session: Any, tokenizer: Any, parameters: int) -> None:
        self.folder = folder
        """Folder that the encoder was opened from."""
        self.settings = settings
        """Settings of the network."""
        self.parameters = parameters
        """Number of parameters."""
        self._session = session
        self._tokenizer = tokenizer
        self._weights: list[Any] = []

    @classmethod
    def open(cls, folder: str | Path, threads: int | None = None) -> Self:
        """Open an encoder's folder, as transformers or sentence-transformers write it.

        Args:
            folder: a folder with config.json, model.safetensors and tokenizer.json.
            threads: threads of one batch; by default OMP_NUM_THREADS, or the cores that this process may use.

        Raises:
            SizewiseError: the folder has no encoder, one of an unsupported family, or a damaged one.
            MissingExtraError: onnxruntime is not installed.
        """
        folder = Path(folder).expanduser()
        settings = read_settings(folder)
        tokenizer = _open_tokenizer(folder, settings)
        tensors = read_tensors(folder)
        session, weights = _open_session(settings, tensors, threads or _threads())
        encoder = cls(folder, settings, session, tokenizer, sum(values.size for values in tensors.values()))
        encoder._weights = weights
        return encoder

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return self.settings.width

    @property
    def max_tokens(self) -> int:
        """Most tokens that are read of a text."""
        return self.settings.max_tokens

    @property
    def memory_bytes(self) -> int:
        """Memory of the weights."""
        return 4 * self.parameters

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of everything that decides the vectors: weights, tokenizer and settings."""
        return folder_fingerprint(self.folder)

    def encode(self, texts: Sequence[str], batch: int = BATCH) -> Vectors:
        """Encode texts.

        Args:
            texts: any texts; an empty one has a vector as well.
            batch: most texts encoded at once. Vectors don't depend on it.

        Returns:
            (texts, width) unit vectors.
        """
        return self.read(texts, batch).vectors

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Encode passages that questions are compared with; some encoders put another prompt in front of them.

        Returns:
            (texts, width) unit vectors.
        """
        return self._read(self._tokenize(texts, self.settings.passage_prompt), BATCH, None).vectors

    def read(self, texts: Sequence[str], batch: int = BATCH, done: Callable[[int, int], None] | None = None) -> Encoded:
        """Encode texts, and report how many tokens were read and which texts were truncated.

        Args:
            texts: any texts.
            batch: most texts encoded at once.
            done: called after each batch with the number of encoded texts and of all texts; may raise to end it.
        """
        return self._read(self._tokenize(texts, self.settings.prompt), batch, done)

    def _read(self, encodings: list[Any], batch: int, done: Callable[[int, int], None] | None) -> Encoded:
        lengths = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
        truncated = np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_)
        vectors = np.empty((len(encodings), self.width), dtype=np.float32)
        count = 0
        for rows in self._batches(lengths, batch):
            longest = int(lengths[rows].max())
            ids = np.zeros((len(rows), longest), dtype=np.int64)
            mask = np.zeros_like(ids)
            for line, row in enumerate(rows):
                ids[line, : lengths[row]] = encodings[row].ids
                mask[line, : lengths[row]] = 1
            (vectors[rows],) = self._session.run([OUTPUT], {IDS: ids, MASK: mask})
            count += len(rows)
            if done is not None:
                done(count, len(encodings))
        return Encoded(vectors, lengths, truncated)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids that are read of each text, special tokens included."""
        return [list(encoding.ids) for encoding in self._tokenize(texts, self.settings.prompt)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens that are read of each text, special tokens included."""
        return [len(encoding.ids) for encoding in self._tokenize(texts, self.settings.prompt)]

    def _batches(self, lengths: npt.NDArray[np.int64], batch: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield rows of similar length, the longest first."""
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = int(lengths[order[start]])
            alike = int((lengths[order[start : start + batch]] >= MIN_FILLED * longest).sum())
            scores = self.settings.heads * longest**2
            size = max(1, min(batch, MAX_SCORES // max(1, scores), max(MIN_ROWS, alike)))
            yield order[start : start + size]
            start += size

    def _tokenize(self, texts: Sequence[str], prompt: str) -> list[Any]:
        prepared = [prompt + _encodable(text) for text in texts]
        if self.settings.lowercase:
            prepared = [text.lower() for text in prepared]
        found: list[Any] = self._tokenizer.encode_batch_fast(prepared)
        return found

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Count the passages whose end is cut off because they are longer than the encoder reads."""
        return sum(bool(encoding.overflowing) for encoding in self._tokenize(texts, self.settings.passage_prompt))

    def graph(self) -> Graph:
        """Build the ONNX graph: `input_ids` and `attention_mask` in, `sentence_embedding` out."""
        return build_graph(self.settings, read_tensors(self.folder))

    def write_onnx(self, path: Path) -> Path:
        """Write the whole encoder as one ONNX file: `input_ids` and `attention_mask` in, unit vectors out.

        The tokenizer isn't part of the file.

        Raises:
            SizewiseError: the encoder is larger than an ONNX file may be (2 GB), or the file can't be written.
        """
        return write_graph(self.graph(), path)


def write_graph(graph: Graph, path: Path) -> Path:
    """Write a graph as one ONNX file.

    Raises:
        SizewiseError: it is larger than an ONNX file may be (2 GB), or the file can't be written.
    """
    data = graph.serialize(inline=True)
    if len(data) > MAX_FILE_BYTES:
        raise SizewiseError(
            f"{path} would take {len(data):,} bytes as one ONNX file.", "at most 2 GB", "use a smaller encoder"
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise SizewiseError(
            f"{path} cannot be written: {error.strerror or error}.", "a writable folder with enough free space", ""
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def folder_fingerprint(folder: Path) -> str:
    """Return the fingerprint of an encoder's files; it doesn't depend on where the folder is."""
    files = [folder / name for name in FILES] + sorted(folder.glob("*/config.json"))
    return fingerprint([[path.relative_to(folder).as_posix(), sha256_of(path)] for path in files if path.is_file()])


def _threads() -> int:
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_session(settings: EncoderSettings, tensors: dict[str, Vectors], threads: int) -> tuple[Any, list[Any]]:
    """Return a session and the values that it reads: they must live as long as the session."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "study") from error
    onnxruntime.disable_telemetry_events()
    graph = build_graph(settings, tensors)
    weights = graph.weights()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False  # one plan of memory for each shape would be kept
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the processor alone
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    options.add_external_initializers(list(weights), values)
    session = onnxruntime.InferenceSession(graph.serialize(inline=False), options, providers=["CPUExecutionProvider"])
    return session, values


def _open_tokenizer(folder: Path, settings: EncoderSettings) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "study") from error
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        reason = f"can't be read: {error}" if path.is_file() else "does not exist"
        raise SizewiseError(
            f"{path} {reason}.", "the file tokenizer.json of a fast tokenizer", f"save the tokenizer again, or {NEXT}"
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(settings.max_tokens)
    return tokenizer


def _encodable(text: str) -> str:
    """Replace halves of surrogate pairs, which aren't characters."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
