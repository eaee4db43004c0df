"""Every architecture that transformers can build, through our scoring, answers and training, against its forward pass.

python -m benchmarks.architectures [KIND ...]     all of them, or some: benchmarks/results/architectures.json

A tiny random network of each architecture is saved, opened like any other folder, and compared with the saved network,
or with the one that transformers loads, if it loads other weights than it saved: log-likelihoods of texts alone and
with a common beginning, options, answers, training rows, and the gradients of all weights and of adapters. A verdict is
`trains`, `serves` (it can't be trained), `refused` (an error names the reason), `crashes` (the error doesn't explain
itself) or `wrong`.
"""

from __future__ import annotations

import gc
import json
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import torch
import transformers
from benchmarks.tiny_networks import VOCABULARY, architectures, tiny_network
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sizewise.errors import SizewiseError
from sizewise.lm import adapt, hf_format, loop
from sizewise.lm.execution import execution_of
from sizewise.lm.generate import Wanted, generate_together
from sizewise.lm.option_scores import Continuation, OptionReader
from sizewise.lm.packing import Unit, pack
from sizewise.lm.score import score_ends, score_ids
from sizewise.models import open_model
from sizewise.models.opening import model_size

RESULT = Path(__file__).parent / "results" / "architectures.json"
LIMIT_S = 240  # of processor time, per architecture
NATS = 2e-3  # largest difference of a log-likelihood that counts as rounding
GRADIENT = 1e-2  # largest difference of a gradient, relative to the largest gradient of its weights
FEW = 4  # weights that transformers may load otherwise than it saved them
SPECIAL = VOCABULARY - 8  # from this id on, a token may stand for an image or sound
NEW = 12  # tokens of an answer
NEEDS_MORE = re.compile(r"pixel_values|image_embeds|patches|[Bb]box|input_features|missing \d+ required|input_ids or ")
"""An error of a network that can't read text alone, which must be refused."""
Row = dict[str, Any]


class TooSlow(BaseException):  # no `except Exception` may take it for an error of the network
    """An architecture needs more processor time than the limit."""


class Wrong(Exception):
    """A result differs from that of transformers."""


def sequences() -> list[list[int]]:
    """Return token ids of four texts."""
    generator = np.random.default_rng(3)
    return [generator.integers(3, SPECIAL, length).tolist() for length in (70, 41, 17, 60)]


def plain_logits(network: Any, ids: Sequence[int]) -> torch.Tensor:
    """Compute the log-probabilities of a text in the network's own forward pass, (tokens, vocabulary)."""
    with torch.no_grad():
        return torch.log_softmax(network(input_ids=torch.tensor([list(ids)])).logits[0].double(), -1)


def plain_nats(network: Any, ids: Sequence[int]) -> np.ndarray[Any, Any]:
    """Compute the negative log-likelihood of all tokens but the first."""
    return -plain_logits(network, ids)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].numpy()


