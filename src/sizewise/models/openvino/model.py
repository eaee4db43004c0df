"""Language models run with openvino-genai."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sizewise.lm.text_stream import token_texts
from sizewise.models.base import ScoredPrompt, ScoredRun, ScoredText, TokenRun
from sizewise.models.engine_model import EngineModel, configured_ends
from sizewise.models.engine_process import SCORED_TOGETHER
from sizewise.models.local import CACHE_TOKENS, prompt_ids, scoring_window
from sizewise.models.openvino.converting import MODEL_FILE, engine_name, require, weights_of
from sizewise.models.openvino.engine import Engine, cache_size
from sizewise.models.size import cache_bytes, read_config
from sizewise.models.thinking import split_reasoning
from sizewise.records import ModelDescription, Request


class OpenvinoModel(EngineModel):
    """A causal language model in a folder from `convert`.

    Args:
        folder: folder of the converted model.
        uri: URI that the model was opened with.
        revision: distinguishes two states of the same URI.
        origin: where the weights come from.
        license: license of the weights.
        precision: `bf16` or `fp32`; by default the processor's native precision.
        trained_on: dataset id, if the model was trained here.
        start: model URI that training started from, if the model was trained here.
        keep_prefixes: keep common beginnings of requests, such as a system prompt. Text is then scored in a second
            process, which starts with the first such request and holds the weights once more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        uri: str,
        revision: str,
        origin: str,
        license: str,
        precision: str | None = None,
        trained_on: str | None = None,
        start: str | None = None,
        keep_prefixes: bool = False,
    ) -> None:
        from sizewise.lm import hf_format
        from sizewise.lm.device import machine_precision
        from sizewise.lm.sizing import count
        from sizewise.lm.template_dates import template_date, template_hash
        from sizewise.lm.tokenizer import turn_end

        require()
        asked = split_reasoning(uri)[1]
        precision = precision or machine_precision()
        tokenizer, counted = hf_format.load_tokenizer(folder), count(read_config(folder))
        context = int(counted.config["max_position_embeddings"])
        ends = sorted({tokenizer.eos_token_id, turn_end(tokenizer), *configured_ends(folder)} - {None})
        width = 2 if precision == "bf16" else 4
        disk = (folder / MODEL_FILE).with_suffix(".bin").stat().st_size
        weight_format = weights_of(folder)
        self._window = scoring_window(counted.config, context, width, with_logits=True)
        description = ModelDescription(
            uri=uri,
            revision=revision,
            origin=origin,
            license=license,
            engine=engine_name(),
            precision=precision if weight_format == "f16" else f"{weight_format} weights, {precision}",
            attention=counted.attention,
            context=context,
            parameters=counted.parameters,
            memory_bytes=(counted.parameters * width if weight_format == "f16" else disk)
            + cache_bytes(counted.config, CACHE_TOKENS, width),
            disk_bytes=disk,
            can_score=True,
            can_chat=bool(tokenizer.chat_template),
            template=template_hash(tokenizer),
            template_date=template_date(tokenizer),
            offers=("ids", "sampling", "logprobs", "json_schema", "echo", "tools"),
            cache_tokens=(tokens := cache_size(folder, precision)),
            trained_on=trained_on,
            start=start,
            reasoning_effort="none" if asked.off else asked.effort,
            reasoning_tokens=asked.tokens,
        )
        engine = Engine(folder, precision, tokens, keep_prefixes=keep_prefixes)
        super().__init__(description, tokenizer, ends, engine, asked, counted.config.get("vocab_size"))
        self._scorer = None if keep_prefixes else engine
        self._lock, self._open_scorer = threading.Lock(), partial(Engine, folder, precision)

    def signature(self) -> str:
        """Return how log-likelihoods are computed."""
        from sizewise.lm.tokenizer import prefix_ids

        prefix = "".join(self._tokenizer.convert_ids_to_tokens(prefix_ids(self._tokenizer)))
        return (
            f"window:{self._window}|stride:{self._window // 2}|prefix:{prefix}"
            f"|precision:{self._description.precision}|engine:{self._description.engine}"
        )

    def score_prompts(self, requests: Sequence[Request]) -> list[ScoredPrompt]:
        """Compute log-likelihoods of the tokens of prompts. The engine doesn't report more likely alternatives."""
        prompts = [prompt_ids(self._tokenizer, self._description, request, self._rows) for request in requests]
        long = iter(self._scoring().nats([ids for ids in prompts if len(ids) > 1]))
        return [
            ScoredPrompt(
                token_texts(self._tokenizer, ids, of_text=request.text is not None),
                [-float(nat) for nat in next(long)] if len(ids) > 1 else [],
                None,
            )
            for request, ids in zip(requests, prompts, strict=True)
        ]

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute token log-likelihoods over a rolling window."""
        from sizewise.lm.tokenizer import encoded_text

        for begin in range(0, len(texts), SCORED_TOGETHER):
            encoded = [encoded_text(self._tokenizer, text, prefix) for text in texts[begin : begin + SCORED_TOGETHER]]
            found = self._nats([one.ids for one in encoded])
            for nats, (_, starts, first) in zip(found, encoded, strict=True):
                yield ScoredText(nats[first - 1 :], np.array(starts, dtype=np.int64))

    def _nats(self, sequences: Sequence[list[int]]) -> list[npt.NDArray[np.float64]]:
        """Compute the negative log-likelihood of every token but the first, over a rolling window."""
        from sizewise.lm.score import windows

        parts = [(i, window) for i, ids in enumerate(sequences) for window in windows(len(ids), self._window)]
        results = [np.zeros(max(0, len(ids) - 1)) for ids in sequences]
        passes = self._scoring().nats([sequences[i][part.start : part.end] for i, part in parts])
        for (i, part), found in zip(parts, passes, strict=True):
            results[i][part.first - 1 : part.end - 1] = found[part.first - part.start - 1 :]
        return results

    def _scoring(self) -> Engine:
        """Return the engine that scores text, which keeps no prefixes."""
        with self._lock:
            if self._scorer is None:
                self._scorer = self._open_scorer()
            return self._scorer

    @property
    def window(self) -> int:
        """Longest input, in tokens, that is scored in one pass."""
        return self._window

    def score_runs(self, runs: Sequence[TokenRun], *, greedy: bool = True) -> list[ScoredRun]:
        """Compute log-likelihoods of the last tokens of token sequences.

        Args:
            runs: token ids, longer than a window at most by one.
            greedy: also generate as many tokens, to see whether they are the same.
        """
        nats = [
            float(found[run.first - 1 :].sum())
            for run, found in zip(runs, self._nats([r.ids for r in runs]), strict=True)
        ]
        if not greedy:
            return [ScoredRun(one, None) for one in nats]
        written = self._engine.greedy([r.ids[: r.first] for r in runs], [len(r.ids) - r.first for r in runs])
        return [ScoredRun(one, new == r.ids[r.first :]) for one, new, r in zip(nats, written, runs, strict=True)]

    def close(self) -> None:
        """Free the weights."""
        super().close()
        if self._scorer is not None and self._scorer is not self._engine:
            self._scorer.close()
