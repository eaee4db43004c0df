"""How a network is run: its decoder and head, and the shortcuts that give the same numbers as its own forward pass.

Scoring, generation and training never hold the logits of a whole vocabulary for a whole batch. They take the decoder's
last hidden states and multiply them by the head one tile at a time. They also share batches, rows and caches between
texts. `checking` finds out which of these shortcuts are right for a network; where one isn't, the network's own
forward pass takes its place, for one text at a time if necessary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch

from sizewise.lm import attention
from sizewise.lm.packing import Rows

PADDED_SHARE = 0.8  # minimum share of tokens in a batch of texts of similar length; the rest is padding
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "attention_window_size", "local_attention")
"""Settings that limit how far a block sees, under the names of all architectures."""
_ATTRIBUTE = "_sizewise_execution"
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # Gemma, RecurrentGemma, xLSTM


@dataclass(frozen=True)
class Head:
    """What maps hidden states to logits, a tile of the vocabulary at a time.

    Attributes:
        weight: (vocabulary, width); None if the states are logits already.
        size: number of logits.
        bias: (vocabulary,) added to the logits.
        cap: the logits are soft-capped to this absolute value.
    """

    weight: torch.Tensor | None
    size: int
    bias: torch.Tensor | None = None
    cap: float | None = None

    @classmethod
    def of(cls, weight: torch.Tensor | Head) -> Head:
        """Return a head with nothing but weights."""
        return weight if isinstance(weight, Head) else cls(weight, len(weight))

    @property
    def is_linear(self) -> bool:
        """Whether the logits are a matrix product and nothing else."""
        return self.weight is not None and self.bias is None and not self.cap

    def logits(self, states: torch.Tensor, start: int = 0, end: int | None = None) -> torch.Tensor:
        """Compute the logits from `start` to `end`: (..., width) -> (..., end - start)."""
        if self.weight is None:
            return states[..., start:end]
        found = states @ self.weight[start:end].T
        return self._finished(found, None if self.bias is None else self.bias[start:end])

    def target_logits(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compute the logit of one token at each position: (tokens, width), (tokens,) -> (tokens,) in fp32."""
        if self.weight is None:
            return states.gather(-1, targets[:, None])[:, 0].float()
        found = (states.float() * self.weight[targets].float()).sum(-1)
        # round like the logits in the normalizer
        rounded = found if states.dtype == torch.float32 else found.to(states.dtype)
        return self._finished(rounded, None if self.bias is None else self.bias[targets]).float()

    def _finished(self, logits: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if bias is not None:
            logits = logits + bias
        return self.cap * torch.tanh(logits.float() / self.cap) if self.cap else logits


def position_switch(config: Any) -> int | None:
    """Return the tokens above which LongRoPE rotates all positions of a text otherwise; None for other positions."""
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    found = [int(part["original_max_position_embeddings"]) for part in parts if part.get("rope_type") == "longrope"]
    return min(found) if found else None


@dataclass
class Execution:
    """How a causal language model is run, with the parts that this needs.

    Attributes:
        network: the causal language model, without peft's wrapper.
        logits: `head`: the decoder's hidden states times the head; `model`: the network's own forward pass.
        answers: `batch`: prompts share a batch, padded on the left; `single`: one prompt at a time, with the network's
            own cache; `uncached`: one at a time, and all tokens are processed again for each new one.
        shares_prefix: whether a prefix that the prompts of a batch have in common is processed once.
        rows: `packed`: several texts share a training row; `separate`: each text is processed by itself.
        padded: whether texts of different lengths may share a batch, padded on the right.
        branches: whether texts with a common beginning may share a row, with a mask.
        rows_checked: whether `rows` is known to be right; it is checked only for training.
    """

    network: Any = field(repr=False, compare=False)
    logits: Literal["head", "model"] = "head"
    answers: Literal["batch", "single", "uncached"] = "batch"
    shares_prefix: bool = True
    rows: Literal["packed", "separate"] = "packed"
    padded: bool = True
    branches: bool = True
    rows_checked: bool = False

    @property
    def text_config(self) -> Any:
        """The config of the language model; of a multimodal model, that of its text part."""
        return self.network.config.get_text_config(decoder=True)

    @property
    def context(self) -> int | None:
        """Maximum number of tokens that the config states; None if it states none."""
        return getattr(self.text_config, "max_position_embeddings", None)

    @property
    def position_switch(self) -> int | None:
        """Tokens above which LongRoPE rotates all positions of a text otherwise; None for other positions."""
        return position_switch(self.text_config)

    def is_long(self, tokens: int) -> bool:
        """Check whether a text of so many tokens is above the switch; which needs a pass of its own."""
        switch = self.position_switch
        return switch is not None and tokens > switch

    @property
    def device(self) -> Any:
        """The device of the input."""
        return self.network.get_input_embeddings().weight.device

    @property
    def decoder(self) -> Any:
        """The network without its head: token ids in, hidden states out."""
        found, embedded = self.network.get_decoder(), self.network.get_input_embeddings()
        # ModernBERT calls its head `decoder`
        return found if any(part is embedded for part in found.modules()) else self.network.base_model

    @property
    def layers(self) -> Sequence[Any]:
        """The network's blocks, regardless of how its class names them; empty if they can't be told."""
        blocks = getattr(self.text_config, "num_hidden_layers", None)
        lists = [part for part in self.decoder.modules() if isinstance(part, torch.nn.ModuleList)]
        return next((part for part in lists if len(part) == blocks), ())

    def text_filter(self) -> Callable[[str], bool]:
        """Return a function that tells whether a parameter belongs to the text part, not to a vision or audio part."""
        parts = {id(self.decoder), id(self.network.get_output_embeddings()), id(self.network.get_input_embeddings())}
        prefixes = tuple(f"{name}." for name, part in self.network.named_modules() if id(part) in parts and name)
        if self.decoder is self.network:
            return lambda name: True
        return lambda name: name.startswith(prefixes)

    @property
    def layer_kinds(self) -> list[str]:
        """The type of each block under transformers' names; empty if all are alike."""
        config = self.text_config
        kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
        return [str(kind) for kind in kinds]

    @property
    def head(self) -> Head:
        """What maps the states of `hidden_states` to logits."""
        embedded = self.network.get_output_embeddings()
        if self.logits == "model":
            weight = self.network.get_input_embeddings().weight if embedded is None else embedded.weight
            return Head(None, len(weight))
        config = self.text_config
        cap = next((cap for name in _CAPS if (cap := getattr(config, name, None))), None)
        return Head(embedded.weight, len(embedded.weight), getattr(embedded, "bias", None), cap)

    def hidden_states(self, **inputs: Any) -> torch.Tensor:
        """Compute the states that `head` maps to logits, (rows, tokens, width)."""
        if self.logits == "model":
            return self._own(**inputs)
        return self.scaled(self.decoded(**inputs))

    def scaled(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scale the decoder's last hidden states as the network scales its logits."""
        config = self.text_config
        divisor, factor = getattr(config, "logits_scaling", None), getattr(config, "logit_scale", None)
        if divisor:  # Granite divides its logits by this setting; HyperCLOVA multiplies by a setting of the same name
            return hidden * divisor if config.model_type.startswith("hyperclovax") else hidden / divisor
        return hidden if factor is None else hidden * factor  # Cohere

    def own_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Compute logits of token ids in the own forward pass, (rows, tokens) -> (rows, tokens, vocabulary)."""
        return self._own(input_ids=ids, use_cache=False)

    def _own(self, **inputs: Any) -> torch.Tensor:
        accepted = signature(self.network.forward).parameters
        if inputs.get("use_cache") is False and not {"use_cache", "kwargs"} & set(accepted):
            del inputs["use_cache"]
        logits: torch.Tensor = self.network(**inputs).logits
        return logits

    def decoded(self, **inputs: Any) -> torch.Tensor:
        """Compute the decoder's last hidden states, (rows, tokens, width)."""
        hidden: torch.Tensor = self.decoder(**inputs).last_hidden_state
        return hidden

    def last_states(self, ids: torch.Tensor) -> torch.Tensor:
        """Compute the last hidden states of token ids, (rows, tokens) -> (rows, tokens, width), whatever the head."""
        if self.logits == "head":
            return self.hidden_states(input_ids=ids)
        states: torch.Tensor = self.network(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        return states

    def row_states(self, rows: Rows, compute: Callable[..., torch.Tensor] | None = None) -> torch.Tensor:
        """Compute the states of training rows, (rows, tokens, width); texts in one row don't see each other.

        Args:
            rows: packed rows.
            compute: computes states from the decoder's input; by default `hidden_states`.
        """
        compute = compute or self.hidden_states
        if self.rows == "separate":
            return self._separate_states(rows, compute)
        embedded = self.network.get_input_embeddings()(torch.from_numpy(rows.ids).to(self.device))
        if torch.is_grad_enabled() and not embedded.requires_grad:
            # With a gradient at its input, the first block shares the compiled graph of all others.
            embedded = embedded.requires_grad_()
        return compute(
            inputs_embeds=embedded,
            attention_mask=attention.masks_for(self.text_config, torch.from_numpy(rows.segments).to(self.device)),
            position_ids=torch.from_numpy(rows.positions).to(self.device),
            use_cache=False,
        )

    def _separate_states(self, rows: Rows, compute: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Process each text of the rows by itself, in batches of texts of similar length."""
        parts, places = [], []
        context = rows.ids.shape[1]
        for texts in self._batches(rows):
            longest = max(len(where) for _, where in texts)
            ids = np.zeros((len(texts), longest), np.int64)
            for number, (row, where) in enumerate(texts):
                ids[number, : len(where)] = rows.ids[row, where]
                places.append(row * context + where)
            # Padding is on the right, where causal networks ignore it.
            states = compute(input_ids=torch.from_numpy(ids).to(self.device), use_cache=False)
            parts += [states[number, : len(where)] for number, (_, where) in enumerate(texts)]
        flat = torch.cat(parts)
        found = flat.new_zeros(rows.ids.size, flat.shape[-1])
        where = torch.from_numpy(np.concatenate(places)).to(flat.device)
        return found.index_copy(0, where, flat).view(*rows.ids.shape, -1)

    def _batches(self, rows: Rows) -> Iterator[list[tuple[int, Any]]]:
        """Group the texts of rows, each with its row and places, into batches that need little padding."""
        texts = [
            (row, np.flatnonzero(segments == number))
            for row, segments in enumerate(rows.segments)
            for number in range(1, int(segments.max()) + 1)
        ]
        texts.sort(key=lambda text: -len(text[1]))
        batch: list[tuple[int, Any]] = []
        for text in texts:
            if batch and (not self.padded or len(text[1]) < PADDED_SHARE * len(batch[0][1])):
                yield batch
                batch = []
            batch.append(text)
        if batch:
            yield batch

    def settings(self) -> dict[str, Any]:
        """Return what the check found out, as JSON values."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def notes(self) -> tuple[str, ...]:
        """Describe in full sentences what is slower than for other networks, and why."""
        kind, found = self.network.config.model_type, []
        if self.logits == "model":
            found.append(f"'{kind}' computes its logits in its own forward pass: scoring needs more memory.")
        if not self.padded:
            found.append(f"'{kind}' processes one text at a time: texts of different lengths can't share a batch.")
        if self.answers == "single":
            found.append(f"'{kind}' answers one prompt at a time, with its own cache: generation is slower.")
        if self.answers == "uncached":
            found.append(f"'{kind}' answers one prompt at a time, without a cache: generation is slow.")
        if self.rows == "separate":
            found.append(f"'{kind}' is trained on one text at a time: texts in one row would influence each other.")
        return tuple(found)


_SETTINGS = ("logits", "answers", "shares_prefix", "rows", "padded", "branches")


def execution_of(network: Any) -> Execution:
    """Return how a network is run, with or without peft's wrapper. Until it is checked, every shortcut is taken."""
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    found = base.__dict__.get(_ATTRIBUTE)
    if found is None:
        found = Execution(base)
        base.__dict__[_ATTRIBUTE] = found
    return found


def set_execution(network: Any, settings: dict[str, Any]) -> Execution:
    """Run a network in this way from now on."""
    execution = execution_of(network)
    for name in _SETTINGS:
        setattr(execution, name, settings.get(name, getattr(execution, name)))
    return execution