def save_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose tokens are words."""
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(4, VOCABULARY - 8))]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def within(what: str, found: float, limit: float, row: Row) -> None:
    """Note a difference, and raise if it is more than rounding.

    Raises:
        Wrong: it is.
    """
    row["differences"][what] = float(f"{found:.2g}")
    if not found <= limit:
        raise Wrong(f"{what} differ by {found:.2g}")


def check_scores(plain: Any, network: Any, row: Row) -> None:
    """Compare log-likelihoods of texts, of texts with a common beginning, and of options."""
    texts = sequences()
    found = score_ids(network, texts, 128)
    expected = [plain_nats(plain, ids) for ids in texts]
    within("scores", max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)), NATS, row)
    shared = [texts[3][:30] + ids[:length] for ids, length in zip(texts, (40, 9, 17, 25), strict=True)]
    expected = [plain_nats(plain, ids)[29:] for ids in shared]
    ends = score_ends(network, shared, [30] * 4, 128)
    within("shared rows", max(np.abs(a.nats - b).max() for a, b in zip(ends, expected, strict=True)), NATS, row)
    options = [Continuation(ids, 30) for ids in shared]
    sums = np.concatenate(OptionReader(network, 128).nats([options[:2], options[2:]]))
    within("options", max(abs(a - b.sum()) / len(b) for a, b in zip(sums, expected, strict=True)), NATS, row)


def check_answers(plain: Any, network: Any, row: Row) -> None:
    """Compare answers and their likelihoods, with and without examples before all prompts."""
    for name, shared in (("answers", 0), ("answers after examples", 20)):
        beginning = sequences()[3][:shared]
        prompts = [beginning + ids[:length] for ids, length in zip(sequences(), (40, 9, 17, 25), strict=True)]
        told = [_Told(NEW - place) for place in range(len(prompts))]
        wanted = [Wanted(prompt, 0.0, 1.0, None, one.take) for prompt, one in zip(prompts, told, strict=True)]
        generate_together(network, SimpleNamespace(pad_token_id=0), wanted)
        worst = 0.0
        for prompt, one in zip(prompts, told, strict=True):
            logits = plain_logits(plain, prompt + one.tokens)[len(prompt) - 1 :]
            for expected, token, likely in zip(logits, one.tokens, one.likely, strict=False):
                if token >= SPECIAL:  # a multimodal model replaces its embedding by an image
                    break
                worst = max(worst, abs(likely - float(expected[token])), float(expected.max() - expected[token]))
        within(name, worst, NATS, row)


class _Told:
    """The tokens of an answer and their log-likelihoods."""

    def __init__(self, length: int) -> None:
        self.length, self.tokens, self.likely = length, list[int](), list[float]()

    def take(self, token: int, likely: float) -> bool:
        self.tokens.append(token)
        self.likely.append(likely)
        return len(self.tokens) >= self.length


def _plain_loss(network: Any, texts: Sequence[list[int]]) -> torch.Tensor:
    nats = []
    for ids in texts:
        logits = torch.log_softmax(network(input_ids=torch.tensor([ids])).logits[0, :-1].float(), -1)
        nats.append(-logits.gather(1, torch.tensor(ids[1:])[:, None])[:, 0])
    return torch.cat(nats).mean()


def _gradients(network: Any) -> dict[str, torch.Tensor]:
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in trained}


def check_training(network: Any, method: str, row: Row) -> Any:
    """Compare the loss of a step and its gradients with a plain loop, and take the step."""
    texts = sequences()[1:]
    if method == "lora":
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0.0, 0.05)
    adapt.base_of(network).config.use_cache = False  # as in training; some caches are changed in place
    expected = _plain_loss(network.eval(), texts)
    try:
        expected.backward()
    except RuntimeError:  # transformers itself can't train it, so it must be refused
        loop.prepare(network, compiled=False)
        raise
    wanted = {name: gradient.clone() for name, gradient in _gradients(network).items()}
    network.zero_grad()
    loop.prepare(network, compiled=False)
    rows = pack([Unit(ids, 1) for ids in texts], 128, 0).all()
    loss = loop.loss_of(network.eval(), rows)
    loss.backward()
    within(f"{method} loss", abs(float(loss.detach()) - float(expected.detach())), NATS, row)
    found = _gradients(network)
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    if not scale > 0:
        raise Wrong("no weight has a gradient")
    worst = max(float((found[name] - wanted[name]).abs().max()) for name in wanted)
    within(f"{method} gradients", worst / scale, GRADIENT, row)
    network.train()
    again = float(loop.loss_of(network, rows).detach())  # with dropout, so only its size is known
    if not abs(again - float(loss.detach())) < 1.0:
        raise Wrong(f"{method} loss in training mode is {again:.2g} instead of {float(loss.detach()):.2g}")
    loop.finish(network)
    network.zero_grad()
    return network


def check_saved(network: Any, tokenizer: Any, folder: Path, row: Row) -> None:
    """Save a network as after training, open it again, and compare."""
    # Rounded as it is saved; buffers that aren't saved stay as they are.
    network.load_state_dict({name: values.bfloat16().float() for name, values in network.state_dict().items()})
    expected = [plain_nats(network, ids) for ids in sequences()]
    hf_format.save_model(network, tokenizer, folder)
    again = hf_format.load_network(folder, "fp32")
    found = score_ids(again, sequences(), 128)
    within("saved", max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)), NATS, row)


def check(kind: str, task: str, folder: Path) -> Row:
    """Check one architecture."""
    row: Row = {"kind": kind, "task": task, "verdict": "", "differences": {}}
    begun = time.process_time()
    try:
        with limit(LIMIT_S):
            try:
                plain = tiny_network(kind, task)
                plain.save_pretrained(folder / "model")
                if failed := _failed(lambda: plain_nats(plain, sequences()[0])):
                    if not NEEDS_MORE.search(str(failed)):
                        raise failed
                    row["needs"] = _reason(failed)
                loaded = _loaded(plain, folder / "model")
                changed = _differing(plain, loaded)
                if 0 < len(changed) <= FEW:  # not all: some classes don't find what they saved themselves
                    row["changed on loading"], plain = changed, loaded
            except Exception as error:  # of transformers
                return row | {"verdict": "not built", "reason": _reason(error)}
            row["class"] = type(plain).__name__
            save_tokenizer(folder / "model")
            _check_all(plain, folder, row)
    except TooSlow:
        row |= {"verdict": row.get("verdict") or "not built", "reason": f"more than {LIMIT_S} s of processor time"}
    finally:
        row["seconds"] = round(time.process_time() - begun, 1)
    return row


def _loaded(plain: Any, folder: Path) -> Any:
    """Load a network as transformers itself does, or return the saved one if it can't."""
    try:
        return type(plain).from_pretrained(folder, dtype=torch.float32).eval()
    except Exception:
        return plain


