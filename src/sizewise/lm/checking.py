"""Check that a network gives the same numbers our way as in transformers' own forward pass.

We read logits off the last hidden states, keep a cache in batches of our own and pack several texts into one row. Our
tests compare that with transformers for some architectures. Any other is tried out when it is opened, on a few short
sequences of random tokens, and refused where it disagrees: wrong scores look like any other scores.
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
"""Architectures whose scores, answers, packed rows and gradients our tests compare with transformers."""
# Difference of log-likelihoods, root mean square, in units of the spread of the logits. Rounding stays far below.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.1}
LARGE = 400_000_000  # parameters from which on the check takes long enough to be remembered
CHECKS = 1  # to be raised when the check or what it checks changes
SHARED, WRITTEN, WINDOW = 16, 3, 12
LENGTHS = (36, 23, 29)  # of different lengths, by which they are known again; the longest comes first in a row
PACKED_KINDS = ("attention", "full_attention", "sliding_attention")
RUNS_ON = "runs on from one text of a training row into the next. It can be evaluated and served, not trained"

Nats = npt.NDArray[np.float64]
_packs: WeakSet[Any] = WeakSet()  # networks whose packed rows were found to be right


class _Own(NamedTuple):
    """What transformers' forward pass gives."""

    nats: list[Nats]
    spread: float
    """Standard deviation of the logits over the vocabulary."""


@torch.inference_mode()
def check_network(network: Any) -> None:
    """Compare scores and answers of a network with its own forward pass, if its architecture is not verified.

    Args:
        network: a causal language model, as it is opened.

    Raises:
        SizewiseError: they disagree, or it cannot be run in our way.
    """
    passed = _verdict(network)
    if network.config.model_type in VERIFIED or (passed is not None and passed.is_file()):
        return
    apart = _sequences(network)
    alike = [apart[0][:SHARED] + ids for ids in apart]  # a beginning that all share is read once
    with _short_windows(network):
        for sequences in (apart, alike):
            own = _run(network, _own, network, sequences)
            scored = _run(network, score_ids, network, sequences, SHARED + LENGTHS[0])
            _compare(network, own, own.nats, scored, "scores")
            written = _run(network, _written, network, sequences)
            ends = [nats[-WRITTEN:][: WRITTEN - i] for i, nats in enumerate(own.nats)]
            _compare(network, own, ends, written, "answers")
    if passed is not None:
        with suppress(OSError):
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.touch()


def _verdict(network: Any) -> Path | None:
    """Return the file that is there once a large network of this config has passed; small ones are checked anew."""
    if sum(parameter.numel() for parameter in network.parameters()) < LARGE:
        return None
    made_of = [network.config.to_dict(), str(network.dtype), network.device.type]
    versions = [transformers.__version__, torch.__version__, metadata.version("sizewise"), CHECKS]
    return Store().home / "checked" / fingerprint([*made_of, *versions])


@torch.no_grad()
def check_packing(network: Any, pack_rows: Callable[[], None], hidden_of: Callable[[Rows], torch.Tensor]) -> None:
    """Compare rows of several texts with each text alone, if the architecture is not verified.

    Args:
        network: a causal language model, adapters' wrapping aside.
        pack_rows: makes it ready for packed rows; if they are wrong, it is put back as it was.
        hidden_of: gives the hidden states of packed rows.

    Raises:
        SizewiseError: a text reads otherwise in a row of several than alone.
    """
    if network.config.model_type in VERIFIED or network in _packs:
        pack_rows()
        return
    kinds = getattr(network.config, "layer_types", None) or getattr(network.config, "layers_block_type", None) or ()
    others = sorted(set(map(str, kinds)) - set(PACKED_KINDS))
    if others:
        raise _refused(network, f"has blocks of the kind {', '.join(others)}, whose state {RUNS_ON}")
    was, training = network.config._attn_implementation, network.training
    network.eval()
    sequences = _sequences(network)
    try:
        with _short_windows(network):
            own = _run(network, _own, network, sequences)
            pack_rows()
            packed = _run(network, _packed, network, hidden_of, sequences)
            _compare(network, own, own.nats, packed, "training rows")
            # Rounding aside, which is the same in both, nothing of a text reaches the next one in its row.
            changed = _run(network, _packed, network, hidden_of, [sequences[0][::-1], *sequences[1:]])
            _compare(network, own, packed[1:], changed[1:], "training rows", share=0.25)
    except SizewiseError:
        network.set_attn_implementation(was)
        raise
    finally:
        network.train(training)
    _packs.add(network)


