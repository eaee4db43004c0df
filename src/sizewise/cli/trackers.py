"""Log training to other tools: TensorBoard event files and MLflow servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sizewise.errors import MissingExtraError, SizewiseError

if TYPE_CHECKING:
    from sizewise.training import Watcher


class TensorBoardWatcher:
    """Write event files for TensorBoard.

    Args:
        folder: folder of the event files.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboardX", "tensorboard") from error
        self._writer = SummaryWriter(str(folder))

    def __call__(self, progress: Any) -> None:
        """Write the values of a step."""
        values = _values(progress)
        if progress.bits_per_byte is not None:
            self._writer.flush()
        for name, value in values.items():
            self._writer.add_scalar(name, value, progress.step)


class MlflowWatcher:
    """Log to an MLflow server or database.

    Args:
        uri: tracking URI.
        name: name of the run.

    Raises:
        MissingExtraError: mlflow is not installed.
        SizewiseError: the server or database rejects the run.
    """

    def __init__(self, uri: str, name: str) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", "mlflow") from error
        self._mlflow = mlflow
        try:
            mlflow.set_tracking_uri(uri)
            mlflow.start_run(run_name=name)
        except Exception as error:  # each backend of MLflow raises its own exceptions
            reason = str(error).splitlines()[0]
            raise SizewiseError(
                f"MLflow can't log to {uri}: {reason}", "a reachable server or database", "--mlflow sqlite:///mlflow.db"
            ) from error

    def __call__(self, progress: Any) -> None:
        """Log the values of a step."""
        self._mlflow.log_metrics(_values(progress), step=progress.step)


def _values(progress: Any) -> dict[str, float]:
    """Return the logged values of a step."""
    values = {"loss": progress.loss, "learning_rate": progress.learning_rate, "tokens": progress.tokens}
    if progress.bits_per_byte is not None:
        values["validation/bits_per_byte"] = progress.bits_per_byte
        control = progress.points[-1].control_bits_per_byte
        if control is not None:
            values["validation/control_bits_per_byte"] = control
    return values


def combine(watchers: list[Watcher]) -> Watcher:
    """Combine several watchers into one."""

    def watch(progress: Any) -> None:
        for watcher in watchers:
            watcher(progress)

    return watch