def _differing(plain: Any, loaded: Any) -> list[str]:
    """List the weights that differ between the saved network and the loaded one."""
    found = loaded.state_dict()
    return [name for name, values in plain.state_dict().items() if name not in found or not values.equal(found[name])]


def _check_all(plain: Any, folder: Path, row: Row) -> None:
    networks: list[Any] = []

    def serve() -> None:
        model = open_model(folder / "model", precision="fp32")
        network = model._network  # type: ignore[attr-defined]
        networks.append(network)
        row["opened as"] = type(network).__name__
        row["ways"] = execution_of(network).settings()
        alone = next((part for part in plain.modules() if type(part) is type(network)), plain)
        reference = alone if "needs" in row else plain  # only its language model reads text alone
        check_scores(reference, network, row)
        check_answers(reference, network, row)
        model_size(str(folder / "model"))
        model.close()

    def train() -> None:
        adapted = adapt.add_lora(networks.pop(), 4, 0)
        network = check_training(adapted, "lora", row).unload().requires_grad_()
        check_training(network, "full", row)
        row["ways"]["rows"] = execution_of(network).rows
        check_saved(network, hf_format.load_tokenizer(folder / "model"), folder / "trained", row)

    for verdict, step in (("serves", serve), ("trains", train)):
        failed = _failed(step)
        if failed:
            row["reason"] = _reason(failed)
            if isinstance(failed, Wrong):
                row["verdict"] = "wrong"
            elif not isinstance(failed, SizewiseError):
                row["verdict"] = "crashes"
            else:
                row["verdict"] = row["verdict"] or "refused"
            return
        row["verdict"] = verdict


def _failed(step: Callable[[], None]) -> Exception | None:
    try:
        step()
    except Exception as error:
        return error
    return None


def _reason(error: Exception) -> str:
    what = error.what if isinstance(error, SizewiseError) else f"{type(error).__name__}: {error}"
    return " ".join(what.split())[:300]


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise TooSlow after some seconds of processor time."""

    def stop(*_: Any) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def write(rows: Sequence[Row]) -> None:
    """Write the result."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    found = {
        "name": "architectures",
        "commit": commit.stdout.strip(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, one thread",
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__, "peft": peft.__version__},
        "counts": dict(sorted(Counter(row["verdict"] for row in rows).items())),
        "rows": sorted(rows, key=lambda row: str(row["kind"])),
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main(kinds: Sequence[str]) -> None:
    """Check architectures and write the result; without names, all of them."""
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    unknown = set(kinds) - {kind for kind, _ in architectures()}
    if unknown:
        raise SystemExit(f"transformers has no {', '.join(sorted(unknown))}")
    rows = []
    for kind, task in architectures():
        if kinds and kind not in kinds:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append(check(kind, task, Path(folder)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        gc.collect()
    print(json.dumps(Counter(row["verdict"] for row in rows)))
    if not kinds:
        write(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
