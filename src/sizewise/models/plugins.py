"""Models that other packages bring: entry points of the group `sizewise.models`.

The name of an entry point is the kind of a URI, its value a callable: `acme = "acme_models:open_model"` opens
`acme:NAME` by calling `open_model(NAME)`, which returns whatever keeps the Model protocol.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import EntryPoint, entry_points

from sizewise.errors import SizewiseError
from sizewise.models.base import Model, answer_whole

GROUP = "sizewise.models"


def plugins() -> dict[str, EntryPoint]:
    """Give the kinds of URI that installed packages bring."""
    return {point.name: point for point in entry_points(group=GROUP)}


def open_plugin(kind: str, name: str) -> Model:
    """Open a model of a plug-in.

    Args:
        kind: the entry point's name.
        name: what stands after the colon.

    Raises:
        SizewiseError: the plug-in cannot be loaded, or what it gives is no model.
    """
    point = plugins()[kind]
    package = point.dist.name if point.dist else point.value
    try:
        model: Model = point.load()(name)
        model.describe()
        if not hasattr(model, "start"):
            model.start = partial(answer_whole, model)  # type: ignore[method-assign]
    except SizewiseError:
        raise
    except Exception as error:
        raise SizewiseError(
            f"The plug-in {package} cannot open {kind}:{name}: {type(error).__name__}: {error}",
            "a callable that takes a name and returns a model (sizewise.models.Model)",
            f"pip install --upgrade {package}, or pip uninstall {package}",
        ) from error
    return model
