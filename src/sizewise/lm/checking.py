"""Check that a network computes the same numbers here as in transformers' own forward pass.

Sizewise computes logits from the last hidden states, manages the cache of its own batches and packs several texts into
one row. The test suite compares this with transformers for the architectures in VERIFIED. Any other architecture is
checked when it is opened, on a few short sequences of random tokens, and rejected if it disagrees, because wrong scores
look just like correct ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch
import transformers

from sizewise.errors import SizewiseError
from sizewise.lm.generate import run_batch
from sizewise.lm.logits import head_of
from sizewise.lm.packing import Rows, Unit, pack
from sizewise.lm.score import score_ids
from sizewise.records import fingerprint
from sizewise.store import Store

VERIFIED = ("llama", "mistral", "ministral", "qwen2", "qwen3", "granite", "phi3", "gemma3_text", "cohere", "cohere2")
"""Architectures whose scores, answers, packed rows and gradients the test suite compares with transformers."""
# Maximum RMS difference of log-likelihoods, relative to the spread of the logits. Rounding stays far below it.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.1}
LARGE = 400_000_000  # parameters; from this size on, the check is slow and its result is remembered
CHECKS = 1  # increase when the check, or the code that it checks, changes
SHARED, WRITTEN, WINDOW = 16, 3, 12
LENGTHS = (36, 23, 29)  # all different, so a length identifies its sequence; the longest is packed first
PACKED_KINDS = ("attention", "full_attention", "sliding_attention")
LEAKS = "leaks from one text of a training row into the next. The model can be evaluated and served, but not trained"

Nats = npt.NDArray[np.float64]
_packing_checked: WeakSet[Any] = WeakSet()  # networks whose packed rows passed the check


class _Reference(NamedTuple):
    """Results of transformers' forward pass."""

    nats: list[Nats]
    spread: float
    """Standard deviation of the logits over the vocabulary."""


@torch.inference_mode()
def check_network(network: Any) -> None:
    """Compare scores and answers with transformers' forward pass, unless the architecture is verified.

    Args:
        network: a freshly opened causal language model.

    Raises:
        SizewiseError: the results disagree, or the network can't be run this way.
    """
    passed = _passed_file(network)
    if network.config.model_type in VERIFIED or (passed is not None and passed.is_file()):
        return
    different = _sequences(network)
    shared = [different[0][:SHARED] + ids for ids in different]  # a common prefix is processed once
    with _short_windows(network):
        for sequences in (different, shared):
            reference = _run(network, _reference, network, sequences)
            scored = _run(network, score_ids, network, sequences, SHARED + LENGTHS[0])
            _compare(network, reference, reference.nats, scored, "scores")
            written = _run(network, _written, network, sequences)
            ends = [nats[-WRITTEN:][: WRITTEN - i] for i, nats in enumerate(reference.nats)]
            _compare(network, reference, ends, written, "answers")
    if passed is not None:
        with suppress(OSError):
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()


def _passed_file(network: Any) -> Path | None:
    """Return the file that marks a large network of this config as checked; None for small ones, checked every time."""
    if sum(parameter.numel() for parameter in network.parameters()) < LARGE:
        return None
    settings = [network.config.to_dict(), str(network.dtype), network.device.type]
    versions = [transformers.__version__, torch.__version__, metadata.version("sizewise"), CHECKS]
    return Store().home / "checked" / fingerprint([*settings, *versions])


@torch.no_grad()
def check_packing(network: Any, pack_rows: Callable[[], None], hidden_of: Callable[[Rows], torch.Tensor]) -> None:
    """Compare packed rows of several texts with each text alone, unless the architecture is verified.

    Args:
        network: a causal language model without peft's wrapper.
        pack_rows: prepares the network for packed rows; undone if the check fails.
        hidden_of: computes the hidden states of packed rows.

    Raises:
        SizewiseError: a text's log-likelihoods in a packed row differ from those of the text alone.
    """
    if network.config.model_type in VERIFIED or network in _packing_checked:
        pack_rows()
        return
    kinds = getattr(network.config, "layer_types", None) or getattr(network.config, "layers_block_type", None) or ()
    others = sorted(set(map(str, kinds)) - set(PACKED_KINDS))
    if others:
        raise _unsupported(network, f"has {', '.join(others)} blocks, whose state {LEAKS}")
    was, training = network.config._attn_implementation, network.training
    network.eval()
    sequences = _sequences(network)
    try:
        with _short_windows(network):
            reference = _run(network, _reference, network, sequences)
            pack_rows()
            packed = _run(network, _packed, network, hidden_of, sequences)
            _compare(network, reference, reference.nats, packed, "training rows")
            # A change of the first text must not reach the others; rounding is the same in both runs.
            changed = _run(network, _packed, network, hidden_of, [sequences[0][::-1], *sequences[1:]])
            _compare(network, reference, packed[1:], changed[1:], "training rows", share=0.25)
    except SizewiseError:
        network.set_attn_implementation(was)
        raise
    finally:
        network.train(training)
    _packing_checked.add(network)


