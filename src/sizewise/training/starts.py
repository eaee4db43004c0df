"""Starting models: a pretrained network, or a new one with its own tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError, UsageError
from sizewise.lm import adapt, architecture
from sizewise.lm import hf_format as folders
from sizewise.lm import tokenizer as tokenizers
from sizewise.lm.device import choose_device, machine_precision, placed, to_precision
from sizewise.lm.encoding import WINDOW
from sizewise.lm.execution import execution_of
from sizewise.models.opening import resolve_folder
from sizewise.progress import Reporter
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training import preflight
from sizewise.training.batches import training_part

TOKENIZER_CHARACTERS = 20_000_000  # more text fills the memory without improving a small vocabulary


class Start(NamedTuple):
    """A network that is ready for training, with its tokenizer and origin."""

    network: Any
    tokenizer: Any
    mode: str
    """`lora` (any adapter), `full` or `scratch`."""
    origin: str
    """Where the weights come from."""
    license: str
    """License that applies to the weights."""
    device: str
    """`cpu`, `cuda` or `mps`."""


def open_start(recipe: Recipe, contents: DatasetContents, store: Store, reporter: Reporter) -> Start:
    """Open or create the network that a recipe starts from.

    Raises:
        UsageError: the network can't be trained with this recipe.
        SizewiseError: the network can't be opened.
    """
    device = choose_device(recipe.device)
    if recipe.start == "scratch":
        return _from_scratch(recipe, contents, store, device)
    architecture.parse_attention(recipe.attention)
    folder, origin, license = resolve_folder(recipe.start, store, reporter.say)
    tokenizer = folders.load_tokenizer(folder)
    _check_rank(recipe, int(folders.settings_of(folders.load_config(folder))["hidden_size"] or 0))
    precision = machine_precision(device, training=True)
    weights = preflight.weights_bytes(folder, recipe.method, precision)
    preflight.check_weights(weights, preflight.free_bytes(device), recipe)
    if recipe.method == "qlora":
        network = adapt.load_in_4_bits(folder, device, precision)
    else:
        network = folders.load_network(folder, precision, **placed(device))
    network = architecture.with_attention(network, recipe.attention, recipe.context)
    max_context = execution_of(network).context or recipe.context
    if recipe.context > max_context:
        raise SizewiseError(
            f"Rows of {recipe.context} tokens exceed the context of {recipe.start}.",
            f"at most {max_context} tokens",
            f"--context {max_context}",
        )
    switch = execution_of(network).position_switch
    if switch is not None and recipe.context > switch:
        raise SizewiseError(
            f"{recipe.start} rotates the positions of texts above {switch:,} tokens otherwise (LongRoPE), so rows of "
            f"{recipe.context:,} tokens can't hold several texts.",
            f"at most {switch} tokens",
            f"--context {switch}",
        )
    folders.check_tokenizer(network, tokenizer, folder)
    if recipe.method != "full":
        network = adapt.add_lora(network, recipe.rank, recipe.seed, dora=recipe.method == "dora")
    mode = "full" if recipe.method == "full" else "lora"
    return Start(network, tokenizer, mode, f"{origin}; fine-tuned with {recipe.method}", license, device)


def _check_rank(recipe: Recipe, width: int) -> None:
    """Check that adapters have a lower rank than the weights they adapt.

    Raises:
        UsageError: the rank is above the width of the network.
    """
    if recipe.method != "full" and recipe.rank > width > 0:
        raise UsageError(
            f"Adapters of rank {recipe.rank:,} would be larger than the weights of {recipe.start}, which is "
            f"{width:,} wide.",
            f"a rank of at most {width:,}; 8 to 64 are usual",
            "--rank 16, or --method full to train all weights",
        )


def _from_scratch(recipe: Recipe, contents: DatasetContents, store: Store, device: str) -> Start:
    shape = architecture.shape_for(recipe.parameters)
    preflight.check_weights(4 * shape.parameters, preflight.free_bytes(device), recipe)
    if recipe.tokenizer:
        folder, _, _ = resolve_folder(recipe.tokenizer, store)
        tokenizer = folders.load_tokenizer(folder)
        if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            raise UsageError(
                f"The tokenizer of {recipe.tokenizer} has no end-of-text token.",
                "a tokenizer with an end-of-text or beginning-of-text token",
                "--tokenizer URI, or leave it out to train a new one",
            )
    else:
        tokenizer = tokenizers.train_tokenizer(_texts(recipe, contents), shape.vocabulary, recipe.context)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    ids = {
        "bos": tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end,
        "eos": end,
        "pad": tokenizer.pad_token_id,
    }
    shape = shape._replace(vocabulary=len(tokenizer))
    network = architecture.build_network(shape, recipe.attention, recipe.context, ids, recipe.seed)
    licenses = ", ".join(sorted(contents.record.licenses)) or "not stated"
    origin = f"trained from scratch: {shape.layers} blocks of width {shape.width}, {shape.parameters:,} parameters"
    return Start(
        to_precision(network, machine_precision(device, training=True)).to(device),
        tokenizer,
        "scratch",
        origin,
        f"as the training text: {licenses}",
        device,
    )


def _texts(recipe: Recipe, contents: DatasetContents) -> Iterator[str]:
    """Yield the training text, up to a number of characters, in pieces: a long text would need much memory."""
    documents, examples = training_part(contents, recipe)
    characters = 0
    for text in chain(
        (document.text for document in documents), (part for e in examples for part in (e.prompt, *e.references[:1]))
    ):
        for start in range(0, len(text), WINDOW):
            yield text[start : start + WINDOW]
            characters += min(WINDOW, len(text) - start)
            if characters > TOKENIZER_CHARACTERS:
                return
