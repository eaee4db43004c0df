"""Whatever answers or scores text, opened by a URI."""

from sizewise.models.base import Model, ScoredText
from sizewise.models.catalogue import PACKAGED, PackagedModel
from sizewise.models.opening import open_model

__all__ = ["PACKAGED", "Model", "PackagedModel", "ScoredText", "open_model"]
