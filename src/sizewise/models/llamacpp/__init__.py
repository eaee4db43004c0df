"""Models run with llama.cpp: GGUF files as they are quantized, and fast answers for one user on a CPU."""

from sizewise.models.llamacpp.engine import Engine, engine_name, is_installed, require
from sizewise.models.llamacpp.model import LlamaCppModel

__all__ = ["Engine", "LlamaCppModel", "engine_name", "is_installed", "require"]