def _sequences(network: Any) -> list[list[int]]:
    generator = np.random.default_rng(11)
    most = network.get_input_embeddings().num_embeddings
    return [generator.integers(min(3, most - 1), most, length).tolist() for length in LENGTHS]


@contextmanager
def _short_windows(network: Any) -> Iterator[None]:
    """Make attention windows short, so that short sequences reach beyond them."""
    holders = [
        one for one in (network.config, *network.modules()) if isinstance(getattr(one, "sliding_window", None), int)
    ]
    before = [one.sliding_window for one in holders]
    for one in holders:
        one.sliding_window = WINDOW
    try:
        yield
    finally:
        for one, window in zip(holders, before, strict=True):
            one.sliding_window = window


def _own(network: Any, sequences: Sequence[list[int]]) -> _Own:
    found, spreads = [], []
    for ids in sequences:
        logits = network(input_ids=torch.tensor([ids], device=network.device), use_cache=False).logits[0, :-1].float()
        found.append(_nats(logits, ids[1:]))
        spreads.append(float(logits.std(dim=-1).mean()))
    return _Own(found, float(np.mean(spreads)))


def _nats(logits: torch.Tensor, wanted: Sequence[int]) -> Nats:
    likely = torch.log_softmax(logits.float(), dim=-1)
    return -likely[range(len(wanted)), list(wanted)].double().cpu().numpy()


def _written(network: Any, sequences: Sequence[list[int]]) -> list[Nats]:
    """Write given tokens after prompts, in one batch that those who are done leave; return their log-likelihoods."""
    found: list[list[float]] = [[] for _ in sequences]
    ends = [ids[-WRITTEN:][: WRITTEN - i] for i, ids in enumerate(sequences)]

    def choose(hidden: torch.Tensor, head: torch.Tensor, members: Sequence[int]) -> torch.Tensor:
        wanted = [ends[member][min(len(found[member]), len(ends[member]) - 1)] for member in members]
        for member, nat in zip(members, _nats(hidden @ head.T, wanted), strict=True):
            found[member].append(float(nat))
        return torch.tensor(wanted)

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
    except Exception as error:  # whatever an unknown architecture does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise _refused(network, f"cannot be run here: {type(error).__name__}, {reason}") from error


def _compare(
    network: Any, own: _Own, expected: Sequence[Nats], found: Sequence[Nats], what: str, share: float = 1.0
) -> None:
    apart = np.concatenate(found) - np.concatenate(expected)
    off = float(np.sqrt(np.mean(apart**2)))
    if not off <= share * TOLERANCE.get(network.dtype, 0.2) * own.spread:  # not a number is wrong, too
        if what == "training rows":
            raise _refused(
                network,
                f"reads a text otherwise where others stand in its row, by {off:.2g} nats a token: something {RUNS_ON}",
            )
        raise _refused(
            network, f"gives {what} here that differ from transformers' own forward pass by {off:.2g} nats a token"
        )


def _refused(network: Any, what: str) -> SizewiseError:
    return SizewiseError(
        f"{type(network).__name__} ('{network.config.model_type}') {what}.",
        f"one of {', '.join(VERIFIED)}, or another architecture that agrees",
        "choose another model: sizewise models",
    )
