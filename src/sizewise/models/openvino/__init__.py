"""Models run with openvino-genai: fast, batched generation on CPUs."""

from sizewise.models.openvino.converting import (
    MODEL_FILE,
    check_convertible,
    convert_network,
    convert_quantized,
    engine_name,
    require,
)
from sizewise.models.openvino.engine import Engine
from sizewise.models.openvino.model import OpenvinoModel

__all__ = [
    "MODEL_FILE",
    "Engine",
    "OpenvinoModel",
    "check_convertible",
    "convert_network",
    "convert_quantized",
    "engine_name",
    "require",
]
