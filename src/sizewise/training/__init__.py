"""Train small models: fine-tune a pretrained one, distill a teacher, or train a network from scratch."""

from sizewise.training.learning_curve import train_learning_curve
from sizewise.training.training import Run, Watcher, run_id_of, train
from sizewise.training.tuning import tune

__all__ = ["Run", "Watcher", "run_id_of", "train", "train_learning_curve", "tune"]
