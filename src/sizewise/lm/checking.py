"""Check that a network computes the same numbers here as in transformers' own forward pass.

Sizewise computes logits from the last hidden states, manages the cache of its own batches and packs several texts into
one row. The test suite compares this with transformers for the architectures in VERIFIED. Any other architecture is
checked when it is opened, on a few short sequences of random tokens. Where a shortcut gives other numbers, a slower way
takes its place (`Execution`); if none is right, the network is rejected, because wrong scores look just like correct
ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import transformers

from sizewise.errors import SizewiseError
from sizewise.lm.execution import WINDOWS, Execution, Head, execution_of, set_execution
from sizewise.lm.generate import run_batch
from sizewise.lm.option_scores import Continuation, OptionReader
from sizewise.lm.packing import Rows, Unit, pack
from sizewise.lm.score import score_ends, score_ids
from sizewise.lm.shared_rows import can_branch
from sizewise.records import fingerprint
from sizewise.store import Store

VERIFIED = ("llama", "mistral", "ministral", "qwen2", "qwen3", "granite", "phi3", "gemma3_text", "cohere", "cohere2")
"""Architectures whose scores, answers, packed rows and gradients the test suite compares with transformers."""
RANDOM = ("reformer",)  # its locality-sensitive hashing draws new rotations for each text
# Maximum RMS difference of log-likelihoods, relative to the spread of the logits. Rounding stays far below it.
TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.1}
# Maximum difference of logits from the same hidden states, relative to the largest one.
LOGITS = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.005}
MASKED = -1e30  # logits below are those of tokens that the network never predicts
LARGE = 400_000_000  # parameters; from this size on, the check is slow and its result is remembered
CHECKS = 3  # increase when the check, or the code that it checks, changes
SHARED, WRITTEN, WINDOW = 16, 3, 12
LENGTHS = (36, 23, 29)  # all different, so a length identifies its sequence; the longest is packed first
PACKED_KINDS = ("attention", "full_attention", "sliding_attention")
# Ways of running a network, the fastest first.
SCORING = (
    {"logits": "head", "padded": True},
    {"logits": "head", "padded": False},
    {"logits": "model", "padded": True},
    {"logits": "model", "padded": False},
)
ANSWERING = (
    {"answers": "batch", "shares_prefix": True},
    {"answers": "batch", "shares_prefix": False},
    {"answers": "single"},
    {"answers": "uncached"},
)
BRANCHING = ({"branches": True}, {"branches": False})

Nats = npt.NDArray[np.float64]


class _Reference(NamedTuple):
    """Sequences, and what transformers' forward pass computes for them."""

    sequences: list[list[int]]
    nats: list[Nats]
    """Negative log-likelihood of every token but the first."""
    spread: float
    """Standard deviation of the logits over the vocabulary."""

    @property
    def ends(self) -> list[Nats]:
        """The last tokens; of each sequence one fewer than of the one before, so that rows leave a batch."""
        return [nats[-WRITTEN:][: WRITTEN - i] for i, nats in enumerate(self.nats)]


@torch.inference_mode()
def check_network(network: Any) -> None:
    """Find out how a network can be run with the results of its own forward pass, unless its architecture is verified.

    Args:
        network: a freshly opened causal language model.

    Raises:
        SizewiseError: the results disagree however it is run, its forward pass fails, or it isn't causal.
    """
    kind = network.config.model_type
    if kind in VERIFIED:
        return
    if kind in RANDOM:
        raise _unsupported(network, "attends to tokens that it chooses at random, so its scores change from run to run")
    passed = _passed_file(network)
    if passed is not None and passed.is_file():
        set_execution(network, json.loads(passed.read_text(encoding="utf-8")))
        return
    different = _sequences(network)
    shared = [different[0][:SHARED] + ids for ids in different]  # a common prefix is processed once
    with _short_windows(network):
        references = [_run(network, _reference, network, sequences) for sequences in (different, shared)]
        _check_causal(network, references[0])
        _choose(network, SCORING, lambda: _check_scores(network, references))
        _choose(network, ANSWERING, lambda: _check_answers(network, references))
        _choose(network, BRANCHING, lambda: _check_branches(network, references[1]))
    if execution_of(network).answers == "batch" and _windows(network):  # then only texts within a window share a prefix
        whole = [_run(network, _reference, network, shared)]
        _choose(network, ANSWERING, lambda: _check_answers(network, whole))
    if passed is not None:
        with suppress(OSError):
            passed.parent.mkdir(parents=True, exist_ok=True)
            passed.write_text(json.dumps(execution_of(network).settings()), encoding="utf-8")


