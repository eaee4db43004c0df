"""Make a small model: adapt a pretrained one, or train a network from scratch."""

from sizewise.training.training import train

__all__ = ["train"]