def _sequences(network: Any) -> list[list[int]]:
    generator = np.random.default_rng(11)
    vocabulary = network.get_input_embeddings().num_embeddings
    return [generator.integers(min(3, vocabulary - 1), vocabulary, length).tolist() for length in LENGTHS]


@contextmanager
def _short_windows(network: Any) -> Iterator[None]:
    """Shorten attention windows, so that short sequences exceed them."""
    holders = [
        part for part in (network.config, *network.modules()) if isinstance(getattr(part, "sliding_window", None), int)
    ]
    before = [holder.sliding_window for holder in holders]
    for holder in holders:
        holder.sliding_window = WINDOW
    try:
        yield
    finally:
        for holder, window in zip(holders, before, strict=True):
            holder.sliding_window = window


def _reference(network: Any, sequences: Sequence[list[int]]) -> _Reference:
    found, spreads = [], []
    for ids in sequences:
        logits = network(input_ids=torch.tensor([ids], device=network.device), use_cache=False).logits[0, :-1].float()
        found.append(_nats(logits, ids[1:]))
        spreads.append(float(logits.std(dim=-1).mean()))
    return _Reference(found, float(np.mean(spreads)))


def _nats(logits: torch.Tensor, tokens: Sequence[int]) -> Nats:
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    return -logprobs[range(len(tokens)), list(tokens)].double().cpu().numpy()


def _written(network: Any, sequences: Sequence[list[int]]) -> list[Nats]:
    """Generate fixed tokens in a batch that drops finished rows, and return their negative log-likelihoods."""
    found: list[list[float]] = [[] for _ in sequences]
    ends = [ids[-WRITTEN:][: WRITTEN - i] for i, ids in enumerate(sequences)]

    def choose(hidden: torch.Tensor, head: torch.Tensor, members: Sequence[int]) -> torch.Tensor:
        tokens = [ends[member][min(len(found[member]), len(ends[member]) - 1)] for member in members]
        for member, nat in zip(members, _nats(hidden @ head.T, tokens), strict=True):
            found[member].append(float(nat))
        return torch.tensor(tokens)

    with torch.device(network.device):
        run_batch(
            network,
            SimpleNamespace(pad_token_id=0),
            [ids[:-WRITTEN] for ids in sequences],
            lambda member, new: len(new) >= len(ends[member]),
            choose,
        )
    return [np.array(nats[: len(end)]) for nats, end in zip(found, ends, strict=True)]


def _packed(network: Any, hidden_of: Callable[[Rows], torch.Tensor], sequences: Sequence[list[int]]) -> list[Nats]:
    rows = pack([Unit(ids, 1) for ids in sequences], sum(LENGTHS) + 8, 0).all()
    logits = (hidden_of(rows)[0] @ head_of(network).T).float()
    found = {}
    for segment in range(1, len(sequences) + 1):
        places = np.flatnonzero(rows.segments[0] == segment)
        found[len(places)] = _nats(logits[places[:-1]], rows.ids[0][places[1:]].tolist())
    return [found[len(ids)] for ids in sequences]


def _run(network: Any, run: Callable[..., Any], *args: Any) -> Any:
    try:
        return run(*args)
    except SizewiseError:
        raise
    except Exception as error:  # unknown architectures may fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _unsupported(network, f"can't be run here: {type(error).__name__}, {reason}") from error


def _compare(
    network: Any, reference: _Reference, expected: Sequence[Nats], found: Sequence[Nats], what: str, share: float = 1.0
) -> None:
    difference = np.concatenate(found) - np.concatenate(expected)
    rms = float(np.sqrt(np.mean(difference**2)))
    if not rms <= share * TOLERANCE.get(network.dtype, 0.2) * reference.spread:  # `not <=` also rejects NaN
        if what == "training rows":
            raise _unsupported(
                network,
                f"scores a text differently in a row of several texts, by {rms:.2g} nats per token: something {LEAKS}",
            )
        raise _unsupported(
            network, f"produces {what} that differ from transformers' forward pass by {rms:.2g} nats per token"
        )


def _unsupported(network: Any, what: str) -> SizewiseError:
    return SizewiseError(
        f"{type(network).__name__} ('{network.config.model_type}') {what}.",
        f"one of {', '.join(VERIFIED)}, or another architecture that passes the check",
        "choose another model: sizewise models",
    )
