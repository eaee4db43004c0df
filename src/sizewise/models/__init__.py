"""Whatever answers or scores text, opened by a URI."""

from sizewise.models.base import Model, ScoredText
from sizewise.models.catalog import Price, find, market, price_of
from sizewise.models.opening import Engine, model_size, open_model
from sizewise.models.packaged import PACKAGED, PackagedModel
from sizewise.models.plugins import plugins
from sizewise.models.remote import PROVIDERS

__all__ = [
    "PACKAGED",
    "PROVIDERS",
    "Engine",
    "Model",
    "PackagedModel",
    "Price",
    "ScoredText",
    "find",
    "market",
    "model_size",
    "open_model",
    "plugins",
    "price_of",
]
