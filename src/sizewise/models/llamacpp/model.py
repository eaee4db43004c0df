"""Language models run with llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sizewise.errors import UsageError
from sizewise.models import engine_process
from sizewise.models.base import ScoredText
from sizewise.models.engine_model import EngineModel, configured_ends
from sizewise.models.llamacpp.engine import Engine, engine_name, require
from sizewise.models.local import CACHE_TOKENS
from sizewise.models.size import cache_bytes
from sizewise.models.thinking import split_reasoning
from sizewise.records import ModelDescription

CACHE_WIDTH = 2
"""Bytes of a number in llama.cpp's cache, F16."""
SHORTENED = (
    "llama.cpp takes texts of up to {switch:,} tokens of this model: in a larger cache, it would rotate the positions "
    "of short texts like those of long ones. --engine transformers takes longer ones."
)


class LlamaCppModel(EngineModel):
    """A causal language model in a GGUF file, computed with the file's own quantized weights.

    It returns no log-likelihoods of texts: llama.cpp's server has none.

    Args:
        path: the file.
        folder: Hugging Face folder of the same model, whose tokenizer and config are used; by default the file's own.
        uri: URI that the model was opened with.
        revision: distinguishes two states of the same URI.
        origin: where the weights come from.
        license: license of the weights.
        trained_on: dataset id, if the model was trained here.
        start: model URI that training started from, if the model was trained here.
        keep_prefixes: keep common beginnings of requests, such as a system prompt.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        SizewiseError: llama.cpp or transformers can't read the file.
    """

    def __init__(
        self,
        path: Path,
        folder: Path | None = None,
        *,
        uri: str,
        revision: str,
        origin: str,
        license: str,
        trained_on: str | None = None,
        start: str | None = None,
        keep_prefixes: bool = False,
    ) -> None:
        from sizewise.lm import gguf, hf_format
        from sizewise.lm.execution import position_switch
        from sizewise.lm.sizing import count
        from sizewise.lm.template_dates import template_date, template_hash
        from sizewise.lm.tokenizer import turn_end

        require()
        if folder is None:
            config, tokenizer = gguf.read_gguf_settings(path)
        else:
            config, tokenizer = hf_format.load_config(folder), hf_format.load_tokenizer(folder)
        counted, asked = count(config.to_dict()), split_reasoning(uri)[1]
        context = int(counted.config["max_position_embeddings"])
        ends = {tokenizer.eos_token_id, turn_end(tokenizer), *(configured_ends(folder) if folder else ())}
        weights, token = path.stat().st_size, cache_bytes(counted.config, 1, CACHE_WIDTH)
        notes: tuple[str, ...] = ()
        tokens = engine_process.cache_size(weights, token, context)
        switch = position_switch(config.get_text_config())
        if switch is not None and switch < context:  # llama.cpp rotates by the size of its cache, not by the text's
            context, tokens, notes = switch, min(tokens, switch), (SHORTENED.format(switch=switch),)
        description = ModelDescription(
            uri=uri,
            revision=revision,
            origin=origin,
            license=license,
            engine=engine_name(),
            precision=gguf.file_precision(path),
            attention=counted.attention,
            context=context,
            parameters=counted.parameters,
            memory_bytes=weights + cache_bytes(counted.config, CACHE_TOKENS, CACHE_WIDTH),
            disk_bytes=weights,
            can_chat=bool(tokenizer.chat_template),
            template=template_hash(tokenizer),
            template_date=template_date(tokenizer),
            offers=("ids", "sampling", "logprobs", "json_schema", "tools"),
            cache_tokens=tokens,
            trained_on=trained_on,
            start=start,
            reasoning_effort="none" if asked.off else asked.effort,
            reasoning_tokens=asked.tokens,
            notes=notes,
        )
        engine = Engine(path, tokens, keep_prefixes=keep_prefixes)
        super().__init__(description, tokenizer, sorted(ends - {None}), engine, asked, counted.config.get("vocab_size"))

    def signature(self) -> str:
        """Return how log-likelihoods are computed: not at all."""
        return ""

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Refuse to score texts.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"llama.cpp returns no log-likelihoods of texts ({self._description.uri}).",
            "an engine that scores: transformers",
            "run the same command with --engine transformers",
        )
