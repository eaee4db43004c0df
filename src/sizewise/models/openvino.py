"""Models run by openvino-genai: fast answers on a CPU, many at once (continuous batching)."""

from __future__ import annotations

import importlib.util
import json
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from sizewise.errors import MissingExtraError, SizewiseError
from sizewise.models.answering import Answer
from sizewise.models.base import Cancel, Deliver, Piece, ScoredText, complete_all
from sizewise.models.local import CACHE_TOKENS, LONGEST_WINDOW, fitted, prompt_ids, refuse_too_long
from sizewise.models.size import cache_bytes, read_config
from sizewise.records import Completion, ModelDescription, Request

MODEL_FILE = "openvino_model.xml"
READS = ("llama", "mistral", "qwen2", "qwen3")  # architectures whose GGUF openvino-genai reads
CACHE_GB = 1
SCORED_AT_ONCE = 32
PAUSE_S, MOST_PAUSES = 0.008, 12


def engine_name() -> str:
    """Name the engine with its version."""
    return f"openvino-genai {metadata.version('openvino-genai')}"


def require() -> None:
    """Make sure that the engine is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("openvino_genai") is None:
        raise MissingExtraError("openvino-genai", "openvino")


def convert(folder: Path, out: Path, name: str, licence: str) -> None:
    """Turn a Hugging Face folder into one that openvino-genai opens, by way of an F16 GGUF file.

    Args:
        folder: a Hugging Face folder.
        out: where to; it appears only when it is whole.
        name: what the model is called.
        licence: licence of its weights.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        SizewiseError: the architecture is not one that it reads.
    """
    from sizewise.lm import folder as folders

    require()
    network, tokenizer = folders.load_network(folder, "fp32"), folders.load_tokenizer(folder)
    convert_network(network, tokenizer, out, name, licence)


def convert_network(network: Any, tokenizer: Any, out: Path, name: str, licence: str) -> None:
    """Turn a network and its tokenizer into a folder that openvino-genai opens; see `convert`."""
    require()
    import openvino
    import openvino_genai
    from openvino_tokenizers import convert_tokenizer

    from sizewise.lm.folder import vectors_of
    from sizewise.lm.gguf_writing import F16, write_gguf

    if network.config.model_type not in READS:
        raise SizewiseError(
            f"openvino-genai does not read GGUF of the architecture '{network.config.model_type}'.",
            " or ".join(READS),
            "--to hf, or --engine transformers",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        packed = Path(temporary) / "model.gguf"
        write_gguf(network, tokenizer, packed, F16, name, licence)
        # It is saved beside the file that it was read from.
        pipeline = openvino_genai.LLMPipeline(str(packed), "CPU", enable_save_ov_model=True)
        del pipeline
        graph = openvino.Core().read_model(Path(temporary) / MODEL_FILE)
        _restore_vectors(graph, vectors_of(network))
        openvino.save_model(graph, made / MODEL_FILE, compress_to_fp16=False)
        del graph
        # The tokenizer that it makes of a GGUF file cuts digits in its own way; this one is made of ours.
        parts = convert_tokenizer(tokenizer, with_detokenizer=True, skip_special_tokens=True)
        for title, part in zip(("openvino_tokenizer.xml", "openvino_detokenizer.xml"), parts, strict=True):
            openvino.save_model(part, made / title, compress_to_fp16=False)
        network.config.save_pretrained(made)
        network.generation_config.save_pretrained(made)
        tokenizer.save_pretrained(made)
        shutil.rmtree(out, ignore_errors=True)
        made.rename(out)


def _restore_vectors(graph: Any, vectors: Sequence[np.ndarray[Any, np.dtype[np.float32]]]) -> None:
    """Put vectors back in fp32 that openvino-genai rounds to F16 when it saves a model.

    Those are the norms' weights and the frequencies of the rotary positions, whose error grows with the length of the
    text.
    """
    from openvino import op

    rounded = {vector.astype(np.float16).tobytes(): vector for vector in vectors}
    for node in graph.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f16":
            continue
        shape = tuple(node.get_output_shape(0))
        exact = rounded.get(node.data.tobytes()) if int(np.prod(shape)) == max(shape, default=0) else None
        if exact is None:
            continue
        whole = op.Constant(exact.reshape(shape))
        for user in node.output(0).get_target_inputs():
            convert = user.get_node()
            for wanting in convert.output(0).get_target_inputs():
                wanting.replace_source_output(whole.output(0))


_LAST_CLOSED: list[Any] = []
"""Keeps one pipeline: once the last one of a process is gone, openvino-genai 2026.4 crashes it at the next signal."""


class Part(NamedTuple):
    """Tokens that were written, or the end."""

    ids: list[int]
    nats: list[float]
    """Negative log-likelihoods, where they were asked for."""
    finish: str | None
    """`stop`, `length` or what went wrong; None while it goes on."""


class _Job(NamedTuple):
    ids: list[int]
    config: Any
    deliver: Callable[[Part], None]
    cancelled: threading.Event


class Engine:
    """openvino-genai's continuous batching in a thread of its own: whoever asks joins the batch under way.

    Args:
        folder: folder with openvino_model.xml.
        precision: `bf16` or `fp32`.
        cache_gb: memory for the cache of all users.
    """

    def __init__(self, folder: Path, precision: str, cache_gb: int = CACHE_GB) -> None:
        require()
        import openvino
        import openvino_genai

        self._tensor = openvino.Tensor
        self._genai = openvino_genai
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = cache_gb
        scheduler.enable_prefix_caching = False
        exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        quick = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16"}
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(
                str(folder), scheduler, "CPU", exact if precision == "fp32" else quick
            )
        except RuntimeError as error:
            raise SizewiseError(
                f"The model in {folder} cannot be opened by openvino-genai: {str(error).strip().splitlines()[-1]}",
                "a folder as `sizewise export --to openvino` writes it",
                "export it again",
            ) from error
        self._waiting: SimpleQueue[_Job] = SimpleQueue()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="openvino", daemon=True)
        self._thread.start()

    def submit(
        self, ids: list[int], config: Any, deliver: Callable[[Part], None], cancelled: threading.Event | None = None
    ) -> None:
        """Ask for an answer; its parts are delivered from the engine's thread.

        Args:
            ids: the prompt.
            config: what `config` makes.
            deliver: takes each part.
            cancelled: ends it early once it is set.
        """
        self._waiting.put(_Job(ids, config, deliver, cancelled or threading.Event()))
        self._wake.set()

    def config(self, max_tokens: int, ends: set[int], request: Request | None = None, *, echo: bool = False) -> Any:
        """Say how to answer.

        Args:
            max_tokens: longest answer.
            ends: tokens that end it; none: it is as long as may be.
            request: what else is asked for; None: the likeliest tokens.
            echo: give the prompt's log-likelihoods, too.
        """
        config = self._genai.GenerationConfig()
        config.max_new_tokens = max_tokens
        config.do_sample = False
        config.echo = echo
        config.logprobs = 1 if echo or (request and request.logprobs) else 0
        if ends:
            config.stop_token_ids = ends
        else:
            config.ignore_eos = True
        if request and request.temperature > 0:
            config.do_sample = True
            config.temperature, config.top_p = request.temperature, request.top_p
            config.rng_seed = request.seed if request.seed is not None else secrets.randbits(31)
        if request and request.json_schema is not None:
            config.structured_output_config = self._genai.StructuredOutputConfig(json_schema=request.json_schema)
        return config

    def _work(self) -> None:
        running: list[tuple[Any, _Job]] = []
        number = 0
        while not self._closed:
            if not running and self._waiting.empty():
                self._wake.wait()
                self._wake.clear()
            self._let_others_in(len(running))
            while not self._waiting.empty():
                job = self._waiting.get()
                number += 1
                if job.cancelled.is_set():
                    job.deliver(Part([], [], "stop"))
                    continue
                try:
                    tensor = self._tensor(np.array([job.ids], dtype=np.int64))
                    running.append((self._pipeline.add_request(number, tensor, job.config), job))
                except RuntimeError as error:
                    job.deliver(Part([], [], _last_line(error)))
            if not running:
                continue
            try:
                self._pipeline.step()
            except RuntimeError as error:
                for handle, job in running:
                    job.deliver(Part([], [], _last_line(error)))
                    handle.stop()
                running = []
                continue
            running = [(handle, job) for handle, job in running if not self._read(handle, job)]
            if not running and self._pipeline.has_non_finished_requests():
                with suppress(RuntimeError):
                    self._pipeline.step()  # gives back the places of what was cancelled
        for _, job in running:
            job.deliver(Part([], [], "the engine was closed"))

    def _let_others_in(self, running: int) -> None:
        """Wait a little while requests keep arriving.

        A step holds the interpreter's lock from its beginning to its end, so what brings requests comes to its turn in
        between only, for five milliseconds: of 32 at once the last would wait for 32 steps.
        """
        rounds, seen = 0, 0
        while rounds < MOST_PAUSES and running + self._waiting.qsize() > 1 and self._waiting.qsize() > seen:
            rounds, seen = rounds + 1, self._waiting.qsize()
            time.sleep(PAUSE_S)

    def _read(self, handle: Any, job: _Job) -> bool:
        """Pass on what was written; tell whether the answer is at its end."""
        while handle.can_read():
            (output,) = handle.read().values()
            reason, finish = output.finish_reason, None
            if reason != self._genai.GenerationFinishReason.NONE:
                finish = "length" if reason == self._genai.GenerationFinishReason.LENGTH else "stop"
            nats = [-float(value) for value in output.generated_log_probs] if job.config.logprobs else []
            job.deliver(Part(list(output.generated_ids), nats, finish))
            if finish:
                return True
        status = handle.get_status()
        if status == self._genai.GenerationStatus.IGNORED:
            job.deliver(Part([], [], "the request does not fit into the cache"))
            return True
        if job.cancelled.is_set():
            handle.stop()
            job.deliver(Part([], [], "stop"))
            return True
        return False

    def close(self) -> None:
        """Stop the thread."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=10)
        _LAST_CLOSED[:] = [self._pipeline]
        del self._pipeline

    # -- many at once -------------------------------------------------------------------------------

    def greedy(self, prompts: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
        """Give so many likeliest tokens after each prompt, whatever they are."""
        configs = [self.config(length, set()) for length in lengths]
        return [part.ids for part in self._all(prompts, configs)]

    def nats(self, sequences: Sequence[list[int]]) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """Give the negative log-likelihoods of all tokens but the first of each sequence."""
        found = []
        for start in range(0, len(sequences), SCORED_AT_ONCE):
            some = sequences[start : start + SCORED_AT_ONCE]
            parts = self._all(some, [self.config(1, set(), echo=True)] * len(some))
            found += [
                np.array(part.nats[1 : len(ids)], dtype=np.float64) for ids, part in zip(some, parts, strict=True)
            ]
        return found

    def _all(self, prompts: Sequence[list[int]], configs: Sequence[Any]) -> list[Part]:
        """Wait for all answers.

        Raises:
            SizewiseError: the engine failed.
        """
        queues: list[SimpleQueue[Part]] = [SimpleQueue() for _ in prompts]
        for ids, config, queue in zip(prompts, configs, queues, strict=True):
            self.submit(list(ids), config, queue.put)
        found = []
        for queue in queues:
            whole = Part([], [], None)
            while whole.finish is None:
                part = queue.get()
                whole = Part(whole.ids + part.ids, whole.nats + part.nats, part.finish)
            if whole.finish not in ("stop", "length"):
                raise SizewiseError(f"openvino-genai failed: {whole.finish}.", "", "")
            found.append(whole)
        return found


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] or type(error).__name__


