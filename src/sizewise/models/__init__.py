"""Models that answer prompts or score text, opened by URI."""

from sizewise.models.base import Model, ScoredText
from sizewise.models.catalog import find_model, load_catalog
from sizewise.models.identity import Price, price_of
from sizewise.models.opening import Engine, model_size, open_model
from sizewise.models.packaged_models import PACKAGED, PackagedModel
from sizewise.models.plugins import plugins
from sizewise.models.providers import PROVIDERS

__all__ = [
    "PACKAGED",
    "PROVIDERS",
    "Engine",
    "Model",
    "PackagedModel",
    "Price",
    "ScoredText",
    "find_model",
    "load_catalog",
    "model_size",
    "open_model",
    "plugins",
    "price_of",
]
