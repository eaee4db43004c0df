"""Several adapters on one base model: its weights are in memory once, and all of them answer together."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sizewise.errors import SizewiseError, UsageError
from sizewise.models.base import Cancel, Deliver, Model, ScoredText, complete_all
from sizewise.models.batching import TOGETHER, Batcher
from sizewise.models.local import CACHE_TOKENS, ENGINE, begin_answer
from sizewise.models.opening import resolve_folder
from sizewise.models.size import cache_bytes, read_config, weight_bytes
from sizewise.records import Checkpoint, Completion, ModelDescription, Request
from sizewise.store import Store


class _Member(NamedTuple):
    """A model that has its base in common with others."""

    uri: str
    folder: Path
    """Holds its own tokenizer and chat template."""
    adapter: Path | None
    """None: the base itself."""
    made: Checkpoint | None
    origin: str
    license: str


def open_shared(
    uris: Sequence[str], store: Store, precision: str | None = None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Model]:
    """Open those of some models that are adapters of one base, on one copy of its weights.

    Args:
        uris: model URIs; runs that trained adapters (`lora`, `qlora`), and perhaps what they started from.
        store: where runs live.
        precision: `bf16` or `fp32`; by default what the processor computes in.
        say: told what is going on.

    Returns:
        URI -> model, of those that share a base with another one of them.

    Raises:
        UsageError: no two of them do.
    """
    bases: dict[str, list[_Member]] = {}
    for uri in uris:
        member = _member(uri, store)
        if member is not None and member.made is not None:
            bases.setdefault(member.made.start, []).append(member)
    found: dict[str, Model] = {}
    for base, members in bases.items():
        folder, origin, license = resolve_folder(base, store, say)
        members = [one for one in members if _attends_alike(one.folder, folder)]
        beside = [_Member(base, folder, None, None, origin, license)] if base in uris else []
        if len(members + beside) > 1:
            say(f"{base} once, for {', '.join(one.uri for one in members + beside)}")
            shared = _Shared(folder, [*members, *beside], precision)
            found |= {one.uri: AdapterModel(shared, one) for one in [*members, *beside]}
    if not found:
        raise UsageError(
            "No two of these models are adapters of one base model.",
            "runs made with --method lora or qlora from the same start, with its attention",
            "sizewise runs, or leave --share-base out",
        )
    return found


def _attends_alike(folder: Path, base: Path) -> bool:
    """Tell whether a run kept its base's attention: with a window of its own it is another network."""
    own, its = read_config(folder), read_config(base)
    return all(own.get(key) == its.get(key) for key in ("sliding_window", "layer_types", "use_sliding_window"))


def _member(uri: str, store: Store) -> _Member | None:
    kind, _, name = uri.partition(":")
    if kind != "run":
        return None
    made = store.read(Checkpoint, name)
    folder, origin, license = resolve_folder(uri, store)
    adapter = folder.parent / "adapter"
    fits = adapter.is_dir() and made.recipe.method in ("lora", "qlora")
    return _Member(uri, folder, adapter, made, origin, license) if fits else None


class _Shared:
    """A base network with adapters.

    Args:
        base: folder of the base.
        members: those that use it.
        precision: `bf16` or `fp32`; by default what the processor computes in.
    """

    def __init__(self, base: Path, members: Sequence[_Member], precision: str | None) -> None:
        from sizewise.lm import adapt
        from sizewise.lm import hf_format as folders
        from sizewise.lm.device import machine_precision

        self.precision = precision or machine_precision()
        adapters = {one.uri: one.adapter for one in members if one.adapter is not None}
        adapted = adapt.load_adapters(base, adapters, self.precision)
        self.network: Any = adapted.network
        self.parameters = adapted.parameters
        self.disk_bytes = weight_bytes(base)
        self.batcher = Batcher(self.network, folders.load_tokenizer(base), adapted.choose)
        self._users = len(members)

    def leave(self) -> None:
        """Free the weights when nobody uses them any more."""
        self._users -= 1
        if self._users == 0:
            self.batcher.close()
            self.network = None
            gc.collect()


class AdapterModel(Model):
    """One of several models on the same base; it answers, and does not score.

    Args:
        shared: the base with all adapters.
        member: which of them it is.
    """

    def __init__(self, shared: _Shared, member: _Member) -> None:
        from sizewise.lm import hf_format as folders
        from sizewise.lm.tokenizer import end_ids

        self._shared, self._member = shared, member
        self._tokenizer = folders.load_tokenizer(member.folder)
        config = shared.network.config
        if len(self._tokenizer) > config.vocab_size:
            raise SizewiseError(
                f"The tokenizer of {member.uri} has more tokens than its base.",
                "adapters that leave the vocabulary as it is",
                "the same command without --share-base",
            )
        self._ends = end_ids(shared.network, self._tokenizer)
        self._adapter = member.uri if member.adapter is not None else ""
        width = 2 if shared.precision == "bf16" else 4
        own = shared.parameters[self._adapter] if self._adapter else 0
        base = shared.parameters[""]
        self._description = ModelDescription(
            uri=member.uri,
            origin=member.origin,
            license=member.license,
            engine=ENGINE,
            precision=shared.precision,
            attention=folders.attention_words(config),
            context=config.max_position_embeddings,
            parameters=base + own,
            memory_bytes=(base + own) * width + cache_bytes(folders.settings_of(config), CACHE_TOKENS, width),
            disk_bytes=shared.disk_bytes,
            can_chat=bool(self._tokenizer.chat_template),
            offers=("ids", "sampling", "logprobs"),
            cache_tokens=TOGETHER * CACHE_TOKENS,
            trained_on=member.made.data if member.made else None,
            start=member.made.start if member.made else None,
        )

    def describe(self) -> ModelDescription:
        """Say what the model is; its memory includes the base, which others use as well."""
        return self._description

    def signature(self) -> str:
        """Say how log-likelihoods are computed: not at all."""
        return "none"

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer all at once, as answers end."""
        return complete_all(self, requests)

    def start(self, request: Request, deliver: Deliver) -> Cancel:
        """Begin to answer; see `Model.start`."""
        begun = begin_answer(self._tokenizer, self._description, request, deliver)
        if begun is None:
            return lambda: None
        ids, answer = begun
        self._shared.batcher.put(ids, answer, self._ends, self._adapter)
        return answer.cancelled.set

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Refuse: what shares a base is there to answer.

        Raises:
            SizewiseError: always.
        """
        raise SizewiseError(
            f"{self._member.uri} shares its base here and gives no log-likelihoods of text.",
            "the model opened by itself",
            f"sizewise evaluate {self._member.uri} --data DATA",
        )

    def close(self) -> None:
        """Leave the base to the others."""
        self._shared.leave()