def _configured_ends(folder: Path) -> list[int]:
    """Give the tokens that end an answer as the folder's generation_config.json names them."""
    path = folder / "generation_config.json"
    found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    return found if isinstance(found, list) else [found] if found is not None else []


class OpenvinoModel:
    """A causal language model in a folder that `convert` made.

    Args:
        folder: the folder.
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
        licence: str,
        precision: str | None = None,
        trained_on: str | None = None,
        start: str | None = None,
    ) -> None:
        from sizewise.lm import folder as folders
        from sizewise.lm.sizing import count

        require()
        precision = precision or folders.machine_precision()
        self._tokenizer = folders.load_tokenizer(folder)
        counted = count(read_config(folder))
        context = int(counted.config["max_position_embeddings"])
        self._ends = {self._tokenizer.eos_token_id, *_configured_ends(folder)} - {None}
        width = 2 if precision == "bf16" else 4
        self._window = min(context, LONGEST_WINDOW)
        self._description = ModelDescription(
            uri=uri,
            revision=revision,
            origin=origin,
            licence=licence,
            engine=engine_name(),
            precision=precision,
            attention=counted.attention,
            context=context,
            parameters=counted.parameters,
            memory_bytes=counted.parameters * width + cache_bytes(counted.config, CACHE_TOKENS, width),
            disk_bytes=(folder / "openvino_model.bin").stat().st_size,
            can_score=True,
            can_chat=bool(self._tokenizer.chat_template),
            offers=("ids", "sampling", "logprobs", "json_schema", "echo"),
            cache_tokens=CACHE_GB * 2**30 // cache_bytes(counted.config, 1, width),
            trained_on=trained_on,
            start=start,
        )
        self._engine = Engine(folder, precision)

    def describe(self) -> ModelDescription:
        """Say what the model is."""
        return self._description

    def signature(self) -> str:
        """Say how log-likelihoods are computed."""
        from sizewise.lm.tokenizer import prefix_id

        prefix = self._tokenizer.convert_ids_to_tokens(prefix_id(self._tokenizer))
        return (
            f"window:{self._window}|stride:{self._window // 2}|prefix:{prefix}"
            f"|precision:{self._description.precision}|engine:{self._description.engine}"
        )

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer all at once, as answers end."""
        last = time.perf_counter()
        for answer in complete_all(self, requests):
            now = time.perf_counter()
            yield answer.model_copy(update={"seconds": now - last})
            last = now

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer; see `Model.start`."""
        ids = prompt_ids(self._tokenizer, self._description, request)
        request = fitted(request, len(ids), self._description.context)
        refusal = refuse_too_long(request, len(ids), self._description.context)
        if refusal:
            deliver(Piece(end=refusal))
            return lambda: None
        answer = Answer(self._tokenizer, request, len(ids), deliver)

        def take(part: Part) -> None:
            if answer.take(part.ids, part.nats):
                answer.cancelled.set()
            elif part.finish:
                answer.end(
                    part.finish if part.finish in ("stop", "length") else f"openvino-genai failed: {part.finish}"
                )

        self._engine.submit(ids, self._engine.config(request.max_tokens, self._ends, request), take, answer.cancelled)
        return answer.cancelled.set

    def likelihoods(self, request: Request) -> tuple[list[str], list[float]]:
        """Give a prompt's tokens as text, and the log-likelihood of all but the first."""
        ids = prompt_ids(self._tokenizer, self._description, request)
        (nats,) = self._engine.nats([ids]) if len(ids) > 1 else (np.zeros(0),)
        return [str(self._tokenizer.decode([one])) for one in ids], [-float(nat) for nat in nats]

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Give token log-likelihoods over a rolling window."""
        from sizewise.lm.score import windows
        from sizewise.lm.tokenizer import encoded_text

        for text in texts:
            ids, starts = encoded_text(self._tokenizer, text, prefix)
            parts = windows(len(ids), self._window)
            nats = np.zeros(len(ids) - 1)
            for part, found in zip(parts, self._engine.nats([ids[p.start : p.end] for p in parts]), strict=True):
                nats[part.first - 1 : part.end - 1] = found[part.first - part.start - 1 :]
            yield ScoredText(nats, np.array(starts, dtype=np.int64))

    def close(self) -> None:
        """Free the weights."""
        self._engine.close()
