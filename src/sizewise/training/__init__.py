"""Train small models: fine-tune a pretrained one, distill a teacher, or train a network from scratch."""

from sizewise.training.adjusting import adjust_run
from sizewise.training.classifier import train_classifier
from sizewise.training.identity import run_id_of
from sizewise.training.learning_curve import train_learning_curve
from sizewise.training.processes import steps_saved
from sizewise.training.run import Run, Watcher
from sizewise.training.training import train
from sizewise.training.tuning import tune

__all__ = [
    "Run",
    "Watcher",
    "adjust_run",
    "run_id_of",
    "steps_saved",
    "train",
    "train_classifier",
    "train_learning_curve",
    "tune",
]
