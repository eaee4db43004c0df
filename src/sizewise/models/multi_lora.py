"""Run several LoRA adapters on one copy of their base model; a batch may mix adapters."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError, UsageError
from sizewise.lm.placement import IN_4_BITS, requested_precision
from sizewise.models.base import Cancel, Deliver, Model, ScoredText, complete_all
from sizewise.models.batching import MAX_BATCH, Batcher
from sizewise.models.local import CACHE_TOKENS, ENGINE, begin_answer
from sizewise.models.opening import resolve_folder
from sizewise.models.run_starts import full_uri, start_folder, start_of
from sizewise.models.size import cache_bytes, read_config, weight_bytes
from sizewise.records import Checkpoint, Completion, ModelDescription, Request
from sizewise.store import Store


class _Member(NamedTuple):
    """A model that shares its base with others."""

    uri: str
    folder: Path
    """Folder with the model's tokenizer and chat template."""
    adapter: Path | None
    """Folder of the adapter; None for the base itself."""
    made: Checkpoint | None
    origin: str
    license: str


def open_shared(
    uris: Sequence[str], store: Store, precision: str | None = None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Model]:
    """Open models that are adapters of the same base, with one copy of its weights.

    Args:
        uris: model URIs: runs that trained adapters (`lora`, `qlora`), optionally with their base.
        store: store that holds the runs.
        precision: `bf16` or `fp32`; by default the device's native precision.
        say: called with one line of progress at a time.

    Returns:
        URI -> model, for the models that share a base with another.

    Raises:
        UsageError: no two models share a base.
        SizewiseError: a base has changed since adapters were trained on it.
    """
    precision = precision or requested_precision()
    if precision == IN_4_BITS:
        raise UsageError("Models that share a base can't be in 4 bits.", "bf16, fp16 or fp32", "--precision auto")
    bases: dict[str, list[_Member]] = {}
    folders: dict[str, tuple[Path, str, str]] = {}
    for uri in uris:
        member = _member(uri, store)
        if member is not None and member.made is not None:
            base = start_of(member.made)
            folders[base] = start_folder(uri.partition(":")[2], member.made, store, say)
            bases.setdefault(base, []).append(member)
    found: dict[str, Model] = {}
    known = {full_uri(uri): uri for uri in uris}
    for base, members in bases.items():
        folder, origin, license = folders[base]
        members = [member for member in members if _same_attention(member.folder, folder)]
        if base in known:
            members.append(_Member(known[base], folder, None, None, origin, license))
        if len(members) > 1:
            say(f"Loading {base} once for {', '.join(member.uri for member in members)}")
            shared = _SharedBase(folder, members, precision)
            found |= {member.uri: AdapterModel(shared, member) for member in members}
    if not found:
        raise UsageError(
            "No two of these models are adapters of the same base model.",
            "runs trained with --method lora or qlora from the same base, without changing its attention",
            "run sizewise runs to find such models, or omit --share-base",
        )
    return found


def _same_attention(folder: Path, base: Path) -> bool:
    """Check that a run kept the attention of its base; different windows make it a different network."""
    config, base_config = read_config(folder), read_config(base)
    return all(
        config.get(key) == base_config.get(key) for key in ("sliding_window", "layer_types", "use_sliding_window")
    )


def _member(uri: str, store: Store) -> _Member | None:
    kind, _, name = uri.partition(":")
    if kind != "run":
        return None
    made = store.read(Checkpoint, name)
    folder, origin, license = resolve_folder(uri, store)
    adapter = folder.parent / "adapter"
    fits = adapter.is_dir() and made.recipe.method in ("lora", "qlora")
    return _Member(uri, folder, adapter, made, origin, license) if fits else None


class _SharedBase:
    """A base network with adapters.

    Args:
        base: folder of the base.
        members: models that use it.
        precision: `bf16` or `fp32`; by default the device's native precision.
    """

    def __init__(self, base: Path, members: Sequence[_Member], precision: str | None) -> None:
        from sizewise.lm import adapt, hf_format
        from sizewise.lm.device import choose_device, chosen_precision

        device = choose_device()
        self.precision = chosen_precision(precision, device, hf_format.load_config(base).model_type)
        adapters = {member.uri: member.adapter for member in members if member.adapter is not None}
        adapted = adapt.load_adapters(base, adapters, self.precision, device)
        self.network: Any = adapted.network
        self.parameters = adapted.parameters
        self.disk_bytes = weight_bytes(base)
        self.batcher = Batcher(self.network, hf_format.load_tokenizer(base), adapted.choose)
        self._users = len(members)

    def release(self) -> None:
        """Free the weights when the last model is closed."""
        self._users -= 1
        if self._users == 0:
            self.batcher.close()
            self.network = None
            gc.collect()


class AdapterModel(Model):
    """One of several models on the same base. It answers requests but doesn't score text.

    Args:
        shared: the base with all adapters.
        member: this model.
    """

    def __init__(self, shared: _SharedBase, member: _Member) -> None:
        from sizewise.lm import hf_format
        from sizewise.lm.template_dates import template_date, template_hash
        from sizewise.lm.tokenizer import end_ids

        self._shared, self._member = shared, member
        self._tokenizer = hf_format.load_tokenizer(member.folder)
        config = shared.network.config.get_text_config()
        if len(self._tokenizer) > config.vocab_size:
            raise SizewiseError(
                f"The tokenizer of {member.uri} has more tokens than its base model.",
                "adapters trained with the vocabulary of their base",
                "the same command without --share-base",
            )
        self._ends = end_ids(shared.network, self._tokenizer)
        self._adapter = member.uri if member.adapter is not None else ""
        width = shared.network.dtype.itemsize
        base = shared.parameters[""]
        total = base + (shared.parameters[self._adapter] if self._adapter else 0)
        self._description = ModelDescription(
            uri=member.uri,
            origin=member.origin,
            license=member.license,
            engine=ENGINE,
            precision=shared.precision,
            attention=hf_format.attention_words(config),
            context=getattr(config, "max_position_embeddings", None),
            parameters=total,
            memory_bytes=total * width + cache_bytes(hf_format.settings_of(config), CACHE_TOKENS, width),
            disk_bytes=shared.disk_bytes,
            can_chat=bool(self._tokenizer.chat_template),
            template=template_hash(self._tokenizer),
            template_date=template_date(self._tokenizer),
            offers=("ids", "sampling", "logprobs", "tools"),
            cache_tokens=MAX_BATCH * CACHE_TOKENS,
            trained_on=member.made.data if member.made else None,
            start=member.made.start if member.made else None,
        )

    def describe(self) -> ModelDescription:
        """Describe the model. Its memory includes the shared base."""
        return self._description

    def signature(self) -> str:
        """Return "none": the model computes no log-likelihoods."""
        return "none"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate all answers in one batch and yield them as they finish."""
        return complete_all(self, requests)

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Start answering; see `Model.start`."""
        begun = begin_answer(self._tokenizer, self._description, request, deliver)
        if begun is None:
            return lambda: None
        ids, answer = begun
        self._shared.batcher.put(ids, answer, self._ends, self._adapter)
        return answer.cancelled.set

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Raise an error: models on a shared base don't score text.

        Raises:
            SizewiseError: always.
        """
        raise SizewiseError(
            f"{self._member.uri} provides no log-likelihoods while it shares its base model.",
            "the model opened without a shared base",
            f"sizewise evaluate {self._member.uri} --data DATA",
        )

    def close(self) -> None:
        """Release the shared base."""
        self._shared.release()
