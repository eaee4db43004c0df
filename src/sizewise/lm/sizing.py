"""Count a network's parameters from its config alone, by building it on the meta device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig

from sizewise.errors import SizewiseError
from sizewise.lm.hf_format import attention_words, network_classes, quiet_libraries, settings_of

MAX_LAYERS, MAX_EXPERTS = 1_000, 1_024  # no existing network has more
_ACTIVE = ("num_experts_per_tok", "moe_top_k", "num_experts_per_token")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts")


class Counted(NamedTuple):
    """Size of a network according to its config."""

    parameters: int
    """Total parameters; shared ones count once."""
    active: int
    """Parameters used for each token. For mixtures of experts, only the selected experts count."""
    looked_up: int
    """Parameters of the input embedding, if it isn't tied to the head: looked up, never multiplied."""
    table: int
    """Parameters of the input embedding. Weight files may contain it twice if it is tied to the head."""
    attention: str
    """Description of the attention."""
    config: dict[str, Any]
    """The config of the text part, with all defaults filled in."""
    buffers: int
    """Numbers in the weight files that aren't parameters, such as the decay of linear attention."""
    whole: bool
    """Whether a vision or audio part counts, too, because the text part can't be loaded by itself."""


def count(config: dict[str, Any]) -> Counted:
    """Count the parameters of the network that a config.json describes.

    Raises:
        SizewiseError: transformers does not know the architecture, or the config contradicts itself.
    """
    quiet_libraries()
    settings = {name: value for name, value in config.items() if name not in ("auto_map", "quantization_config")}
    kind = settings.pop("model_type", None)
    for part in (settings, *(value for value in settings.values() if isinstance(value, dict))):
        layers, experts = part.get("num_hidden_layers") or 0, _first(part, _EXPERTS) or 0
        if not isinstance(layers, int) or layers > MAX_LAYERS or not isinstance(experts, int) or experts > MAX_EXPERTS:
            raise SizewiseError(
                f"The config has {layers} blocks and {experts} experts.", f"at most {MAX_LAYERS} and {MAX_EXPERTS}", ""
            )
    try:
        known = CONFIG_MAPPING[kind].from_dict(PreTrainedConfig._decode_special_floats(settings))
        network_class, needed = network_classes(known)[0]
        with torch.device("meta"):
            if hasattr(network_class, "from_config"):
                network = network_class.from_config(needed, trust_remote_code=False)
            else:
                network = network_class._from_config(needed)
    except Exception as error:  # transformers may raise anything for an unknown config
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SizewiseError(
            f"The config of a '{kind}' network can't be interpreted: {reason}",
            "the config.json of an architecture in transformers",
            "correct the config.json, or pip install --upgrade transformers if the architecture is newer",
        ) from error
    named = dict(network.named_parameters())
    parameters = sum(parameter.numel() for parameter in named.values())
    settings = settings_of(known)
    if not settings["num_hidden_layers"] or not settings["hidden_size"]:
        raise SizewiseError(
            f"The config of a '{kind}' network has no number of blocks or no width.", "a language model", ""
        )
    routed = sum(p.numel() for name, p in named.items() if ".experts." in name)
    total, chosen = _first(settings, _EXPERTS), _first(settings, _ACTIVE)
    idle = routed - routed * chosen // total if routed and total and chosen else 0
    table = network.get_input_embeddings().weight
    head = network.get_output_embeddings()
    shared = head is not None and head.weight is table
    stored = network.state_dict()
    buffers = sum(values.numel() for name, values in network.named_buffers() if name in stored)
    return Counted(
        parameters,
        parameters - idle,
        0 if shared else table.numel(),
        table.numel(),
        attention_words(known),
        settings,
        buffers,
        needed is not known.get_text_config(),
    )


def _first(settings: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((settings[name] for name in names if settings.get(name)), None)
