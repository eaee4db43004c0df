"""What a run starts from: a pretrained network, or one from scratch with its own tokenizer."""

from __future__ import annotations

from typing import Any, NamedTuple

from sizewise.datasets import DatasetContents
from sizewise.errors import SizewiseError, UsageError
from sizewise.lm import adapt, architecture
from sizewise.lm import hf_format as folders
from sizewise.lm import tokenizer as tokenizers
from sizewise.lm.device import choose_device, machine_precision, to_precision
from sizewise.models.opening import resolve_folder
from sizewise.models.size import weight_bytes
from sizewise.progress import Reporter
from sizewise.records import Recipe
from sizewise.store import Store
from sizewise.training import preflight
from sizewise.training.batches import training_part

TOKENIZER_CHARACTERS = 20_000_000  # more text does not make a better small vocabulary, but fills the memory


class Start(NamedTuple):
    """A network ready to train, and what it is."""

    network: Any
    tokenizer: Any
    way: str
    """`lora` (all kinds of adapters), `full` or `scratch`."""
    origin: str
    license: str
    device: str
    """`cpu`, `cuda` or `mps`."""


def open_start(recipe: Recipe, contents: DatasetContents, store: Store, reporter: Reporter) -> Start:
    """Open what a recipe starts from.

    Raises:
        UsageError: the start cannot be trained in this way.
        SizewiseError: it cannot be opened.
    """
    device = choose_device(recipe.device)
    if recipe.start == "scratch":
        return _from_scratch(recipe, contents, store, device)
    architecture.parse_attention(recipe.attention)
    folder, origin, license = resolve_folder(recipe.start, store, reporter.say)
    tokenizer = folders.load_tokenizer(folder)
    if device != "cuda":  # there the weights go where `check_memory` looks
        preflight.check_weights(weight_bytes(folder), preflight.available_bytes(), recipe)
    if recipe.method == "qlora":
        network = adapt.load_in_4_bits(folder, device)
    else:
        network = folders.load_network(folder, machine_precision(device)).to(device)
    network = architecture.with_attention(network, recipe.attention, recipe.context)
    room = getattr(network.config, "max_position_embeddings", recipe.context)
    if recipe.context > room:
        raise SizewiseError(
            f"Rows of {recipe.context} tokens are longer than the context of {recipe.start}.",
            f"at most {room} tokens",
            f"--context {room}",
        )
    folders.check_tokenizer(network, tokenizer, folder)
    if recipe.method != "full":
        network = adapt.add_lora(network, recipe.rank, recipe.seed, dora=recipe.method == "dora")
    way = "full" if recipe.method == "full" else "lora"
    return Start(network, tokenizer, way, f"{origin}; trained here by {recipe.method}", license, device)


def _from_scratch(recipe: Recipe, contents: DatasetContents, store: Store, device: str) -> Start:
    shape = architecture.shape_for(recipe.parameters)
    preflight.check_weights(4 * shape.parameters, preflight.available_bytes(), recipe)
    if recipe.tokenizer:
        folder, _, _ = resolve_folder(recipe.tokenizer, store)
        tokenizer = folders.load_tokenizer(folder)
        if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
            raise UsageError(f"The tokenizer of {recipe.tokenizer} has no end of text.", "another tokenizer", "")
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
    origin = f"from scratch: {shape.layers} blocks of width {shape.width}, {shape.parameters:,} parameters"
    return Start(
        to_precision(network, machine_precision(device)).to(device),
        tokenizer,
        "scratch",
        origin,
        f"as the training text: {licenses}",
        device,
    )


def _texts(recipe: Recipe, contents: DatasetContents) -> list[str]:
    documents, examples = training_part(contents, recipe)
    texts, characters = [], 0
    for text in (
        *(document.text for document in documents),
        *(part for e in examples for part in (e.prompt, e.references[0])),
    ):
        texts.append(text)
        characters += len(text)
        if characters > TOKENIZER_CHARACTERS:
            break
    return texts
