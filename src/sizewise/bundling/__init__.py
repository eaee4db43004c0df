"""Bundle wheels and weights for machines without a network."""

from sizewise.bundling.writing import Bundled, bundle

__all__ = ["Bundled", "bundle"]
