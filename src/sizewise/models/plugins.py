"""Models from other packages, registered as entry points in the group `sizewise.models`.

The entry point's name is a URI scheme and its value a callable. With `acme = "acme_models:open_model"`, the URI
`acme:NAME` calls `open_model(NAME)`, which returns an object that implements the Model protocol.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import EntryPoint, entry_points

from sizewise.errors import SizewiseError
from sizewise.models.base import Model, answer_whole, ask

GROUP = "sizewise.models"


def plugins() -> dict[str, EntryPoint]:
    """Return the entry points of installed plug-ins, keyed by URI scheme."""
    return {point.name: point for point in entry_points(group=GROUP)}


def open_plugin(kind: str, name: str) -> Model:
    """Open a plug-in's model. Plug-ins without `start` or `ask` get the default implementations.

    Args:
        kind: name of the entry point.
        name: model name, the part after the colon.

    Raises:
        SizewiseError: the plug-in fails to load, or doesn't return a model.
    """
    point = plugins()[kind]
    package = point.dist.name if point.dist else point.value
    try:
        model: Model = point.load()(name)
        model.describe()
        if not hasattr(model, "start"):
            model.start = partial(answer_whole, model)  # type: ignore[method-assign]
        if not hasattr(model, "ask"):
            model.ask = partial(ask, model)  # type: ignore[method-assign]
    except SizewiseError:
        raise
    except Exception as error:
        raise SizewiseError(
            f"The plug-in {package} failed to open {kind}:{name}: {type(error).__name__}: {error}",
            "a callable that takes a name and returns a model (sizewise.models.Model)",
            f"pip install --upgrade {package}, or pip uninstall {package}",
        ) from error
    return model