def _passed_file(network: Any) -> Path | None:
    """Return the file with the result for a large network of this config; None for small ones, checked every time."""
    if sum(parameter.numel() for parameter in network.parameters()) < LARGE:
        return None
    settings = [network.config.to_dict(), str(network.dtype), network.device.type]
    versions = [transformers.__version__, torch.__version__, metadata.version("sizewise"), CHECKS]
    return Store().home / "checked" / fingerprint([*settings, *versions])


def _choose(network: Any, ways: Sequence[dict[str, Any]], check: Callable[[], None]) -> None:
    """Run the network in the first of several ways that passes a check.

    Raises:
        SizewiseError: none passes; the error is that of the last one.
    """
    for number, way in enumerate(ways):
        set_execution(network, way)
        try:
            return check()
        except SizewiseError:
            if number == len(ways) - 1:
                raise


def _check_causal(network: Any, reference: _Reference) -> None:
    ids = reference.sequences[0]
    cut = _run(network, _reference, network, [ids[: len(ids) // 2]])
    before = [reference.nats[0][: len(cut.nats[0])]]
    rms = _difference(before, cut.nats)
    if not _is_close(network, rms, reference):
        raise _unsupported(
            network, f"isn't causal: the scores of tokens change by {rms:.2g} nats with the tokens after them"
        )


def _check_scores(network: Any, references: Sequence[_Reference]) -> None:
    _run(network, _check_head, network, references[0].sequences[0])
    for reference in references:
        scored = _run(network, score_ids, network, reference.sequences, SHARED + LENGTHS[0])
        _compare(network, reference, reference.nats, scored, "scores")


def _check_head(network: Any, ids: list[int]) -> None:
    """Compare the network's logits with those of our head for the same hidden states.

    They are equal but for rounding, so this also finds what hardly changes the small logits of short random texts, such
    as a soft cap.
    """
    execution, states = execution_of(network), list[torch.Tensor]()
    if execution.logits != "head":
        return
    hook = execution.decoder.register_forward_hook(lambda _module, _inputs, output: states.append(output[0]))
    try:
        own = execution.own_logits(torch.tensor([ids], device=execution.device)).float()
    finally:
        hook.remove()
    if len(states) != 1 or states[0].shape[:2] != own.shape[:2]:  # the decoder is called in another way
        return
    found = execution.head.logits(execution.scaled(states[0])).float()
    masked = own < MASKED
    error = float((found - own)[~masked].abs().max() / own[~masked].abs().max())
    if masked.any() or not error <= LOGITS.get(network.dtype, 0.02):
        raise _unsupported(network, "computes its logits in another way than from its last hidden states")


def _check_answers(network: Any, references: Sequence[_Reference]) -> None:
    for reference in references:
        _compare(network, reference, reference.ends, _run(network, _written, network, reference.sequences), "answers")


def _check_branches(network: Any, reference: _Reference) -> None:
    """Check rows that hold several texts, and options after a prompt."""
    if not can_branch(network):
        return
    sequences, expected = reference.sequences, [nats[SHARED - 1 :] for nats in reference.nats]
    ends = _run(network, score_ends, network, sequences, [SHARED] * len(sequences), SHARED + LENGTHS[0])
    _compare(network, reference, expected, [one.nats for one in ends], "scores in shared rows")
    first, second, third = (Continuation(ids, SHARED) for ids in sequences)
    reader = OptionReader(network, SHARED + LENGTHS[0])
    sums = np.concatenate(_run(network, reader.nats, [[first, second], [third]]))
    tokens = np.array([len(nats) for nats in expected])
    means = [np.array([nats.mean()]) for nats in expected]
    _compare(network, reference, means, [sums / tokens], "scores of options")


@torch.no_grad()
def check_packing(network: Any, pack_rows: Callable[[], None]) -> None:
    """Find out whether texts may share a training row, unless the architecture is verified.

    Args:
        network: a causal language model without peft's wrapper.
        pack_rows: prepares the network for packed rows; undone if its texts must be processed one by one.

    Raises:
        SizewiseError: a text's log-likelihoods in a training row differ from those in the network's forward pass.
    """
    execution = execution_of(network)
    if network.config.model_type in VERIFIED or execution.rows_checked:
        if execution.rows == "packed":
            pack_rows()
        return
    was, training = network.config._attn_implementation, network.training
    network.eval()
    try:
        with _short_windows(network):
            reference = _run(network, _reference, network, _sequences(network))
            if _can_pack(execution, reference, pack_rows):
                execution.rows = "packed"
            else:
                network.set_attn_implementation(was)
                execution.rows = "separate"
                _compare(
                    network, reference, reference.nats, _run(network, _in_rows, network, reference), "training rows"
                )
                _run(network, _check_gradients, network, reference)
        execution.rows_checked = True
    finally:
        network.train(training)


@torch.no_grad()
def check_gradients(network: Any) -> None:
    """Check that training rows have finite gradients, as the network is prepared now.

    Raises:
        SizewiseError: they don't.
    """
    if network.config.model_type not in VERIFIED:
        _run(network, _check_gradients, network, _Reference(_sequences(network), [], 0.0))


def _check_gradients(network: Any, reference: _Reference) -> None:
    """Check that a training row has gradients, and that all of them are finite."""
    execution = execution_of(network)
    rows = pack([Unit(ids, 1) for ids in reference.sequences], sum(LENGTHS) + 8, 0).all()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:  # a teacher
        return
    with torch.enable_grad():
        found = torch.autograd.grad(execution.row_states(rows).float().square().mean(), trained, allow_unused=True)
    finite = [bool(gradient.isfinite().all()) for gradient in found if gradient is not None]
    if not finite or not all(finite):
        raise _unsupported(network, f"has {'gradients that are not finite' if finite else 'no gradients'}")


def _can_pack(execution: Execution, reference: _Reference, pack_rows: Callable[[], None]) -> bool:
    """Compare packed rows of several texts with each text alone."""
    if execution.logits == "model" or set(execution.layer_kinds) - set(PACKED_KINDS):
        return False  # states of recurrent blocks run on from one text into the next
    network, execution.rows = execution.network, "packed"
    first, *others = reference.sequences
    try:
        _run(network, pack_rows)
        packed = _run(network, _in_rows, network, reference)
        _compare(network, reference, reference.nats, packed, "training rows")
        # A change of the first text must not reach the others; rounding is the same in both runs.
        changed = _run(network, _in_rows, network, reference._replace(sequences=[first[::-1], *others]))
        if not _is_close(network, _difference(packed[1:], changed[1:]), reference, share=0.25):
            return False
        _run(network, _check_gradients, network, reference)
    except SizewiseError:
        return False
    return True


def _sequences(network: Any) -> list[list[int]]:
    generator = np.random.default_rng(11)
    # Llama 3.2 Vision has embeddings of image tokens that it never predicts.
    predicted = getattr(execution_of(network).text_config, "vocab_size", None)
    embedded = int(network.get_input_embeddings().num_embeddings)
    vocabulary = min(embedded, predicted or embedded)
    return [generator.integers(min(3, vocabulary - 1), vocabulary, length).tolist() for length in LENGTHS]


def _windows(network: Any) -> list[tuple[Any, str, int]]:
    """List the settings that limit how far blocks see: the object, its attribute and the value."""
    execution = execution_of(network)
    holders = {id(part): part for part in (network.config, execution.text_config, *execution.decoder.modules())}
    return [
        (holder, name, value)
        for holder in holders.values()
        for name in WINDOWS
        if type(value := getattr(holder, name, None)) is int and value > WINDOW
    ]


@contextmanager
def _short_windows(network: Any) -> Iterator[None]:
    """Shorten attention windows, so that short sequences exceed them."""
    before = _windows(network)
    for holder, name, _ in before:
        setattr(holder, name, WINDOW)
    try:
        yield
    finally:
        for holder, name, window in before:
            setattr(holder, name, window)


def _reference(network: Any, sequences: Sequence[list[int]]) -> _Reference:
    found, spreads = [], []
    for ids in sequences:
        logits = execution_of(network).own_logits(torch.tensor([ids], device=network.device))[0, :-1].float()
        found.append(_nats(logits, ids[1:]))
        spreads.append(float(logits.std(dim=-1).mean()))
    return _Reference(list(sequences), found, float(np.mean(spreads)))


def _nats(logits: torch.Tensor, tokens: Sequence[int]) -> Nats:
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    return -logprobs[range(len(tokens)), list(tokens)].double().cpu().numpy()


def _written(network: Any, sequences: Sequence[list[int]]) -> list[Nats]:
    """Generate fixed tokens in a batch that drops finished rows, and return their negative log-likelihoods."""
    found: list[list[float]] = [[] for _ in sequences]
    ends = [ids[-WRITTEN:][: WRITTEN - i] for i, ids in enumerate(sequences)]

    def choose(hidden: torch.Tensor, head: Head, members: Sequence[int]) -> torch.Tensor:
        tokens = [ends[member][min(len(found[member]), len(ends[member]) - 1)] for member in members]
        for member, nat in zip(members, _nats(head.logits(hidden), tokens), strict=True):
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


def _in_rows(network: Any, reference: _Reference) -> list[Nats]:
    """Score sequences in one training row."""
    sequences, execution = reference.sequences, execution_of(network)
    rows: Rows = pack([Unit(ids, 1) for ids in sequences], sum(LENGTHS) + 8, 0).all()
    logits = execution.head.logits(execution.row_states(rows)[0]).float()
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise _unsupported(network, f"can't be run here: {type(error).__name__}, {reason}") from error


def _difference(expected: Sequence[Nats], found: Sequence[Nats]) -> float:
    """Compute the RMS difference in nats per token."""
    return float(np.sqrt(np.mean((np.concatenate(found) - np.concatenate(expected)) ** 2)))


def _is_close(network: Any, rms: float, reference: _Reference, share: float = 1.0) -> bool:
    return rms <= share * TOLERANCE.get(network.dtype, 0.2) * reference.spread  # NaN is not


def _compare(network: Any, reference: _Reference, expected: Sequence[Nats], found: Sequence[Nats], what: str) -> None:
    rms = _difference(expected, found)
    if not _is_close(network, rms, reference):
        training = " It can be evaluated and served, but not trained." if what == "training rows" else ""
        raise _unsupported(
            network,
            f"produces {what} that differ from transformers' forward pass by {rms:.2g} nats per token",
            training,
        )


def _unsupported(network: Any, what: str, more: str = "") -> SizewiseError:
    return SizewiseError(
        f"{type(network).__name__} ('{network.config.model_type}') {what}.{more}",
        f"a causal language model such as {', '.join(VERIFIED)}, or another one that passes the check",
        "choose another model: sizewise models",
    )
